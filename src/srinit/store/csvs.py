"""Tables for a spreadsheet: Japanese intact, and no cell that a spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

BOM = "\ufeff"  # without it Excel reads UTF-8 as the local code page
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    r"""Return a CSV file's text: UTF-8 with a byte order mark, lines ending in CR LF.

    Example:
        >>> csv_text(["unit", "drop"], [["=1+1", -0.5]])
        "\ufeffunit,drop\r\n'=1+1,-0.5\r\n"
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerows([cell(value) for value in row] for row in (header, *rows))
    return BOM + buffer.getvalue()


def cell(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula; numbers stay numbers.

    Source: OWASP, CSV injection, https://owasp.org/www-community/attacks/CSV_Injection
    """
    if isinstance(value, str) and value.lstrip(" \u3000").startswith(RISKY):
        return "'" + value
    return "" if value is None else value
