"""How much a config will remove, in how many rounds and ranked by what, before it is measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatchcase

from srinit.config import Config
from srinit.config.steps import AUTO, COMPENSATED, SHALLOW
from srinit.custody.depends import Meaning
from srinit.errors import ConfigError
from srinit.units import UnitMap
from srinit.units.patterns import CLASS

LOSS, TAYLOR = ("finetune.loss", "finetune.label_smoothing"), "taylor"
DEEP = 0.45  # share of the units beyond which each one's own cost after compensation ranks


def num_removed(config: Config, num_units: int) -> int:
    """Return about how many units a plan will remove; all that there are if that is not known.

    A share of FLOPs, parameters or time is taken for the same share of the units.
    """
    settings = config.plan
    targets = (settings.flops, settings.params, settings.latency)
    shares = [1 - target for target in targets if target is not None]
    least = max(len(settings.remove), settings.units or 0)
    if shares:
        return min(max(math.ceil(max(shares) * num_units - 1e-9), least), num_units)
    if settings.units is not None:
        return min(least, num_units)
    return num_units if settings.max_drop is not None else min(len(settings.remove), num_units)


def criterion_of(config: Config, num_units: int) -> str:
    """Return what ranks the units: `plan.criterion`, or what "auto" stands for.

    Trials of every unit are worth their time where much goes: on ResNet-56 they end 7 to 9 points
    above block influence at 15 of 27 blocks, and one or two at 10 (docs/criteria.md).
    """
    plan = config.plan
    if plan.criterion != AUTO:
        return plan.criterion
    tries = plan.trial_examples > 0 and config.compensate.method != "none"
    aims = any(t is not None for t in (plan.flops, plan.params, plan.latency, plan.units))
    is_deep = aims and num_removed(config, num_units) > DEEP * num_units
    return COMPENSATED if tries and is_deep else SHALLOW


def meaning_of(before: Config, after: Config, units: UnitMap | None) -> Meaning:
    """Return what keys mean by what other keys of a config say.

    Args:
        before: The config of a run.
        after: What is asked for.
        units: Of its network; None: they are not known, and nothing rests on them yet.
    """
    return Meaning(_otherwise(before, after, units), unread(before, after))


def _otherwise(before: Config, after: Config, units: UnitMap | None) -> tuple[str, ...]:
    if units is None:
        return ()
    same = criterion_of(before, len(units)) == criterion_of(after, len(units))
    found = () if same else ("plan.criterion",)
    gone = [pattern for pattern in before.units.keep if pattern not in after.units.keep]
    kept = [unit.name for unit in units.locked if unit.reason == "kept"]
    # A unit that was protected when units were looked for is locked, and no scan speaks of it as
    # one that may go; one that was protected later is left out by the plan alone.
    locks = any(pattern.startswith(CLASS) or _names(pattern, kept) for pattern in gone)
    return (*found, "units.keep taken back") if locks else found


def _names(pattern: str, units: list[str]) -> bool:
    """Return whether a pattern names one of some units, or a module around one."""
    parts = [name.split(".") for name in units]
    around = {".".join(each[:end]) for each in parts for end in range(1, len(each) + 1)}
    return any(fnmatchcase(name, pattern) for name in around)


UNREAD: tuple[tuple[str, tuple[str, ...], Callable[[Config], bool]], ...] = (
    ("", ("plan.latency_batch",), lambda config: config.plan.latency is None),
    ("plan", ("compare.latency_batches",), lambda config: config.plan.latency is None),
    ("", ("plan.rule",), lambda config: config.plan.max_drop is None),
    (
        "",
        ("plan.trial_half_width", "plan.trial_max_drop", "plan.trial_steps"),
        lambda config: config.plan.trial_examples == 0,
    ),
    ("", ("scan.num_remove",), lambda config: config.scan.precision == "equal"),
    (
        "scores",
        LOSS,
        lambda config: config.plan.criterion != TAYLOR and ":" not in config.plan.criterion,
    ),
    ("reference scores", LOSS, lambda config: TAYLOR not in config.plan.beside),
    ("", ("compensate.examples",), lambda config: config.compensate.method == "none"),
    ("", ("shift.corruptions", "shift.severities"), lambda config: config.shift.examples == 0),
    ("", ("export.opset",), lambda config: not config.export.onnx),
)
"""Parts ("" for all), keys, and when the parts do not read them."""


def unread(before: Config, after: Config) -> dict[str, tuple[str, ...]]:
    """Return the keys that a part does not read by what other keys say, before and now."""
    found: dict[str, tuple[str, ...]] = {}
    for part, keys, is_unread in UNREAD:
        if is_unread(before) and is_unread(after):
            found[part] = (*found.get(part, ()), *keys)
    return found


def num_rounds(config: Config, removed: int, num_units: int) -> int:
    """Return in how many rounds so many units will go."""
    settings = config.prune
    if settings.step.units is not None:
        return max(math.ceil(removed / settings.step.units), 1)
    share = settings.step.flops or settings.step.params
    if share is not None:
        return max(math.ceil(removed / num_units / share), 1) if num_units else 1
    return settings.rounds


def num_to_decide(config: Config, num_units: Callable[[], int]) -> int | None:
    """Return how many units go, where the scan's precision follows that.

    Args:
        config: Of the run.
        num_units: How many units the network has; asked for only where it matters.

    Raises:
        ConfigError: There is nothing to decide.
    """
    settings, plan = config.scan, config.plan
    if not settings.measure or settings.precision == "equal" or settings.num_remove is not None:
        return settings.num_remove
    if not (plan.flops or plan.params or plan.latency or plan.remove or plan.units):
        if plan.max_drop is None:
            raise ConfigError(
                "scan.precision: decide has nothing to decide: name a target (plan.flops, "
                "plan.params, plan.latency, plan.units, plan.max_drop), or scan.num_remove."
            )
        return None
    return max(num_removed(config, num_units()), 1)
