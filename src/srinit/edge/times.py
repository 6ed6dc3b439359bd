"""Times of another device, as `predict.py --time` wrote them."""

from __future__ import annotations

import json
from pathlib import Path

from srinit.edge import device
from srinit.errors import ConfigError, IntegrityError
from srinit.records import record


@record
class DeviceTimes:
    """What another device says of networks without some units."""

    device: str  # its name
    runtime: str  # with its version
    sha256: str  # of the file's body
    milliseconds: dict[frozenset[str], dict[str, float]]  # medians by batch size


def read_times(path: Path, runtime: str) -> DeviceTimes:
    """Return the times of candidates in one runtime.

    Args:
        path: The JSON file.
        runtime: "onnxruntime" or "openvino"; "torch": the one that the file has.

    Raises:
        ConfigError: It is no such file, or says nothing of candidates in that runtime.
        IntegrityError: Its content is not what its hash says.
    """
    try:
        body = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as times of a device: {error}") from None
    if not isinstance(body, dict) or body.get("schema") != device.SCHEMA:
        raise ConfigError(f"{path} holds no times that predict.py --time wrote.")
    digest = body.pop("sha256", "")
    if device.hashed(body)["sha256"] != digest:
        raise IntegrityError(f"{path} is not what was measured: its SHA-256 is another.")
    rows = [row for row in body["times"] if "removed" in row]
    there = sorted({row["runtime"] for row in rows})
    wanted = runtime if runtime != "torch" else (there[0] if len(there) == 1 else "")
    if wanted not in there:
        have = ", ".join(there) or "nothing: these are no candidates"
        raise ConfigError(
            f"{path} has times of {have}; plan.runtime must name one of them. Candidates are "
            "written by srinit plan RUN --candidates FOLDER."
        )
    found: dict[frozenset[str], dict[str, float]] = {}
    for row in rows:
        if row["runtime"] == wanted:
            times = found.setdefault(frozenset(row["removed"]), {})
            times[str(row["batch_size"])] = float(row["median_ms"])
    versions = [name for name in body["device"]["runtimes"] if name.split()[0] == wanted]
    return DeviceTimes(
        device=str(body["device"]["processor"]),
        runtime=(versions or [wanted])[0],
        sha256=digest,
        milliseconds=found,
    )
