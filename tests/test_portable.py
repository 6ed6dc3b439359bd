"""What keeps the package importable on systems without POSIX, read from its source."""

from __future__ import annotations

import ast
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from srinit.errors import UnsafeError
from srinit.store import RunFolder, write_text
from srinit.store.lock import in_turn, locked

SOURCE = Path(__file__).parents[1] / "src" / "srinit"
FILES = sorted(SOURCE.rglob("*.py"))
POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "spwd", "syslog"}
POSIX_NAMES = {
    "fork", "forkpty", "wait", "waitpid", "getuid", "geteuid", "getgid", "getegid", "setsid",
    "killpg", "getpgid", "setpgid", "uname", "sched_getaffinity", "sched_setaffinity", "sync",
    "getloadavg", "sysconf", "statvfs", "mkfifo", "chown", "fchown", "lchown", "fchmod", "nice",
    "pread", "pwrite", "O_NONBLOCK", "O_DIRECTORY", "O_NOFOLLOW", "posix_spawn",
}  # fmt: skip
SIGNALS = {"signal", "SIGINT", "SIGTERM", "SIG_IGN", "SIG_DFL", "getsignal", "Signals"}


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text("utf-8"), filename=str(path)))


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {name.name.partition(".")[0] for name in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()


def problems(node: ast.AST) -> Iterator[str]:
    yield from (f"imports {name}" for name in imported(node) & POSIX_MODULES)
    match node:
        case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in POSIX_NAMES:
            yield f"uses os.{name}"
        case ast.Attribute(value=ast.Name(id="signal"), attr=name) if name not in SIGNALS:
            yield f"uses signal.{name}"
        case ast.Constant(value=str(text)) if text.startswith(("/tmp", "/var/tmp")):
            yield f"names the folder {text}"
        case ast.Call(func=ast.Attribute(attr="read_text"), args=[], keywords=[]):
            yield "reads text in the system's own encoding"
        case ast.Call(func=ast.Attribute(attr="write_text"), args=[_], keywords=[]):
            yield "writes text in the system's own encoding"
        case _:
            pass


def test_nothing_needs_a_posix_system() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{getattr(node, 'lineno', 0)} {problem}"
        for path in FILES
        if path != SOURCE / "monitor" / "log.py"  # its lock is still POSIX's
        for node in nodes(path)
        for problem in problems(node)
    ]
    assert found == []


def test_the_names_that_are_looked_for_exist_here() -> None:
    """A misspelt name would never be found."""
    assert {name for name in POSIX_NAMES if not hasattr(os, name)} <= {"posix_spawn"}
    assert set(dir(signal)) >= SIGNALS


def test_a_lock_whose_holder_cannot_be_read_still_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> str:
        raise PermissionError(errno.EACCES, "the file is locked")

    with locked(tmp_path / ".lock", "the run"):
        monkeypatch.setattr(Path, "read_text", refused)
        with (
            pytest.raises(UnsafeError, match="the run is in use by another process"),
            locked(tmp_path / ".lock", "the run"),
        ):
            pass


def test_no_signal_is_sent_where_signal_zero_interrupts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    with locked(tmp_path / ".lock", "the run"):
        windows = SimpleNamespace(name="nt", kill=lambda *_: sent.append(1))
        monkeypatch.setattr("srinit.store.lock.os", windows)
        with (
            pytest.raises(UnsafeError, match=f"in use by process {os.getpid()}"),
            locked(tmp_path / ".lock", "the run"),
        ):
            pass
    assert sent == []


def test_a_lock_is_free_after_an_error_inside(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), locked(tmp_path / ".lock", "the run"):
            raise ValueError("inside")
    with in_turn(tmp_path / ".lock"):
        pass


def test_a_link_in_place_of_a_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept", "utf-8")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(Exception, match="cannot lock"), locked(tmp_path / ".lock", "the run"):
        pass
    assert (tmp_path / "precious").read_text("utf-8") == "kept"


MODES = """
import os, sys
from pathlib import Path
os.umask(int(sys.argv[2], 8))
from srinit.store import RunFolder, write_text
folder = RunFolder.create(Path(sys.argv[1]), "run")
folder.write_text(folder.path / "a" / "b.json", "{}")
folder.audit("plan", "made")
"""


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(("mask", "expected"), [("077", 0o600), ("027", 0o640), ("002", 0o664)])
def test_files_have_the_mode_that_the_umask_asks_for(
    tmp_path: Path, mask: str, expected: int
) -> None:
    subprocess.run([sys.executable, "-c", MODES, str(tmp_path), mask], check=True, timeout=60)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {expected}
    assert len(files) >= 4


def test_a_file_takes_no_mode_from_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    folder = RunFolder.create(tmp_path, "run")
    assert path.stat().st_mode == (folder.path / "run.json").stat().st_mode
