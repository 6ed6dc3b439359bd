"""A folder of networks with fewer and fewer units, to be timed on another device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srinit import runtimes, store
from srinit.edge.write import SCHEMA, program, signature, written_json
from srinit.errors import ModelError


@dataclass(frozen=True)
class Network:
    """One candidate as one file."""

    file: str
    contents: Sequence[bytes]  # of it, and of an IR's .bin
    removed: tuple[str, ...]  # units that it lacks


def write_candidates(
    folder: Path, name: str, networks: Sequence[Network], batch_sizes: Sequence[int]
) -> None:
    """Write candidates with the program that times them; it answers no images there.

    Args:
        folder: New or empty.
        name: Of the run.
        networks: ONNX first.
        batch_sizes: To be timed.

    Raises:
        ModelError: The folder holds something, or the network takes several inputs.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder} is not empty; name a new folder for the candidates.")
    found = program([each.file for each in networks])
    models = []
    for each in networks:
        parts = [path.name for path in runtimes.files_of(Path(each.file))]
        found |= dict(zip(parts, each.contents, strict=True))
        models.append(
            {
                "file": each.file,
                "runtime": runtimes.RUNTIMES[Path(each.file).suffix],
                "sha256": store.sha256_bytes(b"".join(each.contents)),
                "removed": list(each.removed),
            }
        )
    found["model.json"] = written_json(
        {
            "schema": SCHEMA,
            "name": name,
            "candidates": True,  # for --time alone: nobody judged them
            "batch_sizes": list(batch_sizes),
            **signature(networks[0].contents[0]),
            "models": models,
            "files": {name: store.sha256_bytes(content) for name, content in found.items()},
        }
    )
    for file, content in found.items():
        store.write_bytes(folder / file, content)
