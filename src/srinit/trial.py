"""A ranking proposes, a trial decides: units are removed on a copy, and the loss is measured.

A trial is cut, then what a run does after a cut, where held-out examples say that it helps, then
score. All networks are measured side by side (`trialbench.py`); those that are trained before, in
turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from torch import nn

from srinit import records
from srinit.comparison import Drop, compare_outcomes
from srinit.compensation.answers import Measure
from srinit.compensation.variants import Method
from srinit.distributed import ProcessGroup
from srinit.engine import Precision
from srinit.errors import ConfigError, as_names
from srinit.evaluate import (
    Outcomes,
    Scorer,
    batches_of,
    check_rereadable,
    inputs_of,
    top1,
)
from srinit.evaluate.chunks import by_content
from srinit.records import record
from srinit.stats.looks import Stop
from srinit.surgery.remove import check_names
from srinit.trialbench import NOTHING
from srinit.trialwork import Batch, Recover, Work
from srinit.units.fingerprint import check_fits
from srinit.units.records import Unit, UnitMap

Progress = Callable[[int, int], None]
SCHEMA = "srinit.trial/2"
LOOK = 64  # examples after which one looks whether more are needed


@record
class Trial:
    """What some units cost together, against the network with them, which is not trained."""

    removed: tuple[str, ...]
    cost: Drop  # score with them - score without, paired; positive is worse
    after: str = NOTHING  # what was done after the cut: "realigned", "recalibrated"
    cut: Drop | None = None  # the cost right after the cut, where nothing was trained
    stopped: str = ""  # why not all examples were needed: "precise", "decided"


def try_removals(
    model: nn.Module,
    units: UnitMap | Mapping[str, Unit],
    candidates: Sequence[Sequence[str]],
    data: Iterable[Batch],
    *,
    example_inputs: object,
    gone: Sequence[str] = (),
    scorer: Scorer = top1,
    confidence: float = 0.95,
    method: Method = "auto",
    fit: Sequence[Any] = (),
    teacher: nn.Module | None = None,
    measure: Measure = "probabilities",
    recover: Recover | None = None,
    half_width: float | None = None,
    max_drop: float | None = None,
    precision: Precision = "auto",
    ranks: ProcessGroup | None = None,
    on_progress: Progress | None = None,
) -> tuple[Trial, ...]:
    """Return what each candidate costs if it is removed, with its interval.

    The reference is the network as it is, untouched but for `gone`. Candidates are measured as they
    are cut and with what a run does after a cut, fitted on `fit`; that counts whose answers to
    `data` are nearer to the reference's. What lies before a candidate is not computed again, and
    the arithmetic is that of the scan.

    Args:
        model: The unpruned network; not touched.
        units: Its units.
        candidates: Names of units that are removed together.
        data: Calibration batches, `(inputs, target)` or dicts with `labels`; read several times.
        example_inputs: One batch that the network takes.
        gone: Units that are gone already.
        scorer: Score per example in [0, 1].
        confidence: Of every interval, each for itself.
        method: What is tried after a cut, as `compensate.method` of a config: "auto", "recalibrate"
            or "none".
        fit: Batches of inputs, others than those of `data`, that it is fitted on; without any,
            candidates are measured as they are cut.
        teacher: The unpruned network, where `model` was trained since.
        measure: How answers are compared, see `srinit.compensate`.
        recover: A short training of a network without a candidate, before it is measured; its
            teacher and data are the caller's. None: nothing is trained.
        half_width: A trial ends where the interval of its cost is that narrow, and what is surely
            farther from the reference is given up before. Examples are then read in the order of
            hashes of their content, and intervals hold however often one looks; where units are
            trained, or there are only so many examples as one looks at once, all are read. None:
            all are.
        max_drop: With `half_width`: a trial ends also where the cost is surely on one side of this.
        precision: "auto": bfloat16 where the hardware gains from it and nearly all scores of the
            first batch agree; "keep": the model's own arithmetic.
        ranks: Processes that share the candidates; all of them must call this, and get the same.
        on_progress: Called with (candidates done, candidates in all).

    Raises:
        ConfigError: A candidate is a text in place of a list of names, or names no unit.
        DataError: There is no example, or the data can be read only once.
        PlanError: A candidate is named twice.
        SurgeryError: A unit cannot be taken out.
        ValueError: `half_width` is not in (0, 1].

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
    stop = _stop(half_width, max_drop, confidence)
    candidates = [as_names(names, "a candidate of candidates") for names in candidates]
    gone = as_names(gone, "gone")
    unknown = [name for names in (gone, *candidates) for name in names if not _knows(units, name)]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} cannot be tried: it is no removable unit.")
    example_inputs = inputs_of(example_inputs, model)
    rank, count = (0, 1) if ranks is None else (ranks.rank, ranks.count)
    for names in candidates:
        check_names(model, [units[name] for name in (*gone, *names)])
        check_fits(model, [units[name] for name in (*gone, *names)])
    mine = [tuple(names) for names in candidates[rank::count]]
    batches = list(batches_of(data, model))
    if stop is not None:
        batches = by_content(batches, LOOK)
    work = Work(
        model, units, tuple(gone), batches, example_inputs, scorer, precision,
        method if len(fit) else "none", fit, teacher, measure, stop=stop,
    )  # fmt: skip
    done: list[Trial] = []
    if mine:

        def tell(number: int) -> None:
            if on_progress is not None:
                on_progress(min(number * count, len(candidates)), len(candidates))

        reference, others = work.outcomes(mine, recover, tell)
        for names, each in zip(mine, others, strict=True):
            cost = _cost(reference, each.best, confidence, each.best_interval)
            cut = None
            if recover is None:
                cut = _cost(reference, each.cut, confidence, each.cut_interval)
            done.append(
                Trial(removed=names, cost=cost, after=each.after, cut=cut, stopped=each.stopped)
            )
    parts = [done]
    if ranks is not None:
        texts = ranks.gather([records.to_json(trial, schema=SCHEMA) for trial in done])
        parts = [[records.from_json(Trial, text, schema=SCHEMA) for text in of] for of in texts]
    return tuple(parts[number % count][number // count] for number in range(len(candidates)))


def removal_distances(
    model: nn.Module,
    units: UnitMap,
    data: Iterable[Batch],
    *,
    example_inputs: object,
    scorer: Scorer = top1,
    method: Method = "auto",
    fit: Sequence[Any] = (),
    measure: Measure = "probabilities",
    precision: Precision = "auto",
    ranks: ProcessGroup | None = None,
    on_progress: Progress | None = None,
) -> dict[str, float]:
    """Return how far the answers are from the network's without each unit, compensated.

    A criterion: the unit with the least distance goes first. It costs a trial of every unit.

    Args:
        model: The network; not touched.
        units: Its units.
        data: See `try_removals`; labels are read by `scorer` alone, which distances do not need.
        example_inputs: See `try_removals`.
        scorer: See `try_removals`.
        method: See `try_removals`.
        fit: See `try_removals`.
        measure: See `try_removals`.
        precision: See `try_removals`.
        ranks: See `try_removals`.
        on_progress: See `try_removals`.

    Raises:
        DataError: There is no example, or the data can be read only once.
        PlanError: The units are those of another network.
        SurgeryError: A unit cannot be taken out.

    Example:
        >>> import torch
        >>> from srinit.units import find_units
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        >>> net = nn.Sequential(net, nn.Flatten(), nn.Linear(32, 2)).eval()
        >>> x = torch.randn(20, 4, 8)
        >>> found = removal_distances(
        ...     net, find_units(net, x[:2]), [(x, torch.ones(20).long())], example_inputs=x[:2]
        ... )
        >>> sorted(found), all(0 < distance < 1 for distance in found.values())
        (['0.layers.0', '0.layers.1'], True)
    """
    check_rereadable(data, "a trial")
    check_fits(model, units)
    rank, count = (0, 1) if ranks is None else (ranks.rank, ranks.count)
    names = [(name,) for name in units.names]
    work = Work(
        model, units, (), list(batches_of(data, model)), inputs_of(example_inputs, model), scorer,
        precision, method if len(fit) else "none", fit, None, measure, tells_distance=True,
    )  # fmt: skip

    def tell(number: int) -> None:
        if on_progress is not None:
            on_progress(min(number * count, len(names)), len(names))

    mine = names[rank::count]
    measured = work.outcomes(mine, None, tell)[1] if mine else []
    found = {name: each.distance for (name,), each in zip(mine, measured, strict=True)}
    parts = [found] if ranks is None else ranks.gather(found)
    every = {name: distance for part in parts for name, distance in part.items()}
    return {name: every[name] for name in units.names}


def _stop(half_width: float | None, max_drop: float | None, confidence: float) -> Stop | None:
    if half_width is None:
        return None
    if not 0 < half_width <= 1:
        raise ValueError(f"half_width must lie in (0, 1], found {half_width!r}.")
    return Stop(half_width, max_drop, confidence)


def _cost(
    reference: Outcomes,
    outcomes: Outcomes,
    confidence: float,
    interval: tuple[float, float] | None,
) -> Drop:
    """Return what is lost on the examples that were run.

    Args:
        reference: With the units; of these examples and perhaps more.
        outcomes: Without them.
        confidence: Of the interval.
        interval: One that holds however often one looked.
    """
    count = outcomes.num_examples
    same = Outcomes(
        **{field.name: getattr(reference, field.name)[:count] for field in fields(reference)}
    )
    found = compare_outcomes(same, outcomes, confidence=confidence).score
    return found if interval is None else replace(found, low=interval[0], high=interval[1])


def _knows(units: UnitMap | Mapping[str, Unit], name: str) -> bool:
    known = units.names if isinstance(units, UnitMap) else units
    return name in known
