"""A ranking proposes, a trial decides: units are removed on a copy, and the loss is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from srinit.comparison import Difference, compare_outcomes
from srinit.errors import ConfigError, as_names
from srinit.evaluate import Outcomes, Scorer, check_rereadable, evaluate, inputs_of, top1
from srinit.finetune import recalibrate
from srinit.records import record
from srinit.surgery import remove_units
from srinit.units.records import Unit, UnitMap

Progress = Callable[[int, int], None]
Recover = Callable[[nn.Module], object]  # trains in place


@record
class Trial:
    """What some units cost together, against the network with them, which is not trained."""

    removed: tuple[str, ...]
    cost: Difference  # score with them - score without, paired; positive is worse


def try_removals(
    model: nn.Module,
    units: UnitMap | Mapping[str, Unit],
    candidates: Sequence[Sequence[str]],
    data: Iterable[tuple[Any, Any]],
    *,
    example_inputs: Any,
    gone: Sequence[str] = (),
    scorer: Scorer = top1,
    confidence: float = 0.95,
    recover: Recover | None = None,
    on_progress: Progress | None = None,
) -> tuple[Trial, ...]:
    """Return what each candidate costs if it is removed, with its interval.

    Batch normalization is estimated anew on the inputs of `data` before a network is measured;
    the reference without any candidate is treated alike.

    Args:
        model: The unpruned network; not touched.
        units: Its units.
        candidates: Names of units that are removed together.
        data: Calibration batches, `(inputs, target)` or dicts with `labels`; read twice for every
            candidate.
        example_inputs: One batch that the network takes.
        gone: Units that are gone already.
        scorer: Score per example in [0, 1].
        confidence: Of every interval, each for itself.
        recover: A short training of a network without a candidate, before it is measured; its
            teacher and data are the caller's. None: recalibrated only.
        on_progress: Called with (candidates done, candidates in all).

    Raises:
        ConfigError: A candidate is a text in place of a list of names, or names no unit.
        DataError: The data can be read only once.

    Example:
        >>> import torch
        >>> from srinit.units import find_units
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        >>> net = nn.Sequential(net, nn.Flatten(), nn.Linear(32, 2)).eval()
        >>> x = torch.randn(20, 4, 8)
        >>> units = find_units(net, x[:2])
        >>> trial, = try_removals(net, units, [units.names[:1]], [(x, torch.ones(20).long())],
        ...     example_inputs=x[:2])
        >>> trial.removed, -1 <= trial.cost.low <= trial.cost.drop <= trial.cost.high <= 1
        (('0.layers.0',), True)
    """
    check_rereadable(data, "a trial")
    candidates = [as_names(names, "a candidate of candidates") for names in candidates]
    gone = as_names(gone, "gone")
    unknown = [name for names in (gone, *candidates) for name in names if not _knows(units, name)]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} cannot be tried: it is no removable unit.")
    example_inputs = inputs_of(example_inputs, model)

    def outcomes(names: Sequence[str], recover: Recover | None) -> Outcomes:
        chosen = [units[name] for name in names]
        network = remove_units(model, chosen, example_inputs=example_inputs)
        recalibrate(network, data)
        if recover is not None:
            recover(network)
        return evaluate(network, data, scorer=scorer)

    reference = outcomes(gone, None)
    found = []
    for number, names in enumerate(candidates, start=1):
        without = outcomes((*gone, *names), recover)
        compared = compare_outcomes(reference, without, confidence=confidence)
        found.append(Trial(removed=tuple(names), cost=compared.score))
        if on_progress is not None:
            on_progress(number, len(candidates))
    return tuple(found)


def _knows(units: UnitMap | Mapping[str, Unit], name: str) -> bool:
    known = units.names if isinstance(units, UnitMap) else units
    return name in known
