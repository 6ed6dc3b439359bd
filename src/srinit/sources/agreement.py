"""Whether the data sets of a run have the same classes, and what names classes names real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from srinit.class_names import nearest
from srinit.config import DataSection
from srinit.errors import ConfigError, DataError
from srinit.sources.dataset import DataSet

SHOWN = 12  # class names in one message


def keys(settings: DataSection) -> dict[str, str]:
    """Return where each data set comes from: the key of the config and what it says."""
    drawn = f"data.source ({settings.source})"
    found: dict[str, str] = dict.fromkeys(settings.split, drawn)
    for name in ("train", "calibration", "validation", "test", "site"):
        source = getattr(settings, name)
        if source:
            found[name] = f"data.{name} ({source})"
    return found


def check_classes(
    sets: Mapping[str, DataSet],
    origins: Mapping[str, str],
    defect_class: str | Sequence[str] | None = None,
    costs: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Raise unless all sets have the same classes in the same order.

    Args:
        sets: Data sets by name.
        origins: Where each comes from, for messages.
        defect_class: Must be among the classes.
        costs: So must these.

    Raises:
        DataError: They differ.
        ConfigError: `defect_class` or `costs` name what is none of them.
    """
    labeled = {name: data.class_names for name, data in sets.items() if data.class_names}
    first = next(iter(labeled), None)
    if first is None:
        return
    for other, names in labeled.items():
        if names != labeled[first]:
            one, two = origins.get(first, first), origins.get(other, other)
            raise DataError(_unequal(one, labeled[first], two, names))
    named = [defect_class] if isinstance(defect_class, str) else list(defect_class or ())
    wanted = [("data.defect_class", name) for name in named]
    for actual, row in (costs or {}).items():
        wanted += [("data.costs", name) for name in (actual, *row)]
    for key, name in wanted:
        if name not in labeled[first]:
            raise ConfigError(
                f"{key} {name!r} is not one of the classes {list(labeled[first])[:SHOWN]}"
                f"{nearest(name, labeled[first])}"
            )


def _unequal(one: str, first: Sequence[str], two: str, second: Sequence[str]) -> str:
    lacking = [
        f"{where} has no {', '.join(map(repr, absent[:SHOWN]))}"
        for where, absent in (
            (one, [name for name in second if name not in first]),
            (two, [name for name in first if name not in second]),
        )
        if absent
    ]
    if not lacking:
        return (
            f"{one} and {two} have the same classes in another order: {list(first)[:SHOWN]}, "
            f"{list(second)[:SHOWN]}. Write data.classes: the list in the order of the outputs."
        )
    return (
        f"{one} has {len(first)} classes and {two} has {len(second)}: {'; '.join(lacking)}. All "
        "data of a run need images of the same classes: add what is missing, or leave it out of "
        "both."
    )
