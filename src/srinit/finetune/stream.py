"""The batches of fine-tuning: shuffled anew every epoch, without end, from any step on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from srinit.errors import ConfigError, DataError
from srinit.finetune.gradient_sync import GradientSync
from srinit.finetune.records import Recipe
from srinit.finetune.teacher import KeptPredictions, augment_seed
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
    start: int,
    together: GradientSync,
    kept: KeptPredictions | None,
) -> Iterator[tuple[Any, Any, int, Tensor | None]]:
    """Yield this process's share of the batches, without end, from step `start` on.

    With it come the number of examples of the whole batch, and what the teacher said of them where
    that is kept.
    """
    per_epoch = num_batches(train, recipe)
    epoch, skip = divmod(start, per_epoch)
    while True:
        if hasattr(train, "batches"):
            options = {"share": (together.rank, together.count)} if together.count > 1 else {}
            batches = train.batches(
                recipe.batch_size,
                shuffle_seed=seed_for("shuffle", seed, epoch),
                augment=augment,
                augment_seed=augment_seed(seed, epoch, recipe.views),
                start=skip,
                **options,
            )
            sizes = range(len(train) - skip * recipe.batch_size, 0, -recipe.batch_size)
            numbers = range(skip, per_epoch)
            for (inputs, target), left, number in zip(batches, sizes, numbers, strict=True):
                said = kept.of(epoch, batches.positions(number)) if kept is not None else None
                yield inputs, target, min(left, recipe.batch_size), said
        else:
            yield from (
                (*together.share(batch, model), None)
                for number, batch in enumerate(train)
                if number >= skip
            )
        epoch, skip = epoch + 1, 0
