"""Files are whole or absent, runs are locked and sealed, the audit log is a chain."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import processes
from srinit.errors import ConfigError, DataError, IntegrityError, ResourceError, UnsafeError
from srinit.records import record
from srinit.store import RunFolder, audit, read_npz, write_bytes, write_npz, write_text
from srinit.store.sums import read_sums


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with (
        full_disk(1000),
        pytest.raises(ResourceError, match="Free space and resume") as caught,
    ):
        write_bytes(path, b"x" * 5000)
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
    context = multiprocessing.get_context("forkserver")
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


@record
class Note:
    """A record."""

    text: str


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    path = folder.path / "rounds" / "note.json"
    write_text(folder.path / "rounds" / "model.safetensors", "weights")
    folder.write_record(path, Note(text="a"), schema="note/1")
    assert folder.read_record(Note, path, schema="note/1") == Note(text="a")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # still JSON
    path.write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match=r"note\.json was changed since it was written"):
        folder.read_record(Note, path, schema="note/1")
    folder.write_record(path, Note(text="b"), schema="note/1")
    assert folder.read_record(Note, path, schema="note/1") == Note(text="b")
    (folder.path / "rounds" / "model.safetensors").write_text("weightz")
    with pytest.raises(IntegrityError, match=r"model\.safetensors was changed"):
        folder.check(folder.path / "rounds" / "model.safetensors")
    with pytest.raises(IntegrityError, match=r"model\.safetensors was changed"):
        folder.seal()
    with pytest.raises(ConfigError, match=r"holds no plan\.json yet"):
        folder.read_record(Note, folder.path / "plan.json", schema="note/1")
    with pytest.raises(UnsafeError, match="is no file of the run"):
        folder.write_text(tmp_path / "elsewhere", "x")


def test_arrays_of_a_run_are_checked(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    path = folder.path / "predictions.npz"
    folder.write_npz(path, {"x": np.arange(4)})
    first = path.read_bytes()
    folder.write_npz(path, {"x": np.arange(4)})
    assert path.read_bytes() == first  # no times in the archive
    assert folder.read_npz(path)["x"].tolist() == [0, 1, 2, 3]
    path.write_bytes(first[:-1])
    with pytest.raises(IntegrityError, match=r"predictions\.npz was changed"):
        folder.read_npz(path)


def test_nothing_is_written_into_a_sealed_run_and_a_changed_list_shows(sealed: RunFolder) -> None:
    before = sealed.files()
    for write in (
        lambda: sealed.write_text(sealed.path / "report" / "report.html", "<p>"),
        lambda: sealed.write_npz(sealed.path / "a.npz", {"x": np.arange(3)}),
        lambda: sealed.write_text(sealed.path / "scan" / "sensitivity.json", "{ }"),
        sealed.seal,
    ):
        with pytest.raises(UnsafeError, match="is sealed, and a sealed run is never changed"):
            write()
    assert (sealed.files(), sealed.verify()) == (before, 2)
    sealed.forget(lambda _: False)
    sealed.cover()
    sums = sealed.path / "SHA256SUMS"
    sums.write_text(sums.read_text() + f"{'0' * 64}  x\n")
    with pytest.raises(IntegrityError, match="SHA256SUMS was changed"):
        sealed.verify()
    sums.write_text("nonsense\n")
    with pytest.raises(IntegrityError, match="SHA256SUMS"):
        sealed.verify()


def test_a_list_of_hashes_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n")
    with pytest.raises(IntegrityError, match="line 1: is no hash and file name"):
        read_sums(tmp_path / "SHA256SUMS")


def test_entries_cut_off_the_end_of_a_sealed_log_are_missed(sealed: RunFolder) -> None:
    path = sealed.path / "audit.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(IntegrityError, match="is not sealed"):
        sealed.verify()


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    left = folder.path / "scan" / ".sensitivity.json.abc123.tmp"
    left.parent.mkdir()
    left.write_text("half")
    with folder.lock():
        assert not left.exists()


@pytest.mark.parametrize("name", ["../run", "", "a/b", ".hidden", "x" * 65])
def test_a_run_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a run"):
        RunFolder.create(tmp_path, name)


def _append_many(path: Path) -> None:
    for number in range(20):
        audit.append(path, verb="test", decision=str(number))


def test_two_processes_append_to_one_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=_append_many, args=(path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert audit.verify(path)[0] == 40


@pytest.mark.parametrize("size", [0, 100, 300, 700])
def test_a_full_disk_leaves_everything_earlier_intact(tmp_path: Path, size: int) -> None:
    folder = RunFolder.create(tmp_path, "run")
    folder.write_text(folder.path / "a.json", "{}")
    folder.audit("begin", "made")
    before = {name: (folder.path / name).read_bytes() for name in folder.files()}
    with full_disk(size):
        with pytest.raises(ResourceError, match="Free space and resume"):
            folder.write_text(folder.path / "b.json", "x" * 1000)
        with pytest.raises(ResourceError, match="Free space and resume") as caught:
            folder.audit("plan", "x" * 1000)
    assert caught.value.exit_code == 5
    assert {name: (folder.path / name).read_bytes() for name in folder.files()} == before
    assert audit.verify(folder.path / "audit.jsonl")[0] == 1
    folder.audit("plan", "made")  # space again
    assert audit.verify(folder.path / "audit.jsonl")[0] == 2
    folder.seal()
    assert folder.verify() == 2


KILLED = """
import sys
from pathlib import Path
from srinit.store import RunFolder
folder = RunFolder.open(Path(sys.argv[1]))
with folder.lock():
    print("begin", flush=True)
    for number in range(10**6):
        folder.write_text(folder.path / "state.json", str(number) * 500)
        folder.audit("step", str(number))
"""


@pytest.mark.slow
def test_a_process_killed_at_any_moment_leaves_whole_files(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    rng = np.random.default_rng(0)
    for _ in range(6):
        process = processes.Command("-c", KILLED, str(folder.path))
        while not process.stdout:
            assert process.poll() is None, process.stderr
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()
        with folder.lock():  # free again
            state = folder.path / "state.json"
            if state.is_file():
                text = state.read_text()
                assert text == text[: len(text) // 500] * 500
            audit.verify(folder.path / "audit.jsonl")
            assert not list(folder.path.rglob("*.tmp"))
