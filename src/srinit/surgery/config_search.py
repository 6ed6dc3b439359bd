"""Finds the config that gives exactly the layers that are left, by building what configs say.

First each list of layers gets its new length, then whatever else the config says of layers is
tried until no difference is left: what follows from the old values, then other values, then two
fields together. No family of networks is known here.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from srinit.surgery.config_edits import (
    Edit,
    applied,
    guessed,
    lowered,
    moved_indices,
    shortened,
    speaks,
)
from srinit.surgery.config_twin import (
    INDICES,
    Body,
    Pair,
    body_of,
    built,
    differences,
    followed,
    read,
)
from srinit.surgery.replace import Cut

MAX_TRIALS = 300
MAX_SECONDS = 60.0  # a network of many layers takes a second to build, even without memory
MAX_FIRST = 40  # ways to lower a count


@dataclass(frozen=True, slots=True)
class Trial:
    """What a config builds, beside the pruned network."""

    body: Body
    config: Any
    twin: nn.Module
    changes: list[tuple[str, Any, Any]]  # of the config: name, old and new value
    problems: list[str]

    @property
    def pairs(self) -> list[Pair]:
        """Old and new values of the config."""
        return [(old, new) for _, old, new in self.changes]


class ConfigSearch:
    """Tries configs for a pruned network.

    Args:
        root: The pruned network, its layers numbered anew.
        cuts: What was deleted, by the container's name in `root`.
    """

    def __init__(self, root: nn.Module, cuts: Mapping[str, Cut]) -> None:
        self.root, self.cuts = root, cuts
        self.trials = 0
        self._config: Any = root.config
        self._end = time.monotonic() + MAX_SECONDS
        self._gone: set[str] = set()  # problems that some edit did away with
        self._body = body_of(self._config)
        self._old = read(self._config, self._body)
        unpruned = built(type(root), self._old)
        modules = {} if unpruned is None else dict(unpruned.named_modules())
        names = {name: self._origin(name) for name, _ in root.named_modules()}
        self._built_as = {now: modules[old] for now, old in names.items() if old in modules}

    def find(self, *, thorough: bool = True) -> Trial | None:
        """Return the trial with the fewest differences; None where no list got shorter.

        Args:
            thorough: Try more than the lengths of lists.
        """
        best: Trial | None = None
        for path, cut in self.cuts.items():
            best = self._start(best, path, cut) or best
        if best is None or not thorough:
            return best
        for path, cut in self.cuts.items():
            best = self._move(best, cut)
            best = self._search(best, cut, _groups(self.root.get_submodule(path)))
        return best

    def _start(self, before: Trial | None, path: str, cut: Cut) -> Trial | None:
        """Return the best way to give the list `path` its new length."""
        body = before.body if before else self._body
        best: Trial | None = None
        sides = [side for side in ("encoder", "decoder") if side in path]
        ways = lowered(body, cut)[:MAX_FIRST]
        ways.sort(key=lambda way: bool(sides) and not _names(way[0], sides))
        also = moved_indices(body, cut)  # for configs that refuse what does not fit together
        together = [[*way, edit] for way in ways[:2] for edit in also]
        for way in itertools.chain(ways, together):
            if best is not None and way in together:
                break
            found = self._try(applied(body, way))
            if found is None or _length(found.twin, path) != cut.after:
                continue
            if best is None or len(found.problems) < len(best.problems):
                best = found
            if not best.problems:
                break
        return best

    def _move(self, best: Trial, cut: Cut) -> Trial:
        """Let index lists follow that leave no trace in the modules, such as those of a forward."""
        for edit in moved_indices_of(self._body, cut):
            if self._value(best.body, edit) != self._value(self._body, edit):
                continue
            found = self._try(applied(best.body, [edit]))
            if found is not None and len(found.problems) <= len(best.problems):
                best = found
        return best

    def _value(self, body: object, edit: Edit) -> Any:
        for step in edit[0]:
            body = body.get(step) if isinstance(body, Mapping) else None
        return body

    def _search(self, best: Trial, cut: Cut, groups: Sequence[Sequence[int]]) -> Trial:
        """Return a trial without differences, or the best that was found in time."""
        telling: dict[Any, list[Edit]] = {}
        while best.problems:
            edits = self._single(best.body, cut, groups)
            self._gone = set()
            found, seen = self._best_of(best, [[edit] for edit in edits])
            for (edit,) in seen:
                telling.setdefault(edit[0], []).append(edit)
            if found is None:
                break
            best = found
        if best.problems and self._gone >= set(best.problems):  # else no two will help either
            pairs = [
                [one, other]
                for first, second in itertools.combinations(sorted(telling, key=str), 2)
                if first[: len(second)] != second and second[: len(first)] != first
                for one in telling[first]
                for other in telling[second]
            ]
            pairs.sort(key=lambda pair: sum(not speaks(place) for place, _ in pair))
            best = self._best_of(best, pairs)[0] or best
        return best

    def _single(self, body: Body, cut: Cut, groups: Sequence[Sequence[int]]) -> list[Edit]:
        return [
            *shortened(body, cut),
            *moved_indices(body, cut),
            *guessed(body, cut, groups),
        ]

    def _best_of(
        self, best: Trial, ways: Sequence[list[Edit]]
    ) -> tuple[Trial | None, list[list[Edit]]]:
        """Return the best of several edits if it is better, and the edits that changed anything."""
        found: Trial | None = None
        telling = []
        for way in ways:
            trial = self._try(applied(best.body, way))
            if trial is None or trial.problems != best.problems:
                telling.append(way)
            if trial is not None:
                self._gone |= set(best.problems) - set(trial.problems)
            least = len((found or best).problems)
            if trial is not None and len(trial.problems) < least:
                found = trial
                if not found.problems:
                    break
        return found, telling

    def _try(self, body: Body) -> Trial | None:
        if self.trials >= MAX_TRIALS or time.monotonic() > self._end:
            return None
        self.trials += 1
        try:
            config = read(self._config, body)
        except Exception:  # whatever a config of somebody's raises on values of ours
            return None
        twin = built(type(self.root), config)
        if twin is None:
            return None
        changes = followed(self._old, config)
        pairs = [(old, new) for _, old, new in changes]
        return Trial(body, config, twin, changes, self.compare(twin, pairs))

    def compare(self, twin: nn.Module, pairs: list[Pair]) -> list[str]:
        """Return how what a config builds differs from the pruned network."""
        return differences(self.root, twin, pairs, self._built_as)

    def _origin(self, name: str) -> str:
        """Return the name that a module of the pruned network had before the cuts."""
        parts = name.split(".")
        for depth, step in enumerate(name.split(".")):
            cut = self.cuts.get(".".join(name.split(".")[:depth]))
            if cut is not None and step.isdigit():
                left = [index for index in range(cut.before) if index not in cut.gone]
                parts[depth] = str(left[int(step)])
        return ".".join(parts)


def moved_indices_of(body: Body, cut: Cut) -> list[Edit]:
    """Return the edits of lists of layer indices alone, of fields that speak of layers."""
    return [
        (place, value)
        for place, value in moved_indices(body, cut)
        if speaks(place) and isinstance(value, list) and value and _whole(value)
    ]


def _whole(value: Sequence[Any]) -> bool:
    return all(isinstance(entry, int) and not isinstance(entry, bool) for entry in value)


def _names(edit: Edit, sides: Sequence[str]) -> bool:
    return any(side in str(step) for side in sides for step in edit[0])


def _length(model: nn.Module, path: str) -> int:
    try:
        return len(model.get_submodule(path)._modules)
    except AttributeError:
        return -1


def _groups(container: nn.Module) -> list[list[int]]:
    """Return the indices of entries that have something in common that others lack."""
    features: dict[Any, list[int]] = {}
    entries = list(container.children())
    for index, entry in enumerate(entries):
        for feature in _features(entry):
            features.setdefault(feature, []).append(index)
    found: list[list[int]] = [[]]
    for indices in features.values():
        others = [index for index in range(len(entries)) if index not in indices]
        found += [each for each in (indices, others) if each not in found]
    return found


def _features(entry: nn.Module) -> set[Any]:
    found: set[Any] = {(name, tuple(t.shape)) for name, t in entry.state_dict().items()}
    for name, module in entry.named_modules():
        found.add((name, type(module)))
        for key, value in vars(module).items():
            if isinstance(value, str | int) and key not in INDICES:
                found.add((name, key, value))
    return found
