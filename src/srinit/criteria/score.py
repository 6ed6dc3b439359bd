"""`score_units`: every removable unit's score under one criterion, lower goes first."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.copying import detached_copy
from srinit.criteria import removal, similarity, weights
from srinit.criteria.options import Criterion, OnProgress, Options
from srinit.criteria.records import UnitScore, UnitScores
from srinit.criteria.taylor import taylor
from srinit.distributed import ProcessGroup
from srinit.engine import Batch, Examples, Precision, open_examples, order_of
from srinit.errors import ConfigError
from srinit.evaluate import Loss, Scorer, top1
from srinit.records import of_plain, plain
from srinit.reinit import Scheme
from srinit.rng import isolated_rng, seed_for
from srinit.sensitivity import Sensitivity, measure_sensitivity
from srinit.units.fingerprint import check_fits
from srinit.units.records import UnitMap

CRITERIA: dict[str, Criterion] = {
    "removal_drop": removal.removal_drop,
    "output_cka": removal.output_cka,
    "block_influence": similarity.block_influence,
    "cka": similarity.cka,
    "l1": weights.l1,
    "taylor": taylor,
    "position": weights.position,
    "random": weights.random,
}
"""All but `reinit_drop`, which is the scan itself (`measure_sensitivity`)."""

ROOM = 64 << 20  # bytes of a batch's outputs on a CPU
READS_NOTHING = ("l1", "position", "random")
BY_UNIT = ("removal_drop", "output_cka")  # cost a forward for each unit, which processes share


def score_units(
    model: nn.Module,
    units: UnitMap,
    data: Iterable[Batch],
    *,
    criterion: str | Criterion = "removal_drop",
    scheme: str | Scheme = "auto",
    scorer: Scorer = top1,
    loss: Loss | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    device: torch.device | str | None = None,
    precision: Precision = "auto",
    batch_size: int | None = None,
    max_examples: int | None = None,
    ranks: ProcessGroup | None = None,
    on_progress: OnProgress | None = None,
) -> UnitScores:
    """Return what a criterion says of every removable unit: the lowest score goes first.

    - `removal_drop`: mean score lost when the unit is bypassed, with an interval.
    - `reinit_drop`: mean score lost when it is re-initialized; the scan, see
      `measure_sensitivity`.
    - `block_influence`: 1 minus the cosine between what enters and what leaves it.
    - `cka`: 1 minus the linear CKA of the two, averaged over tokens or pixels.
    - `output_cka`: 1 minus the linear CKA of the network's outputs with and without it.
    - `taylor`: sum of |gradient x weight|. `l1`: mean |weight|.
    - `position`: the last first. `random`: by chance.

    Which of them predicts what a removal really costs is measured in docs/criteria.md.

    Args:
        model: Any module; only read. The criterion works on a copy.
        units: Its units.
        data: Calibration batches `(inputs, target)`, or dicts with `labels`.
        criterion: A name above, or your own (`srinit.criteria.Criterion`).
        scheme: Perturbation of `reinit_drop`.
        scorer: Per-example score in [0, 1].
        loss: Of `taylor`, `(output, target) -> scalar`; by default what belongs to `scorer`
            (`srinit.evaluate.loss_for`).
        confidence: Of intervals, one unit at a time.
        seed: Of the choice and order of examples, and of random criteria.
        device: Where inputs go; by default to the model's first parameter.
        precision: "auto": bfloat16 for removals where the hardware gains from it and the scores
            of the first batch agree; "keep": the model's own.
        batch_size: Examples a batch; 64 on a CPU, 256 elsewhere, of texts fewer where the
            outputs of so many would take more than 64 MiB, or 1 GiB elsewhere.
        max_examples: Read that many examples at most, chosen at random.
        ranks: Processes that share the units where each costs a forward, or take what the first
            finds; all of them must call this. (`reinit_drop` shares its work by itself.)
        on_progress: Called after each batch.

    Returns:
        A score for every unit, or the reason why there is none: not finite, or (but for
        `removal_drop`, whose scores are losses) the same for all units, which ranks nothing.

    Raises:
        ConfigError: There is no such criterion, or yours returned something else than scores.
        DataError: There is no example, or data, model and scorer do not fit together.

    Example:
        >>> from srinit.units import find_units
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        >>> x = torch.zeros(2, 4, 8)
        >>> score_units(model, find_units(model, x), [], criterion="position").order
        ('layers.2', 'layers.1', 'layers.0')
    """
    function = find_criterion(criterion)
    place = torch.device(modules.device_of(model) if device is None else device)
    if function is None:
        sensitivity = measure_sensitivity(
            model, units, data, scheme=scheme, confidence=confidence, seed=seed, scorer=scorer,
            device=place, precision=precision, batch_size=batch_size, max_examples=max_examples,
            on_progress=on_progress,
        )  # fmt: skip
        return scores_of(sensitivity)
    check_fits(model, units)
    options = Options(
        device=place,
        seed=seed,
        scorer=scorer,
        loss=loss,
        confidence=confidence,
        scheme=scheme,
        precision=precision,
        on_progress=on_progress,
        share=(ranks.rank, ranks.count) if ranks is not None and criterion in BY_UNIT else (0, 1),
    )
    reads = criterion not in READS_NOTHING
    batches = _Batches(data if reads else (), model, batch_size, place, seed, max_examples)
    name = criterion if isinstance(criterion, str) else name_of(criterion)
    with isolated_rng(seed_for("criterion", seed)):
        own = not isinstance(criterion, str)
        given = function(_copied(model, batches, place, whole=own), units, batches, options)
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"the criterion {name} returned {type(given).__name__}; return a dict of scores by "
            "name of unit, such as {unit.name: 0.5 for unit in units}."
        )
    found = dict(given)
    if ranks is not None and ranks.count > 1:
        found = _of_all(found, ranks, together=criterion in BY_UNIT)
    baseline = found.pop("", None)
    known = set(units.names)
    if not set(found) <= known:
        raise ConfigError(
            f"the criterion {name} scored {min(set(found) - known, key=str)!r}, which is no "
            "removable unit; return scores by name for the units you are given."
        )
    is_drop = criterion == "removal_drop"
    checked = tuple(_checked(unit, found.get(unit), name) for unit in units.names)
    return UnitScores(
        criterion=name,
        units=checked if is_drop else _ranking(checked, name),
        is_drop=is_drop,
        num_examples=batches.num_examples,
        seed=seed,
        confidence=confidence,
        baseline_score=baseline.score if isinstance(baseline, UnitScore) else None,
    )


def scores_of(sensitivity: Sensitivity) -> UnitScores:
    """Return a scan in the form of a criterion's scores."""
    removable = set(sensitivity.unit_map.names)
    units = tuple(
        UnitScore(
            unit=unit.unit,
            score=None if unit.decision == "not measured" else unit.reinit_drop,
            interval=unit.interval,
            reason=unit.reason if unit.decision == "not measured" else "",
        )
        for unit in sensitivity.units
        if unit.unit in removable
    )
    return UnitScores(
        criterion=f"reinit_drop ({sensitivity.scheme})",
        units=units,
        is_drop=True,
        num_examples=sensitivity.num_examples,
        seed=sensitivity.seed,
        confidence=sensitivity.confidence,
        baseline_score=sensitivity.baseline_score,
    )


def find_criterion(criterion: str | Criterion) -> Criterion | None:
    """Return a criterion by its name in `CRITERIA`; your own is itself, None is `reinit_drop`.

    Raises:
        ConfigError: There is none of that name.
    """
    if not isinstance(criterion, str):
        if not callable(criterion):
            raise ConfigError(
                f"a criterion is a name or a function, not {type(criterion).__name__}; known are "
                f"reinit_drop, {', '.join(CRITERIA)}."
            )
        return criterion
    known = ("reinit_drop", *CRITERIA)
    if criterion not in known:
        near = difflib.get_close_matches(criterion, known, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"there is no criterion {criterion!r} (nearest: {near!r}); known are "
            f"{', '.join(known)}, or py:FILE.py:FUNCTION in a config."
        )
    return CRITERIA.get(criterion)


def name_of(criterion: Criterion) -> str:
    """Return the name of a user's own criterion, for records."""
    return str(getattr(criterion, "__name__", type(criterion).__name__))


def _checked(unit: str, value: Any, name: str) -> UnitScore:
    if value is None:
        return UnitScore(unit=unit, score=None, reason=f"the criterion {name} gave no score")
    if isinstance(value, UnitScore):
        found = value
    else:
        try:
            found = UnitScore(unit=unit, score=float(value))
        except (TypeError, ValueError, RuntimeError):
            raise ConfigError(
                f"the criterion {name} gave {type(value).__name__} for {unit!r}; return a number, "
                "a UnitScore or None."
            ) from None
    if found.unit != unit:
        raise ConfigError(
            f"the criterion {name} gave the score of {found.unit!r} for {unit!r}; let every "
            "UnitScore stand under its own unit's name."
        )
    if found.score is not None and not math.isfinite(found.score):
        told = "NaN" if math.isnan(found.score) else "infinity"
        return UnitScore(unit=unit, score=None, reason=f"the criterion {name} gave {told}")
    return found


def _of_all(found: dict[str, Any], ranks: ProcessGroup, *, together: bool) -> dict[str, Any]:
    """Return the scores of all processes, or where each has them all those of the first."""
    lines = ranks.gather({unit: plain(score) for unit, score in found.items()})
    merged: dict[str, Any] = {}
    for line in lines if together else lines[:1]:
        merged |= line
    return {
        unit: of_plain(UnitScore, score) if isinstance(score, dict) else score
        for unit, score in merged.items()
    }


def _ranking(units: tuple[UnitScore, ...], name: str) -> tuple[UnitScore, ...]:
    """Return the scores; where all are the same they are none, and say so."""
    scores = [unit.score for unit in units if unit.score is not None]
    if len(scores) < 2 or not math.isclose(min(scores), max(scores), rel_tol=1e-9):
        return units
    reason = (
        f"the criterion {name} gave all {len(scores)} units the same score, {scores[0]:g}, which "
        "ranks nothing"
    )
    return tuple(
        unit if unit.score is None else UnitScore(unit=unit.unit, score=None, reason=reason)
        for unit in units
    )


def _copied(model: nn.Module, batches: _Batches, device: torch.device, *, whole: bool) -> nn.Module:
    """Return a copy in evaluation mode, compared with the model.

    Args:
        model: Only read.
        batches: The first examples of it are what both are run on.
        device: Where inputs go.
        whole: Weights are copied too; else they are shared, for criteria that do not change them.
    """
    first = next(iter(batches), None)
    some = (
        None if first is None else modules.to_device(modules.rows_between(first[0], 0, 3), device)
    )
    return detached_copy(model, some, shared=None if whole else _plain)[0].eval()


def _plain(parameter: Tensor) -> bool:
    return type(parameter) is nn.Parameter and not parameter.is_meta


class _Batches:
    """Examples of any data set, in random order, in batches of one size."""

    def __init__(
        self,
        data: Iterable[Batch],
        model: nn.Module,
        size: int | None,
        place: torch.device,
        seed: int,
        max_examples: int | None,
    ) -> None:
        self._examples: Examples | None = None if data == () else open_examples(data, model)
        count = 0 if self._examples is None else len(self._examples)
        order = order_of(count, seed)[:max_examples] if count else []
        size = size or self._size(model, place, order)
        self._parts = [order[i : i + size] for i in range(0, len(order), size)]
        self.num_examples = 0  # read so far, at most in one reading

    def _size(self, model: nn.Module, place: torch.device, order: list[int]) -> int:
        """Return how many examples a batch holds: of texts as many as their outputs allow."""
        on_cpu = place.type == "cpu"
        most = 64 if on_cpu else 256
        if self._examples is None or not order:
            return most
        inputs, _ = next(iter(self._examples.read([order[:1]])))
        if any(each.is_floating_point() for each in modules.tensors(inputs)):
            return most
        with modules.untouched(model), torch.no_grad():
            output = modules.call(model, modules.to_device(inputs, place))
        one = sum(each.nbytes for each in modules.tensors(output))
        return max(1, min(most, (ROOM if on_cpu else 16 * ROOM) // max(one, 1)))

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Batch]:
        count = 0
        for batch in () if self._examples is None else self._examples.read(self._parts):
            count += modules.batch_size(batch[0])
            self.num_examples = max(self.num_examples, count)
            yield batch
