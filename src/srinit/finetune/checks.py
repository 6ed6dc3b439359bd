"""What is looked at before fine-tuning takes its first step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from srinit.errors import ConfigError
from srinit.evaluate import Detection, Loss, Scorer, check_rereadable, loss_for
from srinit.evaluate.losses import checked
from srinit.finetune.records import Recipe


def check_trainable(model: nn.Module) -> None:
    """Raise `ConfigError` where nothing of a network would be trained.

    Example:
        >>> check_trainable(nn.Linear(1, 1).requires_grad_(False))
        Traceback (most recent call last):
        srinit.errors.ConfigError: nothing can be trained: all 2 parameters of Linear are frozen ...
    """
    frozen = list(model.parameters())
    if not any(parameter.requires_grad for parameter in frozen):
        what = f"all {len(frozen)} parameters of {type(model).__name__} are frozen"
        raise ConfigError(
            f"nothing can be trained: {what} (requires_grad is False). Set it for those that "
            "should recover, model.requires_grad_(True) for all, or train for no epochs "
            "(finetune.epochs: 0)."
            if frozen
            else f"nothing can be trained: {type(model).__name__} has no parameters."
        )


def frozen(model: nn.Module) -> set[str]:
    """Return the keys of the state dict that training does not change: frozen parameters."""
    parameters = model.named_parameters(remove_duplicate=False)
    return {name for name, parameter in parameters if not parameter.requires_grad}


def check_validation(recipe: Recipe, validation: Iterable[Any] | None) -> None:
    """Raise where validation data cannot do what they are for.

    Raises:
        ConfigError: Early stopping needs them, and there are none.
        DataError: They can be read only once.
    """
    if validation is not None:
        check_rereadable(validation, "validation during fine-tuning")
    elif recipe.patience is not None:
        raise ConfigError("finetune.patience stops on validation data; name data.validation.")


def task_loss(
    loss: Loss | None, scorer: Scorer, recipe: Recipe, teacher: nn.Module | None
) -> Loss | None:
    """Return the caller's loss, or the one that belongs to the score; its values are looked at.

    None where the recipe follows nothing but a teacher.

    Raises:
        ConfigError: The score is the caller's own, and no loss is given; or the loss cannot be
            called.
    """
    if isinstance(scorer, Detection) and teacher is not None and recipe.distill_weight > 0:
        raise ConfigError(
            "a detector is trained by its own losses, and its answers cannot be copied: write "
            "distill_weight=0 (finetune.distill_weight: 0)."
        )
    if teacher is not None and recipe.distill_weight == 1:
        return None
    if loss is not None and not callable(loss):
        raise ConfigError(
            f"loss should be a function (output, target) -> scalar, found {type(loss).__name__}."
        )
    chosen = loss_for(scorer, label_smoothing=recipe.label_smoothing) if loss is None else loss
    return checked(chosen, finite=False)
