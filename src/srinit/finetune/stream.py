"""The batches of fine-tuning: shuffled anew every epoch, without end, from any step on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from srinit.errors import ConfigError, DataError
from srinit.finetune.gradient_sync import GradientSync
from srinit.finetune.records import Recipe
from srinit.rng import seed_for


def num_batches(train: Any, recipe: Recipe) -> int:
    """Return the number of batches of an epoch.

    Raises:
        ConfigError: The data have no length.
        DataError: There is no batch.
    """
    try:
        count = len(train.batches(recipe.batch_size) if hasattr(train, "batches") else train)
    except TypeError:
        raise ConfigError(
            f"fine_tune needs the number of batches of train, and {type(train).__name__} has no "
            "length: give a list of batches, a DataLoader or a DataSet."
        ) from None
    if count == 0 and recipe.epochs > 0:
        raise DataError("the training data hold no batch; nothing can be trained on them.")
    return count


def stream(
    model: nn.Module,
    train: Any,
    recipe: Recipe,
    augment: object,
    seed: int,
    per_epoch: int,
    start: int,
    together: GradientSync,
) -> Iterator[tuple[Any, Any, int]]:
    """Yield this process's share of the batches, without end, from step `start` on.

    With it comes the number of examples of the whole batch.
    """
    epoch, skip = divmod(start, per_epoch)
    while True:
        if hasattr(train, "batches"):
            options = {"share": (together.rank, together.count)} if together.count > 1 else {}
            batches = train.batches(
                recipe.batch_size,
                shuffle_seed=seed_for("shuffle", seed, epoch),
                augment=augment,
                start=skip,
                **options,
            )
            sizes = range(len(train) - skip * recipe.batch_size, 0, -recipe.batch_size)
            for (inputs, target), left in zip(batches, sizes, strict=True):
                yield inputs, target, min(left, recipe.batch_size)
        else:
            yield from (
                together.share(batch, model) for number, batch in enumerate(train) if number >= skip
            )
        epoch, skip = epoch + 1, 0
