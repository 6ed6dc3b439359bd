"""One mover at a time on a shared server, which itself offers no lock.

Fischer's algorithm: whoever finds the tag free writes its own name there, waits longer than any
other may take between looking and writing, and goes on only if its name is still there. Source:
Lamport, A Fast Mutual Exclusion Algorithm, https://doi.org/10.1145/7351.7352, section 2.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from srinit.errors import UnsafeError

TURN = "srinit.turn"  # tag of the registered model
SETTLE = 2.0  # seconds
STALE = timedelta(minutes=30)  # a turn takes seconds; its process is dead, or cut off


@contextmanager
def turn(client: Any, model: str, *, settle: float = SETTLE) -> Iterator[None]:
    """Keep others from moving the aliases of a model for a while; a dead process's turn is over.

    Args:
        client: An `MlflowClient`.
        model: Name of a registered model.
        settle: Seconds to wait before the turn is sure.

    Raises:
        UnsafeError: It is another process's turn.
    """
    _check_free(client, model, _holder(client, model))
    mine = {
        "id": uuid.uuid4().hex, "host": socket.gethostname(), "process": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    try:
        client.set_registered_model_tag(model, TURN, json.dumps(mine))
    except Exception:  # the server's database refuses the second of two that write at once
        _check_free(client, model, _holder(client, model))
        raise
    time.sleep(settle)
    holder = _holder(client, model)
    if holder.get("id") != mine["id"]:
        raise UnsafeError(f"{_taken(model, holder)}; repeat the command.")
    try:
        yield
    finally:
        if _holder(client, model).get("id") == mine["id"]:
            client.delete_registered_model_tag(model, TURN)


def _holder(client: Any, model: str) -> dict[str, Any]:
    text = dict(client.get_registered_model(model).tags).get(TURN)
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _check_free(client: Any, model: str, holder: dict[str, Any]) -> None:
    if not holder or _is_dead(holder):
        return
    try:
        until = datetime.fromisoformat(str(holder.get("since"))) + STALE
        over = datetime.now(UTC) >= until
    except (ValueError, TypeError, OverflowError):
        return  # not written by srinit
    if not over:
        raise UnsafeError(
            f"{_taken(model, holder)}; repeat the command. If that process is dead, its turn is "
            f"over at {until.isoformat(timespec='minutes')}."
        )


def _is_dead(holder: dict[str, Any]) -> bool:
    """Return whether the holder was a process of this machine and is gone."""
    number = holder.get("process")
    if holder.get("host") != socket.gethostname() or not isinstance(number, int) or number <= 0:
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _taken(model: str, holder: dict[str, Any]) -> str:
    who = (
        f"process {holder.get('process')} on {holder.get('host')}" if holder else "another process"
    )
    return f"{who} is moving the aliases of {model}"[:300]
