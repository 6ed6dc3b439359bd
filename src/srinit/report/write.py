"""Writes the report's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from srinit import store
from srinit.report.data import ReportInput
from srinit.report.page import render
from srinit.report.text import LANGUAGES, Language


def write_report(
    report: ReportInput, folder: Path, *, languages: Sequence[Language] = LANGUAGES
) -> Path:
    """Write report.html into `folder` and return its path.

    Args:
        report: What it is made from; see `load_report_input`.
        folder: Made if it is missing; files of the same name are replaced.
        languages: "ja", "en" or both; the first is shown when the page opens.

    Raises:
        ConfigError: There is no such language.
        ResourceError: The disk refuses the write.
    """
    page = folder / "report.html"
    store.write_text(page, render(report, languages))
    return page
