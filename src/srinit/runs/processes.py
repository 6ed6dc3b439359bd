"""Several processes, one run: rank 0 keeps its folder, the others work on copies of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from srinit.distributed import ProcessGroup, by_itself, error_of, told
from srinit.errors import PruneError
from srinit.store import RunFolder
from srinit.store.seal import SUMS
from srinit.store.sums import read_sums, write_sums

T = TypeVar("T")
W = TypeVar("W", bound="Shared")
LEFT_OUT = shutil.ignore_patterns("export", "report", "superseded", ".*lock")


class Shared(Protocol):
    """What works in a run folder: that of rank 0, or a copy of it."""

    origin: Path
    folder: RunFolder


def on_rank_zero(session: W, step: Callable[[W], T]) -> T:
    """Return what a step returns that rank 0 takes alone, while the others wait.

    They copy what it wrote and read the result from there, so `step` must return what it finds
    written. Meanwhile each works by itself. What rank 0 raises for a reason is raised by all.
    """
    ranks, found = ProcessGroup(), []

    def take() -> str:
        found.append(step(session))
        return ""

    text_of_first(take)
    if ranks.rank:
        _copy(session.origin, session.folder.path)
    ranks.gather("copied")
    if ranks.rank == 0:
        return found[0]
    with by_itself():
        return step(session)


def text_of_first(make: Callable[[], str]) -> str:
    """Return what `make` returns in rank 0; the others wait for it, or for what it raises."""
    ranks = ProcessGroup()
    if ranks.rank:
        said = ranks.broadcast(None)
        if "error" in said:
            raise error_of(said)
        return str(said["text"])
    try:
        with by_itself():
            text = make()
    except PruneError as error:
        ranks.broadcast(told(error))
        raise
    ranks.broadcast({"text": text})
    return text


@contextmanager
def copy_of_first(ranks: ProcessGroup) -> Iterator[tuple[RunFolder, Path]]:
    """Yield a copy of rank 0's run folder, dropped at the end, and where that folder is."""
    source = Path(ranks.gather(None)[0])
    with tempfile.TemporaryDirectory(prefix="srinit-rank-") as scratch:
        target = Path(scratch) / source.name
        _copy(source, target)
        ranks.gather("copied")
        yield RunFolder.open(target), source


@contextmanager
def kept_by_first(
    folder: RunFolder, ranks: ProcessGroup, then: Callable[[], None] | None = None
) -> Iterator[None]:
    """Lock rank 0's run folder, do what is to be done `then`, and let the others copy it."""
    with folder.lock():
        if then is not None:
            then()
        ranks.gather(str(folder.path.absolute()))
        ranks.gather("copied")
        yield


def _copy(source: Path, target: Path) -> None:
    """Copy a run; what is left out has no hash in the copy, and so is not there yet."""
    shutil.copytree(source, target, ignore=LEFT_OUT, dirs_exist_ok=True)
    listed = target / SUMS
    sums = read_sums(listed)
    kept = {n: d for n, d in sums.items() if not (source / n).is_file() or (target / n).is_file()}
    if kept != sums:
        write_sums(listed, kept)
