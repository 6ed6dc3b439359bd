"""Progress bars with the time left, on stderr; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from srinit.cli.output import err


class _Bars(Progress):
    """Bars, and below them what the step at work says of itself."""

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.note:
            yield Text(f"  {self.note}", style="dim", no_wrap=True, overflow="ellipsis")


class _Left(TimeRemainingColumn):
    """The time left of a step that is at work; nothing where it is done."""

    def render(self, task: Task) -> Text:
        """Return `· 0:01:30 left`."""
        if task.finished:
            return Text("")
        return Text("· ", style="dim") + super().render(task) + Text(" left", style="dim")


class RichObserver:
    """Draws the steps of a run as bars; an `Observer` of the pipeline."""

    def __init__(self) -> None:
        self._bars = _Bars(
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            _Left(),
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

    def step(self, title: str) -> None:
        """Close the bar of the step before and begin another."""
        self._finish()
        self._title, self._began = title, time.monotonic()
        if not err.is_terminal:
            err.print(f"{title} ...", markup=False)
        self._task = self._bars.add_task(escape(title), total=None)

    def progress(self, done: float, total: float | None, note: str = "") -> None:
        """Move the bar."""
        if self._task is not None:
            self._bars.note = note
            self._bars.update(self._task, completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        err.print(f"  {text}", markup=False, soft_wrap=not err.is_terminal)

    def _finish(self) -> None:
        if self._task is None:
            return
        self._bars.note = ""
        task = self._bars.tasks[self._task]
        total = task.total if task.total is not None else max(task.completed, 1)
        self._bars.update(self._task, completed=total, total=total)
        if not err.is_terminal:
            err.print(f"{self._title}: {time.monotonic() - self._began:.1f} s", markup=False)
        self._task = None
