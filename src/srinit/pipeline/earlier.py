"""Finds the run that a config belongs to: the same one again, or one that much still holds of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from srinit.config import Config
from srinit.custody import changing, overrides, pending
from srinit.errors import PruneError
from srinit.pipeline.parts import PARTS
from srinit.pipeline.sizes import meaning_of
from srinit.runs import RunFiles
from srinit.runs.artifacts import UNITS
from srinit.runs.inputs import config_of, files_of, inputs_lock
from srinit.store import RunFolder


def matching(config: Config, fingerprint: dict[str, str]) -> RunFolder | None:
    """Return the newest run of a config: one at work before one that is finished."""
    found = [
        folder for folder, recorded in _of_name(config) if _now(folder, recorded) == fingerprint
    ]
    at_work = [folder for folder in found if not folder.was_sealed]
    return next(iter([*at_work, *found]), None)


def _of_name(config: Config) -> Iterator[tuple[RunFolder, dict[str, str]]]:
    """Yield the runs of a config's name and the hashes they began with, newest first."""
    out = Path(config.out)
    candidates = [p for p in out.glob(f"{config.name}*") if (p / "inputs.lock.json").is_file()]
    for path in sorted(candidates, key=lambda p: p.stat().st_mtime, reverse=True):
        try:
            folder = RunFolder.open(path)
            if pending.is_pending(path):
                with folder.lock():
                    pending.finish(folder, PARTS)
            config_of(folder)
            recorded = dict(json.loads((path / "inputs.lock.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError, PruneError):
            continue  # damaged, or in use: `verify` of that run says what is wrong with it
        yield folder, recorded


def _now(folder: RunFolder, recorded: dict[str, str]) -> dict[str, str]:
    """Return the hashes of a run's inputs and of its config as later verbs changed it."""
    if not (folder.path / overrides.FILE).is_file():
        return recorded
    own = inputs_lock(config_of(folder))
    return {**own, **{name: recorded.get(name, "") for name in files_of(own)}}


def changed(
    config: Config, fingerprint: dict[str, str]
) -> tuple[RunFolder, changing.Change] | None:
    """Return the newest run of the same name and inputs that a part still holds of."""
    for folder, recorded in _of_name(config):
        same = all(
            recorded.get(name, digest) == digest for name, digest in files_of(fingerprint).items()
        )
        before = config_of(folder) if same else None
        if before is None or before.name != config.name or before.root != config.root:
            continue
        units = RunFiles(folder).get(UNITS)
        change = changing.change_of(
            folder,
            before,
            config,
            PARTS,
            verb=changing.FROM_CONFIG,
            meaning=meaning_of(before, config, units),
        )
        there = {part for name in folder.files() if (part := PARTS.of(name)) is not None}
        if change and there - set(change.redone):
            return folder, change
    return None
