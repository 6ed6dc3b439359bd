"""Promotion and the way back of a real run, as the command line does it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parts_project import forge, make
from srinit import cli
from srinit.monitor import LogWriter
from srinit.store import RunFolder, audit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="no mlflow"),
]
CONFIG = """\
name: parts
model: {source: "py:model.py:create_model", weights: weights.safetensors}
data:
  train: npz:train.npz
  source: npz:rest.npz
  split: {calibration: 0.4, validation: 0.2, test: 0.4}
  preprocess: {channels: 1, mean: [0.3], std: [0.37]}
scan: {scheme: permuted, half_width: 0.3}
plan: {flops: 0.8}
finetune: {epochs: 1}
compare: {latency_batches: [1]}
gates: {max_drop: 0.9, max_class_recall_drop: null}
export: {onnx: false, torch_export: false}
report: {pictures: 0}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one finished run of a network that was never trained."""
    folder = tmp_path_factory.mktemp("parts")
    make(folder, CONFIG)
    assert cli.run(["run", "-c", str(folder / "srinit.yaml"), "--out", str(folder / "runs")]) == 0
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of that project, to promote in."""
    target = tmp_path / "project"
    shutil.copytree(made, target, copy_function=shutil.copy2)
    head = json.loads((target / "runs" / "parts" / "run.json").read_text())
    (target / "runs" / "parts" / "run.json").write_text(json.dumps({**head, "root": str(target)}))
    forge(target / "runs" / "parts")
    return target


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any]:
    capsys.readouterr()
    code = cli.run([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_same_config_leaves_the_same_bytes(made: Path, tmp_path: Path) -> None:
    assert cli.run(["run", "-c", str(made / "srinit.yaml"), "--out", str(tmp_path)]) == 0
    for name in (
        "plan.json", "scan/sensitivity.json", "scan/sensitivity.csv", "scan/observations.jsonl",
        "baseline/predictions.npz", "rounds/01/model.safetensors", "rounds/01/tune.json",
        "rounds/01/predictions.npz",
    ):  # fmt: skip
        one, other = (folder / "parts" / name for folder in (made / "runs", tmp_path))
        assert one.read_bytes() == other.read_bytes(), name


def test_a_run_is_promoted_rehearsed_rolled_back_and_all_of_it_is_on_record(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = project / "runs" / "parts"
    code, body = call(capsys, "rollback", run)
    assert (code, "has no champion" in body["error"]["message"]) == (2, True)
    code, body = call(capsys, "promote", run, "--dry-run")
    assert (code, (project / "runs" / "mlflow" / "mlflow.db").exists()) == (0, False)
    code, body = call(capsys, "promote", run)
    assert (code, body["version"], body["replaced"], body["gate"]) == (0, 2, 1, "passed")
    code, body = call(capsys, "promote", run)
    assert (code, body["version"], body["already"]) == (0, 2, True)
    code, body = call(capsys, "verify", run)
    assert (code, body["versions"]) == (0, [1, 2])
    assert body["version_files"] == 3 + 5  # unpruned: no judgement

    # Going back needs nothing of the data.
    (project / "rest.npz").unlink()
    code, body = call(capsys, "rollback", run, "--rehearse")
    assert (code, body["rehearsed"], body["target"], body["smoke_examples"]) == (0, True, 1, 8)
    code, body = call(capsys, "rollback", run, "--reason", "drift")
    assert (code, body["champion"], body["target"]) == (0, 2, 1)
    code, body = call(capsys, "rollback", run)
    assert (code, "no way further back" in body["error"]["message"]) == (2, True)
    entries = audit.read(run / "audit.jsonl").entries
    told = [(e["verb"], e["decision"], e["reason"]) for e in entries if e["verb"] != "seal"][-7:]
    assert told == [
        ("promote", "intended: champion of parts: version 1", ""),
        ("promote", "champion of parts: version 1", ""),
        ("promote", "intended: champion of parts: version 1 -> 2", ""),
        ("promote", "champion of parts: version 1 -> 2", ""),
        ("rollback", "rehearsed: version 1 of parts loads and runs", ""),
        ("rollback", "intended: rolled back parts: version 2 -> 1", "drift"),
        ("rollback", "rolled back parts: version 2 -> 1", "drift"),
    ]
    assert len(entries[-1]["inputs"]["version_sums"]) == 64
    code, body = call(capsys, "report", run)
    assert code == 0
    assert entries[-2]["time"][:10] in Path(body["report"]).read_text("utf-8")


def test_a_flipped_bit_in_the_registry_stops_the_way_back(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = project / "runs" / "parts"
    assert call(capsys, "promote", run)[0] == 0
    stored = sorted((project / "runs" / "mlflow").rglob("model.safetensors"))
    assert len(stored) == 2
    for path in stored:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for verb in (["rollback"], ["rollback", "--rehearse"], ["verify"]):
        code, body = call(capsys, verb[0], run, *verb[1:])
        assert code == 6, verb
        assert "model.safetensors was changed" in body["error"]["message"]
    assert audit.read(run / "audit.jsonl").entries[-1]["decision"] == "refused"
    code, body = call(capsys, "promote", run)
    assert (code, body["version"], body["already"]) == (0, 2, True)  # nothing had moved


def test_a_damaged_or_missing_registry_is_named_and_moves_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, place = project / "runs" / "parts", project / "runs" / "mlflow"
    assert call(capsys, "promote", run)[0] == 0
    path, verbs = place / "mlflow.db", (["verify"], ["rollback"], ["promote"])
    whole = path.read_bytes()
    page = int.from_bytes(whole[16:18], "big")
    for damaged in (
        whole[: len(whole) // 2],  # cut off
        whole[: 10 * page] + bytes([whole[10 * page] ^ 0xFF]) + whole[10 * page + 1 :],
        b"",
    ):
        path.write_bytes(damaged)
        for verb in verbs:
            code, body = call(capsys, verb[0], run, *verb[1:])
            assert (code, "mlflow" in body["error"]["message"]) == (6, True), body
        assert path.read_bytes() == damaged
    path.write_bytes(whole)
    with sqlite3.connect(path) as connection:  # what SQLite itself cannot notice
        connection.execute("UPDATE registered_model_aliases SET version = 1 WHERE version = 2")
    for verb in verbs:
        code, body = call(capsys, verb[0], run, *verb[1:])
        assert (code, "but srinit left it at 2" in body["error"]["message"]) == (6, True), body
    for tag, message in (
        ("srinit.sums_sha256", "cannot be read"),
        ("srinit.move", "its tags in the registry were edited"),
    ):
        path.write_bytes(whole)
        with sqlite3.connect(path) as connection:
            connection.execute(
                f"UPDATE model_version_tags SET value = 'f' || substr(value, 2) WHERE key = '{tag}'"
            )
        code, body = call(capsys, "rollback", run)
        assert (code, message in body["error"]["message"]) == (6, True), body
    path.write_bytes(whole)
    place.rename(place.with_name("moved"))
    code, body = call(capsys, "verify", run)
    assert (code, "mlflow is gone" in body["error"]["message"]) == (6, True)
    shutil.rmtree(place, ignore_errors=True)
    place.with_name("moved").rename(place)
    with RunFolder.open(run).lock():
        for verb in ("report", "promote", "finetune"):
            code, body = call(capsys, verb, run)
            assert (code, "is in use by process" in body["error"]["message"]) == (6, True)
    assert call(capsys, "rollback", run)[0] == 0


def test_a_failed_gate_stops_promotion_unless_overridden_with_a_reason(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = call(
        capsys, "compare", project / "runs" / "parts", "--set", "gates.max_params_ratio=0.01"
    )
    assert code == 3
    run = Path(body["run"])
    for verb in ("report", "seal"):
        assert call(capsys, verb, run)[0] in (0, 3)
    code, body = call(capsys, "promote", run)
    assert (code, "parameters: " in body["error"]["message"]) == (3, True)
    assert audit.read(run / "audit.jsonl").entries[-1]["decision"] == "refused"
    code, body = call(capsys, "promote", run, "--override")
    assert (code, "--reason" in body["error"]["message"]) == (2, True)
    code, body = call(capsys, "promote", run, "--override", "--reason", "only for the pilot line")
    assert (code, body["gate"]) == (0, "overridden")
    entry = audit.read(run / "audit.jsonl").entries[-1]
    assert entry["decision"] == "override, champion of parts: version 1 -> 2"
    assert entry["reason"] == "only for the pilot line"

    limits = ("--set", "gates.max_drop=null", "--set", "gates.max_params_ratio=null")
    code, body = call(capsys, "compare", project / "runs" / "parts", *limits)
    unjudged = Path(body["run"])
    for verb in ("report", "seal"):
        assert call(capsys, verb, unjudged)[0] == 0
    code, body = call(capsys, "promote", unjudged)
    assert (code, "nothing was judged" in body["error"]["message"]) == (6, True)
    path = unjudged / "rounds" / "01" / "gate.json"
    path.write_text(path.read_text() + " ")
    code, body = call(capsys, "promote", unjudged)
    assert (code, "gate.json was changed" in body["error"]["message"]) == (6, True)


def test_monitoring_raises_the_alarm_and_rolls_back(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = project / "runs" / "parts"
    assert call(capsys, "promote", run)[0] == 0
    small = ("--set", "monitor.window=60")
    rest = np.load(project / "rest.npz")
    code, body = call(capsys, "monitor", run, "--data", f"npz:{project / 'rest.npz'}", *small)
    assert (code, body["alarm"], body["rollback"]) == (0, False, "")
    names = {found["quantity"] for found in body["watch"]["windows"][0]["findings"]}
    assert names >= {"class_mix", "confidence", "brightness", "sharpness", "features", "accuracy"}
    assert run.with_name("parts.after").joinpath("baseline.npz").is_file()

    dark = {**rest, "images": rest["images"] // 3}
    np.savez(project / "dark.npz", **dark)
    code, body = call(capsys, "monitor", run, "--data", f"npz:{project / 'dark.npz'}", *small)
    assert (code, body["alarm"]) == (3, True)
    assert "brightness" in body["watch"]["causes"]
    assert (body["diagnosis"]["images"], body["diagnosis"]["cause"]) == ("moved", "light")
    # The lamp is dark for the version before too; only where the two networks part it may help.
    parted = body["diagnosis"]["agreement"] == "fell"
    assert body["rollback"].startswith("srinit rollback ") == parted
    assert body["order"] == "content"

    weights = json.loads((run / "rounds/01/recipe.json").read_text())["weights_sha256"]
    log = project / "preds.jsonl"
    said = np.load(run / "rounds" / "01" / "predictions.npz")["pruned_predictions"]
    rarest = "abc"[np.bincount(said, minlength=3).argmin()]
    with LogWriter(log, model=weights) as writer:
        for number in range(120):
            writer.write(image=f"{number}", prediction=rarest, confidence=0.34, latency_ms=1.0)
    (project / "rest.npz").unlink()  # the kept baseline serves
    code, body = call(capsys, "monitor", run, "--log", log, "--auto-rollback", *small)
    assert (code, body["rolled_back"]["target"]) == (3, 1)
    assert "class_mix" in body["watch"]["causes"]
    last = audit.read(run / "audit.jsonl").entries
    assert [(e["verb"], e["decision"]) for e in last][-3:] == [
        ("monitor", "alarm"),
        ("rollback", "intended: rolled back parts: version 2 -> 1"),
        ("rollback", "rolled back parts: version 2 -> 1"),
    ]
    code, body = call(capsys, "monitor", run, "--log", log, "--auto-rollback", *small)
    assert (code, body["rolled_back"]) == (3, None)
    assert "this alarm was answered already" in body["rollback_failed"]
    assert call(capsys, "verify", run)[0] == 0


def test_compare_reads_two_logs_and_plans_the_next_test(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("one", "two"):
        with LogWriter(project / f"{model}.jsonl", model=model) as writer:
            for number in range(400):
                wrong = model == "two" and number % 4 == 0
                writer.write(
                    image=f"{number}", prediction="b" if wrong else "a", confidence=0.9,
                    latency_ms=1.0, label="a",
                )  # fmt: skip
    logs = (project / "one.jsonl", project / "two.jsonl")
    code, body = call(capsys, "compare", *logs)
    assert (code, body["comparison"]["lost"]) == (3, 100)
    assert body["comparison"]["anytime"]["decision"] == "beyond"
    code, body = call(capsys, "compare", *logs, "--margin", "0.9")
    assert code == 0
    code, body = call(capsys, "compare", *logs, "--plan-margin", "0.02")
    assert (code, body["plan"]["discordant"]) == (0, 101 / 400)
    code, body = call(capsys, "compare", project / "runs" / "parts", "--plan-margin", "0.02")
    assert code == 0
    assert body["plan"]["num_examples"] >= 189
    code, body = call(capsys, "compare", logs[0])
    assert (code, "name the log of the other model" in body["error"]["message"]) == (2, True)


def test_a_plan_edited_by_hand_is_refused_until_it_is_taken_with_a_reason(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = project / "runs" / "parts"
    sealed = (run / "plan.json").read_bytes()
    plan = json.loads(sealed)
    gone = [removal["unit"]["name"] for removal in plan["remove"]]
    assert gone
    (run / "plan.json").write_text(json.dumps({**plan, "remove": plan["remove"][:-1]}))
    code, body = call(capsys, "verify", run)
    assert (code, "plan.json was changed" in body["error"]["message"]) == (6, True)
    code, body = call(capsys, "plan", run, "--edited")
    assert (code, "needs a reason" in body["error"]["message"]) == (2, True)
    code, body = call(capsys, "plan", run, "--edited", "--reason", "the line needs that block")
    assert (code, body["run"]) == (0, str(run.with_name("parts-2"))), body
    began, *_, entry = audit.read(run.with_name("parts-2") / "audit.jsonl").entries
    assert (entry["verb"], entry["decision"]) == ("plan", f"remove {', '.join(gone[:-1])}")
    assert "plan.json was edited by hand, by whom is not known" in began["reason"]
    assert f"left out: {gone[-1]}; reason given: the line needs that block" in began["reason"]
    code, body = call(capsys, "prune", run.with_name("parts-2"))
    assert (code, body["round"]["removed"]) == (0, gone[:-1])
    (run / "plan.json").write_bytes(sealed)
    assert call(capsys, "verify", run)[0] == 0
