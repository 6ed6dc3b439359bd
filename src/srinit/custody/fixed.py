"""What is fixed when a run begins: its limits, data and model, by hash in its audit log."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from srinit.config import Config
from srinit.errors import IntegrityError
from srinit.store import RunFolder, audit
from srinit.store.seal import AUDIT

SECTIONS = ("gates", "data", "model")


def hashes(config: Config) -> dict[str, str]:
    """Return the hash of each section that is fixed, by `config.SECTION`."""
    return {
        f"config.{name}": _hash(getattr(config, name).model_dump(mode="json")) for name in SECTIONS
    }


def check(folder: RunFolder, config: Config) -> None:
    """Check that the config in a run's folder says what it said when the run began.

    Args:
        folder: The run.
        config: What its `config.yaml` says now, without what later verbs changed.

    Raises:
        IntegrityError: Limits, data or model are others than the audit log tells of.
    """
    began = audit.read(folder.path / AUDIT).entries[:1]
    recorded = began[0]["inputs"] if began and began[0]["verb"] == "begin" else {}
    for name, found in hashes(config).items():
        if recorded.get(name, found) != found:
            raise IntegrityError(
                f"{folder.path}/config.yaml: {name.partition('.')[2]} was edited since the run "
                "began; limits, data and model are fixed then. Put it back, or begin a new run."
            )


def _hash(body: Any) -> str:
    text = json.dumps(body, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
