"""What later verbs changed of a run's config: kept in the run, sealed with it, and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srinit import records
from srinit.config import Config
from srinit.custody.depends import CALL_ONLY, JUDGEMENT, covers
from srinit.records import record

FILE, SCHEMA = "overrides.json", "srinit.overrides/1"
EDIT = "plan.json"  # key of an edit of the plan by hand: before and after are names of units


@record
class Override:
    """One key of the config that a verb changed after the run had begun."""

    key: str
    before: Any
    after: Any
    verb: str
    judged: bool  # the run, or the one it was made from, had been compared on test data by then
    reason: str = ""  # of an edit by hand

    @property
    def moves_judgement(self) -> bool:
        """Whether the run is judged by something else than what was fixed when it began."""
        return covers(JUDGEMENT, self.key)

    @property
    def added(self) -> list[str]:
        """Of an edit of the plan: the units that go besides those that were computed to."""
        return [name for name in self.after if name not in self.before]

    @property
    def left_out(self) -> list[str]:
        """Of an edit of the plan: the units that were computed to go and stay."""
        return [name for name in self.before if name not in self.after]

    def words(self) -> str:
        """Return the change as it is said and written down."""
        if self.key == EDIT:
            added, left_out = (", ".join(n) or "nothing" for n in (self.added, self.left_out))
            what = f"added: {added}; left out: {left_out}"
            if not self.added and not self.left_out:
                what = f"another order: {', '.join(self.after)}"
            return (
                f"plan.json was edited by hand, by whom is not known ({what}; reason given: "
                f"{self.reason})"
            )
        return f"{self.key}: {json.dumps(self.before)} -> {json.dumps(self.after)}"


@record
class Overrides:
    """All changes of a run, in their order."""

    changes: tuple[Override, ...] = ()


def read(content: bytes | None, where: str) -> tuple[Override, ...]:
    """Return the changes that the file of a run holds; none without a file."""
    if content is None:
        return ()
    return records.from_json(Overrides, content, schema=SCHEMA, where=where).changes


def of_run(path: Path) -> tuple[Override, ...]:
    """Return the changes of a run folder; hashes are not looked at."""
    file = path / FILE
    return read(file.read_bytes() if file.is_file() else None, str(file))


def to_json(changes: tuple[Override, ...]) -> str:
    """Return the text of the file."""
    return records.to_json(Overrides(changes=changes), schema=SCHEMA)


def pairs(changes: tuple[Override, ...]) -> list[str]:
    """Return the changes as `--set` pairs, to be put over the config that the run began with.

    Example:
        >>> change = Override(
        ...     key="gates.max_drop", before=0.01, after=0.5, verb="compare", judged=True
        ... )
        >>> pairs((change,)), change.moves_judgement
        (['gates.max_drop=0.5'], True)
    """
    return [
        f"{change.key}={json.dumps(change.after, ensure_ascii=False)}"
        for change in changes
        if change.key != EDIT
    ]


def told(changes: tuple[Override, ...], config: Config) -> tuple[str, ...]:
    """Return all changes of a run as they are said; an edit that its plan does not follow says so.

    Args:
        changes: Of the run.
        config: Its config with them.
    """
    edit = edit_of(changes, config)
    return tuple(
        each.words() + (", and that was undone since" if each.key == EDIT and each != edit else "")
        for each in changes
    )


def edit_of(changes: tuple[Override, ...], config: Config) -> Override | None:
    """Return the edit by hand that the plan of a run follows; None where it was computed.

    Args:
        changes: Of the run.
        config: Its config with them.
    """
    edits = [change for change in changes if change.key == EDIT]
    return edits[-1] if edits and edits[-1].after == config.plan.remove else None


def differences(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose values differ, with both; settings of a single call are left out."""
    one, other = _flat(before), _flat(after)
    return {
        key: (one.get(key), other.get(key))
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key) and not covers(CALL_ONLY, key)
    }


def _flat(config: Config) -> dict[str, Any]:
    body: Mapping[str, Any] = config.model_dump(mode="json", exclude={"root"})
    found: dict[str, Any] = {}
    for section, value in body.items():
        if isinstance(value, Mapping):
            found |= {f"{section}.{key}": item for key, item in value.items()}
        else:
            found[section] = value
    return found
