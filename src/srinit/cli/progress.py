"""Progress bars with the time left, on stderr; plain lines where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from srinit.cli.output import err


class RichObserver:
    """Draws the stages of a run as bars; an `Observer` of the pipeline."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=err,
            disable=not err.is_terminal,
        )
        self._task: TaskID | None = None
        self._title = ""
        self._began = time.monotonic()

    def __enter__(self) -> RichObserver:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        self._bars.stop()

    def stage(self, title: str) -> None:
        """Close the bar of the stage before and begin another."""
        self._finish()
        self._title, self._began = title, time.monotonic()
        if not err.is_terminal:
            err.print(f"{title} ...", markup=False)
        self._task = self._bars.add_task(escape(title), total=None, note="")

    def progress(self, done: float, total: float | None, note: str = "") -> None:
        """Move the bar."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total, note=escape(note))

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        err.print(f"  {text}", markup=False)

    def _finish(self) -> None:
        if self._task is None:
            return
        task = self._bars.tasks[self._task]
        total = task.total if task.total is not None else max(task.completed, 1)
        self._bars.update(self._task, completed=total, total=total)
        if not err.is_terminal:
            err.print(f"{self._title}: {time.monotonic() - self._began:.1f} s", markup=False)
        self._task = None
