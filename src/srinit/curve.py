"""What every prefix of a plan's ranking costs: some networks are built and timed, not all.

Networks at the ends, a few between them and those near the target are built, counted and timed.
Between two of them parameters and FLOPs are sums over units, where the sums agree with what was
counted at both; latency is shared out by the times of the units in one forward of the unpruned
network, and each such value says how far others like it were off where that could be checked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from srinit.cost import count_cost
from srinit.errors import PlanError
from srinit.latency import measure_latency, unit_times
from srinit.plan import Prefix
from srinit.surgery import remove_units
from srinit.units.records import Unit, UnitMap

FEW = 6  # networks that are all built and timed
ANCHORS = 4  # of more: built and timed whatever the target, the first and the last among them
SECONDS = 0.35  # that a network is timed at one batch size, about
LEAST = 5  # timed calls of a slow one, and of the units inside the unpruned network
FEWER = 3  # of the units, at larger batches

Clock = Callable[[nn.Module], Mapping[str, float]]
"""From a network to its median milliseconds by batch size."""
Measured = Mapping[frozenset[str], Mapping[str, float]]
"""Median milliseconds by batch size of the network without some units, as another device says."""
Wanted = Callable[[tuple[Prefix, ...]], Collection[int]]
"""From the prefixes as they are known so far to the numbers of those that must be measured."""
OnProgress = Callable[[int, int], None]


class PrefixMeter:
    """Builds, counts and times a network without some of its units, each set of them once.

    Two networks are in memory at most.

    Args:
        model: The unpruned network; not touched.
        units: Its units.
        example_inputs: One batch the model takes.
        batch_sizes: Batch sizes whose median latency is measured on the device of the model;
            empty for none.
        repeats: Timed calls for each latency, at most.
        clock: Takes the times in place of PyTorch on the device of the model.
        measured: Times of another device; networks that it does not name are not timed.
    """

    def __init__(
        self,
        model: nn.Module,
        units: UnitMap,
        example_inputs: Any,
        *,
        batch_sizes: Sequence[int] = (1,),
        repeats: int = 20,
        clock: Clock | None = None,
        measured: Measured | None = None,
    ) -> None:
        self._clock, self._given = clock or self._in_torch, measured
        self._model, self._units, self._inputs = model, units, example_inputs
        self._sizes, self._repeats = tuple(batch_sizes), repeats
        self._known: dict[frozenset[str], Prefix] = {}
        self._weights: dict[str, Mapping[str, float]] = {}

    def prefixes(
        self,
        ranking: Sequence[str],
        *,
        wanted: Wanted | None = None,
        on_progress: OnProgress | None = None,
    ) -> tuple[Prefix, ...]:
        """Return the network after each removal of `ranking`, and before the first.

        Args:
            ranking: Names in the order of removal.
            wanted: Which prefixes must be built and timed besides; asked again until all are.
            on_progress: Called with (prefixes measured, prefixes to be measured as far as known).
        """
        places = set(anchors(len(ranking) + 1))
        if self._given is not None:
            places = self._named(ranking, self._given)
        while True:
            self._build(ranking, sorted(places), on_progress)
            while gap := self._unaccounted(ranking, sorted(places)):
                places |= gap
                self._build(ranking, sorted(places), on_progress)
            found = self._filled(ranking, sorted(places))
            more = set() if wanted is None else set(wanted(found)) - places
            if not more or self._given is not None:
                return found
            places |= more

    def _build(
        self, ranking: Sequence[str], places: Sequence[int], on_progress: OnProgress | None
    ) -> None:
        for number, place in enumerate(places, start=1):
            key = frozenset(ranking[:place])
            if key not in self._known:
                self._known[key] = self._measured(ranking[:place])
            if on_progress is not None:
                on_progress(number, len(places))

    def _measured(self, gone: Sequence[str]) -> Prefix:
        chosen, inputs = [self._units[name] for name in gone], self._inputs
        pruned = remove_units(self._model, chosen, example_inputs=inputs) if gone else self._model
        cost = count_cost(pruned, inputs)
        latency = dict(self._clock(pruned)) if self._given is None else self._given[frozenset(gone)]
        return Prefix(
            num_removed=len(gone),
            params=cost.params,
            flops=cost.flops,
            latency_ms={str(size): latency[str(size)] for size in self._sizes} or None,
            measured=True,
        )

    def _in_torch(self, network: nn.Module) -> dict[str, float]:
        return {
            str(size): measure_latency(
                network,
                self._inputs,
                batch_size=size,
                repeats=self._repeats,
                max_seconds=SECONDS,
                least=LEAST,
            ).median_ms
            for size in self._sizes
        }

    def _named(self, ranking: Sequence[str], given: Measured) -> set[int]:
        """Return which prefixes another device has timed, the ends among them.

        Raises:
            PlanError: It has not timed the ends of this ranking, at every batch size.
        """
        sizes = {str(size) for size in self._sizes}
        places = {
            place
            for place in range(len(ranking) + 1)
            if sizes <= set(given.get(frozenset(ranking[:place]), ()))
        }
        if not {0, len(ranking)} <= places:
            raise PlanError(
                f"the measured times are of other networks: of the {len(ranking) + 1} of this "
                f"ranking {len(places)} are there at batch {', '.join(sorted(sizes))}, and the "
                "first and the last must be. Write them again: srinit plan RUN --candidates FOLDER."
            )
        return places

    def _unaccounted(self, ranking: Sequence[str], places: Sequence[int]) -> set[int]:
        """Return prefixes that are no sums: the middles of stretches whose ends do not agree."""
        found = set()
        for low, high in itertools.pairwise(places):
            if high - low > 1:
                last = list(self._summed(ranking, low, high))[-1]
                counted = self._known[frozenset(ranking[:high])]
                if (last.params, last.flops) != (counted.params, counted.flops):
                    found.add((low + high) // 2)
        return found

    def _summed(self, ranking: Sequence[str], low: int, high: int) -> list[Prefix]:
        """Return prefixes from the one after `low` to `high`, as sums over their units."""
        last = self._known[frozenset(ranking[:low])]
        found = []
        for place in range(low + 1, high + 1):
            unit = self._units[ranking[place - 1]]
            last = Prefix(
                num_removed=place,
                params=last.params - unit.params,
                flops=last.flops - unit.flops,
            )
            found.append(last)
        return found

    def _filled(self, ranking: Sequence[str], places: Sequence[int]) -> tuple[Prefix, ...]:
        """Return all prefixes, those between the measured ones filled in."""
        found = {place: self._known[frozenset(ranking[:place])] for place in places}
        if len(places) <= len(ranking) and self._sizes:
            self._weigh()
        errors = {
            str(size): _largest_error(ranking, found, str(size), self._weights.get(str(size), {}))
            for size in self._sizes
        }
        for low, high in itertools.pairwise(places):
            for prefix in self._summed(ranking, low, high)[:-1]:
                latency = {
                    size: _between(ranking, found, size, weights, low, prefix.num_removed, high)
                    for size, weights in self._weights.items()
                }
                found[prefix.num_removed] = replace(
                    prefix, latency_ms=latency or None, interpolated=errors if latency else None
                )
        return tuple(found[place] for place in range(len(ranking) + 1))

    def _weigh(self) -> None:
        """Time the units inside the unpruned network, once."""
        for size in self._sizes:
            if str(size) not in self._weights:
                times = unit_times(
                    self._model,
                    {unit.name: _modules_of(unit) for unit in self._units},
                    self._inputs,
                    batch_size=size,
                    repeats=LEAST if size == min(self._sizes) else FEWER,
                )
                self._weights[str(size)] = times


def measure_prefixes(
    model: nn.Module,
    units: UnitMap,
    ranking: Sequence[str],
    example_inputs: object,
    *,
    batch_sizes: Sequence[int] = (1,),
    repeats: int = 20,
    wanted: Wanted | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Prefix, ...]:
    """Return parameters, FLOPs and latency of the network after each removal of `ranking`.

    A few networks are built and timed (`measured`); what lies between them is filled in, and
    says so. Networks are built one after the other, so that two are in memory at most.

    Args:
        model: The unpruned network; not touched.
        units: Its units.
        ranking: Names in the order of removal.
        example_inputs: One batch the model takes.
        batch_sizes: Batch sizes whose median latency is measured on the device of the model;
            empty for none.
        repeats: Timed calls for each latency, at most.
        wanted: From the prefixes as they are known so far to the numbers of those that must be
            measured besides; asked again until all are.
        on_progress: Called with (prefixes measured, prefixes to be measured as far as known).

    Returns:
        `len(ranking) + 1` prefixes, the first of them the unpruned network.

    Raises:
        SurgeryError: A network does not run without its units.

    Example:
        >>> import torch
        >>> from srinit.units import find_units
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> net = nn.TransformerEncoder(layer, 8, enable_nested_tensor=False).eval()
        >>> x = torch.zeros(2, 4, 8)
        >>> found = measure_prefixes(net, find_units(net, x), [f"layers.{i}" for i in range(7)], x)
        >>> [prefix.measured for prefix in found]
        [True, False, True, False, False, True, False, True]
    """
    meter = PrefixMeter(model, units, example_inputs, batch_sizes=batch_sizes, repeats=repeats)
    return meter.prefixes(ranking, wanted=wanted, on_progress=on_progress)


def anchors(count: int) -> tuple[int, ...]:
    """Return which of so many prefixes are measured in any case, evenly spread.

    Example:
        >>> anchors(4), anchors(28)
        ((0, 1, 2, 3), (0, 9, 18, 27))
    """
    if count <= FEW:
        return tuple(range(count))
    return tuple(round(index * (count - 1) / (ANCHORS - 1)) for index in range(ANCHORS))


def _modules_of(unit: Unit) -> tuple[str, ...]:
    return unit.parts or (unit.name,)


def _between(
    ranking: Sequence[str],
    found: Mapping[int, Prefix],
    size: str,
    weights: Mapping[str, float],
    low: int,
    place: int,
    high: int,
) -> float:
    """Return the latency of a prefix between two that were timed, shared out by the units."""
    first, last = ((found[end].latency_ms or {})[size] for end in (low, high))
    passed = sum(weights[name] for name in ranking[low:place])
    whole = sum(weights[name] for name in ranking[low:high])
    share = passed / whole if whole > 0 else (place - low) / (high - low)
    return first + (last - first) * share


def _largest_error(
    ranking: Sequence[str], found: Mapping[int, Prefix], size: str, weights: Mapping[str, float]
) -> float | None:
    """Return how far a timed latency lies from what its timed neighbors would have made of it."""
    places, errors = sorted(found), []
    if not weights:
        return None
    for low, place, high in zip(places, places[1:], places[2:], strict=False):
        timed = (found[place].latency_ms or {})[size]
        errors.append(abs(_between(ranking, found, size, weights, low, place, high) / timed - 1))
    return max(errors, default=None)
