"""The command line: `srinit VERB`. Nothing here imports torch until a verb needs it."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer

from srinit.cli.app import app
from srinit.cli.output import emit_error, to_nowhere
from srinit.errors import (
    ConfigError,
    PruneError,
    ResourceError,
    UnusableError,
    is_out_of_memory,
)

# The base of typer's usage errors; typer brings its own copy of click or uses the installed one.
UsageError: Any = typer.BadParameter.__mro__[1]
USAGE, INTERNAL, RESOURCES, INTERRUPTED, TERMINATED = 2, 1, 5, 130, 143


class Terminated(BaseException):
    """SIGTERM arrived; files are closed on the way out, and the run can be resumed."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a verb and exit with its code (see `srinit.errors` for the codes)."""
    given = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _terminate)
    _open_streams()
    try:
        code = run(given)
    except KeyboardInterrupt:  # a second one, while the first was said
        code = INTERRUPTED
    except Terminated:
        code = TERMINATED
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # nothing is left to stop
    try:
        sys.stdout.flush()
    except OSError:
        to_nowhere(sys.stdout)
    sys.exit(code)


def _open_streams() -> None:
    """Make stdout and stderr writable: also closed ones, and any letter in any encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def run(arguments: list[str]) -> int:
    """Return the exit code of a verb; whatever goes wrong is said, never raised."""
    as_json = "--json" in arguments
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        code = app(arguments, standalone_mode=False)
        if code == INTERRUPTED:  # typer's answer to Ctrl-C, which says nothing
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except typer.Exit as error:
        return error.exit_code
    except UsageError as error:
        context = getattr(error, "ctx", None)
        hint = f" ({context.command_path} --help)" if context is not None else ""
        problem: BaseException = ConfigError(error.format_message() + hint)
        code = USAGE
    except (KeyboardInterrupt, typer.Abort):
        problem, code = KeyboardInterrupt(f"interrupted; {RESUME}"), INTERRUPTED
    except Terminated:
        problem, code = Terminated(f"terminated; {RESUME}"), TERMINATED
    except PruneError as error:
        problem, code = error, error.exit_code
    except SystemExit as error:
        if "--help" not in arguments:
            raise
        to_nowhere(sys.stdout)  # click ends so when the reader of a help text has seen enough
        return 0 if error.code == 1 else INTERNAL
    except OSError as error:
        problem = _named(error)
        code = problem.exit_code if isinstance(problem, PruneError) else INTERNAL
    except Exception as error:
        problem, code = error, RESOURCES if is_out_of_memory(error) else INTERNAL
    emit_error(problem, code=code, as_json=as_json, verbose=verbose)
    return code


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
UNUSABLE = (
    errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR,
    errno.EIO, errno.ESTALE,
)  # fmt: skip


def _named(error: OSError) -> Exception:
    """Return what a system's error means, where it is about the user's files."""
    if error.errno in FULL:
        return ResourceError(str(error))
    if error.errno in UNUSABLE and error.filename is not None:
        return UnusableError(f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}.")
    return error


RESUME = "the same command resumes where it stopped"


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated
