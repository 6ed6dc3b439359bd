"""One version of a model, as the tags of the registry tell of it."""

from __future__ import annotations

import re
from typing import Any

from srinit.errors import IntegrityError
from srinit.records import record

DIGEST, RUN, GATE, WEIGHTS = (
    "srinit.sums_sha256", "srinit.run", "srinit.gate", "srinit.weights_sha256",
)  # fmt: skip
REPLACED, LEFT, MOVE, MOVED = (
    "srinit.replaced", "srinit.rolled_back", "srinit.move", "srinit.moved",
)  # fmt: skip
_MOVE = re.compile(r"([0-9]+) (promote|rollback) from ([0-9]+|none)")


@record
class Move:
    """The last time that the alias `champion` went to a version; written down before it goes."""

    number: int  # moves of the model are numbered
    verb: str  # "promote" or "rollback"
    expected: int | None  # the champion that it was to take the place of
    done: bool

    def text(self) -> str:
        """Return the tag."""
        before = "none" if self.expected is None else self.expected
        return f"{self.number} {self.verb} from {before}"


@record
class Version:
    """One version of the model, as the registry tells of it."""

    model: str
    version: int
    mlflow_run: str
    digest: str  # SHA-256 of the list of its files' hashes
    run: str  # the run folder it was made from
    gate: str  # "passed", "overridden" or "unpruned"
    weights: str = ""  # SHA-256 of its weights
    replaced: int | None = None  # the version that it took the place of
    rolled_back: bool = False  # it was left by a rollback, which never returns to it
    move: Move | None = None


def version_of(body: Any) -> Version:
    """Return a version of MLflow's as ours.

    Raises:
        IntegrityError: srinit did not register it, or its tags were edited.
    """
    tags = dict(body.tags)
    if DIGEST not in tags:
        raise IntegrityError(
            f"version {body.version} of {body.name} was not registered by srinit (no tag "
            f"{DIGEST}); its files cannot be checked, so it is not used."
        )
    replaced = tags.get(REPLACED)
    try:
        return Version(
            model=str(body.name),
            version=int(body.version),
            mlflow_run=str(body.run_id),
            digest=tags[DIGEST],
            run=tags.get(RUN, ""),
            gate=tags.get(GATE, ""),
            weights=tags.get(WEIGHTS, ""),
            replaced=int(replaced) if replaced and replaced != "none" else None,
            rolled_back=tags.get(LEFT) == "yes",
            move=_move(tags),
        )
    except ValueError:
        raise IntegrityError(
            f"version {body.version} of {body.name}: its tags in the registry were edited or "
            "damaged. Restore the registry from a backup."
        ) from None


def _move(tags: dict[str, str]) -> Move | None:
    text = tags.get(MOVE)
    if text is None:
        return None
    match = _MOVE.fullmatch(text)
    if match is None:
        raise ValueError
    return Move(
        number=int(match[1]),
        verb=match[2],
        expected=None if match[3] == "none" else int(match[3]),
        done=tags.get(MOVED) == match[1],
    )
