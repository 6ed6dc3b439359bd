"""The learning rate of every step, and when training goes back to where it began."""

from __future__ import annotations

import math
from collections.abc import Sequence

from srinit.finetune.records import FallBack, Recipe, TunePoint

FALL = 0.02  # of the score below the start, at least, that is taken for destruction
ERRORS = 3  # standard errors of it
SLOWER = 0.25  # the learning rate after such a fall
MOST_FALLS = 3
PATIENT = 0.5  # share of the steps before which a fall is not yet taken for destruction


def learning_rate(
    recipe: Recipe, step: int, total: int, fall_backs: Sequence[FallBack] = ()
) -> float:
    """Return the rate of a step: a warm-up in equal steps, then half a cosine to zero.

    Args:
        recipe: Its peak, and the share of the steps that warm up.
        step: From 0.
        total: Of the training.
        fall_backs: So far; the last one's factor is on the rate.
    """
    warm = max(1, round(recipe.warmup * total))
    peak = recipe.peak_lr * (fall_backs[-1].factor if fall_backs else 1.0)
    if step < warm:
        return peak * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def fall_back(
    recipe: Recipe, point: TunePoint, total: int, best: float, fall_backs: Sequence[FallBack]
) -> FallBack | None:
    """Return how training goes back to the first weights; None where it goes on.

    It goes back where validation lies below them when half of the steps are done. Before, a fall
    is no harm yet: high rates fall first and end higher (docs/finetune.md, "A training that
    harms"). A schedule that returns to the rate of a first training is meant to fall first.

    Args:
        recipe: How it is trained.
        point: The last validation.
        total: Steps of the training.
        best: Score of the first weights, which no later ones reached.
        fall_backs: So far.
    """
    score = point.validation_score
    if score is None or recipe.schedule == "rewind" or len(fall_backs) >= MOST_FALLS:
        return None
    if point.step < PATIENT * total:
        return None
    error = math.sqrt(max(best * (1 - best), 0.0) / max(point.num_examples, 1))
    if score > best - max(FALL, ERRORS * error):
        return None
    factor = SLOWER * (fall_backs[-1].factor if fall_backs else 1.0)
    return FallBack(step=point.step, score=score, best=best, factor=factor)
