"""The unpruned network as training asks it, and its predictions where they can be kept."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.copying import detached_copy
from srinit.engine import cheap_dtypes, cheaper_copy, inputs_for
from srinit.errors import ModelError
from srinit.finetune.arithmetic import autocast, inputs_as, is_laid_out, lay_out
from srinit.finetune.records import Recipe
from srinit.rng import seed_for

MOST_KEPT = 2**29  # bytes of predictions that are kept at most
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Teacher:
    """A network that is asked and not trained.

    On a CPU it runs folded and fused where that answers alike (`srinit.engine.cheaper_copy`), else
    as a copy with channels last; one that cannot be copied is asked as it is.

    Args:
        model: The network; not changed.
        precision: Number format of its forward pass.
        hooked: Somebody watches its modules: they all have to run.
    """

    def __init__(self, model: nn.Module, precision: str, *, hooked: bool = False) -> None:
        self.precision, self.device = precision, modules.device_of(model)
        self._fused: nn.Module | None = None
        dtype = DTYPES.get(precision)
        on_cpu = self.device.type == "cpu" and not hooked
        self._dtype = dtype if on_cpu and dtype in cheap_dtypes(model, "auto") else None
        self.model = _laid_out_copy(model)

    def __call__(self, inputs: Any) -> Any:
        """Return its output for a batch on its device; no gradients."""
        with torch.no_grad():
            if self._dtype is not None:
                self._fused = cheaper_copy(self.model, self._dtype, inputs, ())[0].eval()
                self._dtype = None
            if self._fused is not None:
                with autocast("float32", self.device):
                    return modules.call(self._fused, inputs_for(self._fused, inputs, self.device))
            with autocast(self.precision, self.device):
                return modules.call(self.model, inputs)


def _laid_out_copy(model: nn.Module) -> nn.Module:
    if not is_laid_out(model):
        return model
    try:
        found, _ = detached_copy(model)
    except ModelError:
        return model
    lay_out(found)
    return found


class KeptPredictions:
    """What a teacher says of every training example, asked once for each fixed version of it.

    All examples of a version are asked in one go and in their order when the version first comes
    up, so that a training that was interrupted finds the same predictions again.
    """

    def __init__(
        self, teacher: Teacher, train: Any, recipe: Recipe, augment: object, seed: int
    ) -> None:
        self._teacher, self._train, self._recipe = teacher, train, recipe
        self._augment, self._seed = augment, seed
        self._versions: dict[int, Tensor] = {}

    def of(self, epoch: int, positions: npt.NDArray[Any]) -> Tensor:
        """Return the predictions for some examples as they are in an epoch, (B, ...)."""
        version = version_of(epoch, versions_of(self._recipe, self._augment))
        if version not in self._versions:
            self._versions[version] = self._asked(epoch)
        return self._versions[version][torch.from_numpy(positions)]

    def _asked(self, epoch: int) -> Tensor:
        device = self._teacher.device
        batches = self._train.batches(
            self._recipe.batch_size,
            augment=self._augment,
            augment_seed=augment_seed(self._seed, epoch, self._recipe.views),
        )
        found = []
        for inputs, _ in batches:
            placed = inputs_as(self._teacher.model, modules.to_device(inputs, device))
            found.append(modules.logits_of(self._teacher(placed)).float().cpu())
        return torch.cat(found)


def versions_of(recipe: Recipe, augment: Any) -> int | None:
    """Return how many versions of an example training shows; None: new ones every epoch."""
    changes = augment is not None and (augment.flip or augment.crop_padding)
    return recipe.views if changes else 1


def version_of(epoch: int, views: int | None) -> int:
    """Return which version of the examples an epoch shows."""
    return epoch if views is None else epoch % views


def augment_seed(seed: int, epoch: int, views: int | None) -> int:
    """Return the seed of the random changes of images in an epoch."""
    return seed_for("version", seed, version_of(epoch, views))


def keeps_predictions(
    teacher: Teacher | None, train: Any, recipe: Recipe, augment: Any, total: int, per_epoch: int
) -> bool:
    """Return whether predictions are kept: versions repeat, and there is room for what is said.

    Not where features are copied too, which needs a forward pass at every step.
    """
    versions = versions_of(recipe, augment)
    if teacher is None or versions is None or not hasattr(train, "batches"):
        return False
    if recipe.distill_weight == 0 or recipe.feature_weight > 0 or total <= versions * per_epoch:
        return False
    inputs, target = next(iter(train.batches(min(2, len(train)))))
    said = teacher(inputs_as(teacher.model, modules.to_device(inputs, teacher.device)))
    if not isinstance(said, Tensor) or said.shape[:1] != target.shape[:1]:
        return False
    bytes_each = 4 * said[0].numel()
    return versions * len(train) * bytes_each <= MOST_KEPT
