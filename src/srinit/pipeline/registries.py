"""The registry of a run: where it is, and that finished runs are logged to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from srinit import registry as registries
from srinit.config import Config
from srinit.errors import ConfigError
from srinit.pipeline import track
from srinit.pipeline.runner import Runner
from srinit.registry import Registry

STORE = "mlflow"  # folder of the local registry, beside the runs


def local_store(path: Path) -> Path:
    """Return where the local registry of a run is, or would be."""
    return path.absolute().parent / STORE


@contextmanager
def opened(path: Path, config: Config, *, create: bool = False) -> Iterator[Registry]:
    """Yield the registry of a run: its config's, by default the one beside the run folders.

    Raises:
        ConfigError: There is no local registry yet, and `create` is not given.
    """
    settings = config.registry
    place = local_store(path)
    if not create and is_missing(path, config):
        raise ConfigError(
            f"{path} has no champion: there is no registry {place}; srinit promote RUN makes one."
        )
    with registries.open_registry(
        place,
        settings.model or config.name,
        uri=settings.uri,
        read_environment=settings.read_environment,
    ) as registry:
        yield registry


def is_missing(path: Path, config: Config) -> bool:
    """Return whether a run's registry is a local one that is not there."""
    here = local_store(path) / "mlflow.db"
    return config.registry.uri is None and not here.is_file()


def log_finished(runner: Runner) -> None:
    """Log a finished run, promoted or not, where the config asks for it (`registry.track`)."""
    if runner.config.registry.track:
        with opened(runner.path, runner.config, create=True) as registry:
            track.log_run(runner, registry)
