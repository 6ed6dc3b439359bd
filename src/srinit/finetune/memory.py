"""What a training will hold in memory, said before it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import require
from srinit.evaluate import Loss, Scorer
from srinit.evaluate.losses import places_of
from srinit.finetune.arithmetic import autocast, checkpointed, precision_of
from srinit.finetune.checks import frozen
from srinit.finetune.lora import adapted, targets_of
from srinit.finetune.loss import combined
from srinit.finetune.records import Recipe
from srinit.records import record
from srinit.rng import isolated_rng

STATES = {"sgd": 1, "adamw": 2}  # numbers the optimizer keeps for each one that is trained


@record
class TrainingMemory:
    """Bytes that a training holds at its peak, in parts; what allocators add is not counted."""

    weights: int  # of the network, buffers included
    gradients: int
    optimizer: int
    kept: int  # the best weights so far, and averaged ones
    teacher: int  # weights of the unpruned network
    activations: int  # kept for the backward pass, of the examples at a time
    examples: int  # at a time

    @property
    def total(self) -> int:
        """All of it."""
        parts = (self.weights, self.gradients, self.optimizer, self.kept, self.teacher)
        return sum(parts) + self.activations

    def words(self) -> str:
        """Return it in words."""

        def size(count: int) -> str:
            return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"

        return (
            f"training needs about {size(self.total)}: weights {size(self.weights)}, gradients "
            f"{size(self.gradients)}, optimizer {size(self.optimizer)}, best weights "
            f"{size(self.kept)}, unpruned network {size(self.teacher)}, activations of "
            f"{self.examples} examples {size(self.activations)} (measured on three)."
        )


def check_means(model: nn.Module, recipe: Recipe) -> None:
    """Raise where a network cannot be trained by the means that the recipe names.

    Raises:
        ConfigError: It cannot compute layers again, or has no linear map that is named.
        MissingExtraError: `peft` is not installed.
    """
    if recipe.lora.r:
        require("peft", "lora", "for finetune.lora")
        targets_of(model, recipe.lora.targets)
    with checkpointed(model, recipe):
        pass


def training_memory(
    model: nn.Module,
    batch: tuple[Any, Any],
    recipe: Recipe,
    *,
    loss: Loss | None,
    scorer: Scorer,
    teacher: nn.Module | None = None,
) -> TrainingMemory:
    """Return what `fine_tune` of a network will hold in memory.

    What is kept for the backward pass is counted in two forwards, of two examples and of three
    (batch normalization needs two); the network is as it was afterwards.

    Args:
        model: The network that will be trained.
        batch: Three examples at least, `(inputs, target)`.
        recipe: How.
        loss: Of the task, as `task_loss` returns it.
        scorer: Says which places have a target.
        teacher: The unpruned network, where it is copied.
    """
    batch = modules.to_device(batch, modules.device_of(model))
    precision, copies = precision_of(recipe, model), teacher is not None and recipe.distill_weight

    def bytes_of(count: int) -> int:
        inputs, target = modules.rows_between(batch, 0, count)

        def run() -> Tensor:
            with autocast(precision, modules.device_of(model)):
                guide = None
                if teacher is not None and copies:
                    with torch.no_grad():
                        guide = modules.call(teacher, inputs)
                return combined(
                    modules.call(model, inputs), target, guide, loss=loss,
                    places=places_of(scorer), recipe=recipe,
                )  # fmt: skip

        return _saved(model, run)

    with modules.untouched(model), adapted(model, recipe.lora, 0), checkpointed(model, recipe):
        with isolated_rng(0):
            two, three = bytes_of(2), bytes_of(3)
        trained = [p for p in model.parameters() if p.requires_grad]
        same = frozen(model)
        changing = [v for name, v in model.state_dict().items() if name not in same]
        weights = _bytes([*model.parameters(), *model.buffers()])
    examples = min(recipe.micro_batch or recipe.batch_size, recipe.batch_size)
    return TrainingMemory(
        weights=weights,
        gradients=_bytes(trained),
        optimizer=STATES[recipe.optimizer] * _bytes(trained),
        kept=_bytes(changing) * (1 + bool(recipe.ema)),
        teacher=_bytes(list(teacher.parameters())) if copies and teacher is not None else 0,
        activations=two + (examples - 2) * max(three - two, 0),
        examples=examples,
    )


def _saved(model: nn.Module, run: Callable[[], Tensor]) -> int:
    """Return the bytes that a forward in training keeps for its backward pass."""
    own = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    kept: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (tensor, storage.nbytes())  # held, so that none is reused
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
        result = run()
    del result
    return sum(size for _, size in kept.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    found = {tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in tensors}
    return sum(found.values())
