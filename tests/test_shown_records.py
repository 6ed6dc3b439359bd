"""What `print` and a notebook show of the records that people look at."""

from __future__ import annotations

import pytest

from report_run import HOSTILE, RUN
from srinit.report import ReportInput, load_report_input
from srinit.tables import MOST, Table


@pytest.fixture(scope="module")
def found() -> ReportInput:
    return load_report_input(RUN)


def test_units_print_as_a_table_of_what_can_go(found: ReportInput) -> None:
    units = found.sensitivity.unit_map
    text = str(units)
    lines = text.splitlines()
    assert lines[0].startswith(f"{len(units)} units can go, {len(units.locked)} are locked")
    for unit, line in zip(units.removable, lines[2:], strict=False):
        assert line.startswith(unit.name)
        assert f"{unit.params:,}" in line
        assert line.endswith("can go")


def test_a_plan_prints_what_goes_and_what_is_left(found: ReportInput) -> None:
    lines = str(found.plan).splitlines()
    assert lines[0].startswith(f"{len(found.plan.names)} of {len(found.plan.ranking)} units go")
    goes = [line.split()[0] for line in lines[2:] if " goes " in line]
    assert goes == list(found.plan.names)
    share = found.plan.prefixes[1].params / found.plan.prefixes[0].params
    assert f"{100 * share:.1f}%" in lines[2]


def test_a_comparison_prints_losses_with_their_intervals(found: ReportInput) -> None:
    comparison = found.comparison
    assert comparison is not None
    text = str(comparison)
    score = comparison.score
    assert f"{100 * score.low:+.2f} to {100 * score.high:+.2f}" in text
    assert "missed defects" in text
    assert max(map(len, text.splitlines())) < 110


def test_a_notebook_shows_html_in_which_names_are_text(found: ReportInput) -> None:
    comparison = found.comparison
    assert comparison is not None
    page = comparison._repr_html_()
    assert "<table>" in page
    assert HOSTILE not in page
    plan = found.plan._repr_html_()
    assert plan.count("<polyline") == 2
    assert "<b>1</b>" not in plan
    assert "<table>" in found.sensitivity.unit_map._repr_html_()


def test_a_long_table_says_how_much_it_leaves_out() -> None:
    rows = tuple((f"unit{index}", str(index)) for index in range(MOST + 7))
    table = Table(title="many", head=("unit", "params"), rows=rows)
    assert table.text().splitlines()[-1] == "... and 7 more"
    assert "... and 7 more" in table.html()


def test_a_name_cannot_move_the_cursor() -> None:
    table = Table(title="t", head=("unit", ""), rows=(("\x1b[2Ja\nb", "1"),))
    assert "\x1b" not in table.text()
    assert len(table.text().splitlines()) == 3
