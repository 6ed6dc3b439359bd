"""The config of a run, and the hashes of every file that it names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from srinit.config import Config, load_config
from srinit.custody import fixed, overrides
from srinit.store import RunFolder, sha256_file


def config_of(folder: RunFolder, pairs: Sequence[str] = ()) -> Config:
    """Return the config of a run, with its root and what later verbs changed of it.

    Its inputs are not looked at.
    """
    changes = overrides.pairs(overrides.of_run(folder.path))
    config = load_config(folder.path / "config.yaml", [*changes, *pairs])
    return config.model_copy(update={"root": Path(_root(folder))})


def _root(folder: RunFolder) -> str:
    body = json.loads((folder.path / "run.json").read_text("utf-8"))
    return str(body.get("root", "."))


def inputs_lock(config: Config) -> dict[str, str]:
    """Return a hash of every input file the config names, of its limits, and of all of it.

    Large data files are known by size and content; folders by the list of their files, names,
    sizes and times, so that a change is seen without reading every image. Code that the config
    names (`py:`) is an input too.
    """
    body = config.model_dump(mode="json", exclude={"out", "root"})
    found = {"config": _hash_text(json.dumps(body, sort_keys=True))}
    found |= fixed.hashes(config)
    sources = [config.data.source, config.data.train, config.data.calibration]
    sources += [config.data.validation, config.data.test, config.data.site, config.model.source]
    sources += [name for name in _functions(config) if name and name.startswith("py:")]
    names = [source.partition(":")[2] for source in sources if source]
    names += [config.data.text.tokenizer] if config.data.text.tokenizer else []
    if config.model.weights:
        names.append(config.model.weights)
    for name in names:
        file = config.root / (name.rpartition(":")[0] if ".py:" in name else name)
        if file.is_file():
            found[name] = sha256_file(file)
        elif file.is_dir():
            listing = sorted(
                f"{p.relative_to(file)} {p.stat().st_size} {p.stat().st_mtime_ns}"
                for p in file.rglob("*")
                if p.is_file()
            )
            found[name] = _hash_text("\n".join(listing))
    return found


def files_of(lock: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes of input files alone, without those of the config and its sections."""
    own = {"config", *(f"config.{name}" for name in fixed.SECTIONS)}
    return {name: digest for name, digest in lock.items() if name not in own}


def _functions(config: Config) -> list[str | None]:
    tuning = config.finetune
    own = [config.score, config.plan.criterion, tuning.loss, *config.shift.corruptions]
    return [*own, None if tuning.fn is None else f"py:{tuning.fn.removeprefix('py:')}"]


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
