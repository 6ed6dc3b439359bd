"""Puts what is wrong with a config into lines that say where, what, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from srinit.class_names import unlisted
from srinit.config.base import OF_OBJECTS, OF_PARTS
from srinit.config.sections import (
    Config,
    DataSection,
    GatesSection,
    PlanSection,
    RobustnessSection,
    RoiInputs,
    ScanSection,
    UnitsSection,
)

TOP = ("profile", "profiles")  # keys of the file that are no fields of the config
SIMILAR = 0.6
GATES_OF_DEFECTS = (
    "max_missed_defect_increase", "max_missed_defect_rate", "max_false_reject_increase",
)  # fmt: skip

T = TypeVar("T", bound=BaseModel)


def describe(error: ValidationError) -> list[str]:
    """Return one line for every problem; for an unknown key with the nearest known one."""
    lines = []
    for problem in error.errors():
        place = [str(part) for part in problem["loc"]]
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {'.'.join(place)}: unknown key; {_suggestion(place)}")
        elif problem["type"] == "missing":
            key = ".".join(place)
            lines.append(f"  {key}: is missing; write {key}: ...")
        else:
            lines.append(f"  {_clean(place)}: {_message(problem)}")
    return lines


def _clean(place: Sequence[str]) -> str:
    """Return a key without the names pydantic gives to alternatives of a type."""
    known = [part for part in place if part.isidentifier() or part.isdigit()]
    for marker in ("int", "float", "list", "tuple", "str"):
        known = [part for part in known if part != marker]
    return ".".join(known) or "the config"


def _message(problem: Any) -> str:
    text = str(problem["msg"]).removeprefix("Value error, ")
    found = problem["input"]
    if problem["type"] == "value_error" and isinstance(found, dict):
        return text
    if problem["type"] == "literal_error" and isinstance(found, str):
        near = difflib.get_close_matches(found, problem["ctx"]["expected"].split("'")[1::2], n=1)
        text += f"; did you mean {near[0]}?" if near else ""
    return f"{text} (found {repr(found)[:60]})"


def _suggestion(place: Sequence[str]) -> str:
    """Return the nearest known key, or where the key belongs, or the keys there are."""
    *path, name = place
    known = _keys_at(path)
    close = difflib.get_close_matches(name, known, n=1, cutoff=SIMILAR)
    if close:
        return f"did you mean {'.'.join([*path, close[0]])}?"
    elsewhere = [f"{section}.{name}" for section, keys in _sections() if name in keys]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    nearest = f"the nearest is {'.'.join([*path, close[0]])}; " if close else ""
    return f"{nearest}known are {', '.join(known)}"


def _sections() -> Iterator[tuple[str, list[str]]]:
    yield from ((name, _keys_at([name])) for name in Config.model_fields if _keys_at([name]))


def _keys_at(path: Sequence[str]) -> list[str]:
    """Return the keys that a section of the config knows."""
    model: type[BaseModel] | None = Config
    for part in path:
        field = model.model_fields.get(part) if model is not None else None
        model = _model_of(field.annotation) if field is not None else None
    if model is None:
        return []
    names = [name for name in model.model_fields if name != "root"]
    return [*names, *TOP] if model is Config else names


def _model_of(annotation: object) -> type[BaseModel] | None:
    for found in (annotation, *get_args(annotation)):
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return None


def across_sections(body: dict[str, Any]) -> list[str]:
    """Return what is wrong between sections, looking only at those that are valid alone."""
    data = _valid(DataSection, body.get("data"))
    gates = _valid(GatesSection, body.get("gates"))
    roi = _valid(RoiInputs, body.get("roi"))
    shift = _valid(RobustnessSection, body.get("shift"))
    lines = []
    score = str(body.get("score", "top1"))
    if data is not None and gates is not None:
        lines += _gates_of_no_class(data, gates)
    if data is not None and gates is not None and roi is not None and shift is not None:
        marked = score in OF_PARTS[1:]  # then all classes but the first are defects
        lines += _gates_without(data, gates, roi, shift, defective=marked)
    recall = None if gates is None else gates.max_class_recall_drop
    if score in OF_OBJECTS and recall not in (None, "auto"):
        lines.append(
            f"  gates.max_class_recall_drop: score: {score} has no recall of classes; write "
            "gates.max_missed_object_increase, in all or {class: limit}"
        )
    if score not in OF_OBJECTS and gates is not None and gates.max_missed_object_increase:
        lines.append(
            f"  gates.max_missed_object_increase: score: {score} looks for no objects; it is for "
            f"{', '.join(OF_OBJECTS)}"
        )
    if score not in OF_PARTS and data is not None and gates is not None:
        lines += [
            f"  {key}: speaks of classes, and score: {score} knows none"
            for key in _about_classes(data, gates)
        ]
    units = _valid(UnitsSection, body.get("units"))
    plan = _valid(PlanSection, body.get("plan"))
    if units is not None and plan is not None:
        both = [name for name in plan.remove if name in units.keep]
        lines += [f"  plan.remove: {name!r} is also in units.keep" for name in both]
    scan = _valid(ScanSection, body.get("scan"))
    if scan is not None and plan is not None and not scan.measure:
        lines += _without_scan(plan)
    model = body.get("model")
    if isinstance(model, dict) and model.get("weights_sha256") and not model.get("weights"):
        lines.append("  model.weights_sha256: is the hash of model.weights, which is not given")
    return lines


def _without_scan(plan: PlanSection) -> list[str]:
    """Return the keys that rest on the scan where `scan: off` leaves it out."""
    lines = []
    if plan.criterion == "reinit_drop":
        lines.append("  plan.criterion: reinit_drop is the scan, and scan is off; name another one")
    if "reinit_drop" in plan.beside:
        lines.append("  plan.beside: reinit_drop is the scan, and scan is off")
    if plan.max_drop is not None and plan.criterion != "removal_drop":
        lines.append(
            "  plan.max_drop: bounds the drops of the scan, and scan is off; write "
            "plan.criterion: removal_drop, whose drops it bounds too, or another target"
        )
    return lines


def _gates_without(
    data: DataSection, gates: GatesSection, roi: RoiInputs, shift: RobustnessSection,
    *, defective: bool,
) -> list[str]:  # fmt: skip
    """Return the gates that judge what will not be measured, and costs that are given twice."""
    defective = defective or bool(data.defect_classes)
    prices = ("missed_defect_cost", "false_reject_cost")
    given = [name for name in prices if getattr(roi, name) is not None]
    priced = data.costs is not None or (len(given) == len(prices) and defective)
    lines = []
    if data.costs is not None:
        lines += [f"  roi.{name}: data.costs says what errors cost; keep one" for name in given]
    if not defective and data.costs is None:
        lines += [
            f"  gates.{name}: needs data.defect_class, the class that means defective"
            for name in GATES_OF_DEFECTS
            if getattr(gates, name) is not None
        ]
    if gates.max_cost_increase is not None and not priced:
        lines.append(
            "  gates.max_cost_increase: needs data.costs, or data.defect_class with "
            "roi.missed_defect_cost and roi.false_reject_cost"
        )
    if gates.site and data.site is None:
        lines.append("  gates.site: needs data.site, the site's own examples")
    if gates.max_shift_drop is not None and not shift.examples:
        lines.append("  gates.max_shift_drop: needs shift.examples, test images to corrupt")
    return lines


def _gates_of_no_class(data: DataSection, gates: GatesSection) -> list[str]:
    """Return the limits of classes that are not in data.classes, where that is a list."""
    if not isinstance(data.classes, list):
        return []
    lines = []
    for name, limit in gates.limits().items():
        known = data.defect_classes if name in GATES_OF_DEFECTS else ()
        known = known or tuple(data.classes)
        for key in limit if isinstance(limit, dict) else ():
            if key not in known:
                kind = "data.classes" if known == tuple(data.classes) else "data.defect_class"
                lines.append(f"  gates.{name}.{key}: {key!r} {unlisted(key, known, kind)}")
    return lines


def _about_classes(data: DataSection, gates: GatesSection) -> list[str]:
    """Return the keys that are given and mean something for classes only."""
    of_data = ("defect_class", "costs")
    names = ("max_class_recall_drop", *GATES_OF_DEFECTS, "max_cost_increase")
    found = [f"data.{name}" for name in of_data if getattr(data, name) is not None]
    return found + [f"gates.{name}" for name in names if getattr(gates, name) not in (None, "auto")]


def _valid(section: type[T], values: object) -> T | None:
    try:
        return section.model_validate({} if values is None else values)
    except ValidationError:
        return None
