"""An unsealed run: nothing is written elsewhere, and nothing is lost without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parts_project import call, copied
from srinit.custody.changing import archive
from srinit.errors import IntegrityError
from srinit.pipeline.parts import PARTS
from srinit.runs import RunFiles, artifacts
from srinit.store import RunFolder
from srinit.store.sums import read_sums


@pytest.fixture
def own(finished_parts: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, as it was before its seal."""
    run = copied(finished_parts, tmp_path / "runs")
    log = run / "audit.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    assert not RunFolder.open(run).was_sealed
    return run


def said(body: Any) -> str:
    return str(body["error"]["message"])


def everything(folder: Path) -> dict[str, bytes]:
    """Return the content of every file of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("place", "verbs"),
    [
        ("rounds", (["prune"], ["plan", "--remove", "stage2.0"], ["export"], ["report"])),
        ("export", (["export"], ["plan", "--remove", "stage2.0"])),
        ("report", (["report"], ["plan", "--remove", "stage2.0"])),
        ("superseded", (["plan", "--remove", "stage2.0"],)),
    ],
)
def test_nothing_is_written_or_moved_through_a_link_in_place_of_a_folder(
    own: Path, tmp_path: Path, capsys: Any, place: str, verbs: tuple[list[str], ...]
) -> None:
    outside = tmp_path / "outside"
    if (own / place).is_dir():
        (own / place).rename(outside)
    outside.mkdir(exist_ok=True)
    (own / place).symlink_to(outside)
    before, inside = everything(outside), everything(own)
    for verb, *more in verbs:
        code, body = call(capsys, verb, own, *more)
        assert (code, f"{place} is a link to" in said(body)) == (6, True), (verb, body)
        assert (everything(outside), everything(own)) == (before, inside), verb


def test_no_writer_of_a_run_folder_follows_a_link(own: Path, tmp_path: Path) -> None:
    folder, outside = RunFolder.open(own), tmp_path / "outside"
    outside.mkdir()
    (outside / "a.json").write_text("{}")
    (own / "linked").symlink_to(outside)
    path = own / "linked" / "a.json"
    for write in (
        lambda: folder.write_bytes(path, b"x"),
        lambda: folder.write_text(path, "x"),
        lambda: folder.write_npz(path, {}),
        lambda: folder.refuse_links(path),
        lambda: folder.lock().__enter__(),
    ):
        with pytest.raises(IntegrityError, match="linked is a link to"):
            write()
    assert everything(outside) == {"a.json": b"{}"}


@pytest.mark.parametrize(
    ("name", "verb"),
    [
        ("rounds/01/gate.json", "compare"),
        ("rounds/01/comparison.json", "compare"),
        ("export/export.json", "export"),
        ("scan/sensitivity.json", "seal"),
        ("scan/sensitivity.csv", "seal"),
    ],
)
def test_a_lost_file_is_named_and_is_not_taken_for_one_that_never_was(
    own: Path, capsys: Any, name: str, verb: str
) -> None:
    (own / name).unlink()
    code, body = call(capsys, verb, own)
    assert (code, f"{name} is missing, but its hash is recorded" in said(body)) == (6, True), body
    assert not (own / name).exists()
    assert not RunFolder.open(own).was_sealed


def test_measured_latencies_of_a_plan_are_not_lost_without_a_word(own: Path) -> None:
    folder = RunFolder.open(own)
    beside = own / "plan_latency.json"
    files = RunFiles(folder)
    if not beside.is_file():
        assert files.read(artifacts.PLAN).names
        folder.write_text(beside, "{}")
    beside.unlink()
    with pytest.raises(IntegrityError, match=r"plan_latency\.json is missing, but its hash"):
        files.read(artifacts.PLAN)


def test_what_is_set_aside_has_its_hash_where_it_lies_and_is_not_missed(
    own: Path, capsys: Any
) -> None:
    code, body = call(capsys, "report", own)
    assert code == 0, body
    folder = RunFolder.open(own)
    archive(folder, ["report"], PARTS, 1)
    sums = read_sums(own / "SHA256SUMS")
    assert "superseded/01/report/report.html" in sums
    assert "report/report.html" not in sums
    folder.check_recorded(besides=own / "report")
    assert not RunFiles(folder).has(artifacts.REPORT)


def test_files_that_still_grow_have_no_recorded_hash_before_the_seal(
    own: Path, capsys: Any
) -> None:
    folder = RunFolder.open(own)
    folder.forget(lambda name: name.endswith(("observations.jsonl", "training.safetensors")))
    growing = [
        own / place / name
        for place in ("rounds/01", "rounds/02", "rejected/02")
        for name in ("scan/observations.jsonl", "training.safetensors")
    ]
    for path in growing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"begun\n")
    folder.cover()
    archive(folder, ["report"], PARTS, 1)
    growing[0].write_bytes(b"begun\ngone on\n")
    growing[1].unlink()
    assert not [name for name in read_sums(own / "SHA256SUMS") if "observations" in name]
    folder.check_recorded(besides=own / "report")
    folder.seal()
    sums = read_sums(own / "SHA256SUMS")
    assert {p.relative_to(own).as_posix() for p in growing if p.exists()} <= set(sums)
    code, body = call(capsys, "verify", own)
    assert code == 0, body
