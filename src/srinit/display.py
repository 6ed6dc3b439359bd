"""Texts from outside as a terminal may show them, and commands as a shell takes them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

# What moves the cursor, colors, turns the direction of reading, or ends a line unseen.
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def printable(text: str) -> str:
    r"""Return a text with its control characters spelled out; tabs and line feeds stay.

    Example:
        >>> print(printable("\x1b[31mscratch\x07 \u202e"))
        \x1b[31mscratch\x07 \u202e
    """
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def json_printable(text: str) -> str:
    r"""Return a JSON document with the control characters of its texts spelled out; it is the same.

    Example:
        >>> print(json_printable('"scratch\x9b"'))
        "scratch\u009b"
    """
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    r"""Return a name with its control characters spelled out, line feeds too.

    Example:
        >>> print(one_line("ok\nnext: rm"))
        ok\nnext: rm
    """
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def command(*words: str | Path) -> str:
    """Return a command of srinit to be copied into a shell, quoted where it needs to be.

    Example:
        >>> print(command("prune", Path("it's mine; touch X")))
        srinit prune 'it'"'"'s mine; touch X'
        >>> command("verify", Path("-rf"))
        'srinit verify ./-rf'
    """
    texts = [_beside(str(word)) if isinstance(word, Path) else word for word in words]
    return shlex.join(["srinit", *texts])


def quoted(path: str | Path) -> str:
    """Return a path to be copied into a shell, quoted where it needs to be."""
    return shlex.quote(_beside(str(path)))


def _beside(path: str) -> str:
    """Return a path that no command takes for an option."""
    return f"./{path}" if path.startswith("-") else path
