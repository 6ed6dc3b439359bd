"""Which files of a run rest on which keys of its config, so that a change redoes those alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

INPUTS = ("model", "data", "score", "seed")
ERRORS = ("roi.missed_defect_cost", "roi.false_reject_cost", "roi.defect_share")
CALL_ONLY = ("device", "out", "name", "registry", "monitor")  # nothing that is measured rests on it
JUDGEMENT = (*INPUTS, *ERRORS, "gates", "compare.confidence", "shift")  # what is fixed at the start


@dataclass(frozen=True, slots=True)
class Part:
    """Files that are made together, the keys they are made from, and the parts before them."""

    name: str
    files: tuple[str, ...]  # patterns, relative to the run folder
    keys: tuple[str, ...]
    after: tuple[str, ...] = ()
    but: tuple[str, ...] = ()  # keys below `keys` that do not matter to it


PARTS = (
    Part(
        "baseline", ("baseline/*", "data.json"),
        (*INPUTS, "baseline", "compare.latency_batches"), but=("data.site",),
    ),
    Part("units", ("units.json",), (*INPUTS, "units"), but=("data.site", "units.keep")),
    # Targets of the plan are left out: a scan serves every target.
    Part(
        "scan", ("scan/sensitivity.*", "scan/observations.jsonl"), ("scan",), ("units",),
    ),
    Part(
        "scores", ("scan/criterion.json", "scan/beside/*"),
        ("plan.criterion", "plan.criterion_examples", "plan.beside", "plan.beside_examples",
         "finetune.loss"),
        ("scan",),
    ),
    Part(
        "plan", ("plan.json", "plan_latency.json"),
        ("plan", "units.keep", "compare.latency_batches", "compare.confidence"), ("scores",),
        but=("plan.beside", "plan.beside_examples"),
    ),
    Part("cut", ("stages/*", "rejected/*"), ("prune", "compensate"), ("plan", "baseline")),
    Part(
        "recovery",
        ("stages/*/model.safetensors", "stages/*/recipe.json", "stages/*/tune.json",
         "stages/*/training.safetensors", "stages/*/t*.safetensors"),
        ("finetune",), ("cut",), but=("finetune.rehearsal",),
    ),
    Part(
        "comparison", ("stages/*/comparison.json", "stages/*/predictions.npz"),
        ("compare", *ERRORS), ("recovery",), but=("compare.on_production_device",),
    ),
    Part("shift", ("stages/*/shift.*",), ("shift", "compare.confidence"), ("recovery",)),
    Part(
        "site", ("stages/*/site.*", "stages/*/site_gate.json"),
        ("data.site", "gates", "compare.confidence", *ERRORS), ("recovery",),
    ),
    Part(
        "judgement", ("stages/*/gate.json", "stages/*/readings.json"), ("gates",),
        ("comparison", "shift", "site"),
    ),
    Part(
        "cost of ownership", ("stages/*/ownership.json",),
        ("ownership", "compare.latency_batches"), ("recovery",),
    ),
    Part("export", ("export/*",), ("export", "compare.latency_batches"), ("recovery",)),
    Part(
        "report", ("report/*", "result.json"), ("report", "roi", "compare.on_production_device"),
        ("judgement", "cost of ownership", "export"),
    ),
)  # fmt: skip
NAMES = tuple(part.name for part in PARTS)


def covers(keys: Iterable[str], key: str) -> bool:
    """Return whether a key is one of `keys`, lies below one, or holds one.

    Example:
        >>> covers(["gates"], "gates.max_drop"), covers(["plan.flops"], "plan.params")
        (True, False)
    """
    return any(key == k or key.startswith(f"{k}.") or k.startswith(f"{key}.") for k in keys)


def stale(
    changed: Iterable[str], *, staged: bool = False, trained_trials: bool = False
) -> dict[str, str]:
    """Return the parts that rest on changed keys, in order, each with what made it stale.

    Args:
        changed: Keys of the config, "section.key".
        staged: The run prunes in stages, each of which is recovered and judged.
        trained_trials: Trials of the plan train (`plan.trial_steps`).

    Example:
        >>> stale(["gates.max_drop"])
        {'site': 'gates.max_drop', 'judgement': 'gates.max_drop', 'report': 'judgement'}
    """
    found: dict[str, str] = {}
    for part in PARTS:
        keys = part.keys
        if part.name == "cut" and staged:
            keys = (*keys, "gates", "finetune", "scan", "units")
        if part.name == "plan" and trained_trials:
            keys = (*keys, "finetune")
        own = [key for key in changed if covers(keys, key) and not covers(part.but, key)]
        before = [name for name in part.after if name in found]
        if own or before:
            found[part.name] = ", ".join(own or before)
    return found


def with_later(names: Iterable[str]) -> dict[str, str]:
    """Return parts that are to be made anew and all that rest on them, with the reason.

    Example:
        >>> list(with_later(["judgement"]))
        ['judgement', 'report']
    """
    found = dict.fromkeys(names, "")
    for part in PARTS:
        before = [name for name in part.after if name in found]
        if part.name not in found and before:
            found[part.name] = ", ".join(before)
    return {name: found[name] for name in NAMES if name in found}


def part_of(file: str) -> str | None:
    """Return the part that a file of a run belongs to; None: to none, such as the config.

    Example:
        >>> part_of("stages/02/tune.json"), part_of("stages/02/cut/recipe.json")
        ('recovery', 'cut')
    """
    found = None
    for part in PARTS:
        if any(_matches(file, pattern) for pattern in part.files):
            found = part.name  # the last is the most special
    return found


def _matches(file: str, pattern: str) -> bool:
    if file.count("/") > pattern.count("/") and not pattern.endswith("/*"):
        return False  # `stages/*/tune.json` is no file of a scan below a stage
    return fnmatchcase(file, pattern)
