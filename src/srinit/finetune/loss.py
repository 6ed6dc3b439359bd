"""The loss of fine-tuning: the task's own, and what copies the teacher."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from srinit.evaluate import CrossEntropy, Loss
from srinit.evaluate.losses import distillation
from srinit.finetune.features import feature_loss
from srinit.finetune.records import Recipe

# what the hooks of student and teacher find, and the names that belong together
Features = tuple[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, str]]


def combined(
    output: object,
    target: object,
    guide: object,
    *,
    loss: Loss | None,
    places: CrossEntropy,
    recipe: Recipe,
    features: Features | None = None,
) -> Tensor:
    """Return the loss of one batch; without a teacher the task's alone.

    Predictions are copied where the output has a target; padding and other places with a target of
    -100 are left out.

    Args:
        output: Of the network that is trained.
        target: Of the batch.
        guide: What the teacher says of the batch; None without one.
        loss: Of the task; None: nothing but the teacher is followed.
        places: Says which places of the output have a target.
        recipe: Its weights and its temperature.
        features: Of both networks.
    """
    copies = recipe.feature_weight > 0 and features is not None
    if guide is None or (recipe.distill_weight == 0 and not copies):
        assert loss is not None
        return loss(output, target)
    weight = recipe.distill_weight
    terms = [] if loss is None else [loss(output, target)]
    if weight > 0:
        counted = places.places(output, target)
        copied = distillation(output, guide, recipe.temperature, counted, recipe.distill_top)
        terms = [weight * copied, *[(1 - weight) * own for own in terms]]
    distance = feature_loss(*features) if copies and features is not None else None
    if distance is not None:
        terms.append(recipe.feature_weight * distance)
    return torch.stack(terms).sum()
