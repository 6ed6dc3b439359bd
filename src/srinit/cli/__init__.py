"""The command line: `srinit VERB`. Nothing here imports torch until a verb needs it."""

from __future__ import annotations

import errno
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import typer

from srinit.cli.app import app
from srinit.cli.output import emit_error
from srinit.errors import ConfigError, PruneError, ResourceError, is_out_of_memory

# The base of typer's usage errors; typer brings its own copy of click or uses the installed one.
UsageError: Any = typer.BadParameter.__mro__[1]
USAGE, INTERNAL, RESOURCES, INTERRUPTED, TERMINATED = 2, 1, 5, 130, 143


class Terminated(BaseException):
    """SIGTERM arrived; files are closed on the way out, and the run can be resumed."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a verb and exit with its code (see `srinit.errors` for the codes)."""
    given = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(given))


def run(arguments: list[str]) -> int:
    """Return the exit code of a verb; whatever goes wrong is said, never raised."""
    as_json = "--json" in arguments
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        code = app(arguments, standalone_mode=False)
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
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        problem, code = (ResourceError(str(error)), RESOURCES) if full else (error, INTERNAL)
    except Exception as error:
        problem, code = error, RESOURCES if is_out_of_memory(error) else INTERNAL
    emit_error(problem, code=code, as_json=as_json, verbose=verbose)
    return code


RESUME = "the same command resumes where it stopped"


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated
