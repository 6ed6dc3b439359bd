"""What a verb prints: one JSON document, or text whose last line names the next command."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from srinit.display import json_printable, printable
from srinit.errors import ResourceError


class _Output(Console):
    """A console whose reader may go away, and on which no text moves the cursor."""

    def on_broken_pipe(self) -> None:
        """Go on without the reader, as of `srinit ... | head`."""
        self.quiet = True
        to_nowhere(self.file)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yield what is drawn; control characters in texts are spelled out."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


out = _Output(highlight=False, emoji=False, soft_wrap=True)
err = _Output(stderr=True, highlight=False, emoji=False)
PLAIN_WIDTH = 160  # of tables where there is no terminal


@dataclass(frozen=True, slots=True)
class Result:
    """What a verb has to say."""

    verb: str
    data: dict[str, Any]  # the JSON document, without `verb`, `ok` and `next`
    text: Any = ""  # a string or anything that rich can draw
    next: str = ""  # the next useful command
    exit_code: int = 0
    quiet: bool = False  # another process of the same run says it
    extra: list[Any] = field(default_factory=list)  # further things to draw
    first: list[Any] = field(default_factory=list)  # drawn before it, on a terminal only


def emit(result: Result, *, as_json: bool) -> None:
    """Print a result on stdout: as one JSON document, or as text."""
    if result.quiet or _is_other():
        return
    try:
        _emit(result, as_json=as_json)
        sys.stdout.flush()
    except BrokenPipeError:  # who read it has seen enough, and the work is done
        to_nowhere(sys.stdout)
    except OSError as error:
        to_nowhere(sys.stdout)
        raise ResourceError(
            f"the work is done, but standard output cannot be written: {error.strerror}."
        ) from error


def _emit(result: Result, *, as_json: bool) -> None:
    if as_json:
        body = {"verb": result.verb, "ok": result.exit_code == 0, "exit_code": result.exit_code}
        print_json({**body, **result.data, "next": result.next})
        return
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = PLAIN_WIDTH
    before: Any = ""
    parts = (*(result.first if out.is_terminal else ()), result.text, *result.extra)
    for number, part in enumerate(each for each in parts if each not in (None, "")):
        if number and not all(isinstance(each, str) for each in (before, part)):
            out.print()  # tables stand apart
        before = part
        if isinstance(part, str):
            for line in part.splitlines():
                out.print(line, markup=False, soft_wrap=_is_whole(line))
        else:  # wrapped, not cut off, at the width of the terminal
            out.print(part, soft_wrap=False)
    if result.next:
        out.print(f"next: {result.next}", markup=False)


def _is_whole(line: str) -> bool:
    """Whether a line is left to the terminal to break: a path or command is not cut in two."""
    return not out.is_terminal or max(map(len, line.split()), default=0) > out.width


def emit_error(error: BaseException, *, code: int, as_json: bool, verbose: bool) -> None:
    """Say what went wrong: on stderr for people, and as the one JSON document if asked for."""
    kind = type(error).__name__
    message = str(error) or kind
    if as_json and not _is_other():
        try:
            print_json(
                {"ok": False, "exit_code": code, "error": {"type": kind, "message": message}}
            )
        except OSError:
            to_nowhere(sys.stdout)
    try:
        if verbose:
            trace = "".join(traceback.format_exception(error))
            err.print(trace, markup=False, soft_wrap=True, end="")
        err.print(f"[bold red]error[/] [dim]({escape(kind)})[/]: {escape(message)}", soft_wrap=True)
        if code == 1:
            err.print("This is a mistake in srinit. -v shows where it happened.", markup=False)
    except OSError:
        to_nowhere(sys.stderr)


def _is_other() -> bool:
    """Whether another process of the same launch speaks for this one."""
    launched = "TORCHELASTIC_RUN_ID" in os.environ  # by torchrun or accelerate
    return launched and os.environ.get("RANK", "0") != "0"


def print_json(body: Any) -> None:
    """Print one JSON document on stdout, in letters that its encoding has."""
    text = json.dumps(body, ensure_ascii=False, indent=2, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(body, indent=2, default=str)
    sys.stdout.write(f"{json_printable(text)}\n")
    sys.stdout.flush()


def to_nowhere(stream: IO[str]) -> None:
    """Drop what is and will be written to a stream that takes nothing any more."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
