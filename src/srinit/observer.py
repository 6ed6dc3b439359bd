"""How the pipeline tells what it is doing; the command line draws it, the library stays silent."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Receives what happens, in order; a step lasts until the next one begins."""

    def step(self, title: str) -> None:
        """A step of work begins."""

    def progress(self, done: float, total: float | None, note: str = "") -> None:
        """So much of the present step is done."""

    def say(self, text: str) -> None:
        """One fact worth a line."""


class Silent:
    """An observer that ignores everything; the default of the library."""

    def step(self, title: str) -> None:
        """Ignore."""

    def progress(self, done: float, total: float | None, note: str = "") -> None:
        """Ignore."""

    def say(self, text: str) -> None:
        """Ignore."""
