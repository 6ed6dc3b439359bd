"""Who may move the aliases of a shared registry: one at a time, and never a dead process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from srinit.errors import UnsafeError
from srinit.registry.turn import TURN, turn


class Tags:
    """A server that holds nothing but the tags of one model."""

    def __init__(self, value: str | None = None) -> None:
        self.tags = {} if value is None else {TURN: value}

    def get_registered_model(self, _model: str) -> Any:
        return SimpleNamespace(tags=dict(self.tags))

    def set_registered_model_tag(self, _model: str, key: str, value: str) -> None:
        self.tags[key] = value

    def delete_registered_model_tag(self, _model: str, key: str) -> None:
        del self.tags[key]


def test_only_one_has_its_turn_and_it_ends_when_it_raises() -> None:
    client = Tags()
    with pytest.raises(ZeroDivisionError), turn(client, "m", settle=0):  # noqa: PT012
        assert client.tags
        with (
            pytest.raises(UnsafeError, match=r"process \d+ on .* is moving the aliases of m"),
            turn(client, "m", settle=0),
        ):
            pass
        raise ZeroDivisionError
    assert client.tags == {}


def test_of_two_that_begin_together_the_last_to_write_has_its_turn() -> None:
    client, inside, refused = Tags(), [], []
    together = threading.Barrier(2)
    look = client.get_registered_model

    def slow(model: str) -> Any:
        found = look(model)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(1)  # both have looked before either writes
        return found

    client.get_registered_model = slow  # type: ignore[method-assign]

    def move() -> None:
        try:
            with turn(client, "m", settle=0.3):
                inside.append(1)
                time.sleep(0.2)
                inside.append(-1)
        except UnsafeError:
            refused.append(1)

    threads = [threading.Thread(target=move) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, refused, client.tags) == ([1, -1], [1], {})


def holder(**change: Any) -> str:
    body = {"id": "a", "host": "elsewhere", "process": 7, "since": datetime.now(UTC).isoformat()}
    return json.dumps({**body, **change})


def test_the_turn_of_a_dead_process_is_over() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    over = (
        holder(host=socket.gethostname(), process=gone.pid), holder(since=past), "[]", "{", "x",
        holder(since="never"), holder(since=None),
    )  # fmt: skip
    for value in over:
        client = Tags(value)
        with turn(client, "m", settle=0):
            assert client.tags[TURN] != value
        assert client.tags == {}
    for value in (holder(), holder(host=socket.gethostname(), process=os.getppid())):
        with pytest.raises(UnsafeError, match="its turn is over at"), turn(Tags(value), "m"):
            pass


class Refusing(Tags):
    """A server whose database refuses the second of two writes at the same time."""

    def __init__(self, winner: str | None) -> None:
        super().__init__()
        self.winner = winner

    def set_registered_model_tag(self, _model: str, key: str, _value: str) -> None:
        if self.winner is not None:
            self.tags[key] = self.winner
        raise ConnectionError("UNIQUE constraint failed")


def test_a_write_that_the_server_refuses_is_another_ones_turn() -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    other = json.dumps({"id": "other", "host": "elsewhere", "process": 1, "since": since})
    with (
        pytest.raises(UnsafeError, match="process 1 on elsewhere is moving the aliases of m"),
        turn(Refusing(other), "m", settle=0),
    ):
        pass
    with (
        pytest.raises(ConnectionError, match="UNIQUE"),  # nobody has it: the server's own trouble
        turn(Refusing(None), "m", settle=0),
    ):
        pass
