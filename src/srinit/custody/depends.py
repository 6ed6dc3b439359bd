"""Which files of a run rest on which keys of its config, so that a change redoes those alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from graphlib import TopologicalSorter

INPUTS = ("model", "data", "score", "seed")
ERRORS = (
    "roi.missed_defect_cost",
    "roi.false_reject_cost",
    "roi.defect_share",
    "data.defect_class",
    "data.costs",
)  # what errors mean
CALL_ONLY = ("device", "out", "name", "registry", "monitor")  # nothing that is measured rests on it
JUDGEMENT = (
    *INPUTS,
    *ERRORS,
    "gates",
    "compare.confidence",
    "compare.latency_batches",
    "shift",
)  # what is fixed at the start
# Where a run prunes in rounds, each is recovered and judged before the next is cut.
TRAINING = ("finetune", "data.augment")
OF_ROUNDS = ("gates", *TRAINING, "scan", "units", "compare.confidence", *ERRORS)


@dataclass(frozen=True, slots=True)
class Part:
    """Files that are made together, the keys they are made from, and the parts before them."""

    name: str
    files: tuple[str, ...]  # patterns, relative to the run folder
    keys: tuple[str, ...]
    after: tuple[str, ...] = ()
    but: tuple[str, ...] = ()  # keys below `keys` that do not matter to it


@dataclass(frozen=True, slots=True)
class Meaning:
    """What keys of a config mean by what other keys say."""

    otherwise: tuple[str, ...] = ()  # keys that mean something else than before
    unread: Mapping[str, Collection[str]] = field(default_factory=dict)  # by part; "": all parts


class Parts:
    """All parts of a run, each after those that it rests on.

    Args:
        parts: In any order.
        rounds: Beginnings of the names of files that belong to the cut if to no other part.
        cut: The name of that part.
    """

    def __init__(
        self, parts: Iterable[Part], *, rounds: tuple[str, ...] = (), cut: str = ""
    ) -> None:
        self._parts = _in_order({part.name: part for part in parts})
        self._rounds, self._cut = rounds, cut
        self.names = tuple(part.name for part in self._parts)

    def stale(
        self,
        changed: Iterable[str],
        *,
        in_rounds: bool = False,
        trained_trials: bool = False,
        unread: Mapping[str, Collection[str]] | None = None,
    ) -> dict[str, str]:
        """Return the parts that rest on changed keys, in order, each with what made it stale.

        Args:
            changed: Keys of the config, "section.key".
            in_rounds: The run prunes in rounds, each of which is recovered and judged.
            trained_trials: Trials of the plan train (`plan.trial_steps`).
            unread: Keys that a part does not read, by what other keys say; "" for all parts.

        Example:
            >>> parts = Parts([Part("plan", ("plan.json",), ("plan",)),
            ...                Part("cut", ("cut/*",), ("prune",), after=("plan",))])
            >>> parts.stale(["plan.flops"])
            {'plan': 'plan.flops', 'cut': 'plan'}
        """
        found: dict[str, str] = {}
        left_out = unread or {}
        for part in self._parts:
            keys = part.keys
            but = (*part.but, *left_out.get(part.name, ()), *left_out.get("", ()))
            if part.name == self._cut and in_rounds:
                keys = (*keys, *OF_ROUNDS)
                but = tuple(key for key in but if key not in OF_ROUNDS)
            if part.name == "plan" and trained_trials:
                keys = (*keys, *TRAINING)
                but = tuple(key for key in but if key not in TRAINING)
            own = [key for key in changed if covers(keys, key) and not covers(but, key)]
            before = [name for name in part.after if name in found]
            if own or before:
                found[part.name] = ", ".join(own or before)
        return found

    def with_later(self, names: Iterable[str]) -> dict[str, str]:
        """Return parts that are to be made anew and all that rest on them, with the reason.

        Example:
            >>> parts = Parts([Part("gates", (), ()), Part("report", (), (), after=("gates",))])
            >>> list(parts.with_later(["gates"]))
            ['gates', 'report']
        """
        found = dict.fromkeys(names, "")
        for part in self._parts:
            before = [name for name in part.after if name in found]
            if part.name not in found and before:
                found[part.name] = ", ".join(before)
        return {name: found[name] for name in self.names if name in found}

    def of(self, file: str) -> str | None:
        """Return the part that a file of a run belongs to; None: to none, such as the config.

        Example:
            >>> parts = Parts([Part("recovery", ("rounds/*/tune.json",), ())],
            ...               rounds=("rounds/",), cut="cut")
            >>> parts.of("rounds/02/tune.json"), parts.of("rounds/02/cut/recipe.json")
            ('recovery', 'cut')
        """
        found = [
            (len(pattern), part.name)
            for part in self._parts
            for pattern in part.files
            if _matches(file, pattern)
        ]
        if found:  # the pattern that says most
            return max(found, key=lambda each: each[0])[1]
        return self._cut if file.startswith(self._rounds or ("\0",)) else None


def _in_order(parts: Mapping[str, Part]) -> tuple[Part, ...]:
    """Return the parts, each after those that it rests on.

    Raises:
        CycleError: A part rests on itself.
    """
    graph = {
        name: [other for other in part.after if other in parts] for name, part in parts.items()
    }
    return tuple(parts[name] for name in TopologicalSorter(graph).static_order())


def covers(keys: Iterable[str], key: str) -> bool:
    """Return whether a key is one of `keys`, lies below one, or holds one.

    Example:
        >>> covers(["gates"], "gates.max_drop"), covers(["plan.flops"], "plan.params")
        (True, False)
    """
    return any(key == k or key.startswith(f"{k}.") or k.startswith(f"{key}.") for k in keys)


def _matches(file: str, pattern: str) -> bool:
    if file.count("/") > pattern.count("/") and not pattern.endswith("/*"):
        return False  # `rounds/*/tune.json` is no file of a scan below a round
    return fnmatchcase(file, pattern)
