"""Evidence, rounds and times on the page: what was measured, and nothing that was not."""

from __future__ import annotations

import dataclasses
import html
import itertools
import json
import re
import shutil
from pathlib import Path

import pytest

from report_run import RUN
from srinit import records
from srinit.criteria.records import UnitScore, UnitScores
from srinit.gates import Gate, GateResult
from srinit.latency import LatencyPair, pair
from srinit.plan import RemovalEvidence, TrialEvidence
from srinit.records import Interval
from srinit.report import ReportInput, load_report_input
from srinit.report import formats as fmt
from srinit.report.charts import Axis, Dots, scale, scatter, track
from srinit.report.csvs import tables
from srinit.report.decision import decide
from srinit.report.figures import headline
from srinit.report.justification import justification_view
from srinit.report.layers import layers_view
from srinit.report.page import render
from srinit.report.rank_chart import side_by_side
from srinit.report.rounds import rounds_view
from srinit.report.summary import summary_markdown
from srinit.report.text import Translator, untranslated
from srinit.report.times import times_view


@pytest.fixture(scope="module")
def found() -> ReportInput:
    return dataclasses.replace(load_report_input(RUN), run="runs/inspection")


def timed(report: ReportInput, *pairs: LatencyPair) -> ReportInput:
    round_ = report.rounds[-1]
    assert round_.comparison is not None
    comparison = dataclasses.replace(round_.comparison, latency=pairs)
    changed = dataclasses.replace(round_, comparison=comparison)
    return dataclasses.replace(report, rounds=(*report.rounds[:-1], changed), onnx_latency=())


def with_ratio(low: float, middle: float, high: float, batch_size: int = 1) -> LatencyPair:
    made = pair([0.01] * 9, [0.01 * middle] * 9, batch_size=batch_size, device="cpu")
    return dataclasses.replace(
        made, ratio=Interval(value=middle, low=low, high=high, confidence=0.95)
    )


def test_speed_that_was_not_shown_does_not_lead_and_names_no_factor(found: ReportInput) -> None:
    first, *_, last = headline(timed(found, with_ratio(0.8, 0.9, 1.02)), Translator())
    assert first.key != "speed"
    assert last.key == "speed"
    assert last.change.en == "not faster, measurably"
    assert last.range is not None
    assert last.range.en == "0.98 to 1.25×"


@pytest.mark.parametrize(
    ("ends", "text", "spread"),
    [((0.4, 0.5, 0.8), "2.00× as fast", "1.25 to 2.50×"),
     ((1.1, 1.2, 1.3), "takes 1.20× as long", "1.10 to 1.30×")],
)  # fmt: skip
def test_speed_that_was_shown_leads_in_its_direction(
    found: ReportInput, ends: tuple[float, float, float], text: str, spread: str
) -> None:
    figure = headline(timed(found, with_ratio(*ends)), Translator())[0]
    assert figure.key == "speed"
    assert figure.change.en == text
    assert figure.range is not None
    assert figure.range.en == spread


def test_other_batch_sizes_stand_beside_the_headline(found: ReportInput) -> None:
    report = timed(found, with_ratio(0.4, 0.5, 0.8), with_ratio(0.9, 1.0, 1.1, batch_size=64))
    note = headline(report, Translator())[0].note
    assert note is not None
    assert note.en == "64 at a time: not faster, measurably (0.91 to 1.11×)"


def test_every_timed_call_is_drawn_unless_it_is_far_off_and_then_it_is_counted(
    found: ReportInput,
) -> None:
    calls = [0.010 + 0.0001 * i for i in range(19)]
    made = pair([*calls, 0.5], [*calls, 0.012], batch_size=1, device="cpu")
    assert made.baseline.samples_ms == (*(round(1e3 * c, 4) for c in calls), 500.0)
    (row,) = times_view(timed(found, made), Translator())
    before, after = row.sides
    assert before.strip.count("h0") == 19
    assert before.beyond is not None
    assert before.beyond.en == "1 beyond the scale"
    assert after.strip.count("h0") == 20
    assert after.beyond is None
    assert row.has_samples


def test_times_without_single_calls_say_so(found: ReportInput) -> None:
    made = with_ratio(0.4, 0.5, 0.8)
    sides = [dataclasses.replace(s, samples_ms=()) for s in (made.baseline, made.pruned)]
    bare = dataclasses.replace(made, baseline=sides[0], pruned=sides[1])
    report = timed(found, bare)
    assert not times_view(report, Translator())[0].has_samples
    assert Translator()("times.no_samples").en in render(report)


def proven(report: ReportInput) -> ReportInput:
    alone = Interval(value=0.031, low=0.012, high=0.05, confidence=0.95)
    joint = Interval(value=0.044, low=0.02, high=0.061, confidence=0.95)
    measured = {
        "alone": TrialEvidence(cost=alone, num_examples=48),
        "joint": TrialEvidence(cost=joint, num_examples=48),
        "score": 0.0123,
    }
    plan = report.plan
    removals = tuple(
        dataclasses.replace(removal, evidence=dataclasses.replace(removal.evidence, **measured))
        for removal in plan.remove
    )
    names = [unit.unit for unit in report.sensitivity.units]
    scores = UnitScores(
        criterion="block_influence",
        units=tuple(UnitScore(unit=name, score=0.01 * (i + 1)) for i, name in enumerate(names)),
        is_drop=False,
        num_examples=48,
        seed=0,
    )
    return dataclasses.replace(
        report,
        plan=dataclasses.replace(plan, remove=removals, criterion="block_influence"),
        scores=scores,
    )


def test_each_removal_shows_its_place_and_its_three_losses(found: ReportInput) -> None:
    report = proven(found)
    view = justification_view(report, Translator())
    assert [row.name for row in view.rows] == list(report.plan.names)
    losses = {loss.kind: loss for loss in view.rows[0].losses}
    assert set(losses) == {"reinit", "alone", "joint"}
    assert (losses["alone"].value, losses["alone"].range) == ("3.1", "[1.2, 5.0]")
    assert (losses["joint"].value, losses["joint"].range) == ("4.4", "[2.0, 6.1]")
    drop = report.plan.remove[0].evidence.reinit_drop
    assert losses["reinit"].value == fmt.points(drop, 1, signed=False)
    assert view.rows[0].basis[-1].en.endswith("0.0123")
    assert "48 calibration images" in view.lead.en


def test_trials_that_trained_say_for_how_many_steps(found: ReportInput) -> None:
    report = proven(found)
    note = justification_view(report, Translator()).note
    assert note is not None
    assert "nothing is trained" in note.en
    removals = tuple(
        dataclasses.replace(
            r,
            evidence=dataclasses.replace(
                r.evidence, alone=dataclasses.replace(r.evidence.alone, steps=10)
            ),
        )
        for r in report.plan.remove
    )
    trained = dataclasses.replace(report, plan=dataclasses.replace(report.plan, remove=removals))
    note = justification_view(trained, Translator()).note
    assert note is not None
    assert "trained for 10 steps" in note.en
    assert "nothing is trained" not in note.en


def test_plan_without_trials_says_that_nothing_was_tried(found: ReportInput) -> None:
    removals = tuple(
        dataclasses.replace(r, evidence=RemovalEvidence(reinit_drop=0.1)) for r in found.plan.remove
    )
    plan = dataclasses.replace(found.plan, remove=removals)
    view = justification_view(dataclasses.replace(found, plan=plan), Translator())
    assert view.lead == Translator()("proof.untried")
    assert [loss.kind for loss in view.rows[0].losses] == ["reinit"]


def test_criterion_that_ranks_is_what_slider_and_rows_show(found: ReportInput) -> None:
    report = proven(found)
    view = layers_view(report, Translator())
    assert view.score_label is not None
    assert view.threshold.en == "Threshold: change of the features of the last block that goes"
    by_name = {row.name: row for row in view.rows}
    assert report.scores is not None
    for step in view.steps[1:]:
        cell = by_name[step.unit].score
        assert cell is not None
        assert cell.text == step.value == fmt.significant(report.scores[step.unit].score)
    plain = layers_view(dataclasses.replace(report, scores=None), Translator())
    assert plain.score_label is None
    assert all(row.score is None for row in plain.rows)


def test_agreement_of_two_orders_is_their_rank_correlation(found: ReportInput) -> None:
    report = proven(found)
    drops = {unit.unit: unit.reinit_drop for unit in report.sensitivity.units}
    assert report.scores is not None
    scores = tuple(
        dataclasses.replace(unit, score=-(drops[unit.unit] or 0.0)) for unit in report.scores.units
    )
    reversed_ = dataclasses.replace(report, scores=dataclasses.replace(report.scores, units=scores))
    text = justification_view(reversed_, Translator()).agreement
    assert text is not None
    assert f"rank correlation −1.00 over {len(drops)} blocks" in text.en


def test_taking_out_stands_below_random_weights_on_one_scale(found: ReportInput) -> None:
    view = layers_view(found, Translator())
    (scores,) = found.beside
    assert scores.criterion == "removal_drop"
    for row in view.rows:
        taken = scores[row.name]
        assert row.removal is not None
        assert row.removal.drop == fmt.points(taken.score, 1, signed=False)
        low, high = (fmt.points(end, 1, signed=False) for end in (taken.low, taken.high))
        assert row.removal.range == f"[{low}, {high}]"
    assert view.removals.note is not None
    assert f"{scores.num_examples} calibration examples" in view.removals.note.en
    page = render(found)
    assert '<a href="../scan/beside.json">' in page
    assert page.count('class="bar thin"') == len(view.rows)


def test_trials_stand_in_where_no_removal_drop_was_measured(found: ReportInput) -> None:
    view = layers_view(dataclasses.replace(proven(found), beside=()), Translator())
    known = {row.name: row.removal for row in view.rows if row.removal is not None}
    assert set(known) == set(found.plan.names)
    assert {taken.drop for taken in known.values()} == {"3.1"}
    bare = dataclasses.replace(found.plan, remove=())
    nothing = layers_view(dataclasses.replace(found, beside=(), plan=bare), Translator())
    assert nothing.removals.label is None
    assert all(row.removal is None for row in nothing.rows)


def test_criteria_stand_side_by_side_by_the_places_they_give(found: ReportInput) -> None:
    report = proven(found)
    view = side_by_side(report, Translator())
    assert view is not None
    assert [column.name.en for column in view.columns] == [
        "change of the features", "loss by re-initialization", "loss when taken out",
    ]  # fmt: skip
    drops = {unit.unit: unit.reinit_drop or 0.0 for unit in report.sensitivity.units}
    by_drop = sorted(drops, key=lambda name: drops[name])
    assert view.columns[1].places == {name: place for place, name in enumerate(by_drop, start=1)}
    assert [name for name, _, _ in view.rows] == list(report.scores.order)  # type: ignore[union-attr]
    assert {name for name, gone, _ in view.rows if gone} == set(report.plan.names)
    assert view.drawing.count('class="rank-line gone"') == len(report.plan.names)
    alone = dataclasses.replace(report, scores=None, beside=())
    assert side_by_side(alone, Translator()) is None


def test_removal_drop_that_ranks_is_not_shown_twice(found: ReportInput) -> None:
    (scores,) = found.beside
    plan = dataclasses.replace(found.plan, criterion="removal_drop")
    view = layers_view(
        dataclasses.replace(found, plan=plan, scores=scores, beside=()), Translator()
    )
    assert view.score_label is None
    assert all(row.removal is not None and row.score is None for row in view.rows)


def test_times_that_vary_widely_are_a_condition(found: ReportInput) -> None:
    quiet = decide(timed(found, with_ratio(0.4, 0.5, 0.8)), Translator())
    assert not any("vary widely" in line.en for line in quiet.conditions)
    busy = pair([0.01, 0.03] * 9, [0.005, 0.006] * 9, batch_size=1, device="cpu")
    report = timed(found, busy)
    assert any("vary widely" in line.en for line in decide(report, Translator()).conditions)
    note = headline(report, Translator())[0].note
    assert note is not None
    assert note.en.startswith("single times vary widely")


def test_curve_of_times_that_contradicts_those_taken_in_turn_is_doubted(
    found: ReportInput,
) -> None:
    shares = {
        size: value / (found.plan.prefixes[0].latency_ms or {})[size]
        for size, value in (found.plan.prefixes[len(found.plan.remove)].latency_ms or {}).items()
    }
    share = shares["1"]
    alike = timed(found, with_ratio(0.9 * share, share, 1.1 * share))
    assert layers_view(alike, Translator()).curve_doubt is None
    far = timed(found, with_ratio(1.6 * share, 1.7 * share, 1.8 * share))
    doubt = layers_view(far, Translator()).curve_doubt
    assert doubt is not None
    assert f"{100 * share:.0f}% of before" in doubt.en
    assert doubt.en in " ".join(html.unescape(render(far)).split())


def test_time_that_is_read_out_comes_with_its_range(found: ReportInput) -> None:
    first = decide(timed(found, with_ratio(0.4, 0.5, 0.8)), Translator()).talking_points[0]
    assert first.en.endswith("processing takes 50% (20% to 60%) less time.")
    assert first.ja.endswith("処理時間が50%（20%〜60%）短くなりました。")
    slower = decide(timed(found, with_ratio(1.1, 1.2, 1.4)), Translator()).talking_points[0]
    assert slower.en.endswith("processing takes 20% (10% to 40%) more time.")


def in_rounds(tmp_path: Path, *, accepted: bool = True, rejected: bool = True) -> ReportInput:
    """Return the kept run as if it had been pruned in rounds."""
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    names = list(load_report_input(RUN).plan.names)
    gate = Gate(name="max_drop", passed=False, measured=0.2, bound=0.25, limit=0.05, sentence="x")
    kept = json.loads((run / "rounds/01/metrics.json").read_bytes())
    facts = {**kept, "num_examples": 100, "score_before": 0.98, "score_compensated": None}

    def write(folder: str, removed: list[str], *scores: float, passed: bool) -> None:
        body = dict(zip(("score_cut", "score_compensated"), scores, strict=False))
        place = run / folder
        place.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**facts, "removed": removed, **body})
        (place / "metrics.json").write_text(text, "utf-8")
        gates = GateResult(passed=passed, gates=() if passed else (gate,))
        (place / "validation_gate.json").write_text(
            records.to_json(gates, schema="srinit.gate/1"), "utf-8"
        )

    write("rounds/01", names[:1], 0.7, 0.8, passed=accepted)
    if rejected:
        write("rejected/02", names, 0.3, 0.4, passed=False)
    outcome = {"schema": "srinit.outcome/1", "delivered": 1, "accepted": accepted}
    outcome |= {"reason": "round failed" if rejected else "", "tried": 2 if rejected else None}
    (run / "rounds" / "outcome.json").write_text(json.dumps(outcome), "utf-8")
    return load_report_input(run)


def test_rejected_round_stands_beside_the_delivered_one_with_its_reason(tmp_path: Path) -> None:
    report = in_rounds(tmp_path)
    view = rounds_view(report, Translator())
    assert [(row.number, row.fate) for row in view.rows] == [(1, "delivered"), (2, "rejected")]
    names = report.rejected[0].removed
    assert view.rows[0].removed == names[:1]
    assert view.rows[1].removed == names[1:]
    assert view.rows[0].scores[:3] == ("98.00%", "70.00%", "80.00%")
    assert view.rows[0].dip == "−28.00"
    tuned = report.rounds[0].tune
    assert tuned is not None
    assert view.rows[1].scores[0] == fmt.percent(tuned.score_after, 2)  # begins where 1 ended
    assert "at worst 25.00 points (allowed 5.00 points)" in view.rows[1].why[0].en
    assert "Round 2 did not meet the limits" in view.lead.en
    assert "line dashed" in view.curve
    page = render(report)
    assert "was rejected:" in page
    summary = summary_markdown(report, ("en",))
    assert "| 2 rejected |" in summary
    assert "Round 2 was rejected:" in summary
    rows = tables(report)["rounds.csv"].splitlines()
    assert rows[2].startswith("2,True,")
    assert rows[2].endswith(",max_drop")
    assert '<a href="../rejected/02/validation_gate.json">' in page


def test_first_round_that_failed_is_not_called_delivered(tmp_path: Path) -> None:
    view = rounds_view(in_rounds(tmp_path, accepted=False, rejected=False), Translator())
    assert [row.fate for row in view.rows] == ["rejected"]
    assert view.lead == Translator()("rounds.first_failed")


def test_rounds_that_reach_the_target_say_so(tmp_path: Path) -> None:
    view = rounds_view(in_rounds(tmp_path, rejected=False), Translator())
    assert view.lead.en.endswith("The target is reached.")


def test_ticks_show_as_many_digits_as_they_need() -> None:
    axis = Axis(label=untranslated("x"), low=0, high=2)
    assert [str(axis.text(tick)) for tick in axis.marks()] == ["0.0", "0.5", "1.0", "1.5", "2.0"]
    whole = Axis(label=untranslated("x"), low=0, high=100)
    assert [str(whole.text(tick)) for tick in whole.marks()] == ["0", "20", "40", "60", "80", "100"]


def test_strip_has_three_numbers_at_least_where_they_belong() -> None:
    places = re.findall(r'x="([\d.]+)%" y=12>([^<]+)<', scale(-0.049, 0.049, factor=100, count=4))
    assert len(places) >= 3
    for at, number in places:
        value = float(number.replace("−", "-"))
        assert float(at) == pytest.approx(100 * (value / 100 + 0.049) / 0.098, abs=0.06)


def test_observations_at_one_place_are_one_larger_dot() -> None:
    strip = track(0, 1, value=0.2, dots=[0.0] * 20 + [0.5] * 3 + [0.9])
    sizes = {kind: path.count("h0") for kind, path in re.findall(r'obs (\w+)" d="([^"]+)', strip)}
    assert sizes == {"many": 1, "few": 1, "obs": 1}


def test_names_in_a_map_do_not_hide_each_other() -> None:
    groups = [
        Dots(label=untranslated(name), points=((0.5, 0.5 + 0.001 * i),), color=i)
        for i, name in enumerate(("deer", "dog", "cat", "horse", "bird"))
    ]
    drawing = scatter(groups, (0.0, 0.0, 1.0))
    heights = sorted(int(y) for y in re.findall(r"<text class=name x=\"\d+\" y=\"(\d+)\"", drawing))
    assert all(b - a >= 13 for a, b in itertools.pairwise(heights))
    assert drawing.count("<li>") == len(groups)
