"""Where the network of a run comes from, for whoever gets what the run ends in."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from srinit.config import Config
from srinit.config.sections import ExportSection
from srinit.hugging_face import BaseFolder, base_folder

FOLDER = "export/huggingface"  # of a run, that another run begins with
PACKAGES = ("srinit", "torch", "transformers")


@dataclass(frozen=True)
class Base:
    """The source of a network."""

    run: str  # name of the run
    source: str  # as the config names it, of an absolute path the last part
    score: str
    folder: BaseFolder | None  # of transformers, with a tokenizer beside the weights
    export: ExportSection

    def versions(self) -> str:
        """Return the packages that a folder is written with."""
        return ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def base_of_run(config: Config) -> Base:
    """Return where the network of a config comes from; that of another run has its folder."""
    kind, _, name = config.model.source.partition(":")
    folder = None
    if kind == "hf":
        folder = base_folder(name, config.root)
    elif kind == "run" and (config.root / name / FOLDER).is_dir():
        folder = BaseFolder(config.root / name / FOLDER)
    shown = f"{kind}:{Path(name).name}" if Path(name).is_absolute() else config.model.source
    return Base(config.name, shown, config.score, folder, config.export)


def tokenizer_of(config: Config, *more: str) -> Path | None:
    """Return where the tokenizer of a run's network lies; None where no text asks for one.

    Args:
        config: Of the run.
        more: Further sources of data.
    """
    data = config.data
    named = [data.source, data.train, data.calibration, data.validation, data.test, data.site]
    named += more
    if not any(source and source.startswith("text:") for source in named):
        return None
    folder = base_of_run(config).folder
    return None if folder is None else folder.gguf or folder.path
