"""The recipe that follows from the size of the training data and the kind of the network."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit.config.recovery import Optimizer
from srinit.finetune.records import Recipe

STEPS = 2000  # wanted, where the bounds below allow it
EPOCHS = (5, 100)  # fewest and most passes over the data
BATCHES = (16, 128)  # smallest and largest batch
BATCHES_AN_EPOCH = 16  # at least, if the smallest batch allows it


def auto_recipe(num_examples: int, *, model: nn.Module | None = None, **given: Any) -> Recipe:
    """Return a recipe for so many training examples; what is given, stays.

    Batch and length follow from the size of the data, the optimizer from the network. They are
    conventions, not measured; the rate is left to trials (`srinit.finetune.choice`).

    Args:
        num_examples: Of the training data.
        model: The network; with none, one with batch normalization is thought of.
        **given: Settings of `Recipe` that are not to be chosen.

    Example:
        >>> small, large = auto_recipe(800), auto_recipe(1_000_000)
        >>> (small.batch_size, small.epochs), (large.batch_size, large.epochs)
        ((32, 80.0), (128, 5.0))
        >>> auto_recipe(800, epochs=3).epochs
        3.0
    """
    batch = BATCHES[0]
    while batch < BATCHES[1] and 2 * batch * BATCHES_AN_EPOCH <= num_examples:
        batch *= 2
    batch = given.get("batch_size", batch)
    per_epoch = max(1, -(-num_examples // batch))
    found = {
        "batch_size": batch,
        "epochs": float(min(max(-(-STEPS // per_epoch), EPOCHS[0]), EPOCHS[1])),
        "optimizer": "sgd" if model is None else usual_optimizer(model),
    }
    return Recipe(**{**found, **given})


def usual_optimizer(model: nn.Module) -> Optimizer:
    """Return SGD for networks with batch normalization, AdamW for all others."""
    return "sgd" if any(isinstance(each, _BatchNorm) for each in model.modules()) else "adamw"
