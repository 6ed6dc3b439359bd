"""Files are whole or absent, runs are locked and sealed, the audit log is a chain."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from srinit.errors import DataError, IntegrityError, ResourceError, UnsafeError
from srinit.store import RunFolder, audit, read_npz, write_bytes, write_npz, write_text


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(ResourceError, match="Free space and resume") as caught:
            write_bytes(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert caught.value.exit_code == 5
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_arrays_survive_and_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_npz(path, {"x": np.arange(3), "name": np.array(["a", "b"])})
    assert read_npz(path)["x"].tolist() == [0, 1, 2]
    np.savez(path, x=np.array([{}]))
    with pytest.raises(DataError, match="holds Python objects instead of arrays"):
        read_npz(path)


def test_run_folders_are_numbered_and_never_reused(tmp_path: Path) -> None:
    paths = [RunFolder.create(tmp_path, "run").path.name for _ in range(3)]
    assert paths == ["run", "run-2", "run-3"]


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match="does not exist"):
        RunFolder.open(tmp_path / "nothing")
    (tmp_path / "run.json").write_text('{"schema": "other"}')
    with pytest.raises(UnsafeError, match="is no run folder of srinit") as caught:
        RunFolder.open(tmp_path)
    assert caught.value.exit_code == 6


def _try_lock(path: Path, answer: multiprocessing.Queue[str]) -> None:
    try:
        with RunFolder.open(path).lock():
            answer.put("locked")
    except UnsafeError as error:
        answer.put(str(error))


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    with folder.lock():
        process = context.Process(target=_try_lock, args=(folder.path, answer))
        process.start()
        text = answer.get(timeout=60)
        process.join()
    assert f"in use by process {os.getpid()}" in text
    with folder.lock():
        pass  # free again


@pytest.fixture
def sealed(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path, "run")
    write_text(folder.path / "scan" / "sensitivity.json", "{}")
    folder.audit("scan", "done", inputs={"data": "abc"})
    folder.audit("gate", "passed", reason="all")
    folder.seal()
    return folder


def test_a_sealed_run_verifies(sealed: RunFolder) -> None:
    assert sealed.verify() == 2
    assert audit.verify(sealed.path / "audit.jsonl")[0] == 3


def test_the_first_changed_missing_or_added_file_is_named(sealed: RunFolder) -> None:
    path = sealed.path / "scan" / "sensitivity.json"
    path.write_text("{ }")
    with pytest.raises(IntegrityError, match=r"sensitivity\.json was changed"):
        sealed.verify()
    path.unlink()
    with pytest.raises(IntegrityError, match=r"sensitivity\.json is missing"):
        sealed.verify()
    path.write_text("{}")
    (sealed.path / "new.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"new\.json was added"):
        sealed.verify()


def test_a_run_that_was_not_finished_does_not_verify(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="not finished"):
        RunFolder.create(tmp_path, "run").verify()


@pytest.mark.parametrize("change", ["edit", "remove", "swap", "forge"])
def test_a_changed_audit_log_is_found(sealed: RunFolder, change: str) -> None:
    path = sealed.path / "audit.jsonl"
    sealed.audit("promote", "refused")
    lines = path.read_text().splitlines()
    if change == "edit":
        lines[1] = lines[1].replace("passed", "failed")
    elif change == "remove":
        del lines[1]
    elif change == "swap":
        lines[0], lines[1] = lines[1], lines[0]
    else:
        entry = json.loads(lines[1])
        entry["decision"] = "failed"
        lines[1] = json.dumps(entry, sort_keys=True)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(IntegrityError, match=r"audit\.jsonl, line"):
        sealed.verify()
    with pytest.raises(IntegrityError, match="is not what its hash says"):
        sealed.audit("promote", "accepted")


def test_a_torn_last_line_of_the_audit_log_is_dropped(sealed: RunFolder) -> None:
    path = sealed.path / "audit.jsonl"
    with path.open("ab") as file:
        file.write(b'{"verb": "prom')
    assert audit.read(path).torn
    assert audit.verify(path)[0] == 3
    sealed.audit("promote", "accepted")
    assert audit.verify(path)[0] == 4
    assert not audit.read(path).torn
