"""Opens MLflow so that nothing else notices: no telemetry, no environment, no chatter."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from srinit.errors import (
    IntegrityError,
    PruneError,
    RegistryError,
    ResourceError,
    require,
)
from srinit.registry.database import check_database
from srinit.registry.registry import Registry
from srinit.store.files import sync_folder
from srinit.store.lock import locked

PREFIXES = ("MLFLOW_", "_MLFLOW_", "DATABRICKS_")
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",  # a database that is put back is seen
}
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
LOGGERS = ("mlflow", "alembic")
FULL = ("disk is full", "disk i/o error", "no space left", "file too large")
DAMAGED = ("not a database", "malformed", "database schema", "can't locate revision")
SQLITE, MAKING = "sqlite:///", ".making-"
LOCKED = ("database is locked",)


@contextmanager
def open_registry(
    folder: Path,
    model: str,
    *,
    uri: str | None = None,
    read_environment: bool = False,
) -> Iterator[Registry]:
    """Yield the registry of one model, locked against other processes of this machine.

    While it is open, MLflow's telemetry is off and its log is quiet; its environment variables
    (`MLFLOW_*`, `DATABRICKS_*`) are hidden unless `read_environment`. Afterwards the environment
    is as it was.

    Args:
        folder: Where the local store is made: `mlflow.db` and `artifacts/`. The lock lies here.
        model: Name of the registered model.
        uri: A tracking server (http://...) or database instead of the local store.
        read_environment: Let MLflow read its variables, such as the token of a server.

    Raises:
        MissingExtraError: MLflow is not installed.
        RegistryError: The store cannot be reached or refuses.
        IntegrityError: The database is damaged.
        UnsafeError: Another process is at work in it.
    """
    require("mlflow", "mlflow", "for the registry")
    if uri is None or uri.startswith("sqlite:"):
        for module in ("sqlalchemy", "alembic"):
            require(module, "mlflow", "for a registry in a local database")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make the registry {folder}: {error.strerror}.") from None
    place = uri or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    with ExitStack() as stack:
        stack.enter_context(locked(folder / ".lock", f"the registry {folder}"))
        stack.enter_context(quiet(read_environment=read_environment))
        stack.enter_context(_named_errors(place))
        if place.startswith(SQLITE):
            _make_database(Path(place.removeprefix(SQLITE)))
        from mlflow.tracking import MlflowClient

        client: Any = MlflowClient(tracking_uri=place, registry_uri=place)
        registry = Registry(client, model, uri=place, folder=None if uri else folder)
        registry.check()
        yield registry


def _make_database(path: Path) -> None:
    """Check a database, or make MLflow's tables in a new one, named when they are complete.

    MLflow makes them in dozens of steps, and never goes on with a database in which a process
    died half-way.
    """
    if path.exists():
        check_database(path)
        return
    if not path.parent.is_dir():
        raise RegistryError(f"the registry {path} cannot be made: there is no such folder.")
    for left in path.parent.glob(f"{MAKING}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(prefix=MAKING, dir=path.parent) as name:
        new = Path(name).absolute() / path.name
        store = SqlAlchemyStore(f"{SQLITE}{new}", (path.parent / "artifacts").absolute().as_uri())
        store.engine.dispose()
        new.replace(path)
    sync_folder(path.parent)


@contextmanager
def quiet(*, read_environment: bool = False) -> Iterator[None]:
    """Hide MLflow's variables for a while, switch its telemetry off, and lower its voice."""
    before = dict(os.environ)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    if not read_environment:
        for name in before:
            if name.startswith(PREFIXES):
                del os.environ[name]
        os.environ.update(PATIENCE)
    os.environ.update(QUIET)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow  # noqa: F401  (its import sets levels and decides on telemetry)

            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _named_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's errors into ours, which say what to do."""
    try:
        yield
    except PruneError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow", "sqlalchemy", "requests", "alembic")):
            raise
        said = " ".join(str(error).split())
        lower, short = said.lower(), said[:300]
        if any(words in lower for words in FULL):
            raise ResourceError(
                f"the registry {uri} cannot be written: {short}. Free space and repeat the "
                "command; it goes on where it stopped."
            ) from error
        if any(words in lower for words in DAMAGED):
            raise IntegrityError(
                f"the registry {uri} is damaged: {short}. Restore it from a backup; nothing was "
                "changed."
            ) from error
        hint = "another process holds it; repeat" if any(w in lower for w in LOCKED) else ""
        raise RegistryError(
            f"the registry {uri} refuses or cannot be reached: {short}. "
            + (hint or "Check registry.uri, and that the server is up.")
        ) from error
