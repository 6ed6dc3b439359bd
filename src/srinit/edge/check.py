"""The self-test of an edge package, and times of its files. Shipped with edge packages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import device


def self_test(network: Any, folder: Path) -> list[str]:
    """Return in lines what is wrong with a package, each after FAILED; or one line that begins ok.

    All files must have their hashes, and the examples the answers that are named.

    Args:
        network: That of `predict.py`.
        folder: The package.
    """
    entry, wrong = network.entry, []
    for name, digest in network.facts["files"].items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            wrong.append(f"{name}: missing, or other SHA-256")
    for example in entry["examples"]:
        found = network.answer((folder / example["file"]).read_bytes())
        apart = abs(found["confidence"] - example["confidence"])
        if found["prediction"] != example["prediction"] or apart > entry["tolerance"]:
            wrong.append(
                f"{example['file']}: {found['prediction']} {found['confidence']:.6f}, expected "
                f"{example['prediction']} {example['confidence']:.6f}"
            )
    count = f"{len(network.facts['files'])} hashes, {len(entry['examples'])} answers"
    return [f"FAILED {line}" for line in wrong] or [f"ok: {count}"]


def write_times(networks: Sequence[Any], path: Path, repeats: int, **where: Any) -> list[str]:
    """Time the files of a package in turn on numbers drawn at random; return a line for each.

    Args:
        networks: Those of `predict.py`.
        path: The JSON file to write, with its own hash.
        repeats: Calls of each.
        where: What else the times depend on.
    """
    rows: list[Mapping[str, Any]] = []
    where["runtimes"] = sorted({n.model.version for n in networks})
    facts = networks[0].facts
    one = np.random.default_rng(0).standard_normal((1, *facts["input"]["shape"][1:]))
    batches = [np.repeat(np.float32(one), size, axis=0) for size in facts["batch_sizes"]]
    for batch in batches:
        calls = {n.entry["file"]: partial(n.run, batch) for n in networks}
        times = device.in_turn(calls, repeats)
        for network in networks:
            keys = ("file", "runtime", "sha256", "removed")
            row = {key: network.entry[key] for key in keys if key in network.entry}
            row |= {"batch_size": len(batch), **device.summary(times[row["file"]])}
            rows.append(row)
    models = [m["file"] for m in facts["models"]]
    left = [name for name in models if name not in {n.entry["file"] for n in networks}]
    name = facts["name"]
    here = {**device.device(), **where}
    body = {"schema": device.SCHEMA, "package": name, "device": here, "times": rows}
    body["not_timed"] = left  # for want of their runtime, or by --model
    path.write_text(json.dumps(device.hashed(body), indent=2) + "\n", "utf-8")
    lines = [f"{r['file']}  batch {r['batch_size']}  {r['median_ms']:.3f} ms" for r in rows]
    return lines + [f"{name}  not timed" for name in left]
