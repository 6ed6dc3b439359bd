"""The registry alone: versions, aliases, the way back, crashes, damage; local and on a server."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from srinit.errors import ConfigError, IntegrityError, RegistryError, UnsafeError
from srinit.registry import CHAMPION, Registry, Version, open_registry, sign_version
from srinit.registry.client import quiet

pytestmark = [
    pytest.mark.slow,
    # Importing MLflow here would start its telemetry; `open_registry` imports it without.
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="no mlflow"),
]
MOVES = ("set_model_version_tag", "set_registered_model_alias")


def register(registry: Registry, folder: Path, content: str) -> Version:
    folder = folder / content
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(content)
    (folder / "recipe.json").write_text(json.dumps({"content": content}))
    digest = sign_version(folder)
    run = registry.log_run(
        content, name=content, params={"a.b": content}, metrics={"compare.drop": 0.25},
        folder=folder.parent, files=[f"{content}/recipe.json"], tags={},
    )  # fmt: skip
    return registry.register(folder, digest, mlflow_run=run, run="runs/x", gate="passed")


def aliases(registry: Registry) -> tuple[int | None, int | None]:
    """Return the champion and the version that a rollback would return to."""
    try:
        return tuple(version.version for version in registry.rollback_target())  # type: ignore[return-value]
    except ConfigError:
        champion = registry.alias(CHAMPION)
        return (None if champion is None else champion.version, None)


def promote(registry: Registry, version: Version) -> Version:
    champion = registry.alias(CHAMPION)
    return registry.promote(version, expected=None if champion is None else champion.version)


def rollback(registry: Registry) -> None:
    registry.rollback(expected=registry.rollback_target()[0].version)


def walk_through(registry: Registry, tmp_path: Path) -> None:
    """Three versions, promoted in turn, and all the way back."""
    one, two, three = (register(registry, tmp_path, name) for name in ("one", "two", "three"))
    assert register(registry, tmp_path, "two") == two  # same content, same version
    assert promote(registry, one).replaced is None
    assert promote(registry, two).replaced == one.version
    with pytest.raises(UnsafeError, match="is version 2 now, not 1 as when this began"):
        registry.promote(three, expected=one.version)
    promote(registry, three)
    assert aliases(registry) == (three.version, two.version)
    assert registry.verify(three) == 2
    with pytest.raises(UnsafeError, match="is version 3 now, not 2"):
        registry.rollback(expected=two.version)
    rollback(registry)
    assert aliases(registry) == (two.version, one.version)
    rollback(registry)
    assert aliases(registry) == (one.version, None)
    with pytest.raises(ConfigError, match="no way further back"):
        rollback(registry)
    assert [version.version for version in registry.versions()] == [1, 2, 3]
    promote(registry, registry.version(2))  # on purpose: it is good again
    promote(registry, registry.version(3))
    rollback(registry)
    assert aliases(registry) == (2, 1)  # never forward to the version that was left
    promote(registry, registry.version(3))
    registry.note_log("root", 7, "head")
    assert (registry.noted_log("root"), registry.noted_log("other")) == ((7, "head"), None)


def test_versions_and_aliases_in_a_local_database_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was used")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    with open_registry(tmp_path / "mlflow", "m") as registry:
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
        from mlflow.telemetry import get_telemetry_client

        assert get_telemetry_client() is None
        walk_through(registry, tmp_path / "files")
        run = registry.client.get_run(registry.version(1).mlflow_run)
        assert run.data.params == {"a.b": "one"}
        assert run.data.metrics == {"compare.drop": 0.25}
        listed = registry.client.list_artifacts(run.info.run_id, "one")
        assert [item.path for item in listed] == ["one/recipe.json"]
    assert dict(os.environ) == before
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow", "files"}
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".pkl", ".pickle", ".pth")]


def test_a_flipped_bit_is_refused_and_nothing_moves(tmp_path: Path) -> None:
    with open_registry(tmp_path / "mlflow", "m") as registry:
        for name in ("one", "two"):
            promote(registry, register(registry, tmp_path / "files", name))
        stored = list((tmp_path / "mlflow" / "artifacts").rglob("model.safetensors"))
        path = next(p for p in stored if p.read_text() == "one")
        path.write_text("onf")
        with pytest.raises(IntegrityError, match=r"model.safetensors was changed"):
            rollback(registry)
        assert aliases(registry) == (2, 1)
        path.unlink()
        with pytest.raises(IntegrityError, match=r"model.safetensors is missing"):
            rollback(registry)
        path.write_text("one")
        (path.parent / "more.pkl").write_text("x")
        with pytest.raises(IntegrityError, match=r"more.pkl was added"):
            rollback(registry)


def killed_at(folder: Path, target: str, verb: str, count: int) -> int:
    """Begin a move in a child that is killed before its call number `count`; how it ended."""
    child = os.fork()
    if child == 0:
        with open_registry(folder, "m") as registry:
            calls = 0

            def wrapped(method: Any) -> Any:
                def call(*args: Any, **kwargs: Any) -> Any:
                    nonlocal calls
                    if calls == count:
                        os.kill(os.getpid(), signal.SIGKILL)
                    calls += 1
                    return method(*args, **kwargs)

                return call

            for name in MOVES:
                setattr(registry.client, name, wrapped(getattr(registry.client, name)))
            if verb == "promote":
                promote(registry, register(registry, folder.parent / "files", target))
            else:
                rollback(registry)
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("verb", ["promote", "rollback"])
def test_a_move_killed_at_any_call_leaves_old_or_new_and_is_completed(
    tmp_path: Path, verb: str
) -> None:
    with open_registry(tmp_path / "warm" / "mlflow", "m") as registry:
        for name in ("one", "two", "three"):
            register(registry, tmp_path / "warm" / "files", name)
            if name != "three":
                promote(registry, registry.versions()[-1])
        warm = (tmp_path / "warm" / "mlflow" / "mlflow.db").read_bytes()
    old, new, calls = (2, 3, 4) if verb == "promote" else (2, 1, 4)
    for count in range(calls + 1):
        folder = tmp_path / f"{count}" / "mlflow"
        folder.mkdir(parents=True)
        # The artifacts of the first store are read where they are: their place is absolute.
        (folder / "mlflow.db").write_bytes(warm)
        ended = killed_at(folder, "three", verb, count)
        assert ended == (signal.SIGKILL if count < calls else 0)
        with open_registry(folder, "m") as registry:
            champion = registry.alias(CHAMPION)
            assert champion is not None
            assert champion.version in (old, new)
            half = registry.interrupted()
            if half is not None:  # it moved, and only the note of it is missing
                assert half.version == new
                registry.finish(half)
            elif champion.version == old:
                promote(registry, registry.version(3)) if verb == "promote" else rollback(registry)
            assert aliases(registry) == ((3, 2) if verb == "promote" else (1, None))
            assert registry.interrupted() is None
        with open_registry(folder, "m"):  # where srinit left it
            pass


def test_an_alias_that_was_moved_by_other_means_is_named(tmp_path: Path) -> None:
    with open_registry(tmp_path / "mlflow", "m") as registry:
        for name in ("one", "two"):
            promote(registry, register(registry, tmp_path / "files", name))
        registry.client.set_registered_model_alias("m", CHAMPION, "1")
    with (
        pytest.raises(IntegrityError, match="is version 1, but srinit left it at 2"),
        open_registry(tmp_path / "mlflow", "m"),
    ):
        pass


def test_a_damaged_database_and_a_second_process_are_named(tmp_path: Path) -> None:
    with (
        open_registry(tmp_path / "mlflow", "m") as registry,
        pytest.raises(UnsafeError, match="in use"),
        open_registry(tmp_path / "mlflow", "m"),
    ):
        pass
    del registry
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(b"this is no database" * 100)
    with (
        pytest.raises(IntegrityError, match=r"mlflow.db is damaged"),
        open_registry(folder, "m") as registry,
    ):
        registry.versions()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on this machine."""
    pytest.importorskip("flask")
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}",
        "--artifacts-destination", str(tmp_path / "served"), "--workers", "1",
    ]  # fmt: skip
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **quiet}, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(240):
                try:
                    with urllib.request.urlopen(f"{url}/health", timeout=1):
                        break
                except OSError:
                    time.sleep(0.5)
                    assert process.poll() is None, (tmp_path / "server.log").read_text()
            else:
                pytest.fail("the server did not start: " + (tmp_path / "server.log").read_text())
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_versions_and_aliases_on_a_real_server(server: str, tmp_path: Path) -> None:
    with open_registry(tmp_path / "lock", "m", uri=server) as registry:
        walk_through(registry, tmp_path / "files")
    assert not (tmp_path / "lock" / "mlflow.db").exists()
    assert [path.name for path in (tmp_path / "served").rglob("model.safetensors")]
    an_upload_that_is_killed_makes_no_version(server, tmp_path)
    of_two_machines_that_promote_at_once_one_moves_or_each_in_turn(server, tmp_path)


def an_upload_that_is_killed_makes_no_version(server: str, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with open_registry(tmp_path / "other", "m", uri=server) as registry:

            def half(run: str, folder: str, place: str) -> None:
                registry.client.log_artifact(run, f"{folder}/model.safetensors", place)
                os.kill(os.getpid(), signal.SIGKILL)

            registry.client.log_artifacts = half
            register(registry, tmp_path / "files", "four")
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    with open_registry(tmp_path / "lock", "m", uri=server) as registry:
        assert len(registry.versions()) == 3
        four = register(registry, tmp_path / "files", "four")
        assert (four.version, registry.verify(four)) == (4, 2)
        promote(registry, four)
        assert aliases(registry) == (4, 3)


def of_two_machines_that_promote_at_once_one_moves_or_each_in_turn(
    server: str, tmp_path: Path
) -> None:
    children = []
    for name in ("five", "six"):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with open_registry(tmp_path / name, "m", uri=server) as registry:
                    promote(registry, register(registry, tmp_path / "files", name))
                code = 0
            except (UnsafeError, RegistryError) as error:
                code = error.exit_code
            except BaseException:
                traceback.print_exc()  # the parent sees the exit code alone
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert set(codes) <= {0, 4, 6}
    with open_registry(tmp_path / "lock", "m", uri=server) as registry:
        champion, before = registry.rollback_target()
        assert champion.version in ((5, 6) if 0 in codes else (4, 5, 6))
        assert before.version == champion.replaced
        promote(registry, registry.version(5 if champion.version == 6 else 6))  # goes on


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_database_whose_making_was_killed_is_made_again(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with quiet():
            from sqlalchemy.engine.default import DefaultDialect
        real, left = DefaultDialect.do_execute, [60]

        def execute(self: Any, *args: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(self, *args)

        DefaultDialect.do_execute = execute
        with open_registry(tmp_path / "mlflow", "m"):
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left = [path.name for path in (tmp_path / "mlflow").iterdir()]
    assert "mlflow.db" not in left
    assert any(name.startswith(".making-") for name in left)
    with open_registry(tmp_path / "mlflow", "m") as registry:
        assert registry.versions() == []
    assert {path.name for path in (tmp_path / "mlflow").iterdir()} == {".lock", "mlflow.db"}


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(RegistryError, match=r"http://127.0.0.1:\d+ refuses or cannot be reached"),
        open_registry(tmp_path, "m", uri=f"http://127.0.0.1:{free_port()}") as registry,
    ):
        registry.versions()
