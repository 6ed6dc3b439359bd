"""Watches a log that grows: what came since the last time, with what was known then."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from srinit import store
from srinit.custody.beside import beside
from srinit.errors import DataError
from srinit.monitor import LogReader, Window
from srinit.monitor.diagnosis import diagnose
from srinit.monitor.log import batches, read_models
from srinit.observer import Observer
from srinit.operations.monitoring import (
    Monitored,
    Watched,
    answered,
    model_of,
    watched,
)
from srinit.store import sha256_bytes

SCHEMA = "srinit.following/1"
HEAD = 1024  # bytes by which a log is known again
PAUSE = 1.0


def follow(
    path: Path,
    observer: Observer,
    overrides: list[str] | None = None,
    *,
    log: Path,
    once: bool = False,
    auto_rollback: bool = False,
) -> Monitored:
    """Return what the lines say that came since the last time; without `once` wait for an alarm.

    How far the log was read, the window that is not full yet and the evidence so far are kept
    beside the run, written anew in one step after every look: a process that is killed goes on
    where the last look ended. A log that was replaced (rotated) is read from its beginning.

    Args:
        path: The run.
        observer: Told about every window.
        overrides: Of the run's config.
        log: The log; it may not be there yet.
        once: Look once, as cron does.
        auto_rollback: As for `monitor`.
    """
    here = watched(path, observer, overrides)
    place = beside(path) / f"following-{sha256_bytes(str(log.resolve()).encode())[:12]}.json"
    state = _read(place)
    model = str(state.get("model", "")) or model_of(
        read_models(log) if log.is_file() else frozenset(), here.weights, here.runner
    )
    reader = LogReader(model, here.names, hold=0)
    offset = 0
    if state:
        here.watch.resume(state["watch"], standing=once)
        reader.resume(state["reader"])
        offset = int(state["offset"])
    observer.step("watch")
    while True:
        if offset and _head(log, offset) != state.get("head"):
            observer.say(f"{log} was replaced: it is read from its beginning.")
            offset = 0
        offset, windows = _looked(here, reader, log, offset)
        for window in windows:
            observer.say(_told(window))
        state = {
            "model": model,
            "offset": offset,
            "head": _head(log, offset),
            "watch": here.watch.state(),
            "reader": reader.state(),
        }
        store.write_text(place, json.dumps({"schema": SCHEMA, **state}) + "\n")
        result = _result(here, reader, path, log, model)
        if once or result.alarm:
            return answered(here, result, model, path, overrides, auto_rollback=auto_rollback)
        time.sleep(PAUSE)


def _looked(here: Watched, reader: LogReader, log: Path, offset: int) -> tuple[int, list[Window]]:
    """Take in the whole lines behind `offset`; return where they end, and full windows."""
    windows: list[Window] = []
    if not log.exists():
        return offset, windows
    for _, lines in batches(log, offset):
        whole = [line for line in lines if line.endswith(b"\n")]
        reader.take(whole, reader.count.lines + 1)
        offset += sum(map(len, whole))
        if (found := reader.ready()) is not None:
            windows += here.watch.add(found)
        if len(whole) < len(lines):
            break
    return offset, windows


def _result(here: Watched, reader: LogReader, path: Path, log: Path, model: str) -> Monitored:
    """Return what there is to say of this look: an alarm is one of now."""
    watch = here.watch
    found = watch.report()
    count = reader.count
    return Monitored(
        run=str(path),
        watched=str(log),
        watched_sha256=_head(log, HEAD),
        num_examples=watch.examples + found.examples_left,
        baseline_examples=len(watch.reference.sample),
        order="time",
        lines=count.plain(),
        doubled=count.doubled,
        watch=found,
        alarm=found.alarm,
        diagnosis=diagnose(found),
        rollback="",
    )


def _told(window: Window) -> str:
    beyond = ", ".join(window.beyond)
    return f"{window.num_examples} images: {f'beyond: {beyond}' if beyond else 'within all limits'}"


def _head(log: Path, offset: int) -> str:
    """Return the hash of the first bytes of what was read, by which the log is known again."""
    try:
        with log.open("rb") as file:
            head = file.read(min(offset, HEAD))
            return hashlib.sha256(head).hexdigest() if log.stat().st_size >= offset else ""
    except OSError:
        return ""


def _read(place: Path) -> dict[str, Any]:
    """Return the state that was kept; empty for none.

    Raises:
        DataError: The file is damaged.
    """
    if not place.is_file():
        return {}
    try:
        state: dict[str, Any] = json.loads(place.read_text("utf-8"))
        if state.pop("schema") != SCHEMA:
            raise ValueError("another schema")
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{place} cannot be read ({error}); delete it to follow the log from its beginning."
        ) from None
    return state
