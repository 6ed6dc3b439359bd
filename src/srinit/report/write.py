"""Writes the report's files: page, summary, model card and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from srinit import store
from srinit.report.card import model_card
from srinit.report.csvs import tables
from srinit.report.data import ReportInput
from srinit.report.page import render
from srinit.report.summary import summary_markdown
from srinit.report.text import LANGUAGES, Language


def write_report(
    report: ReportInput, folder: Path, *, languages: Sequence[Language] = LANGUAGES
) -> Path:
    """Write report.html, summary.md, model_card.md and csv/ into `folder`; return the page's path.

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
    store.write_text(folder / "summary.md", summary_markdown(report, languages))
    store.write_text(folder / "model_card.md", model_card(report))
    for name, text in tables(report).items():
        store.write_text(folder / "csv" / name, text)
    return page
