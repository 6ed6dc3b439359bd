"""A plan that was edited by hand: on record, on the page, sealed, and never lost in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parts_project import CONFIG, call, copied, make

REASON = ("--reason", "the line\n<needs> it")


def edit(run: Path, *names: str) -> None:
    """Write other units into the plan, as an editor would; its figures are forged, too."""
    plan = json.loads((run / "plan.json").read_bytes())
    known = {removal["unit"]["name"]: removal for removal in plan["remove"]}
    first = plan["remove"][0]
    plan["remove"] = [
        {**known.get(name, first), "unit": {**first["unit"], "name": name}} for name in names
    ]
    plan["remove"][0]["evidence"]["reinit_drop"] = -0.5
    (run / "plan.json").write_text(json.dumps(plan))


@pytest.fixture
def planned(tmp_path: Path, capsys: Any) -> Path:
    """A run with a plan, of two units."""
    config = make(tmp_path, CONFIG.replace("flops: 0.8", "remove: [stage2.0, stage2.1]"))
    assert call(capsys, "scan", "-c", config, "--out", tmp_path / "runs")[0] == 0
    run = tmp_path / "runs" / "parts"
    assert call(capsys, "plan", run)[0] == 0
    return run


def names(run: Path) -> list[str]:
    """Return the units that the plan of a run removes."""
    return [each["unit"]["name"] for each in json.loads((run / "plan.json").read_bytes())["remove"]]


def test_an_edit_is_taken_for_its_units_alone_and_kept_through_changes(
    planned: Path, capsys: Any
) -> None:
    stays, goes = names(planned)
    edit(planned, goes, "stage2.2")
    code, body = call(capsys, "plan", planned, "--edited", *REASON, "--flops", "0.5")
    assert (code, "give no target beside it" in body["error"]["message"]) == (2, True)
    code, body = call(capsys, "plan", planned, "--edited", *REASON, "--dry-run")
    said = f"(added: stage2.2; left out: {stays}; reason given: the line <needs> it)"
    assert (code, said in " ".join(body["changes"])) == (0, True)
    code, body = call(capsys, "plan", planned, "--edited", *REASON)
    assert (code, names(planned)) == (0, [goes, "stage2.2"]), body
    taken = json.loads((planned / "plan.json").read_bytes())
    scan = json.loads((planned / "scan/sensitivity.json").read_bytes())["units"]
    drops = {unit["unit"]: unit["reinit_drop"] for unit in scan}
    evidence = [each["evidence"]["reinit_drop"] for each in taken["remove"]]
    assert evidence == [drops[goes], drops["stage2.2"]]  # measured, not what was typed
    assert taken["prefixes"][1]["measured"]
    # A change that makes the plan stale makes it anew, with the same units.
    code, body = call(capsys, "plan", planned, "--set", "scan.half_width=0.2")
    assert (code, names(planned)) == (0, [goes, "stage2.2"]), body
    for verb in ("prune", "finetune", "compare"):
        code, body = call(capsys, verb, planned)
        assert code == 0, body
    assert (body["edit"]["before"], body["edit"]["after"]) == ([stays, goes], [goes, "stage2.2"])
    for verb in ("export", "report", "seal"):
        code, body = call(capsys, verb, planned)
        assert code == 0, body
    told = [each for each in body_of(planned)["overrides"] if "edited by hand" in each]
    assert told == [f"plan.json was edited by hand, by whom is not known {said}"]
    page = (planned / "report" / "report.html").read_text("utf-8")
    for words in ("The plan was edited by hand after it was computed", "手作業で編集されました"):
        assert words in page
    assert "the line &lt;needs&gt; it" in page
    changes = (planned / "overrides.json").read_text()
    (planned / "overrides.json").write_text(changes.replace("stage2.2", "stage2.1"))
    code, body = call(capsys, "verify", planned)
    assert (code, "overrides.json was changed" in body["error"]["message"]) == (6, True)


def body_of(run: Path) -> Any:
    """Return the result of a run."""
    return json.loads((run / "result.json").read_bytes())


def test_a_run_by_the_config_leaves_an_edited_plan_where_it_is(planned: Path, capsys: Any) -> None:
    computed = names(planned)
    edit(planned, computed[0])
    assert call(capsys, "plan", planned, "--edited", *REASON)[0] == 0
    config, out = planned.parents[1] / "srinit.yaml", planned.parent
    code, body = call(capsys, "run", "-c", config, "--out", out)
    made = planned.with_name("parts-2")
    assert (code, body["run"]) == (0, str(made)), body
    assert (names(planned), names(made)) == (computed[:1], computed)
    assert body["overrides"][-1] != body["overrides"][0]
    edits = [each for each in body["overrides"] if "edited by hand" in each]
    assert [each.endswith("undone since") for each in edits] == [True]
    assert "was edited by hand after it was computed" not in Path(body["report"]).read_text("utf-8")
    # In the run itself another target ends the edit, and that is said.
    targets = ("--remove", ",".join(computed))
    code, body = call(capsys, "plan", planned, *targets, "--dry-run")
    assert "the plan that was edited by hand is set aside" in " ".join(body["changes"])
    code, body = call(capsys, "plan", planned, *targets)
    assert (code, names(planned)) == (0, computed)


def test_what_is_no_edit_of_units_is_refused_and_moves_nothing(planned: Path, capsys: Any) -> None:
    computed = names(planned)
    for chosen, why in (
        (computed, "removes what was computed, in the same order"),
        (["stage9"], "there is no unit 'stage9'"),
        ([computed[0], computed[0]], "named twice"),
    ):
        edit(planned, *chosen)
        for more in ((), ("--dry-run",)):
            code, body = call(capsys, "plan", planned, "--edited", *REASON, *more)
            assert (code, why in body["error"]["message"]) == (2, True), (chosen, body)
    assert not (planned / "superseded").exists()


def test_a_plan_that_was_edited_and_not_taken_is_named_when_it_is_set_aside(
    planned: Path, capsys: Any
) -> None:
    from srinit import cli

    computed = names(planned)
    edit(planned, computed[0])
    capsys.readouterr()
    assert cli.run(["plan", str(planned)]) == 0
    assert "plan.json was edited by hand or damaged; it is set aside" in " ".join(
        capsys.readouterr().err.split()
    )
    assert names(planned) == computed
    aside = json.loads((planned / "superseded/01/plan.json").read_bytes())
    assert len(aside["remove"]) == 1


def test_an_edit_in_a_sealed_run_makes_a_new_one(
    finished_parts: Path, tmp_path: Path, capsys: Any
) -> None:
    own = copied(finished_parts, tmp_path / "runs")
    first = names(own)
    edit(own, *first[:0:-1])
    code, body = call(capsys, "plan", own, "--edited", *REASON)
    assert (code, body["run"]) == (0, str(own.with_name("parts-2"))), body
    made = Path(body["run"])
    assert names(made) == first[:0:-1]
    change = json.loads((made / "overrides.json").read_bytes())["changes"][-1]
    assert (change["key"], change["before"], change["after"], change["judged"]) == (
        "plan.json", first, first[:0:-1], True,
    )  # fmt: skip
