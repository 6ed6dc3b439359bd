"""A change of a run that is killed half way is finished before anything else is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parts_project import CONFIG, call, copied, make
from srinit.custody import changing, pending
from srinit.store import RunFolder, audit


class KilledError(BaseException):
    """As if the process had been killed."""


@pytest.fixture
def tuned(tmp_path: Path, capsys: Any) -> Path:
    """A run that was compared and is not sealed."""
    text = CONFIG.replace("max_params_ratio: 1.0", "max_params_ratio: 0.01")
    config = make(tmp_path, text)
    assert call(capsys, "scan", "-c", config, "--out", tmp_path / "runs")[0] == 0
    run = tmp_path / "runs" / "parts"
    for verb in ("plan", "prune", "finetune"):
        assert call(capsys, verb, run)[0] == 0
    return run


@pytest.mark.parametrize("place", ["archive", "cover", "unlink"])
def test_settings_never_stand_beside_what_older_ones_made(
    tuned: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        if place == "archive":
            patch.setattr(pending, "archive", killed)
        elif place == "cover":
            patch.setattr(RunFolder, "cover", killed)
        else:
            patch.setattr(Path, "unlink", killed)
        with pytest.raises(KilledError):
            call(capsys, "finetune", tuned, "--set", "finetune.epochs=2")
    assert pending.is_pending(tuned)
    code, body = call(capsys, "finetune", tuned)
    assert code == 0, body
    assert not pending.is_pending(tuned)
    log = json.loads((tuned / "rounds/01/tune.json").read_bytes())
    assert log["recipe"]["epochs"] == 2.0
    changes = json.loads((tuned / "overrides.json").read_bytes())["changes"]
    assert [change["key"] for change in changes] == ["finetune.epochs"]
    assert sorted(p.name for p in (tuned / "superseded").iterdir()) == ["01"]
    for verb in ("compare", "export", "report", "seal"):
        assert call(capsys, verb, tuned)[0] in (0, 3), verb
    assert call(capsys, "verify", tuned)[0] == 0


def test_a_run_that_is_sealed_meanwhile_is_not_taken_apart(
    finished_parts: Path, tmp_path: Path
) -> None:
    own = RunFolder.open(copied(finished_parts, tmp_path / "runs"))
    change = changing.Change(
        run=str(own.path), verb="plan", overrides=(), redone={"plan": ""}, makes_new_run=False
    )
    before = sorted(own.files())
    with pytest.raises(Exception, match="sealed"):
        pending.settle(own, change, _parts(), {})
    assert sorted(own.files()) == before
    assert own.verify() > 10


def _parts() -> Any:
    from srinit.pipeline.parts import PARTS

    return PARTS


def test_a_judgement_that_was_set_aside_was_known_all_the_same(tuned: Path, capsys: Any) -> None:
    assert call(capsys, "compare", tuned)[0] == 3
    code, body = call(capsys, "finetune", tuned, "--set", "finetune.epochs=2")
    assert code == 0, body
    run = Path(body["run"])
    code, body = call(capsys, "compare", run, "--set", "gates.max_params_ratio=1.0")
    made = Path(body["run"])
    assert made != run
    for verb in ("export", "report", "seal"):
        assert call(capsys, verb, made)[0] in (0, 3), verb
    code, body = call(capsys, "promote", made)
    assert code == 6
    assert "its judgement was moved after it was known" in body["error"]["message"]


def test_an_input_that_is_named_later_is_hashed_and_watched(tuned: Path, capsys: Any) -> None:
    import numpy as np

    with np.load(tuned.parents[1] / "rest.npz") as rest:
        first = {**rest, "images": 255 - rest["images"]}
    site = tuned.parents[1] / "own.npz"
    np.savez(site, **first)
    assert call(capsys, "compare", tuned, "--set", "data.site=npz:own.npz")[0] in (0, 3)
    assert "own.npz" in json.loads((tuned / "inputs.lock.json").read_bytes())
    np.savez(site, **{**first, "images": first["images"][:50], "labels": first["labels"][:50]})
    code, body = call(capsys, "compare", tuned)
    assert (code, "own.npz changed since the run began" in body["error"]["message"]) == (2, True)


def test_a_seal_holds_the_page_of_all_that_is_there(tuned: Path, capsys: Any) -> None:
    assert call(capsys, "report", tuned)[0] == 0
    for verb in ("compare", "export", "seal"):
        assert call(capsys, verb, tuned)[0] in (0, 3), verb
    assert (tuned / "report" / "csv" / "gates.csv").is_file()
    verbs = [entry["verb"] for entry in audit.read(tuned / "audit.jsonl").entries]
    assert verbs.index("gate") < len(verbs) - 1 - verbs[::-1].index("report")
    assert call(capsys, "verify", tuned)[0] == 0
