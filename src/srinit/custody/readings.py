"""How often test data were read before: by the runs beside a run, and by those that are gone.

A network that is chosen by what test data said is chosen on test data, and its interval means
less. Every comparison is written down in `readings.jsonl` beside the runs (a hash-chained log),
and the runs there are looked through. Examples are known by content, whatever file or folder they
come from. Runs in other folders or on other machines are not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from srinit.errors import PruneError
from srinit.records import record
from srinit.store import RunFolder, audit, read_npz
from srinit.store.seal import AUDIT

CONFIDENCE = "confidence"
OWN = "its own comparison"
SAMPLE = 1024  # smallest ids that the ledger keeps of a reading: all of few, and a sample of many
DIGITS = 16  # of each
LEDGER, FILE, SCHEMA = "readings.jsonl", "readings.json", "srinit.readings/1"


@record
class Reading:
    """One earlier comparison on some of the same test examples."""

    run: str
    when: str  # ISO 8601; empty: not known
    shared: int  # examples that both have
    passed: bool | None  # its gates; None: not judged, or not known
    limits: dict[str, Any]  # the limits it was judged by, and the confidence of its intervals
    gone: bool = False  # the run is not there any more; the ledger tells of it
    how: str = OWN  # by what

    def words(self) -> str:
        """Return it as it is said."""
        judged = {True: "passed", False: "failed", None: "not judged"}[self.passed]
        judged = judged if self.how == OWN else self.how
        return f"{self.run} ({judged}{', deleted since' if self.gone else ''})"


@record
class Readings:
    """What is known of the test data of a run."""

    num_examples: int
    earlier: tuple[Reading, ...]
    not_known: str  # what could not be looked at

    def words(self) -> str:
        """Return a warning; empty where the data were not read before."""
        if not self.earlier:
            return ""
        count = len(self.earlier)
        most = max(reading.shared for reading in self.earlier)
        return (
            f"the test data were read {count} {'time' if count == 1 else 'times'} before, by "
            f"{', '.join(reading.words() for reading in self.earlier[:8])}: up to {most} of these "
            f"{self.num_examples} examples. What is chosen by what test data said is chosen on "
            f"test data, and its interval says less. Not known: {self.not_known}."
        )


def find(run: Path, ids: Sequence[str], data_hash: str, *, source: Path | None = None) -> Readings:
    """Return the earlier comparisons on any of these examples.

    Args:
        run: The run folder; runs beside it are looked through, and what it set aside itself.
        ids: Content hashes of its test examples.
        data_hash: Of all of them together.
        source: The run that it begins with, if any: its network was judged before, too.
    """
    wanted, out = set(ids), run.absolute().parent
    outs = {out: None} | ({source.resolve().parent: None} if source is not None else {})
    found: list[Reading] = []
    not_known = "runs in other folders or on other machines"
    for place in outs:
        if not place.is_dir():
            continue
        places = [path for path in sorted(place.iterdir()) if (path / "run.json").is_file()]
        found += [reading for path in places for reading in _of(path, run, wanted, data_hash)]
        known = {_identity(path) for path in places}
        try:
            found += _of_ledger(place / LEDGER, known, wanted, data_hash)
        except PruneError:
            not_known += f", and runs that were deleted ({place / LEDGER} was edited or damaged)"
    return Readings(
        num_examples=len(ids),
        earlier=tuple(sorted(found, key=lambda reading: reading.when)),
        not_known=not_known,
    )


def note_read(folder: RunFolder, ids: Sequence[str], data_hash: str, how: str = OWN) -> None:
    """Write down beside the runs that examples are read by networks of a run, and by what."""
    kept = sorted({each[:DIGITS] for each in ids})[:SAMPLE]
    told = {"data_hash": data_hash, "num_examples": len(ids), "how": how, "sample": kept}
    note(folder, "read", "", told)


def note(folder: RunFolder, verb: str, decision: str, inputs: Mapping[str, Any]) -> None:
    """Write down beside the runs that test data are read, or how a run was judged on them."""
    told = {"run": folder.path.name, "identity": _identity(folder.path), **inputs}
    try:
        audit.append(
            folder.path.absolute().parent / LEDGER, verb=verb, decision=decision, inputs=told
        )
    except PruneError as error:
        folder.audit("readings", "not written down beside the runs", reason=str(error))


def wider(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the limits that are wider than those of another run, or missing.

    Example:
        >>> wider({"max_drop": 0.5, "min_agreement": 0.9}, {"max_drop": 0.01, "min_agreement": 0.9})
        ['max_drop']
    """
    found = [name for name, limit in other.items() if _is_wider(name, own.get(name), limit)]
    replaced = isinstance(own.get("max_class_recall_drop"), float)  # takes the default's place
    return [name for name in found if not (replaced and name == "max_worse_classes")]


def _is_wider(name: str, own: Any, limit: Any) -> bool:
    if isinstance(limit, Mapping):
        return not isinstance(own, Mapping) or any(
            _is_wider(name, own.get(key), value) for key, value in limit.items()
        )
    if own is None or isinstance(own, Mapping):
        return True
    least = name.startswith("min_") or name == CONFIDENCE
    return bool(own < limit if least else own > limit)


def _of(path: Path, run: Path, wanted: set[str], data_hash: str) -> Iterator[Reading]:
    """Yield the readings of one run; of the run itself those that it set aside."""
    own = path.absolute() == run.absolute()
    patterns = ["superseded/*/rounds/*/comparison.json"]
    if not own:
        patterns.append("rounds/*/comparison.json")
    for pattern in patterns:
        for file in sorted(path.glob(pattern)):
            shared = _shared(file, wanted, data_hash)
            if shared:
                passed, limits = _judged(file.with_name("gate.json"))
                yield Reading(
                    run=path.name if path.name.isprintable() else ascii(path.name),
                    when=_when(path),
                    shared=shared,
                    passed=passed,
                    limits=limits,
                )


def _shared(file: Path, wanted: set[str], data_hash: str) -> int:
    try:
        if json.loads(file.read_bytes())["data_hash"] == data_hash:
            return len(wanted)
        ids = read_npz(file.with_name("predictions.npz"))["ids"]
    except (PruneError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
    return len(wanted & {str(each) for each in ids})


def _judged(file: Path) -> tuple[bool | None, dict[str, Any]]:
    try:
        body = json.loads(file.read_bytes())
        limits = {gate["name"]: gate["limit"] for gate in body["gates"]}
        comparison = json.loads(file.with_name("comparison.json").read_bytes())
        return bool(body["passed"]), {**limits, CONFIDENCE: comparison[CONFIDENCE]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None, {}


def _entries(path: Path) -> tuple[dict[str, Any], ...]:
    try:
        return audit.read(path / AUDIT).entries
    except (PruneError, OSError):
        return ()


def _identity(path: Path) -> str:
    entries = _entries(path)
    return str(entries[0]["hash"]) if entries else ""


def _when(path: Path) -> str:
    entries = _entries(path)
    times = [str(entry["time"]) for entry in entries if entry["verb"] in ("begin", "compare")]
    return times[-1] if times else ""


def _of_ledger(path: Path, known: set[str], wanted: set[str], data_hash: str) -> list[Reading]:
    """Return what the ledger alone tells of: readings of runs that are gone, and other looks."""
    entries = audit.read(path).entries
    told = {
        str(e["inputs"]["identity"]): (e["decision"] == "passed", dict(e["inputs"]["limits"]))
        for e in entries
        if e["verb"] == "judged"
    }
    found = []
    for entry in entries:
        if entry["verb"] != "read":
            continue
        inputs = entry["inputs"]
        identity, how = str(inputs["identity"]), str(inputs["how"])
        if how == OWN and identity in known:
            continue  # its files tell more
        same = inputs["data_hash"] == data_hash
        shared = len(wanted) if same else _common(wanted, inputs["sample"])
        if shared:
            passed, limits = told.get(identity, (None, {})) if how == OWN else (None, {})
            found.append(
                Reading(
                    run=str(inputs["run"]),
                    when=str(entry["time"]),
                    shared=shared,
                    passed=passed,
                    limits=limits,
                    gone=identity not in known,
                    how=how,
                )
            )
    return found


def _common(wanted: set[str], sample: Sequence[str]) -> int:
    """Return how many of the examples were read, by the smallest ids of what was read.

    Of few all ids are kept, of many the smallest: a random sample, ids being hashes.

    Example:
        >>> _common({"a1", "b2", "c3"}, ["a1", "c3", "d4"])
        2
    """
    own = {each[:DIGITS] for each in wanted}
    if len(sample) >= SAMPLE:
        own = {each for each in own if each <= sample[-1]}
    both = len(own.intersection(sample))
    return max(round(both / len(own) * len(wanted)), 1) if both else 0
