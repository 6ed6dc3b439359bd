"""How a run recovers: the recipe its config asks for, and what is to be expected beforehand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from srinit.comparison import Difference, compare_outcomes
from srinit.distributed import by_itself
from srinit.evaluate import evaluate
from srinit.finetune import Recipe, TuneLog, auto_recipe, fine_tune
from srinit.pipeline.session import Session
from srinit.plan import PrunePlan
from srinit.records import record
from srinit.sensitivity.working import faster_copy, has_fast_bfloat16
from srinit.sources import Augment
from srinit.trialbench import NOTHING

TRIAL_FIT = 32  # examples that a trial's compensation is fitted on
FIELDS = (
    "epochs", "optimizer", "lr", "weight_decay", "warmup", "label_smoothing",
    "distill_weight", "temperature", "feature_weight", "schedule", "batch_size", "patience", "ema",
    "precision",
)  # fmt: skip


@record
class Rehearsal:
    """A short recovery, tried on a copy of the cut network before it is trained."""

    steps: int
    cost: Difference  # score of the unpruned network - score after the steps, on calibration data


def recipe(session: Session) -> Recipe:
    """Return the recipe of the config; `finetune: auto` looks at the size of the data."""
    settings = session.config.finetune
    given = Recipe(**{name: getattr(settings, name) for name in FIELDS})
    if not trains(session):
        return replace(given, epochs=0)
    if settings.recipe != "auto" or given.epochs == 0 or "train" not in session.data:
        return given
    return auto_recipe(
        len(session.split("train")), validated="validation" in session.data, given=given
    )


def trains(session: Session) -> bool:
    """Return whether anything is trained after the cut: with data to train on, or by the user."""
    settings = session.config.finetune
    if settings.command is not None:
        return True
    return "train" in session.data and (settings.fn is not None or settings.epochs > 0)


def augment(session: Session) -> Augment:
    """Return the random changes of training images that the config asks for."""
    settings = session.config.data.augment
    return Augment(crop_padding=settings.crop_padding, flip=settings.flip)


def trial_data(session: Session) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Return calibration batches on which removals are tried, and inputs to compensate them by.

    Both are chosen by content, and they are different examples; of few, a third is for the latter.
    """
    calibration, size = session.split("calibration"), session.config.data.batch_size
    tried, fitted = session.config.plan.trial_examples, TRIAL_FIT
    if session.config.compensate.method == "none":
        fitted = 0
    if tried + fitted > len(calibration):
        fitted = min(fitted, len(calibration) // 3)
        tried = min(tried, len(calibration) - fitted)
    chosen = calibration.by_content(tried + fitted)
    places = range(len(chosen))
    fit = chosen.subset(places[tried:]).batches(size) if fitted else ()
    return list(chosen.subset(places[:tried]).batches(size)), [inputs for inputs, _ in fit]


def few_steps(session: Session, steps: int) -> Callable[[nn.Module], TuneLog] | None:
    """Return a function that recovers a network in place for so many steps of the run's recipe.

    None where nothing can be tried: no steps, no fine-tuning or one of the user's own, or no
    training data. Of several processes each trains by itself.
    """
    settings = session.config.finetune
    own = settings.command is not None or settings.fn is not None
    if not steps or own or settings.epochs == 0 or "train" not in session.data:
        return None
    train, full = session.split("train"), recipe(session)
    if not len(train):
        return None
    per_epoch = len(train.batches(full.batch_size))
    cheap = full.precision == "auto" and has_fast_bfloat16(session.device)
    short = replace(
        full,
        epochs=(steps - 0.5) / per_epoch,
        patience=None,
        ema=None,
        feature_weight=0.0,
        precision="bfloat16" if cheap else full.precision,
    )

    def recover(model: nn.Module) -> TuneLog:
        with by_itself():
            return fine_tune(
                model,
                train,
                None,
                teacher=_channels_last(copy.deepcopy(session.model)),
                recipe=short,
                loss=session.loss,
                scorer=session.scorer,
                augment=augment(session),
                seed=session.config.seed,
            )

    return recover


def rehearse(session: Session, pruned: nn.Module) -> Rehearsal | None:
    """Return what a short recovery brings on a copy of the cut network; None if none is tried.

    Args:
        session: The run.
        pruned: The cut network as its training will begin, compensated; not changed.
    """
    recover = few_steps(session, session.config.finetune.rehearsal)
    if recover is None or session.config.plan.trial_examples == 0:
        return None
    data, _ = trial_data(session)
    trained = _channels_last(copy.deepcopy(pruned))
    recover(trained)
    before, after = (
        evaluate(faster_copy(model, session.example_inputs), data, scorer=session.scorer)
        for model in (session.model, trained)
    )
    cost = compare_outcomes(before, after, confidence=session.config.compare.confidence).score
    return Rehearsal(steps=session.config.finetune.rehearsal, cost=cost)


def _channels_last(network: nn.Module) -> nn.Module:
    """Return a network of ours as it runs fastest, in place."""
    if any(type(module) is nn.Conv2d for module in network.modules()):
        return network.to(memory_format=torch.channels_last)
    return network


def expected_dip(session: Session, plan: PrunePlan) -> str:
    """Return what is known of the loss before anything is cut, and what is not.

    Args:
        session: The run.
        plan: What is removed, with the evidence of its trials.
    """
    if not plan.remove:
        return "Nothing is removed."
    last = plan.remove[-1]
    evidence = last.evidence
    if "joint_cost" in evidence:
        read = evidence.get("joint_examples") or evidence["trial_examples"] or 0  # plans of old
        examples = f"{read:.0f}"
        trained = evidence.get("trial_steps") or 0
        how = f"trained for {trained} steps" if trained else "not trained"
        after = last.joint_after or NOTHING
        done = "nothing was done after the cut" if after == NOTHING else f"then {after}"
        cost = (evidence[f"joint_{name}"] or 0.0 for name in ("cost", "low", "high"))
        return (
            f"Expected dip: {_points(session, *cost)}, "
            f"measured by removing the units on a copy ({examples} calibration examples, "
            f"the reference untouched; {done}, {how})."
        )
    return "Expected dip: unknown; the removals were not tried (plan.trial_examples: 0)."


def _points(session: Session, cost: float, low: float, high: float) -> str:
    level = f"{100 * session.config.compare.confidence:.0f} %"
    return f"{100 * cost:.1f} points, {level} interval {100 * low:.1f} to {100 * high:.1f}"


def expected_recovery(
    session: Session, before: TuneLog | None = None, rehearsal: Rehearsal | None = None
) -> str:
    """Return what is known of the recovery before it begins, and what is not.

    Args:
        session: The run.
        before: The recovery of the stage before, where there is one.
        rehearsal: The recovery tried on a copy, where there was one.
    """
    settings = session.config.finetune
    if settings.command is not None or settings.fn is not None:
        return "Recovery: unknown; a training of your own follows."
    chosen = recipe(session)
    if chosen.epochs == 0:
        why = "finetune.epochs: 0" if "train" in session.data else "there is no data.train"
        return f"Recovery: nothing is trained ({why}); the compensated network is the result."
    noun = "epoch" if chosen.epochs == 1 else "epochs"
    what = f"{chosen.epochs:g} {noun} of fine-tuning at batch {chosen.batch_size}"
    if rehearsal is not None:
        cost = rehearsal.cost
        left = _points(session, cost.drop or 0.0, cost.low, cost.high)
        return (
            f"Expected recovery: {rehearsal.steps} steps on a copy leave a loss of {left}; "
            f"{what} follow, and what they bring beyond that is unknown until it is measured."
        )
    if before is None or before.score_before is None or before.score_after is None:
        return f"Recovery by {what}: unknown until it is measured."
    return (
        f"Recovery by {what}: unknown; the stage before went from {100 * before.score_before:.1f} "
        f"to {100 * before.score_after:.1f} % on validation data."
    )
