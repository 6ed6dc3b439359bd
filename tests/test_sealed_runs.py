"""A sealed run is never changed, and its judgement cannot be moved without a trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parts_project import call, content, copied
from srinit.store import RunFolder, audit


@pytest.fixture
def run(finished_parts: Path) -> Path:
    """One finished run, which no test may change."""
    return finished_parts


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """A copy of its runs folder, whose config still names the files of the first."""
    return copied(run, tmp_path / "runs")


def test_a_misspelt_unit_changes_nothing_and_leaves_no_folder(own: Path, capsys: Any) -> None:
    before, log = content(own), (own / "audit.jsonl").read_bytes()
    code, body = call(capsys, "plan", own, "--remove", "typo")
    assert (code, "there is no unit 'typo'" in body["error"]["message"]) == (2, True)
    code, body = call(capsys, "plan", own, "--params", "0.0001")
    assert code == 2
    assert (content(own), (own / "audit.jsonl").read_bytes()) == (before, log)
    assert [p.name for p in own.parent.iterdir() if p.is_dir()] == ["parts"]
    assert call(capsys, "verify", own)[0] == 0


def test_a_plan_of_a_sealed_run_is_a_new_run_beside_it_and_dry_run_tells_it(
    own: Path, capsys: Any
) -> None:
    before = content(own)
    code, body = call(capsys, "plan", own, "--remove", "stage2.0", "--dry-run")
    assert code == 0
    assert "is sealed: it stays as it is, and this makes a new run" in " ".join(body["changes"])
    assert not own.with_name("parts-2").exists()
    code, body = call(capsys, "plan", own, "--remove", "stage2.0")
    assert (code, body["run"], body["next"]) == (
        0, str(own.with_name("parts-2")), f"srinit prune {own.with_name('parts-2')}",
    )  # fmt: skip
    made = own.with_name("parts-2")
    assert body["plan"]["target"] == {"remove": ["stage2.0"]}
    for name in ("scan/sensitivity.json", "baseline/metrics.json", "config.yaml"):
        assert (made / name).read_bytes() == before[name], name
    assert not (made / "rounds").exists()
    began = audit.read(made / "audit.jsonl").entries[0]
    assert (began["decision"], began["inputs"]["made_from"]) == (
        "made from parts by plan", str(own),
    )  # fmt: skip
    assert content(own) == before
    assert call(capsys, "verify", own)[0] == 0


def test_every_verb_leaves_a_sealed_run_as_it_is(own: Path, capsys: Any) -> None:
    before, log = content(own), (own / "audit.jsonl").read_bytes()
    for verb in ("prune", "finetune", "compare", "export"):
        code, body = call(capsys, verb, own)
        assert (code, body["run"]) == (0, str(own)), verb  # all is there, and shown
    assert (own / "audit.jsonl").read_bytes() == log
    code, body = call(capsys, "report", own)
    assert (code, body["report"]) == (0, f"{own}.after/report-01/report.html")
    page = Path(body["report"]).read_text("utf-8")
    assert '../../parts/plan.json"' in page  # its links lead to the files of the run
    code, body = call(capsys, "export", own, "--set", "export.opset=19")
    assert (code, body["run"]) == (0, str(own.with_name("parts-2")))
    code, body = call(capsys, "compare", own, "--shift", "10")
    assert (code, body["run"]) == (0, str(own.with_name("parts-3")))
    assert body["shift"]["num_examples"] == 10
    assert content(own) == before
    assert call(capsys, "verify", own)[0] == 0


def test_nothing_is_written_into_a_sealed_run_by_the_way(
    run: Path, own: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, config = content(own), run.parent.parent / "srinit.yaml"
    (tmp_path / "way").symlink_to(own)
    for place in (own, own / "report", own / "rounds" / "new", tmp_path / "way", "way/x"):
        for words in (
            ("report", own), ("report", own, own), ("inspect", "-c", config), ("demo",),
        ):  # fmt: skip
            code, body = call(capsys, *words, "--out", place)
            assert (code, "is sealed" in body["error"]["message"]) == (6, True), (words, place)
        code, body = call(capsys, "init", place)
        assert (code, "is sealed" in body["error"]["message"]) == (6, True), place
    assert content(own) == before
    assert call(capsys, "verify", own)[0] == 0


def test_limits_that_are_moved_after_the_judgement_are_on_record_and_stop_promotion(
    own: Path, capsys: Any
) -> None:
    tight, wide = "gates.max_params_ratio=0.01", "gates.max_params_ratio=1.0"
    code, body = call(capsys, "compare", own, "--set", tight)
    failed = own.with_name("parts-2")
    assert (code, body["run"], body["gates"]["passed"]) == (3, str(failed), False)
    for verb in ("report", "seal"):
        assert call(capsys, verb, failed)[0] in (0, 3), verb
    code, body = call(capsys, "promote", failed, "--set", wide)
    assert (code, "takes" in body["error"]["message"]) == (6, True)
    code, body = call(capsys, "compare", failed, "--set", wide)
    passed = own.with_name("parts-3")
    assert (code, body["run"], body["gates"]["passed"]) == (0, str(passed), True)
    assert call(capsys, "verify", failed)[0] == 0
    page = (
        Path(call(capsys, "report", passed)[1]["report"]).read_text("utf-8").replace("&#34;", '"')
    )
    assert "gates.max_params_ratio: 0.01 -&gt; 1.0" in page
    assert call(capsys, "seal", passed)[0] == 0
    result = json.loads((passed / "result.json").read_text())
    assert result["overrides"][-1] == "gates.max_params_ratio: 0.01 -> 1.0"
    assert result["test_readings"] == 2
    code, body = call(capsys, "promote", passed)
    assert (code, "its judgement was moved after it was known" in body["error"]["message"]) == (
        6, True,
    )  # fmt: skip
    assert "max_params_ratio: 0.01 -> 1.0" in body["error"]["message"]


def test_a_config_that_is_edited_by_hand_moves_no_limit(own: Path, capsys: Any) -> None:
    code, body = call(capsys, "plan", own, "--remove", "stage2.0")
    made = Path(body["run"])
    text = (made / "config.yaml").read_text()
    (made / "config.yaml").write_text(text.replace("max_drop: 0.9", "max_drop: 1.0"))
    code, body = call(capsys, "prune", made)
    assert (code, "gates was edited since the run began" in body["error"]["message"]) == (6, True)


def test_a_second_run_on_the_same_test_data_says_how_often_they_were_read(
    run: Path, own: Path, capsys: Any
) -> None:
    config, out = run.parent.parent / "srinit.yaml", own.parent
    recipe = ("--set", "finetune.epochs=0", "--set", "gates.max_params_ratio=0.01", "--fresh")
    code, body = call(capsys, "run", "-c", config, "--out", out, *recipe)
    assert (code, body["test_readings"]) == (3, 1)
    assert "selection on test data" in body["next"]
    assert "plan.flops=0.8" not in body["next"]
    again = Path(body["run"])
    page = (again / "report" / "report.html").read_text("utf-8")
    assert "test data were read before" in page
    earlier = json.loads((again / "rounds/01/readings.json").read_text())["earlier"]
    assert [(each["run"], each["passed"], each["shared"]) for each in earlier] == [
        ("parts", True, 120)
    ]
    # A run that was deleted is known by the ledger beside the runs.
    RunFolder.open(again)
    import shutil

    shutil.rmtree(again)
    code, body = call(capsys, "run", "-c", config, "--out", out, "--fresh")
    earlier = json.loads((Path(body["run"]) / "rounds/01/readings.json").read_text())["earlier"]
    assert {(each["run"], each["gone"], each["passed"]) for each in earlier} == {
        ("parts", False, True), ("parts-2", True, False),
    }  # fmt: skip


def test_a_finished_run_given_again_is_told_of_and_not_repeated(
    run: Path, own: Path, capsys: Any
) -> None:
    config = run.parent.parent / "srinit.yaml"
    before = content(own)
    code, body = call(capsys, "run", "-c", config, "--out", own.parent)
    assert (code, body["run"], body["finished_earlier"]) == (0, str(own), True)
    code, body = call(capsys, "inspect", "-c", config, "--out", own.parent)
    assert (code, body["run"]) == (0, str(own))
    assert content(own) == before
    assert [p.name for p in own.parent.iterdir() if (p / "run.json").is_file()] == ["parts"]
    (own / "plan.json").write_text("{}")
    code, body = call(capsys, "run", "-c", config, "--out", own.parent)
    assert (code, "plan.json was changed" in body["error"]["message"]) == (6, True)


def test_a_changed_config_redoes_what_rests_on_it_and_says_so_first(
    run: Path, own: Path, capsys: Any
) -> None:
    from srinit import cli

    config = str(run.parent.parent / "srinit.yaml")
    before = content(own)
    code = cli.run(["run", "-c", config, "--out", str(own.parent), "--set", "finetune.epochs=2"])
    told = capsys.readouterr().err
    assert code == 0
    changed, anew = (told.index(words) for words in ("changed: finetune.epochs", "made anew: "))
    assert changed < anew < told.index("baseline")
    assert "recovery (finetune.epochs)" in told
    made = own.with_name("parts-2")
    for name in ("scan/sensitivity.json", "plan.json", "baseline/metrics.json"):
        assert (made / name).read_bytes() == before[name], name
    log = [entry["verb"] for entry in audit.read(made / "audit.jsonl").entries]
    assert "scan" not in log
    assert {"finetune", "compare", "gate", "seal"} <= set(log)
    assert json.loads((made / "result.json").read_text())["overrides"] == [
        "finetune.epochs: 1.0 -> 2.0"
    ]
    assert content(own) == before
    assert call(capsys, "verify", made)[0] == 0


def test_a_look_up_that_fails_leaves_no_folder(run: Path, tmp_path: Path, capsys: Any) -> None:
    config, out = run.parent.parent / "srinit.yaml", tmp_path / "runs"
    for change in ("model.args={width: 3}", "units.keep=[nothing]", "baseline.expected_top1=1.0"):
        verb = "baseline" if "expected" in change else "inspect"
        code, _ = call(capsys, verb, "-c", config, "--out", out, "--set", change)
        assert code in (2, 4), change
        assert not list(out.glob("parts*")), change


def test_the_hash_beside_the_signatures_is_the_one_that_verify_shows(
    own: Path, capsys: Any
) -> None:
    code, body = call(capsys, "verify", own)
    assert code == 0
    assert len(body["data"]) == 64
    assert body["data"] in (own / "report" / "report.html").read_text("utf-8")
    root = body["root"]
    code, body = call(capsys, "report", own)
    assert code == 0
    page = Path(body["report"]).read_text("utf-8")
    assert root in page
    assert root not in (own / "report" / "report.html").read_text("utf-8")
