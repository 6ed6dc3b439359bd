"""The page that is signed: it says what is true, hides nothing, and advises rightly."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from report_run import RUN
from srinit.comparison import Drop
from srinit.comparison.records import ClassChange, Comparison
from srinit.finetune.records import TuneLog
from srinit.gates import Gate, GateResult
from srinit.report import ReportInput, load_report_input
from srinit.report.acceptance import criteria_rows
from srinit.report.cause import causes_of
from srinit.report.decision import decide
from srinit.report.fingerprint import data_files, fingerprint
from srinit.report.money import money_view
from srinit.report.needed import sample_of
from srinit.report.next_plan import fewer, more
from srinit.report.page import render
from srinit.report.summary import summary_markdown
from srinit.report.text import Translator
from srinit.stats.paired import beta_ends, tango_interval
from test_report_page import visible


@pytest.fixture(scope="module")
def found() -> ReportInput:
    return dataclasses.replace(load_report_input(RUN), run="runs/inspection")


def compared(report: ReportInput) -> Comparison:
    assert report.comparison is not None
    return report.comparison


def with_stage(report: ReportInput, **changes: object) -> ReportInput:
    stage = dataclasses.replace(report.rounds[-1], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(report, rounds=(stage,))


def judged(report: ReportInput, *gates: Gate) -> ReportInput:
    return with_stage(report, gates=GateResult(passed=all(g.passed for g in gates), gates=gates))


def gate(name: str, limit: float, measured: float, bound: float) -> Gate:
    less = measured >= limit if name.startswith("min_") else bound <= limit
    return Gate(name=name, limit=limit, measured=measured, bound=bound, passed=less, sentence=name)


def fell(name: str, before: float, after: float, low: float, p: float) -> ClassChange:
    recall = Drop(
        value=before - after, low=low, high=0.13, confidence=0.95, baseline=before, pruned=after,
        num_examples=300,
    )  # fmt: skip
    return ClassChange(
        name=name, num_examples=300, recall=recall, precision_baseline=0.9, precision_pruned=0.9,
        p_value=p, p_adjusted=p,
    )  # fmt: skip


def test_a_rehearsed_way_back_is_not_called_done(found: ReportInput) -> None:
    rehearsed = dataclasses.replace(found, rollback_drilled=True, rollback_drill_on="2026-03-06")
    decision = decide(rehearsed, Translator())
    words = " ".join(text.en for text in decision.rollback)
    assert "rehearsed on 2026-03-06" in words
    assert "Nothing was moved" in words
    assert "done on" not in words
    assert any("only rehearsed" in text.en for text in decision.untested)
    done = decide(dataclasses.replace(rehearsed, rolled_back=True), Translator())
    assert "done on 2026-03-06" in done.rollback[1].en


@pytest.mark.parametrize(
    ("decisions", "date", "taken"),
    [
        (("rehearsed: version 1 of m loads and runs",), "2026-03-01", False),
        (("rehearsed: x", "intended: rolled back m: version 2 -> 1"), "2026-03-01", False),
        (("rolled back m: version 2 -> 1", "rehearsed: x"), "2026-03-01", True),
        (("refused",), "", False),
    ],
)
def test_the_audit_log_tells_a_rehearsal_from_the_way_back(
    tmp_path: Path, decisions: tuple[str, ...], date: str, taken: bool
) -> None:
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    with (run / "audit.jsonl").open("a", encoding="utf-8") as log:
        for day, decision in enumerate(decisions, start=1):
            entry = {"time": f"2026-03-0{day}T00:00:00", "verb": "rollback", "decision": decision}
            log.write(json.dumps(entry) + "\n")
    report = load_report_input(run)
    assert report.rollback_drill_on == date
    assert report.rolled_back is taken


def test_the_lead_explains_by_the_criterion_that_ranked(found: ReportInput) -> None:
    text = visible(render(found, ("en",)))
    assert "in the order of this criterion, smallest first - change of the features" in text
    plan = dataclasses.replace(found.plan, criterion="reinit_drop")
    scanned = visible(render(dataclasses.replace(found, plan=plan, scores=None), ("en",)))
    assert "in this order, the smallest loss first" in scanned
    named = dataclasses.replace(found.plan, target={"remove": list(found.plan.names)})
    assert "named by the person" in visible(render(dataclasses.replace(found, plan=named), ("en",)))


def test_the_loss_beside_two_bars_says_which_bar_it_is(found: ReportInput) -> None:
    text = visible(render(found, ("en",)))
    assert "This loss" not in text
    assert "The wide bar and the figure beside it are what random weights" in text


def test_a_class_that_got_worse_is_on_the_first_page_and_a_condition(found: ReportInput) -> None:
    row = fell("dent", 0.916, 0.832, 0.04, 0.003)
    comparison = dataclasses.replace(compared(found), classes=(*compared(found).classes, row))
    report = judged(with_stage(found, comparison=comparison), gate("max_drop", 0.05, 0.01, 0.02))
    decision = decide(report, Translator())
    assert any("dent: recall fell from 91.6% to 83.2%" in text.en for text in decision.conditions)
    first_page = render(report, ("en",)).split("id=layers")[0]
    assert "Classes recognized less often" in first_page
    assert "dent: recall fell from 91.6% to 83.2%" in visible(first_page)
    assert "dent: recall fell from 91.6% to 83.2%" in summary_markdown(report, ("en",))


def test_a_class_that_may_have_fallen_by_chance_is_no_condition(found: ReportInput) -> None:
    row = fell("dent", 0.916, 0.900, -0.02, 0.4)
    comparison = dataclasses.replace(compared(found), classes=(row,), defects=None)
    decision = decide(with_stage(found, comparison=comparison), Translator())
    assert not any("recall fell" in text.en for text in decision.conditions)


def test_every_criterion_stands_on_the_first_page_with_its_worst_case(found: ReportInput) -> None:
    rows = criteria_rows(found, Translator())
    assert found.gates is not None
    assert len(rows) == len(found.gates.gates) == 3
    first_page = visible(render(found, ("en",)).split("id=layers")[0])
    for row in rows:
        for text in (row.name, row.limit, row.measured, row.worst):
            assert text.en in first_page
    assert rows[0].limit.en == "at most 5.00 points"
    assert rows[2].limit.en == "at least 80.0%"
    latency = criteria_rows(judged(found, gate("max_latency_ratio", 0.9, 0.7, 0.8)), Translator())[
        0
    ]
    assert re.fullmatch(r"Latency, relative to before \([18] at a time\)", latency.name.en)


def test_a_signature_belongs_to_a_run_and_its_data(found: ReportInput) -> None:
    first_page = render(found, ("en",)).split("id=layers")[0]
    digest = fingerprint(data_files(RUN))
    assert digest in first_page
    assert digest in summary_markdown(found, ("en",))
    assert ">inspection<" in first_page
    sealed = render(dataclasses.replace(found, seal="ab" * 32), ("en",))
    assert "ab" * 32 in sealed


def test_the_hash_of_the_data_changes_with_any_file(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    before = fingerprint(data_files(run))
    assert before == fingerprint(data_files(RUN))
    (run / "plan.json").write_bytes((run / "plan.json").read_bytes() + b" ")
    assert fingerprint(data_files(run)) != before


def test_money_leads_with_what_was_shown(found: ReportInput) -> None:
    headline = money_view(found, Translator()).headline
    assert headline is not None
    assert headline.en.startswith("Neither a gain nor a loss is shown")
    assert "test examples that are judged differently" in headline.en
    assert headline.ja.startswith("年間の効果は")


def test_a_cost_that_is_never_recovered_is_a_condition_and_no_payback_of_centuries(
    found: ReportInput,
) -> None:
    roi = found.roi.changed(missed_defect_cost=None, false_reject_cost=None, engineering_hours=4e6)
    comparison = dataclasses.replace(compared(found), defects=None)
    report = judged(
        with_stage(dataclasses.replace(found, roi=roi), comparison=comparison),
        gate("max_drop", 0.05, 0.01, 0.02),
    )
    decision = decide(report, Translator())
    assert decision.verdict == "conditions"
    assert any("within 20 years" in text.en for text in decision.conditions)
    assert not re.search(r"\d,\d{3} years", visible(render(report, ("en",))))


@pytest.mark.parametrize(("lost", "gained", "total"), [(3, 2, 300), (9, 4, 500), (0, 0, 100)])
def test_too_few_data_names_a_number_that_would_do(
    found: ReportInput, lost: int, gained: int, total: int
) -> None:
    low, high = tango_interval(lost, gained, total, 0.95)
    value = (lost - gained) / total
    score = dataclasses.replace(
        compared(found).score, value=value, low=low, high=high, num_examples=total
    )
    comparison = dataclasses.replace(
        compared(found), score=score, lost=lost, gained=gained, num_examples=total
    )
    limit = 0.02
    report = judged(with_stage(found, comparison=comparison), gate("max_drop", limit, value, high))
    assert report.gates is not None
    sample = sample_of(report.gates.gates[0], report)
    assert sample is not None
    assert sample.need is not None
    assert sample.need > total
    times = sample.need / total
    assert tango_interval(lost * times, gained * times, sample.need, 0.95)[1] <= limit  # type: ignore[arg-type]
    decision = decide(report, Translator())
    assert "Cause: too few data." in decision.reason.en
    todo = decision.conditions[0].en
    assert f"About {sample.need:,} would do" in todo
    assert "srinit compare runs/inspection --set data.test=folder:NEW_TEST_DATA" in todo
    assert not any("fewer blocks" in text.en for text in decision.conditions)


def test_the_number_for_a_rate_is_the_least_that_does(found: ReportInput) -> None:
    agreement = dataclasses.replace(
        compared(found).agreement, hits=99, total=100, value=0.99, low=0.945, high=0.9997
    )
    comparison = dataclasses.replace(compared(found), agreement=agreement)
    limit = gate("min_agreement", 0.97, 0.99, 0.945)
    failed = dataclasses.replace(limit, passed=False)
    sample = sample_of(failed, judged(with_stage(found, comparison=comparison), failed))
    assert sample is not None
    assert sample.need is not None
    assert beta_ends(0.99 * sample.need, sample.need, 0.025)[0] >= 0.97
    assert beta_ends(0.99 * (sample.need - 1), sample.need - 1, 0.025)[0] < 0.97


@pytest.mark.parametrize(
    ("failed", "kind", "words"),
    [
        (gate("max_drop", 0.05, 0.08, 0.11), "loss", "Remove fewer blocks: srinit plan runs"),
        (gate("max_latency_ratio", 0.5, 0.8, 0.9), "time", "Remove more blocks: srinit plan runs"),
        (gate("max_latency_ratio", 0.9, 0.8, 1.1), "busy", "with nothing else running"),
        (gate("max_params_ratio", 0.5, 0.8, 0.8), "size", "too large"),
    ],
)
def test_every_cause_of_a_no_go_is_named_with_what_to_do(
    found: ReportInput, failed: Gate, kind: str, words: str
) -> None:
    (cause,) = causes_of(judged(found, failed), Translator())
    assert cause.kind == kind
    assert words in cause.todo.en


@pytest.mark.parametrize(
    ("stopped", "words"),
    [("diverged", "--set finetune.lr="), ("nothing to do", "--set finetune.epochs=5")],
)
def test_a_loss_after_bad_training_is_laid_to_the_recipe(
    found: ReportInput, stopped: str, words: str
) -> None:
    tune = found.rounds[-1].tune
    assert isinstance(tune, TuneLog)
    report = with_stage(found, tune=dataclasses.replace(tune, stopped=stopped))
    first, second = causes_of(judged(report, gate("max_drop", 0.05, 0.08, 0.11)), Translator())
    assert (first.kind, second.kind) == ("recipe", "loss")
    assert words in first.todo.en


@pytest.mark.parametrize(
    ("target", "less", "further"),
    [
        ({"flops": 0.7}, "--flops 0.85", "--flops 0.56"),
        ({"params": 0.5}, "--params 0.75", "--params 0.4"),
        ({"max_drop": 0.02, "rule": "interval"}, "--max-drop 0.01", "--max-drop 0.04"),
        ({"params": 0.5, "max_drop": 0.02}, "--params 0.75 --max-drop 0.01", "--params 0.4"),
    ],
)
def test_the_command_is_in_the_terms_of_the_target(
    found: ReportInput, target: dict[str, object], less: str, further: str
) -> None:
    plan = dataclasses.replace(found.plan, target=target)
    report = dataclasses.replace(found, plan=plan)
    assert fewer(report) == f"srinit plan runs/inspection {less}"
    assert more(report).startswith(f"srinit plan runs/inspection {further}")


def test_a_plan_of_named_blocks_becomes_one_without_the_last(found: ReportInput) -> None:
    names = list(found.plan.names)
    plan = dataclasses.replace(found.plan, target={"remove": names})
    text = fewer(dataclasses.replace(found, plan=plan))
    assert names[0] in text
    assert names[-1] not in text
