"""The recipe that chooses itself from the size of the training data."""

from __future__ import annotations

from typing import Any

from srinit.finetune.records import Recipe

STEPS = 2000  # wanted, where the bounds below allow it
EPOCHS = (5, 100)  # fewest and most passes over the data
BATCHES = (16, 128)  # smallest and largest batch
BATCHES_AN_EPOCH = 16  # at least, if the smallest batch allows it
PATIENCE = 10  # validations; small data overfit


def auto_recipe(
    num_examples: int, *, validated: bool = True, given: Recipe | None = None
) -> Recipe:
    """Return a recipe for so many training examples; what `given` changes, stays.

    Distillation of logits and of features at a small rate is what did best after equal numbers of
    steps in `benchmarks/recovery.py` (docs/finetune.md, row "small rate, logits, features").
    Batch and length follow from the size of the data; they are conventions, not measured.

    Args:
        num_examples: Of the training data.
        validated: Whether validation data can stop the training early.
        given: Settings other than those of `Recipe()` are kept.

    Example:
        >>> small, large = auto_recipe(800), auto_recipe(1_000_000)
        >>> (small.batch_size, small.epochs), (large.batch_size, large.epochs)
        ((32, 80.0), (128, 5.0))
        >>> auto_recipe(800, given=Recipe(epochs=3)).epochs
        3.0
    """
    plain = Recipe()
    kept = plain if given is None else given
    batch = BATCHES[0]
    while batch < BATCHES[1] and 2 * batch * BATCHES_AN_EPOCH <= num_examples:
        batch *= 2
    batch = kept.batch_size if kept.batch_size != plain.batch_size else batch
    per_epoch = max(1, -(-num_examples // batch))
    found: dict[str, Any] = {
        "batch_size": batch,
        "epochs": float(min(max(-(-STEPS // per_epoch), EPOCHS[0]), EPOCHS[1])),
        "feature_weight": 1.0,
        "patience": PATIENCE if validated else None,
    }
    chosen = {
        name: value for name, value in found.items() if getattr(kept, name) == getattr(plain, name)
    }
    return kept.changed(**chosen)
