"""An unsealed run: nothing is written elsewhere, and nothing is lost without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parts_project import call, copied
from srinit.errors import IntegrityError
from srinit.store import RunFolder


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
