"""What is written beside the page: summary, model card and tables for a spreadsheet."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_run import HOSTILE, RUN
from srinit.config import parse_yaml
from srinit.evaluate import Outcomes
from srinit.report import ReportInput, load_report_input, write_report
from srinit.report.card import model_card
from srinit.report.confusion_pairs import confusion_pairs_of, confusion_rows
from srinit.report.csvs import tables
from srinit.report.page import render
from srinit.report.summary import summary_markdown
from srinit.runs.kinds import PairedOutcomes
from srinit.store import csv_text
from srinit.store.csvs import cell


@pytest.fixture(scope="module")
def found() -> ReportInput:
    return dataclasses.replace(load_report_input(RUN), run="runs/inspection")


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_report_writes_every_file_it_promises(found: ReportInput, tmp_path: Path) -> None:
    page = write_report(found, tmp_path / "report")
    written = {p.relative_to(page.parent).as_posix() for p in page.parent.rglob("*") if p.is_file()}
    names = {"layers", "removals", "rounds", "latency", "classes", "gates"}
    assert written == {
        "report.html", "summary.md", "model_card.md", *(f"csv/{name}.csv" for name in names)
    }  # fmt: skip


def test_tables_start_with_the_mark_that_keeps_japanese_intact(found: ReportInput) -> None:
    for text in tables(found).values():
        assert text.encode().startswith(b"\xef\xbb\xbf")
        assert text.endswith("\r\n")
    assert "不良" in tables(found)["classes.csv"]


def test_layers_table_holds_the_records_unrounded(found: ReportInput) -> None:
    rows = read(tables(found)["layers.csv"])
    for row, unit in zip(rows, found.sensitivity.units, strict=True):
        assert row["unit"] == unit.unit
        assert float(row["reinit_drop"]) == unit.reinit_drop
        assert row["removed"] == str(unit.unit in found.plan.names)
        for scores in found.beside:
            taken = scores[unit.unit]
            assert float(row[f"{scores.criterion}_score"]) == taken.score
            assert float(row[f"{scores.criterion}_high"]) == taken.high


def _answered(truth: np.ndarray, answers: list[int]) -> Outcomes:
    predictions = np.array(answers)
    return Outcomes(
        scores=(predictions == truth).astype(float),
        finite=np.ones(len(truth), dtype=bool),
        targets=truth,
        predictions=predictions,
        confidence=np.ones(len(truth)),
    )


def test_kinds_of_error_are_counted_from_the_predictions(found: ReportInput) -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    before, after = (
        _answered(truth, answers) for answers in ([0, 1, 1, 1, 2, 2], [0, 0, 1, 1, 1, -1])
    )
    confusion_pairs = confusion_pairs_of(
        PairedOutcomes(before, after, np.array([str(i) for i in range(6)]))
    )
    assert [(m.truth, m.answer, m.before, m.after) for m in confusion_pairs] == [
        (0, 1, 2, 1), (1, 2, 1, 0), (2, -1, 0, 1),
    ]  # fmt: skip
    rounds = (dataclasses.replace(found.rounds[-1], confusion_pairs=confusion_pairs),)
    report = dataclasses.replace(found, rounds=rounds)
    rows = read(tables(report)["mistakes.csv"])
    assert rows[0] == {
        "truth": "良品", "answer": HOSTILE, "num_baseline": "2", "num_pruned": "1",
    }  # fmt: skip
    page = render(report)
    assert "Kinds of error" in page
    assert HOSTILE not in page
    assert confusion_rows(confusion_pairs, ("OK", "NG")) == ()  # of two classes recall says it all


def test_removals_table_has_every_prefix(found: ReportInput) -> None:
    rows = read(tables(found)["removals.csv"])
    assert [int(row["params"]) for row in rows] == [p.params for p in found.plan.prefixes]
    assert [row["last_removed"] for row in rows] == ["", *found.plan.ranking]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " =", "＝"])
def test_no_cell_is_taken_for_a_formula(start: str) -> None:
    text = csv_text(["name"], [[f"{start}HYPERLINK(1)"]])
    value = read(text)[0]["name"]
    assert value.startswith("'")


@given(st.text())
def test_harmless_text_comes_back_as_it_was(text: str) -> None:
    safe = "x" + text
    assert cell(safe) == safe


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_numbers_stay_numbers(number: float) -> None:
    assert cell(number) == number


def test_tables_hold_every_timed_call_and_the_evidence_of_every_removal(
    found: ReportInput,
) -> None:
    comparison = found.comparison
    assert comparison is not None
    calls = read(tables(found)["latency.csv"])
    for pair in comparison.latency:
        for network, side in (("baseline", pair.baseline), ("pruned", pair.pruned)):
            mine = [
                float(row["ms"])
                for row in calls
                if row["network"] == network
                and row["batch_size"] == str(side.batch_size)
                and row["runtime"] == side.runtime
            ]
            assert mine == list(side.samples_ms)
            assert len(mine) == side.repeats
    rows = {row["last_removed"]: row for row in read(tables(found)["removals.csv"])}
    for removal in found.plan.remove:
        row = rows[removal.unit.name]
        assert row["in_plan"] == "True"
        evidence = removal.evidence
        assert evidence.alone is not None
        assert evidence.joint is not None
        assert float(row["reinit_drop"]) == evidence.reinit_drop
        assert float(row["trial_cost"]) == evidence.alone.cost.value
        assert float(row["trial_high"]) == evidence.alone.cost.high
        assert float(row["joint_cost"]) == evidence.joint.cost.value


def test_header_is_no_formula_either() -> None:
    assert csv_text(["=1+1"], []).startswith("\ufeff'=1+1")


def test_summary_has_both_languages_and_no_live_markup(found: ReportInput) -> None:
    text = summary_markdown(found)
    ja, en = text.split("\n---\n")
    assert "## 確認したこと" in ja
    assert "## What was tested" in en
    assert HOSTILE not in text
    assert "<b>" not in text.replace("`stage<b>1</b>", "").replace("stage<b>1</b>.", "")
    assert summary_markdown(found, ("en",)).count("# Model slimming report") == 1


def test_summary_says_what_each_removal_rests_on(found: ReportInput) -> None:
    text = summary_markdown(found, ("en",))
    assert "## What each removal rests on" in text
    table_rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(table_rows) == len(found.plan.remove)
    assert all(line.count("|") == 5 for line in table_rows)


def test_summary_holds_the_decision_and_the_command(found: ReportInput) -> None:
    text = summary_markdown(found, ("en",))
    assert "**NO-GO**" in text or "**GO" in text
    assert "srinit plan runs/inspection --remove " in text


def test_model_card_has_metadata_that_parses_and_the_sections_of_the_layout(
    found: ReportInput,
) -> None:
    card = model_card(found)
    _, front, body = card.split("---\n", 2)
    metadata = parse_yaml(front.encode(), where="the card")
    assert found.comparison is not None
    result = metadata["model-index"][0]["results"][0]["metrics"][0]
    assert result["value"] == pytest.approx(found.comparison.score.pruned, abs=1e-6)
    for title in ("Model details", "Uses", "Bias, risks and limitations", "Training", "Evaluation"):
        assert f"## {title}\n" in body
    assert HOSTILE not in body


def test_model_card_says_whether_the_scan_ranked(found: ReportInput) -> None:
    assert found.plan.criterion == "block_influence"
    assert "it did not rank the blocks here" in model_card(found)
    plan = dataclasses.replace(found.plan, criterion="reinit_drop (permuted)")
    assert "it ranked the blocks here" in model_card(dataclasses.replace(found, plan=plan))


def test_model_card_calls_only_classes_right_or_wrong_an_accuracy(found: ReportInput) -> None:
    round_ = found.rounds[-1]
    assert round_.comparison is not None
    comparison = dataclasses.replace(round_.comparison, classes=())
    rounds = (dataclasses.replace(round_, comparison=comparison),)
    assert "model-index" not in model_card(dataclasses.replace(found, rounds=rounds))


def test_model_card_names_a_base_model_only_where_the_hub_has_it(found: ReportInput) -> None:
    def metadata(source: str) -> dict[str, object]:
        front = model_card(dataclasses.replace(found, model_source=source)).split("---\n", 2)[1]
        return parse_yaml(front.encode(), where="the card")

    assert metadata("timm:resnet18")["base_model"] == "timm/resnet18"
    assert metadata("hf:org/net")["base_model"] == "org/net"
    for local in ("py:model.py:make", "hf:../folder/of/mine", "run:runs/x"):
        assert "base_model" not in metadata(local)


def test_summary_links_to_the_records_behind_it(found: ReportInput) -> None:
    text = summary_markdown(found, ("en",))
    for path in ("plan.json", "scan/sensitivity.json", "rounds/01/comparison.json"):
        assert f"](<../{path}>)" in text
        assert (RUN / path).is_file()


def test_model_card_of_a_run_without_comparison_says_so(found: ReportInput) -> None:
    bare = ReportInput(name="x", run="r", sensitivity=found.sensitivity, plan=found.plan)
    assert "Not compared on test data yet." in model_card(bare)
