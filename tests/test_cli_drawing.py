"""What the verbs draw: nothing is cut off at 80 columns, intervals where there is room."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from report_run import RUN
from srinit.cli import output
from srinit.cli.output import Result, emit
from srinit.cli.progress import RichObserver
from srinit.cli.render import comparison_table, gate_table, unit_tree
from srinit.cli.tables import Bar, plan_table, remarks, sensitivity_table
from srinit.report import ReportInput, load_report_input

WIDTHS = (80, 120)


@pytest.fixture(scope="module")
def found() -> ReportInput:
    return load_report_input(RUN)


def drawn(part: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(part)
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert all(cell_len(line) <= width for line in lines)
    return lines


@pytest.mark.parametrize("width", WIDTHS)
def test_scan_fits_the_terminal_and_names_every_unit(found: ReportInput, width: int) -> None:
    scan = found.sensitivity
    lines = drawn(sensitivity_table(scan), width)
    text = "\n".join(lines)
    assert "…" not in re.sub(r"[0-9] … [-+0-9]", "", text)  # no name is cut off
    for unit in scan.units:
        (row,) = [line for line in lines if line.startswith(f"{unit.unit} ")]
        assert f"{100 * (unit.reinit_drop or 0):+.1f}" in row
        assert "●" in row
        assert (unit.decision in row) is (scan.max_drop is not None)
    assert text.count("the data ended at a half-width of") == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_japanese_names_keep_the_columns_in_line(found: ReportInput, width: int) -> None:
    units = tuple(
        dataclasses.replace(unit, unit=f"検査{number}", reason="")
        for number, unit in enumerate(found.sensitivity.units)
    )
    lines = drawn(sensitivity_table(dataclasses.replace(found.sensitivity, units=units)), width)
    rows = [line for line in lines if line.startswith("検査")]
    ends = {cell_len(row[: row.index("…")]) for row in rows}
    assert len(rows) == len(units)
    assert len(ends) == 1


def test_plan_shows_intervals_only_where_there_is_room(found: ReportInput) -> None:
    narrow, wide = ("\n".join(drawn(plan_table(found.plan), width)) for width in WIDTHS)
    removal = found.plan.remove[0]
    interval = removal.evidence.interval
    assert interval is not None
    drop = f"{100 * (removal.evidence.reinit_drop or 0):+.1f}"
    ends = [f"{100 * end:+.1f}" for end in (interval.low, interval.high)]
    for text in (narrow, wide):
        assert all(name in text for name in found.plan.ranking)
        assert drop in text
        assert text.count("✂") == len(found.plan.remove)
    assert f"{drop} ({' … '.join(ends)})" in wide
    assert f"({' … '.join(ends)})" not in narrow


@pytest.mark.parametrize("width", WIDTHS)
def test_comparison_keeps_names_and_numbers_whole_and_gates_stand_below(
    found: ReportInput, width: int
) -> None:
    assert found.comparison is not None
    assert found.gates is not None
    text = "".join("".join(drawn(comparison_table(found.comparison), width)).split())
    for change in found.comparison.classes:
        assert all(word in text for word in change.name.split())
        assert f"{100 * change.recall.low:+.2f}…{100 * change.recall.high:+.2f}" in text
    lines = drawn(gate_table(found.gates), width)
    assert [line.split()[0] for line in lines if line.startswith(("pass", "FAIL"))] == [
        "pass" if gate.passed else "FAIL" for gate in found.gates.gates
    ]
    joined = " ".join(" ".join(lines).split())
    assert all(" ".join(gate.sentence.split()) in joined for gate in found.gates.gates)


def test_tree_is_wrapped_and_not_cut_off(
    found: ReportInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = io.StringIO()
    console = Console(file=page, width=80, highlight=False, soft_wrap=True, force_terminal=True)
    monkeypatch.setattr(output, "out", console)
    emit(Result(verb="inspect", data={}, text=unit_tree(found.sensitivity.unit_map)), as_json=False)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", page.getvalue())
    assert "0 locked" in plain
    assert max(cell_len(line) for line in plain.splitlines()) <= 80


def test_prose_breaks_between_words_and_paths_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    page = io.StringIO()
    console = Console(file=page, width=20, highlight=False, soft_wrap=True, force_terminal=True)
    monkeypatch.setattr(output, "out", console)
    path = "/a/folder/with/a/long/name/report.html"
    emit(
        Result(verb="run", data={}, text=f"one two three four five six\nReport: {path}"),
        as_json=False,
    )
    lines = [line.rstrip() for line in page.getvalue().splitlines()]
    assert lines == ["one two three four", "five six", f"Report: {path}"]


def test_what_is_drawn_first_is_for_terminals_alone(capsys: pytest.CaptureFixture[str]) -> None:
    emit(Result(verb="run", data={}, text="words", first=["table"]), as_json=False)
    assert "table" not in capsys.readouterr().out


def test_without_a_terminal_tables_are_wide_and_plain(
    found: ReportInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = io.StringIO()
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(output, "out", Console(file=page, highlight=False, soft_wrap=True))
    emit(Result(verb="plan", data={}, text=plan_table(found.plan), next="more"), as_json=False)
    text = page.getvalue()
    assert "\x1b" not in text
    interval = found.plan.remove[0].evidence.interval
    assert interval is not None
    low = 100 * interval.low
    assert f"({low:+.1f} … " in text  # intervals, for which 80 columns have no room
    assert text.endswith("next: more\n")


def test_bar_marks_zero_and_lies_on_its_scale() -> None:
    assert Bar(0.5, 0.25, 0.75, 0.0, 1.0).line(9) == "  ──●──  "
    assert Bar(0.0, -0.5, 0.5, -1.0, 1.0).line(9) == "  ──●──  "
    assert Bar(None, None, None, -1.0, 1.0).line(9) == "    ┊    "


def test_reasons_that_differ_in_numbers_are_said_once() -> None:
    reasons = {f"u{i}": f"ended at {i / 10}; one class for {90 + i}%" for i in range(1, 6)}
    assert remarks(reasons) == [
        "ended at 0.1 … 0.5: u1, u2, u3 and 2 more",
        "one class for 91 … 95%: u1, u2, u3 and 2 more",
    ]


def test_progress_in_a_log_is_plain_lines_that_are_not_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(stderr=True, highlight=False)
    monkeypatch.setattr("srinit.cli.progress.err", console)
    with RichObserver() as observer:
        observer.step("scan")
        observer.say("word " * 40)
        observer.progress(1, 2, "a note")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "scan ..."
    assert lines[1].strip() == ("word " * 40).strip()
    assert re.fullmatch(r"scan: \d+\.\d s", lines[2])
