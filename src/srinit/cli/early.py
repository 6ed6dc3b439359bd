"""What is wrong with a call is said before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srinit.errors import ConfigError, DataError, ModelError

CHECKS_ITSELF = ("plan", "compare")  # their other arguments come first
WRITES = ("inspect", "baseline", "scan", "run", "demo", "report")  # what takes --out
NO_SETTINGS = {  # what takes no --set
    "init": "it writes a config",
    "doctor": "it reads no config",
    "report": "it shows runs as they were made",
}


def check(verb: str, given: dict[str, Any], common: Any) -> None:
    """Read the config, or look for the run folder, that a verb names.

    Raises:
        PruneError: The config or folder is not there or not what it should be, or the verb
            has no use for `--out` or `--set`.
    """
    if common.out is not None and verb not in WRITES:
        raise ConfigError(
            f"srinit {verb} has no use for --out: it works in the folder that it is given. "
            f"--out belongs to {', '.join(WRITES)}."
        )
    if common.set_ and verb in NO_SETTINGS:
        raise ConfigError(f"srinit {verb} has no use for --set: {NO_SETTINGS[verb]}.")
    config, run = given.get("config"), given.get("run")
    if isinstance(config, Path):
        _check_config(config, common)
    if isinstance(run, Path) and verb not in CHECKS_ITSELF:
        from srinit.store import RunFolder

        RunFolder.open(run)


def _check_config(path: Path, common: Any) -> None:
    from srinit.config import load_config

    config = load_config(path, common.overrides)
    for part in PARTS:
        source = getattr(config.data, part)
        if source and (missing := _missing(config.root, source)):
            raise DataError(f"data.{part}: {source}: {missing} does not exist.")
    if missing := _missing(config.root, config.model.source):
        raise ModelError(f"model.source: {config.model.source}: {missing} does not exist.")
    weights = config.model.weights
    if weights and weights.endswith(WEIGHTS) and not (config.root / weights).exists():
        raise ModelError(f"model.weights: {config.root / weights} does not exist.")


PARTS = ("source", "train", "calibration", "validation", "test", "site")
ON_DISK = ("folder", "images", "npz", "csv", "parquet", "py")
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


def _missing(root: Path, source: str) -> str:
    """Return the file or folder of a source that is surely not there; empty where it may be.

    A name may go on after the path (`py:model.py:create`), so every beginning of it is tried.
    """
    kind, _, name = source.partition(":")
    is_module = kind == "py" and ".py" not in name
    if kind not in ON_DISK or not name or is_module or set("*?[") & set(name):
        return ""
    words = name.split(":")
    beginnings = (":".join(words[: count + 1]) for count in range(len(words)))
    if any((root / each).exists() for each in beginnings):
        return ""
    return str(root / words[0])
