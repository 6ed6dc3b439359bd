"""What a change of the config makes anew follows from what the steps ask for."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parts_project import CONFIG, call, make
from srinit.config import load_config
from srinit.custody.depends import Part, Parts
from srinit.pipeline.parts import PARTS
from srinit.pipeline.sizes import unread
from srinit.runs import artifacts
from srinit.steps.table import TABLE

ALL_LATER = {"export", "int8", "alternatives", "package", "folder", "site", "predictions",
             "comparison", "shift", "rounds", "inference cost", "judgement", "report"}  # fmt: skip
SCORED = {"scores", "reference scores"}
PLANNED = {"plan", "plan times", "planned folder", "cut", "recovery"}


@pytest.mark.parametrize(
    ("key", "redone"),
    [
        (
            "gates.max_drop",
            {"site", "rounds", "judgement", "int8", "alternatives", "package", "folder", "report"},
        ),
        ("report.languages", {"report"}),
        ("roi.hourly_rate", {"report"}),
        ("compare.on_production_device", {"report"}),
        ("export.onnx", {"export", "int8", "package", "report"}),
        ("export.openvino", {"export", "int8", "package", "report"}),
        ("alternatives.measure", {"alternatives", "report"}),
        ("export.package", {"package"}),
        ("export.huggingface", {"folder outlook", "planned folder", "folder"}),
        ("export.int8", {"int8", "package", "report"}),
        ("shift.examples", {"shift", "judgement", "package", "folder", "report"}),
        ("data.site", {"data", "site", "judgement", "package", "folder", "report"}),
        ("finetune.rehearsal", {"recovery"} | ALL_LATER),
        ("finetune.epochs", {"recovery"} | ALL_LATER),
        ("prune.rounds", {"cut", "recovery"} | ALL_LATER),
        ("compensate.examples", {"cut", "recovery"} | ALL_LATER),
        ("compensate.method", {"scores", *PLANNED} | ALL_LATER),
        ("plan.flops", PLANNED | ALL_LATER),
        ("units.keep", PLANNED | ALL_LATER),
        ("plan.criterion", {*SCORED, *PLANNED} | ALL_LATER),
        ("scan.half_width", {"scan", *SCORED, *PLANNED} | ALL_LATER),
        ("plan.beside", {"reference scores", "report"}),
        ("plan.beside_examples", {"reference scores", "report"}),
        ("baseline.expected_top1", {"baseline", "report"}),
        ("baseline.tolerance", {"baseline", "report"}),
        ("data.augment", {"recovery"} | ALL_LATER),
        (
            "data.defect_class",
            {
                "site",
                "rounds",
                "comparison",
                "judgement",
                "int8",
                "alternatives",
                "package",
                "folder",
                "report",
            },
        ),
        ("seed", set(PARTS.names)),
        ("units.level", {"units", "folder outlook", "scan", *SCORED, *PLANNED} | ALL_LATER),
        ("model.source", set(PARTS.names)),
        ("registry.uri", set()),
    ],
)
def test_a_changed_key_redoes_what_rests_on_it_and_nothing_else(key: str, redone: set[str]) -> None:
    assert set(PARTS.stale([key])) == redone


def test_keys_that_nothing_reads_by_what_others_say_redo_nothing(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model: py:m.py:f\ndata: npz:d.npz\n")

    def redone(key: str, *pairs: str) -> set[str]:
        config = load_config(tmp_path / "c.yaml", pairs)
        return set(PARTS.stale([key], unread=unread(config, config)))

    assert "plan" not in redone("compare.latency_batches", "plan.flops=0.8")
    assert {"plan", "cut"} <= redone("compare.latency_batches", "plan.latency=0.8")
    timed = {"baseline", "plan times", "comparison", "inference cost", "export"}
    assert timed <= redone("compare.latency_batches", "plan.flops=0.8")
    assert redone("plan.latency_batch", "plan.flops=0.8") == set()
    assert "plan" in redone("plan.latency_batch", "plan.latency=0.8")
    assert redone("plan.rule", "plan.flops=0.8") == set()
    assert "plan" in redone("plan.rule", "plan.max_drop=0.1")
    assert redone("plan.trial_max_drop", "plan.trial_examples=0") == set()
    assert redone("scan.num_remove") == set()
    assert "scan" in redone("scan.num_remove", "scan.precision=decide", "plan.flops=0.8")
    assert "plan" not in redone("finetune.label_smoothing", "plan.beside=[]")
    assert "plan" in redone("finetune.label_smoothing", "plan.criterion=taylor")
    assert "reference scores" in redone("finetune.loss", "plan.beside=[taylor]")
    assert redone("shift.severities", "shift.examples=0") == set()


def test_facts_of_the_data_follow_the_data_that_are_named_later(
    tmp_path: Path, capsys: Any
) -> None:
    config, out = make(tmp_path), tmp_path / "runs"
    with np.load(tmp_path / "rest.npz") as rest:
        np.savez(tmp_path / "own.npz", **{**rest, "images": 255 - rest["images"]})
    assert call(capsys, "inspect", "-c", config, "--out", out)[0] == 0
    site = ("--set", "data.site=npz:own.npz")
    code, body = call(capsys, "inspect", "-c", config, "--out", out, *site)
    assert code == 0, body
    facts = json.loads((Path(body["run"]) / "data.json").read_bytes())
    assert "site" in facts["sets"]


def test_rounds_are_cut_anew_when_what_judges_them_changes() -> None:
    assert "cut" not in PARTS.stale(["gates.max_drop"])
    assert "cut" in PARTS.stale(["gates.max_drop"], in_rounds=True)
    assert "plan" in PARTS.stale(["finetune.lr"], trained_trials=True)


@pytest.mark.parametrize(
    "key",
    ["roi.missed_defect_cost", "roi.false_reject_cost", "roi.defect_share", "compare.confidence"],
)
def test_what_the_judgement_of_a_round_rests_on_leaves_no_outcome_of_rounds(key: str) -> None:
    stale = PARTS.stale([key], in_rounds=True)
    assert "rounds" in stale
    assert PARTS.of("rounds/outcome.json") in stale


def test_every_part_comes_after_what_it_rests_on() -> None:
    seen: set[str] = set()
    for name in PARTS.names:
        later = set(PARTS.with_later([name]))
        assert not later & seen, name
        seen.add(name)


def test_a_part_that_rests_on_itself_is_an_error() -> None:
    circle = [Part("a", (), (), after=("b",)), Part("b", (), (), after=("a",))]
    with pytest.raises(ValueError, match="cycle"):
        Parts(circle)


def test_every_file_of_a_finished_run_is_in_the_table(finished_parts: Path) -> None:
    known = (*artifacts.HEADS, "overrides.json", "audit.jsonl", "SHA256SUMS")
    files = [p for p in finished_parts.rglob("*") if p.is_file() and not p.name.startswith(".")]
    names = {path.relative_to(finished_parts).as_posix() for path in files} - set(known)
    assert {name for name in names if PARTS.of(name) is None} == set()
    assert PARTS.of("rounds/02/scan/sensitivity.json") == "cut"
    assert PARTS.of("rejected/03/tune.json") == "cut"
    assert PARTS.of("config.yaml") is None


def test_no_step_asks_for_more_than_eight_things() -> None:
    assert {step.name: len(step.needs) for step in TABLE.steps if len(step.needs) > 8} == {}


def test_the_picture_of_a_run_in_the_docs_is_the_table() -> None:
    root = Path(__file__).parents[1]
    picture = runpy.run_path(str(root / "scripts" / "draw_steps.py"))["picture"]
    assert picture() in (root / "docs" / "ARCHITECTURE.md").read_text("utf-8")


def test_each_record_of_a_finished_run_carries_the_schema_of_its_row(finished_parts: Path) -> None:
    schemas = {
        json.loads(path.read_bytes()).get("schema", "")
        for artifact in artifacts.ARTIFACTS
        for pattern in artifact.patterns[:1]
        for path in finished_parts.glob(pattern)
        if path.suffix == ".json"
    }
    assert "" not in schemas
    assert len(schemas) >= 12


def test_a_plan_by_another_criterion_scores_anew_and_one_for_a_deep_cut_too(
    tmp_path: Path, capsys: Any
) -> None:
    config = make(tmp_path, CONFIG.replace("trial_examples: 0", "trial_examples: 40"))
    assert call(capsys, "scan", "-c", config, "--out", tmp_path / "runs")[0] == 0
    run = tmp_path / "runs" / "parts"

    def criterion(*more: str) -> str:
        code, body = call(capsys, "plan", run, *more)
        assert code == 0, body
        scores = json.loads((run / "scan" / "criterion.json").read_bytes())["criterion"]
        assert body["plan"]["criterion"] == scores
        return str(scores)

    assert criterion() == "block_influence"
    assert criterion("--set", "plan.criterion=l1") == "l1"
    assert criterion("--set", "plan.criterion=auto") == "block_influence"
    assert criterion("--flops", "0.45") == "compensated_distance"  # auto, of more than 45 %
    assert criterion("--flops", "0.8") == "block_influence"


def test_criteria_for_the_report_and_checks_leave_the_trained_network_as_it_is(
    tmp_path: Path, capsys: Any
) -> None:
    config, out = make(tmp_path), tmp_path / "runs"
    assert call(capsys, "scan", "-c", config, "--out", out)[0] == 0
    assert call(capsys, "plan", out / "parts")[0] == 0
    assert call(capsys, "finetune", out / "parts")[0] == 0
    pairs = ("--set", "plan.beside=[l1]", "--set", "baseline.tolerance=0.4")
    code, body = call(capsys, "run", "-c", config, "--out", out, *pairs)
    assert code == 0, body
    run = Path(body["run"])
    assert run == out / "parts"
    old = {path.name for path in (run / "superseded").rglob("*.json")}
    assert old == {"beside.json", "metrics.json"}
    assert not list((run / "superseded").rglob("rounds"))
    beside = json.loads((run / "scan" / "beside.json").read_bytes())
    assert [each["criterion"] for each in beside["criteria"]] == ["l1"]
