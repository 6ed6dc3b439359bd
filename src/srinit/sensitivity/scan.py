"""`measure_sensitivity`: what every unit is worth, with an interval, and no longer than needed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from torch import nn

from srinit.distributed import process_group
from srinit.engine import Batch, Precision, eager
from srinit.evaluate import Scorer, top1
from srinit.reinit import Scheme
from srinit.sensitivity.fixed_scan import FixedDrawsScan
from srinit.sensitivity.progress import OnProgress
from srinit.sensitivity.records import Sensitivity
from srinit.sensitivity.scheme_selection import choose_scheme
from srinit.sensitivity.settings import settings_of
from srinit.sensitivity.setup import Setup
from srinit.sensitivity.streaming import StreamingScan
from srinit.units.records import UnitMap

Widths = Literal["equal", "decide"]


def measure_sensitivity(
    model: nn.Module,
    units: UnitMap,
    data: Iterable[Batch],
    *,
    scheme: str | Scheme = "auto",
    scale: float = 1.0,
    draws: int | None = None,
    half_width: float | None = 0.02,
    confidence: float = 0.95,
    max_drop: float | None = None,
    best: int | None = None,
    seed: int = 0,
    scorer: Scorer = top1,
    device: torch.device | str | None = None,
    journal: Path | None = None,
    on_progress: OnProgress | None = None,
    precision: Widths | Precision = "equal",
    num_remove: int | None = None,
    arithmetic: Precision = "auto",
    batch_size: int | None = None,
    max_examples: int | None = None,
) -> Sensitivity:
    """Return the score that each unit is worth: what is lost when it is re-initialized.

    For each unit the mean drop over random draws and examples, with an interval that stays valid
    although the scan looks at it after every batch. Examples are read in a random order, each
    once; every few of them meet a fresh draw of the unit, and the unperturbed network on the same
    examples is what they are compared with. A unit is finished when its interval is narrower than
    `half_width`, or lies on one side of `max_drop`; the scan ends when all are, or with the data.

    The intervals are betting confidence sequences (https://arxiv.org/abs/2010.09686); the method
    is SR-init (https://arxiv.org/abs/2303.07677), whose own procedure is `scheme="paper"`: one
    draw over the whole set, and no interval.

    `model` is only read: the scan works on a copy of its own. Where the hardware gains from it
    and the scores of the first examples agree, the copy computes in bfloat16.

    Args:
        model: Any module.
        units: What to measure; locked units are measured too.
        data: Iterable of `(inputs, target)` batches. Inputs may be a tensor, a tuple (positional
            arguments) or a dict (keywords).
        scheme: "auto" tries several on some examples and takes the one that tells units apart
            best; else a name in `srinit.reinit.SCHEMES`, or a callable.
        scale: Factor on drawn weights; "auto" chooses it.
        draws: That many draws over the whole data set instead, the same for all batches;
            1 is what "paper" does by default.
        half_width: Precision that is enough, a fraction; None: until decided, or the data ends.
        confidence: Of each interval; and of all joint intervals and decisions together.
        max_drop: Limit that units are decided against, a fraction.
        best: End when it is certain which that many units have the smallest drops.
        seed: Draws and order derive from it.
        scorer: Per-example score in [0, 1].
        device: Where inputs go; by default to the model's first parameter. Nothing moves a
            parameter.
        journal: File to which every observation is appended, and from which a scan that was
            interrupted goes on, with the same result; with another `max_drop` or `num_remove`,
            too.
        on_progress: Called after each batch with (units done, units, a note in words).
        precision: "equal": the same half-width for every unit. "decide": wide intervals for
            units that surely go or stay, down to `half_width` for those near the line, which is
            `num_remove` or `max_drop`; locked units are measured coarsely. With `confidence` no
            unit is ever put on the wrong side. A number format is taken for `arithmetic`.
        num_remove: With "decide": how many units go, those with the smallest drops.
        arithmetic: "auto", "keep" (the model's own), "bfloat16" or "float16".
        batch_size: Examples a batch; 64 on a CPU, 256 to 1024 elsewhere, by the model's FLOPs.
        max_examples: Read at most that many examples.

    Returns:
        One record a unit, in order of execution. A unit that cannot be drawn again, or is never
        called, is "not measured", with the reason.

    Raises:
        ConfigError: The journal belongs to another scan.
        DataError: There is no example, or data and model do not fit together.
        ReinitError: There is no such scheme.
        ResourceError: Memory or disk do not suffice.
        ValueError: An argument is out of range.

    Under `torchrun` or `accelerate launch` every process takes its share of the batches; all
    return the same.

    Example:
        >>> from srinit.units.records import Unit, UnitMap
        >>> layer, head = nn.Linear(4, 4).eval(), nn.Linear(4, 2)
        >>> unit = Unit(
        ...     name="0", kind="plain", in_shape=(4,), out_shape=(4,),
        ...     params=20, flops=32, position=0,
        ... )
        >>> found = measure_sensitivity(
        ...     nn.Sequential(layer, head),
        ...     UnitMap(removable=(unit,), locked=(), params=30, flops=48),
        ...     [(torch.rand(32, 4), torch.zeros(32, dtype=torch.long))],
        ...     scheme="default",
        ... )
        >>> found["0"].low <= found["0"].reinit_drop <= found["0"].high, found.stopped_by
        (True, 'data')
    """
    widths: str = precision
    if precision in get_args(Precision):
        widths, arithmetic = "equal", cast(Precision, precision)
    settings = settings_of(
        model, units, device, scheme=scheme, scale=scale, draws=draws, half_width=half_width,
        confidence=confidence, max_drop=max_drop, best=best, seed=seed, batch_size=batch_size,
        precision=arithmetic, max_examples=max_examples, widths=widths, num_remove=num_remove,
    )  # fmt: skip
    began = time.perf_counter()
    with eager(), process_group() as ranks:
        setup = Setup.of(model, units, data, settings, scorer=scorer, device=device, ranks=ranks)
        return _run(setup, journal, on_progress, began)


def _run(
    setup: Setup, path: Path | None, on_progress: OnProgress | None, began: float
) -> Sensitivity:
    journal = setup.open(path)
    choice = choose_scheme(setup, journal)
    problems = setup.bench.check(choice.perturbation)
    scan: StreamingScan | FixedDrawsScan
    if setup.num_draws is None:
        scan = StreamingScan(setup, choice.perturbation, problems, on_progress)
        for _ in scan.steps(journal):
            pass
    else:
        scan = FixedDrawsScan(setup, choice.perturbation, problems, setup.num_draws)
        scan.run(journal, on_progress)
    found, stopped = scan.result()
    settings = setup.settings
    selection = scan.selection if isinstance(scan, StreamingScan) else None
    return Sensitivity(
        units=found,
        unit_map=setup.units,
        scheme=choice.perturbation.name,
        scale=choice.perturbation.scale,
        confidence=settings.confidence,
        half_width=settings.half_width if setup.num_draws is None else None,
        max_drop=settings.max_drop,
        baseline_score=scan.score / scan.seen if scan.seen else 0.0,
        num_examples=scan.seen,
        seed=settings.seed,
        stopped_by=stopped,
        precision=settings.widths,
        num_remove=settings.num_remove,
        selection_error=None if selection is None else selection.error,
        scheme_reason=choice.reason,
        trials=choice.trials,
        scheme_certainty=choice.certainty,
        seconds=time.perf_counter() - began,
    )
