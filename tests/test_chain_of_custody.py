"""Attacks on a run that was handed over, each through the command line."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from parts_project import call, content, copied, forge
from srinit import errors
from srinit.registry import Registry
from srinit.store import RunFolder, audit, sha256_bytes
from srinit.store.seal import Seal
from srinit.store.sums import read_sums, write_sums

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="no mlflow")


@pytest.fixture
def run(finished_parts: Path) -> Path:
    """One finished run, which no test may change."""
    return finished_parts


@pytest.fixture(scope="module")
def promoted(finished_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that was promoted; its registry holds absolute paths, so it is copied no further."""
    from srinit import cli

    own = copied(finished_parts, tmp_path_factory.mktemp("promoted") / "runs", registry=True)
    assert cli.run(["promote", str(own)]) == 0
    return own


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    return copied(run, tmp_path / "runs", registry=True)


@pytest.fixture
def kept(promoted: Path) -> Any:
    """The promoted run, put back after the test as it was."""
    backup = promoted.parent.with_name("backup")
    shutil.copytree(promoted.parent, backup, copy_function=shutil.copy2)
    yield promoted
    shutil.rmtree(promoted.parent)
    backup.rename(promoted.parent)


def said(body: Any) -> str:
    return str(body["error"]["message"])


def evil_recipe(run: Path, folder: Path) -> Path:
    """Let the recipe of a run name code that leaves a trace; return where that would be."""
    trace = folder / "trace"
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w').close()\ndef make(): ...\n")
    path = run / "rounds" / "01" / "recipe.json"
    recipe = json.loads(path.read_text())
    recipe["base"] = {"source": f"py:{folder}/evil.py:make", "args": {}}
    path.write_text(json.dumps(recipe))
    return trace


@pytest.mark.parametrize("at_work", [False, True])
def test_code_that_an_edited_recipe_of_another_run_names_is_not_run(
    run: Path, own: Path, tmp_path: Path, capsys: Any, at_work: bool
) -> None:
    trace = evil_recipe(own, tmp_path)
    if at_work:  # made to look like a run that was never sealed
        lines = (own / "audit.jsonl").read_text().splitlines(keepends=True)
        (own / "audit.jsonl").write_text("".join(line for line in lines if '"seal"' not in line))
        (own / "SHA256SUMS").unlink()
    expected = "is not sealed, and the code" if at_work else "recipe.json was changed"
    code, body = call(capsys, "compare", run, own)
    assert (code, expected in said(body)) == (6, True), body
    config = run.parent.parent / "srinit.yaml"
    code, body = call(
        capsys, "inspect", "-c", config, "--set", f"model.source=run:{own}",
        "--set", "model.weights=null", "--out", tmp_path / "others",
    )  # fmt: skip
    assert (code, expected in said(body)) == (6, True), body
    assert not trace.exists()


def test_another_run_that_is_whole_is_compared_and_serves_as_a_model(
    run: Path, own: Path, tmp_path: Path, capsys: Any
) -> None:
    first = copied(run, tmp_path / "first")  # the look is written down beside both runs
    code, body = call(capsys, "compare", first, own)
    assert (code, body["comparison"]["score"]["value"]) == (0, 0.0)
    code, body = call(
        capsys, "inspect", "-c", run.parent.parent / "srinit.yaml", "--set",
        f"model.source=run:{own}", "--set", "model.weights=null", "--out", tmp_path / "others",
    )  # fmt: skip
    assert code == 0, body
    model = run.parent.parent / "model.py"
    text = model.read_text()
    try:
        model.write_text(text + "# edited\n")
        code, body = call(capsys, "compare", run, own)
        assert (code, "changed since the run began" in said(body)) == (2, True)
        code, body = call(
            capsys, "inspect", "-c", run.parent.parent / "srinit.yaml", "--set",
            f"model.source=run:{own}", "--set", "model.weights=null", "--out", tmp_path / "more",
        )  # fmt: skip
        assert (code, "was changed since" in said(body)) == (6, True)
    finally:
        model.write_text(text)


@pytest.mark.parametrize(
    "place", ["rounds/02", "rounds/01", "rounds/01/gate.json", "report", "audit.jsonl"]
)
def test_a_link_in_a_run_is_named_and_not_followed(
    own: Path, tmp_path: Path, capsys: Any, place: str
) -> None:
    target = tmp_path / "elsewhere"
    if place == "rounds/02":
        shutil.copytree(own / "rounds" / "01", target)
    else:
        (own / place).rename(target)
    (own / place).symlink_to(target)
    verbs = [["verify"], ["promote"], ["compare", own]]
    for verb in verbs:
        code, body = call(capsys, verb[0], own, *verb[1:])
        assert (code, f"{place} is a link to" in said(body)) == (6, True), (verb, body)


def test_an_added_folder_a_hidden_file_and_another_mode_are_named(own: Path, capsys: Any) -> None:
    (own / "rounds" / "02").mkdir()
    code, body = call(capsys, "verify", own)
    assert (code, "rounds/02 was added" in said(body)) == (6, True)
    (own / "rounds" / "02").rmdir()
    (own / "scan" / ".note").write_text("")
    code, body = call(capsys, "verify", own)
    assert (code, ".note was added" in said(body)) == (6, True)
    (own / "scan" / ".note").unlink()
    os.mkfifo(own / "scan" / "pipe")
    code, body = call(capsys, "verify", own)
    assert (code, "is neither file nor folder" in said(body)) == (6, True)
    (own / "scan" / "pipe").unlink()
    (own / "plan.json").chmod(0o755)
    code, body = call(capsys, "verify", own)
    assert (code, "plan.json is executable since" in said(body)) == (6, True)
    for path in own.rglob("*"):  # as on a share that knows no modes
        path.chmod(0o777)
    assert call(capsys, "verify", own)[0] == 0


def test_an_audit_log_that_was_cut_off_after_promotion_is_found(kept: Path, capsys: Any) -> None:
    assert call(capsys, "verify", kept)[0] == 0
    log = kept / "audit.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    sealed = next(n for n, line in enumerate(lines, start=1) if '"verb": "seal"' in line)
    assert len(lines) == sealed + 4  # two moves, each intended and done
    for count in range(sealed, len(lines)):
        log.write_text("".join(lines[:count]))
        code, body = call(capsys, "verify", kept)
        assert (code, "was cut off or written anew" in said(body)) == (6, True), count


def test_a_registry_restored_from_an_older_copy_is_found(kept: Path, capsys: Any) -> None:
    place = kept.parent / "mlflow"
    older = place.with_name("older")
    shutil.copytree(place, older)
    assert call(capsys, "rollback", kept, "--reason", "bad")[0] == 0
    assert call(capsys, "verify", kept)[0] == 0
    shutil.rmtree(place)
    older.rename(place)  # the bad version is champion again
    code, body = call(capsys, "verify", kept)
    assert (code, "was restored from an older copy" in said(body)) == (6, True)
    code, body = call(capsys, "promote", kept)
    assert (code, "is older than the moves on record" in said(body)) == (6, True)


def test_another_run_sees_that_the_registry_is_older_than_its_neighbor_says(
    kept: Path, capsys: Any
) -> None:
    """The bad run is verified alone; the move away from it is on record in the other run."""
    other = kept.with_name("other")
    shutil.copytree(kept, other)
    place, older = kept.parent / "mlflow", kept.with_name("older")
    shutil.copytree(place, older)
    assert call(capsys, "rollback", other, "--reason", "bad")[0] == 0
    shutil.rmtree(place)
    older.rename(place)
    code, body = call(capsys, "verify", kept)
    assert (code, "was restored from an older copy" in said(body)) == (6, True)


class KilledError(BaseException):
    """What a kill looks like to the process itself."""


def test_the_log_tells_no_move_that_did_not_happen(
    kept: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "rollback", killed)
        with pytest.raises(KilledError):
            call(capsys, "rollback", kept)
    last = audit.read(kept / "audit.jsonl").entries[-1]
    assert last["decision"] == "intended: rolled back parts: version 2 -> 1"
    assert (last["inputs"]["expected"], "move" in last["inputs"]) == (2, False)
    assert call(capsys, "verify", kept)[0] == 0  # nothing moved, and nothing is told
    code, body = call(capsys, "rollback", kept)
    assert (code, body["champion"], body["target"]) == (0, 2, 1)
    last = audit.read(kept / "audit.jsonl").entries[-1]
    assert (last["decision"], last["inputs"]["move"]) == (
        "rolled back parts: version 2 -> 1", 3,
    )  # fmt: skip


def test_a_rollback_killed_after_the_move_is_completed_and_goes_no_further(
    kept: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "finish", killed)
        with pytest.raises(KilledError):
            call(capsys, "rollback", kept)
    code, body = call(capsys, "rollback", kept)
    assert (code, body["target"], body["finished_earlier"]) == (0, 1, True)
    code, body = call(capsys, "rollback", kept)
    assert (code, "no way further back" in said(body)) == (2, True)
    assert call(capsys, "verify", kept)[0] == 0


def test_a_promotion_killed_after_the_move_is_completed_and_told(
    own: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Any, version: Any) -> None:
        if version.version == 2:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "finish", killed)
        with pytest.raises(KilledError):
            call(capsys, "promote", own)
    last = audit.read(own / "audit.jsonl").entries[-1]
    assert last["decision"] == "intended: champion of parts: version 1 -> 2"
    assert call(capsys, "verify", own)[0] == 0
    code, body = call(capsys, "promote", own)
    assert (code, body["version"], body["already"]) == (0, 2, True)
    last = audit.read(own / "audit.jsonl").entries[-1]
    assert (last["decision"], last["inputs"]["move"]) == (
        "champion of parts: version 1 -> 2", 2,
    )  # fmt: skip
    assert call(capsys, "verify", own)[0] == 0


@pytest.mark.parametrize("name", ["gate.json", "recipe.json", "model.safetensors"])
def test_a_file_that_is_swapped_after_the_check_is_not_registered(
    own: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real = RunFolder.checked

    def swapping(folder: RunFolder) -> Seal:
        found = real(folder)
        (folder.path / "rounds" / "01" / name).write_bytes(b"{}")
        sums = read_sums(folder.path / "SHA256SUMS")
        sums[f"rounds/01/{name}"] = sha256_bytes(b"{}")
        write_sums(folder.path / "SHA256SUMS", sums)  # the list says so too, now
        return found

    monkeypatch.setattr(RunFolder, "checked", swapping)
    code, body = call(capsys, "promote", own)
    assert (code, f"{name} was changed" in said(body)) == (6, True), body


def test_a_champion_that_somebody_else_moved_meanwhile_is_not_replaced(
    own: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(capsys, "promote", own)[0] == 0
    assert call(capsys, "rollback", own)[0] == 0
    real = Registry.set_candidate

    def slow(registry: Registry, version: Any) -> None:
        real(registry, version)
        registry.client.set_registered_model_alias(registry.model, "champion", "2")

    monkeypatch.setattr(Registry, "set_candidate", slow)
    (own / "audit.jsonl").write_bytes((own / "audit.jsonl").read_bytes())
    monkeypatch.setattr("srinit.operations.promotion._told", lambda *_, **__: None)
    code, body = call(capsys, "promote", own)
    assert (code, "is version 2 now, not 1" in said(body)) == (6, True)


def test_a_judgement_that_was_edited_and_sealed_anew_is_not_promoted(
    own: Path, capsys: Any
) -> None:
    code, body = call(capsys, "compare", own, "--set", "gates.max_params_ratio=0.01")
    failed = Path(body["run"])
    for verb in ("report", "seal"):
        call(capsys, verb, failed)
    path = failed / "rounds" / "01" / "gate.json"
    path.write_text(path.read_text().replace('"passed": false', '"passed": true'))
    forge(failed)
    assert call(capsys, "verify", failed)[0] == 0  # whoever may write everything can do that
    code, body = call(capsys, "promote", failed)
    assert (code, "predictions and limits of the run give" in said(body)) == (6, True)


def test_a_signature_shows_what_was_written_anew(own: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ed25519

    keys = [ed25519.Ed25519PrivateKey.generate() for _ in range(2)]
    for number, key in enumerate(keys):
        private = key.private_bytes(
            forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()
        )
        public = key.public_key().public_bytes(
            forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo
        )
        (tmp_path / f"key{number}").write_bytes(private)
        (tmp_path / f"pub{number}").write_bytes(public)
    key, pub = tmp_path / "key0", tmp_path / "pub0"
    code, body = call(capsys, "verify", own, "--key", pub)
    assert (code, "is not signed" in said(body)) == (6, True)
    code, body = call(capsys, "seal", own, "--key", pub)
    assert (code, "holds no Ed25519 private key" in said(body)) == (2, True)
    before = content(own)
    code, body = call(capsys, "seal", own, "--key", key)
    assert (code, len(body["signed_by"])) == (0, 64)
    assert content(own) == before
    code, body = call(capsys, "verify", own, "--key", pub)
    assert (code, body["signed_by"] != "") == (0, True)
    code, body = call(capsys, "verify", own, "--key", tmp_path / "pub1")
    assert (code, "was not made by the key" in said(body)) == (6, True)
    assert call(capsys, "promote", own)[0] == 0
    assert call(capsys, "verify", own, "--key", pub)[0] == 0  # the log grew, the seal did not
    (own / "plan.json").write_text((own / "plan.json").read_text() + " ")
    shutil.rmtree(own.parent / "mlflow")
    lines = (own / "audit.jsonl").read_text().splitlines(keepends=True)
    (own / "audit.jsonl").write_text("".join(lines[:-4]))
    forge(own)
    assert call(capsys, "verify", own)[0] == 0
    code, body = call(capsys, "verify", own, "--key", pub)
    assert (code, "is not the run that was signed" in said(body)) == (6, True)


def test_a_missing_package_for_signatures_is_named_with_its_install_command(
    own: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "cryptography" else real(name)
    )
    for verb in ("seal", "verify"):
        code, body = call(capsys, verb, own, "--key", tmp_path / "key")
        assert (code, "pip install 'srinit[sign]'" in said(body)) == (4, True)
    assert errors.MissingExtraError.exit_code == 4
