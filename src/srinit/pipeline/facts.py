"""What the data of a run are: counts, what was left out, what does not fit; told once and kept."""

from __future__ import annotations

from srinit.pipeline.session import Session
from srinit.records import record
from srinit.sources import describe

DATA_SCHEMA = "srinit.data/1"


@record
class SetFacts:
    """One data set."""

    num_examples: int
    classes: dict[str, int]  # examples of every class; empty without classes
    data_hash: str


@record
class DataFacts:
    """All data sets, and everything that a reader should know about them, in sentences."""

    sets: dict[str, SetFacts]
    notes: tuple[str, ...]


def data_facts(session: Session) -> DataFacts:
    """Return what the data are; told to the observer, and written to `data.json` of the run."""
    found = DataFacts(
        sets={
            name: SetFacts(
                num_examples=len(data),
                classes=data.class_counts if data.targets.ndim == 1 else {},
                data_hash=data.data_hash,
            )
            for name, data in session.data.items()
        },
        notes=tuple(describe(session.data)),
    )
    if not session.data_told:
        session.data_told = True
        for line in found.notes:
            session.observer.say(line)
        if not session.rank and not session.folder.was_sealed:
            session.folder.write_record(session.path / "data.json", found, schema=DATA_SCHEMA)
    return found
