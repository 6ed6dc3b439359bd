"""The page as text: numbers are those of the records, names stay text, partial runs report too."""

from __future__ import annotations

import ast
import dataclasses
import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from report_run import CLASSES, HOSTILE, RUN, with_costs
from srinit.comparison import (
    CorruptionPoint,
    CorruptionRobustness,
    Drop,
    FieldComparison,
    FlippedExample,
)
from srinit.errors import ConfigError, UnsafeError
from srinit.export import Exported
from srinit.gates import Gate, GateResult
from srinit.latency import pair
from srinit.report import ReportInput, load_report_input, write_report
from srinit.report import formats as fmt
from srinit.report.acceptance import gate_text
from srinit.report.decision import decide
from srinit.report.layers import layers_view
from srinit.report.page import render
from srinit.report.text import Translator
from srinit.runs.pictures import Pictures

GOLDEN = RUN.parent
MARKED = re.compile(r"<(style|script)>.*?</\1>", re.DOTALL)


@pytest.fixture(scope="module")
def found() -> ReportInput:
    return dataclasses.replace(load_report_input(RUN), run="runs/inspection")


@pytest.fixture(scope="module")
def page(found: ReportInput) -> str:
    return render(found)


def visible(page: str) -> str:
    """Return the text of a page, with one space for every run of blanks."""
    body = MARKED.sub("", page)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def same_as_golden(text: str, name: str, update: bool, kept: Path) -> None:
    """Compare with a golden file; on a difference the text is kept for a look."""
    golden = GOLDEN / name
    if update:
        golden.write_text(text, "utf-8")
    actual = kept / name
    actual.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8"), f"see {actual}, or run with --update-golden"


def test_page_is_what_it_was(page: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    scrubbed = re.sub(r"data:image/[^\"]+", "data:", MARKED.sub(r"<\1></\1>", page))
    scrubbed = re.sub(r"sha256-[^']+", "sha256-", scrubbed)
    update = bool(request.config.getoption("--update-golden"))
    same_as_golden(scrubbed, "report.html", update, tmp_path)


def test_page_is_small_enough(found: ReportInput, page: str) -> None:
    without = dataclasses.replace(found, pictures=None)
    assert len(render(without).encode()) < 200_000
    assert len(page.encode()) < 3_000_000


def test_page_names_nothing_outside_itself(page: str) -> None:
    links = re.findall(r'(?:href|src|action|url)\s*[=(]\s*"?([^")> ]+)', page)
    outside = [link for link in links if not link.startswith(("#", "../", "data:image/", "data:"))]
    assert [link for link in outside if link != "x"] == []
    assert "http-equiv" in page
    assert "default-src 'none'" in page
    assert " style=" not in page
    assert not re.search(r"<[a-z]+[^>]* on[a-z]+=", page)


def test_names_and_labels_are_text_everywhere(page: str) -> None:
    assert HOSTILE not in page
    assert html.escape(HOSTILE) in page
    assert "<b>1</b>" not in page
    for name in CLASSES.values():
        assert name in visible(page)


def test_text_that_comes_with_the_records_cannot_leave_its_place(found: ReportInput) -> None:
    bad = "</script><script>alert(1)</script>"
    hostile = dataclasses.replace(
        found,
        name=bad,
        run=bad,
        created=bad,
        model_source=bad,
        config_text=bad,
        device=bad,
        data_sources={"test": bad},
        environment={"processor": bad, "packages": {bad: bad}},
        failed_exports={bad: bad},
        class_names=(bad, bad, bad),
        defect_class=bad,
    )
    page = render(hostile)
    assert page.count("<script>") == render(found).count("<script>")
    assert "alert(1)</script>" not in page


def test_headline_numbers_are_those_of_the_comparison(found: ReportInput, page: str) -> None:
    comparison, text = found.comparison, visible(page)
    assert comparison is not None
    assert comparison.cost is not None
    assert f"{comparison.cost.params_baseline:,}" in text
    assert f"{comparison.cost.params_pruned:,}" in text
    assert fmt.percent(comparison.score.baseline, 2) in text
    assert fmt.percent(comparison.score.pruned, 2) in text
    low, high = fmt.points(-comparison.score.high), fmt.points(-comparison.score.low)
    assert f"({low} to {high})" in text or f"{low} to {high}" in text
    for timed in comparison.latency:
        assert fmt.milliseconds(timed.pruned.median_ms) in text


def test_every_step_of_the_plan_is_in_the_table(found: ReportInput) -> None:
    steps = layers_view(found, Translator()).steps
    assert [step.num_removed for step in steps] == list(range(len(found.plan.ranking) + 1))
    assert [step.unit for step in steps[1:]] == list(found.plan.ranking)
    for step, prefix in zip(steps, found.plan.prefixes, strict=True):
        assert step.params.text == f"{prefix.params:,}"
        assert step.flops.text == f"{prefix.flops:,}"


def test_latency_is_interpolated_between_measurements_and_never_beyond(found: ReportInput) -> None:
    times = {0: 8.0, 2: 4.0, 3: 3.0}
    prefixes = tuple(
        dataclasses.replace(prefix, latency_ms={"1": times[i]} if i in times else None)
        for i, prefix in enumerate(found.plan.prefixes)
    )
    plan = dataclasses.replace(found.plan, prefixes=prefixes)
    view = layers_view(dataclasses.replace(found, plan=plan), Translator())
    cells = [step.latency[0] for step in view.steps]
    assert [cell.state for cell in cells[:4]] == ["measured", "between", "measured", "measured"]
    assert cells[1].text == "6.00 ms"
    assert {cell.state for cell in cells[4:]} == {"none"}
    assert {cell.share for cell in cells[4:]} == {None}


def test_failed_gate_is_a_no_go_that_says_why(found: ReportInput) -> None:
    round_ = found.rounds[-1]
    assert round_.gates is not None
    gates = tuple(dataclasses.replace(gate, passed=False) for gate in round_.gates.gates[:1])
    failed = dataclasses.replace(round_, gates=GateResult(passed=False, gates=gates))
    decision = decide(dataclasses.replace(found, rounds=(failed,)), Translator())
    assert decision.verdict == "no"
    assert "正解率の低下" in decision.reason.ja
    assert "Loss of accuracy" in decision.reason.en


def test_passed_gates_are_a_go_only_as_far_as_was_tested(found: ReportInput) -> None:
    round_ = found.rounds[-1]
    assert round_.gates is not None
    gates = tuple(dataclasses.replace(gate, passed=True) for gate in round_.gates.gates)
    passed = dataclasses.replace(round_, gates=GateResult(passed=True, gates=gates))
    decision = decide(dataclasses.replace(found, rounds=(passed,)), Translator())
    assert decision.verdict == "conditions"
    assert len(decision.talking_points) == 3
    assert any("rehearsal" in line.en for line in decision.conditions)
    rehearsed = dataclasses.replace(
        found, rounds=(passed,), rollback_drilled=True, rollback_drill_on="2026-03-06"
    )
    after = decide(rehearsed, Translator())
    assert not any("rehearsal" in line.en for line in after.conditions)
    assert len(after.conditions) == len(decision.conditions) - 1


def test_nothing_left_to_check_is_a_go(found: ReportInput) -> None:
    round_ = found.rounds[-1]
    assert round_.gates is not None
    assert round_.comparison is not None
    steady = pair([0.01] * 9, [0.005] * 9, batch_size=1, device="cpu")
    gates = tuple(dataclasses.replace(gate, passed=True) for gate in round_.gates.gates)
    bound = dataclasses.replace(gates[0], name="max_missed_defect_rate")
    exported = Exported(
        format="onnx", file="pruned.onnx", size_bytes=1, sha256="", num_examples=8,
        max_difference=0.0, agreement=1.0,
    )  # fmt: skip
    site = FieldComparison(
        data="folder:site", data_hash="", num_examples=4, num_labeled=0, comparison=None,
        unlabeled=None, flipped=(),
    )  # fmt: skip
    round_ = dataclasses.replace(
        round_,
        gates=GateResult(passed=True, gates=(*gates, bound)),
        comparison=dataclasses.replace(round_.comparison, latency=(steady,)),
        site=site,
    )
    report = dataclasses.replace(
        found, rounds=(round_,), exports=(exported,), rollback_drilled=True,
        rollback_drill_on="2026-03-06", on_production_device=True,
    )  # fmt: skip
    decision = decide(report, Translator())
    assert decision.conditions == ()
    assert decision.verdict == "go"
    assert "No conditions are left." in visible(render(report))
    elsewhere = decide(dataclasses.replace(report, on_production_device=False), Translator())
    assert elsewhere.verdict == "conditions"
    assert len(elsewhere.conditions) == 1


def test_scan_and_plan_alone_make_a_report(found: ReportInput) -> None:
    bare = ReportInput(name="bare", run="runs/bare", sensitivity=found.sensitivity, plan=found.plan)
    text = visible(render(bare))
    assert "Not judged yet" in text
    assert "The comparison on test data has not been made yet" in text


def test_plan_that_removes_nothing_says_so(found: ReportInput) -> None:
    plan = dataclasses.replace(found.plan, remove=(), ranking=(), prefixes=found.plan.prefixes[:1])
    text = visible(render(dataclasses.replace(found, plan=plan, rounds=())))
    assert "No layer was removed" in text
    assert "No block can be removed" in text


def test_collapsed_nonfinite_locked_and_unmeasured_units_are_marked(found: ReportInput) -> None:
    scan = found.sensitivity
    first, second, third, *rest = scan.units
    marked = (
        dataclasses.replace(first, top_share=0.99, decision="needed"),
        dataclasses.replace(second, nonfinite=0.25, decision="needed"),
        dataclasses.replace(third, decision="not measured", reinit_drop=None, interval=None),
        *(dataclasses.replace(unit, decision="undecided") for unit in rest),
    )
    sensitivity = dataclasses.replace(scan, units=marked, max_drop=0.02)
    text = visible(render(dataclasses.replace(found, sensitivity=sensitivity)))
    assert "answers collapse to one class (99%)" in text
    assert "outputs not computable (25.0%)" in text
    assert "not measured" in text
    assert f"Blocks left undecided: {', '.join(unit.unit for unit in rest)}" in text


@pytest.mark.parametrize(("language", "absent"), [("en", r"[\u3040-\u30ff]"), ("ja", "Decision")])
def test_page_in_one_language_holds_no_other(
    found: ReportInput, language: str, absent: str
) -> None:
    page = render(found, (language,))  # type: ignore[arg-type]
    body = MARKED.sub("", page)
    assert f'<html lang="{language}">' in page
    assert "lang=ja" not in body
    assert "lang=en" not in body
    text = visible(page)
    for name in (*CLASSES.values(), "検査"):
        text = text.replace(name, "")
    assert not re.search(absent, text)


def test_unknown_language_is_refused(found: ReportInput, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no language 'de'"):
        write_report(found, tmp_path, languages=("de",))  # type: ignore[arg-type]


def test_folder_without_a_scan_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match=r"has no run\.json.*srinit scan"):
        load_report_input(tmp_path)


def test_damaged_record_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(RUN, copy)
    (copy / "rounds" / "01" / "gate.json").write_text("{]", "utf-8")
    with pytest.raises(ConfigError, match=r"gate\.json is not JSON"):
        load_report_input(copy)


def enlarged(found: ReportInput, num_units: int, num_classes: int) -> ReportInput:
    """Return the run as if the network had many units and the data many classes."""
    scan, units = found.sensitivity, found.sensitivity.unit_map
    unit, row = units.removable[0], scan.units[0]
    names = [f"backbone.layers.{index}.block" for index in range(num_units)]
    removable = tuple(
        dataclasses.replace(unit, name=name, position=index) for index, name in enumerate(names)
    )
    rows = tuple(
        dataclasses.replace(
            row, unit=name, top_share=0.2, observations=tuple(i / 64 for i in range(64))
        )
        for name in names
    )
    plan = found.plan
    prefixes = tuple(
        dataclasses.replace(plan.prefixes[0], num_removed=index) for index in range(num_units + 1)
    )
    comparison = found.comparison
    assert comparison is not None
    changes = tuple(
        dataclasses.replace(comparison.classes[0], name=f"class {index}")
        for index in range(num_classes)
    )
    round_ = dataclasses.replace(
        found.rounds[-1], comparison=dataclasses.replace(comparison, classes=changes)
    )
    return dataclasses.replace(
        found,
        sensitivity=dataclasses.replace(
            scan, units=rows, unit_map=dataclasses.replace(units, removable=removable, locked=())
        ),
        plan=dataclasses.replace(plan, remove=(), ranking=tuple(names), prefixes=prefixes),
        rounds=(round_,),
    )


def test_page_of_a_deep_network_with_many_classes_stays_small(found: ReportInput) -> None:
    large = enlarged(dataclasses.replace(found, pictures=None), num_units=110, num_classes=1000)
    page = render(large)
    assert len(page.encode()) < 215_000
    assert "Of 1,000 classes the 30 least favorable ones are shown" in visible(page)


def test_run_that_removed_nothing_is_nothing_to_go_live_with(found: ReportInput) -> None:
    round_ = found.rounds[-1]
    passed = dataclasses.replace(round_, gates=GateResult(passed=True, gates=()))
    plan = dataclasses.replace(found.plan, remove=())
    decision = decide(dataclasses.replace(found, plan=plan, rounds=(passed,)), Translator())
    assert decision.verdict == "no"
    assert "unchanged" in decision.reason.en
    assert "no new model" in decision.talking_points[-1].en


def test_data_that_are_no_images_have_no_headings_of_images(found: ReportInput) -> None:
    bare = dataclasses.replace(found, pictures=Pictures(missing=("no_images",)))
    text = visible(render(bare))
    assert "The inputs are no images" in text
    assert "Newly wrong" not in text
    assert "Newly wrong" in visible(render(found))


def test_network_without_any_unit_makes_a_report(found: ReportInput) -> None:
    units = dataclasses.replace(found.sensitivity.unit_map, removable=(), locked=(), note="none")
    scan = dataclasses.replace(found.sensitivity, units=(), unit_map=units)
    plan = dataclasses.replace(found.plan, remove=(), ranking=(), prefixes=found.plan.prefixes[:1])
    bare = ReportInput(name="plain", run="runs/plain", sensitivity=scan, plan=plan)
    assert "No block can be removed" in visible(render(bare))


def test_sections_link_to_the_files_behind_them(page: str) -> None:
    for path in ("scan/sensitivity.json", "plan.json", "rounds/01/comparison.json"):
        assert f'<a href="../{path}">{path}</a>' in page
        assert (RUN / path).is_file()


def test_command_that_repeats_the_run_starts_where_its_paths_do(found: ReportInput) -> None:
    there = dataclasses.replace(found, run="runs/a b", name="x", root="/data/my site")
    text = visible(render(there))
    assert "cp 'runs/a b/config.yaml' '/data/my site/x-again.yaml'" in text
    assert "srinit run -c '/data/my site/x-again.yaml'" in text
    unknown = visible(render(dataclasses.replace(found, root="")))
    assert "-again.yaml" not in unknown


def test_input_files_stand_with_their_hashes(found: ReportInput) -> None:
    text = visible(render(dataclasses.replace(found, inputs={"train.npz": "ab12" * 16})))
    assert f"train.npz {'ab12' * 16}" in text


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("baseline/metrics.json", '{"schema": "srinit.baseline/1", "score": "high"}'),
        ("rounds/01/metrics.json", '{"schema": "srinit.cut/1", "score_cut": [1]}'),
        ("export/export.json", '{"schema": "srinit.export/2", "files": [{"format": 3}]}'),
        ("report/pictures.json", '{"schema": "srinit.pictures/1", "examples": 4}'),
        ("config.yaml", "roi: {hourly_rate: much}"),
    ],
)
def test_file_that_is_not_what_it_should_be_is_named(tmp_path: Path, file: str, text: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(RUN, copy)
    (copy / file).write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=re.escape(file)):
        load_report_input(copy)


def test_same_records_give_the_same_bytes(found: ReportInput, page: str) -> None:
    assert render(found) == page


def test_costs_of_errors_stand_on_the_first_page_and_with_their_break_even(
    found: ReportInput,
) -> None:
    page = visible(render(with_costs(found)))
    assert "Cost of errors (per 1,000 pieces)" in page
    assert "¥3,200" in page  # 3.2 of a piece
    assert "+¥500" in page
    assert "−¥750 to +¥2,250" in page
    assert "Above a miss rate of 1.23%" in page
    assert "as much as 5.50 good parts rejected" in page
    assert "Cost of additional errors" in page
    assert "Cost of additional missed defects" not in page.split("Formulas")[0]
    assert "Cost of errors" not in visible(render(found))


@pytest.mark.parametrize(
    ("name", "english", "japanese"),
    [
        ("max_cost_increase", "Rise of the cost of errors per piece: measured ¥0.250", "0.250円"),
        ("max_missed_defect_rate", "Rate of missed defects: measured 25.0%", "見逃し率：実測25.0%"),
        ("max_shift_drop", "under shift and noise, worst case: measured 25.00 points", "環境変化"),
        ("max_missed_defect_increase.dent", "missed-defect rate of dent", "「dent」の見逃し率"),
        ("site.min_agreement", "Equal answers before and after, site data", "（現場データ）"),
    ],
)
def test_every_gate_has_its_words(name: str, english: str, japanese: str) -> None:
    gate = Gate(name=name, limit=0.5, measured=0.25, bound=0.4, passed=True, sentence="")
    text = gate_text(gate, Translator())
    assert english in text.en
    assert japanese in text.ja


def test_what_was_measured_under_shift_and_on_site_counts_as_tested(found: ReportInput) -> None:
    score = Drop(
        value=0.1, low=0.0, high=0.2, confidence=0.95, baseline=0.9, pruned=0.8, num_examples=50
    )
    shift = CorruptionRobustness(num_examples=50, confidence=0.95, clean=score, points=(), seed=0)
    flips = tuple(
        FlippedExample(name=f"{HOSTILE}{index}", baseline="a", pruned="b") for index in range(30)
    )
    site = FieldComparison(
        data="images:site", data_hash="", num_examples=40, num_labeled=0, comparison=None,
        unlabeled=None, flipped=flips,
    )  # fmt: skip
    round_ = dataclasses.replace(found.rounds[-1], shift=shift, site=site)
    report = dataclasses.replace(found, rounds=(round_,))
    decision = decide(report, Translator())
    untested = " ".join(text.en for text in (*decision.untested, *decision.conditions))
    assert "site" not in untested
    assert "lighting" not in untested
    page = render(report)
    assert HOSTILE not in page
    assert "Of 30 examples with another answer, 20 are shown" in visible(page)


def test_corruption_under_which_the_new_model_is_worse_is_a_condition(found: ReportInput) -> None:
    score = Drop(
        value=0.2, low=0.1, high=0.3, confidence=0.95, baseline=0.9, pruned=0.7, num_examples=50
    )
    points = tuple(
        CorruptionPoint(
            corruption=name,
            severity=3,
            score=score,
            excess=score,
            family=score,
            p_value=p,
            p_adjusted=p,
        )
        for name, p in (("noise", 0.001), ("blur", 0.8))
    )
    shift = CorruptionRobustness(
        num_examples=50, confidence=0.95, clean=score, points=points, seed=0
    )
    round_ = dataclasses.replace(found.rounds[-1], shift=shift)
    decision = decide(dataclasses.replace(found, rounds=(round_,)), Translator())
    assert any("is worse (1 of 2 tested)" in line.en for line in decision.conditions)


def test_screenshots_are_of_sections_that_the_page_has(page: str) -> None:
    script = (Path(__file__).parents[1] / "scripts" / "screenshots.py").read_text("utf-8")
    parts = re.search(r"^PARTS = (.*)$", script, re.MULTILINE)
    assert parts is not None
    for part in ast.literal_eval(parts[1]):
        assert f"id=h-{part}" in page.replace('"', ""), part


def test_the_folder_of_a_config_is_named_as_its_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(RUN, tmp_path / "runs" / "a")
    head = json.loads((tmp_path / "runs" / "a" / "run.json").read_text("utf-8"))
    head["root"] = str(tmp_path / "site")
    (tmp_path / "runs" / "a" / "run.json").write_text(json.dumps(head), "utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_report_input(Path("runs/a")).root == "site"
    assert load_report_input(tmp_path / "runs" / "a").root == str(tmp_path / "site")
    monkeypatch.chdir(tmp_path / "runs")
    assert load_report_input(Path("a")).root == str(tmp_path / "site")


def test_a_score_that_is_no_accuracy_is_not_called_one(found: ReportInput) -> None:
    assert found.wording == ()
    last = found.last
    assert last is not None
    assert last.comparison is not None
    scored = replace(last, comparison=replace(last.comparison, p_value=None))
    report = replace(found, rounds=(*found.rounds[:-1], scored))
    say = Translator(wording=report.wording)
    assert (say("gate.max_drop").en, say("gate.max_drop").ja) == (
        "Loss of the mean score", "平均スコアの低下",
    )  # fmt: skip
    assert say("gate.limit").en == Translator()("gate.limit").en
