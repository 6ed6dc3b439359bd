"""Whether a config of transformers has words for a cut: asked on a copy, before any work."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import nn

from srinit.errors import SurgeryError
from srinit.records import record
from srinit.surgery import remove_units, why_not_saved
from srinit.units.records import Unit

SECONDS = 20.0  # for trying single units, where the first answer was no


@record
class FolderOutlook:
    """Whether what is left of a network can be written as a folder of transformers."""

    asked: tuple[str, ...]  # units that were taken out of a copy together
    possible: bool
    reason: str = ""  # why not
    singly: tuple[str, ...] = ()  # where not: units whose removal alone the config can say
    tried: int = 0  # units that were tried alone

    def words(self) -> str:
        """Return what is said before the work; empty where the folder can be written."""
        if self.possible:
            return ""
        shown = ", ".join(self.asked[:4]) + (", ..." if len(self.asked) > 4 else "")
        alone = f" Of {self.tried} units tried alone the config can say it of: " + (
            ", ".join(self.singly) if self.singly else "none"
        )
        return (
            f"no Hugging Face folder can be written without {shown}: {self.reason}."
            f"{alone if self.tried else ''}. Possible instead: the saved network of the run "
            "(srinit.load_pruned), ONNX and torch.export; or other units (plan.remove, units.keep, "
            "units.level: block)."
        )


def is_of_transformers(model: nn.Module) -> bool:
    """Return whether a network is one that transformers saves with a config of its own.

    Example:
        >>> is_of_transformers(nn.Linear(2, 2))
        False
    """
    config = vars(model).get("config")
    return hasattr(config, "to_dict") and hasattr(type(model), "save_pretrained")


def why_no_folder(model: nn.Module) -> str:
    """Return why plain transformers could not load a network of its kind from a folder; "" if so.

    Args:
        model: A network after a cut; see `srinit.surgery.why_not_saved`.
    """
    place = type(model).__module__
    if place.partition(".")[0] != "transformers":
        return f"{type(model).__name__} is a class of {place}, which transformers does not have"
    return why_not_saved(model)


def probe(units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Return a unit from the middle of every container: where a config is least likely to follow.

    Args:
        units: Those that may be removed.
    """
    by_place: dict[str, list[Unit]] = {}
    for unit in units:
        by_place.setdefault(unit.name.rpartition(".")[0], []).append(unit)
    return tuple(group[(len(group) - 1) // 2] for group in by_place.values() if len(group) > 1)


def foresee_folder(
    model: nn.Module,
    units: Sequence[Unit],
    example_inputs: object,
    *,
    others: Sequence[Unit] = (),
) -> FolderOutlook:
    """Return whether the network without some units can be written as a folder.

    The units are taken out of a copy, whose config follows or does not. Takes the memory of a
    second network for a moment, and a few forwards.

    Args:
        model: The network; not touched.
        units: What goes, together.
        example_inputs: One batch that it takes.
        others: Units to try alone where the answer is no, to say what is possible instead.
    """
    reason = _why_not(model, units, example_inputs)
    names = tuple(unit.name for unit in units)
    if not reason:
        return FolderOutlook(asked=names, possible=True)
    found: list[str] = []
    tried = 0
    end = time.monotonic() + SECONDS
    for unit in reversed(others):  # what follows no other layer is renumbered by none
        if time.monotonic() > end:
            break
        tried += 1
        if not _why_not(model, [unit], example_inputs):
            found.append(unit.name)
    return FolderOutlook(
        asked=names, possible=False, reason=reason, singly=tuple(found), tried=tried
    )


def _why_not(model: nn.Module, units: Sequence[Unit], example_inputs: object) -> str:
    try:
        return why_no_folder(remove_units(model, units, example_inputs=example_inputs))
    except SurgeryError as error:
        return str(error).rstrip(".")
