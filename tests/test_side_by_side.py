"""Several runs on one page: what was cut, accuracy, latency, criteria, in one order."""

from __future__ import annotations

import dataclasses
import html
import re
from pathlib import Path

import pytest

from parts_project import call, copied
from report_run import HOSTILE, RUN
from srinit.errors import ConfigError
from srinit.gates import GateResult
from srinit.report import ReportInput, load_report_input
from srinit.report import formats as fmt
from srinit.report.side_by_side import render_side_by_side, side_by_side
from srinit.report.text import Translator


@pytest.fixture(scope="module")
def first() -> ReportInput:
    return dataclasses.replace(load_report_input(RUN), run="runs/first")


@pytest.fixture(scope="module")
def second(first: ReportInput) -> ReportInput:
    """The same run with one block fewer, and every criterion met."""
    plan = dataclasses.replace(first.plan, remove=first.plan.remove[:-1])
    stage = first.rounds[-1]
    assert stage.gates is not None
    gates = tuple(dataclasses.replace(gate, passed=True) for gate in stage.gates.gates)
    stage = dataclasses.replace(stage, gates=GateResult(passed=True, gates=gates))
    return dataclasses.replace(first, run="runs/second", plan=plan, rounds=(stage,))


def visible(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_every_run_has_its_cells_in_the_order_given(
    first: ReportInput, second: ReportInput
) -> None:
    for reports in ([first, second], [second, first], [first, second, first]):
        view = side_by_side(reports, Translator())
        assert [len(row.cells) for row in view.rows] == [len(reports)] * len(view.rows)
        assert [d.verdict for d in view.decisions] == [
            "no" if report is first else "conditions" for report in reports
        ]


def test_numbers_are_those_of_each_run(first: ReportInput, second: ReportInput) -> None:
    view = side_by_side([first, second], Translator())
    text = visible(render_side_by_side([first, second], (), ("en",)))
    comparison = first.comparison
    assert comparison is not None
    assert fmt.percent(comparison.score.baseline, 2) in text
    assert fmt.percent(comparison.score.pruned, 2) in text
    for pair in comparison.latency:
        assert fmt.milliseconds(pair.pruned.median_ms) in text
    cut = next(row for row in view.rows if "removed" in row.title.en)
    assert [cell.en for cell in cut.cells] == ["3 of 7 blocks", "2 of 7 blocks"]
    assert [row.title.en for row in view.blocks] == sorted(
        first.plan.names, key=lambda n: first.sensitivity.unit_map[n].position
    )
    last = next(r for r in view.blocks if r.title.en == first.plan.names[-1])
    assert [cell.en for cell in last.cells] == ["removed", "kept"]


def test_criteria_stand_with_limit_worst_case_and_result(
    first: ReportInput, second: ReportInput
) -> None:
    view = side_by_side([first, second], Translator())
    assert view.criteria[0].title.en == "Loss of accuracy"
    assert view.criteria[1].marks == ("no", "yes")
    assert "at worst 22.96 points (at most 20.00 points)" in view.criteria[1].cells[0].en


def test_a_run_without_a_comparison_or_criterion_has_empty_cells(first: ReportInput) -> None:
    bare = ReportInput(name="bare", run="runs/bare", sensitivity=first.sensitivity, plan=first.plan)
    text = visible(render_side_by_side([first, bare], (), ("en",)))
    assert "Not judged yet" in text
    assert "–" in text


def test_runs_that_are_not_alike_say_so(first: ReportInput, second: ReportInput) -> None:
    assert side_by_side([first, second], Translator()).doubts == ()
    comparison = first.comparison
    assert comparison is not None
    stage = dataclasses.replace(
        second.rounds[-1], comparison=dataclasses.replace(comparison, data_hash="other")
    )
    other = dataclasses.replace(
        second, rounds=(stage,), environment={**(second.environment or {}), "processor": "M4"}
    )
    words = " ".join(text.en for text in side_by_side([first, other], Translator()).doubts)
    assert "different test data" in words
    assert "different machines" in words


def test_names_are_text_and_nothing_is_fetched(first: ReportInput, second: ReportInput) -> None:
    hostile = dataclasses.replace(second, run=f"runs/{HOSTILE}")
    page = render_side_by_side([first, hostile], ("a/report.html", "b/report.html"))
    assert HOSTILE not in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert " style=" not in page


def test_one_run_is_not_side_by_side(first: ReportInput) -> None:
    with pytest.raises(ConfigError, match="two runs or more, not 1"):
        side_by_side([first], Translator())


def test_the_command_writes_one_page_of_several_runs(
    finished_parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [copied(finished_parts, tmp_path / name) for name in ("one", "two")]
    code, body = call(capsys, "report", *runs, "--lang", "en")
    assert code == 0, body
    page = Path(body["report"])
    assert page == tmp_path / "one" / "side_by_side" / "side_by_side.html"
    links = re.findall(r'href="([^"]+)"', page.read_text("utf-8"))
    found = [(page.parent / link).resolve() for link in links]
    assert len(found) == 2
    assert all(report.is_file() for report in found)
    code, body = call(capsys, "report", *runs, "--out", tmp_path / "there")
    assert body["report"] == str(tmp_path / "there" / "side_by_side.html")
    code, body = call(capsys, "report", runs[0], tmp_path / "gone")
    assert code != 0
    assert "gone" in body["error"]["message"]
