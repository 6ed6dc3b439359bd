"""What every prefix of a plan's ranking costs: each network is built and counted, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from srinit.cost import count_cost
from srinit.latency import measure_latency
from srinit.plan import Prefix
from srinit.surgery import remove_units
from srinit.units.records import UnitMap


def measure_prefixes(
    model: nn.Module,
    units: UnitMap,
    ranking: Sequence[str],
    example_inputs: Any,
    *,
    batch_sizes: Sequence[int] = (1,),
    repeats: int = 20,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Prefix, ...]:
    """Return parameters, FLOPs and latency of the network after each removal of `ranking`.

    Networks are built one after the other, so that two are in memory at most.

    Args:
        model: The unpruned network; not touched.
        units: Its units.
        ranking: Names in the order of removal.
        example_inputs: One batch the model takes.
        batch_sizes: Batch sizes whose median latency is measured on the device of the model;
            empty for none.
        repeats: Timed calls for each latency.
        on_progress: Called with (prefixes done, prefixes in all).

    Returns:
        `len(ranking) + 1` prefixes, the first of them the unpruned network.
    """
    prefixes = []
    for count in range(len(ranking) + 1):
        gone = [units[name] for name in ranking[:count]]
        pruned = remove_units(model, gone, example_inputs=example_inputs) if gone else model
        cost = count_cost(pruned, example_inputs)
        latency = {
            str(size): measure_latency(
                pruned, example_inputs, batch_size=size, repeats=repeats
            ).median_ms
            for size in batch_sizes
        }
        prefixes.append(
            Prefix(
                num_removed=count,
                params=cost.params,
                flops=cost.flops,
                latency_ms=latency or None,
                measured=True,
            )
        )
        if on_progress is not None:
            on_progress(count + 1, len(ranking) + 1)
    return tuple(prefixes)
