"""The gradients of one step: of the whole batch, in parts where memory does not hold it at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import is_out_of_memory
from srinit.evaluate import BatchSplitter, CrossEntropy, Loss
from srinit.finetune.arithmetic import autocast
from srinit.finetune.gradient_sync import GradientSync
from srinit.finetune.loss import Features, combined
from srinit.finetune.records import Recipe
from srinit.finetune.teacher import Teacher
from srinit.rng import isolated_rng


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """What gradients are made of."""

    model: nn.Module
    recipe: Recipe
    precision: str  # of the forward pass
    loss: Loss | None  # of the task; None: the teacher alone is followed
    places: CrossEntropy  # says which places of the output have a target
    teacher: Teacher | None
    features: Features | None
    scaler: torch.amp.GradScaler
    together: GradientSync
    parts: BatchSplitter  # remembers how many examples fit

    def of(
        self, inputs: Any, target: object, whole: int, *, kept: Tensor | None, seed: int
    ) -> float:
        """Leave the gradients of a batch in the model; return its mean loss.

        Where memory does not suffice, the batch is worked through in halves, quarters and so on,
        and the gradients of the parts are added up: the step stays that of the whole batch, so
        the learning rate fits as before. Only batch normalization, whose statistics are those of
        a part then, and losses that leave out some targets see a difference.

        Args:
            inputs: This process's share of the batch, on the device.
            target: Its targets.
            whole: Examples of the whole batch.
            kept: What the teacher said of them, where that is known.
            seed: Of dropout and the like.

        Raises:
            ResourceError: Not even two examples fit.
        """
        size = modules.batch_size(inputs)
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        while True:
            reason = ""
            try:
                mine: float | None = self._attempt(inputs, target, whole, kept, seed)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                mine, reason = None, str(error)
            found = self.together.agree(mine, modules.device_of(self.model))
            if found is not None:
                return found
            self._clear()
            with torch.no_grad():
                for buffer, before in buffers:  # running statistics and counters that were reached
                    buffer.copy_(before)
            self.parts.shrink(size, reason)

    def _attempt(
        self, inputs: object, target: object, whole: int, kept: Tensor | None, seed: int
    ) -> float:
        self._clear()
        total = 0.0
        with isolated_rng(seed):
            for some, wanted, said in self.parts.split((inputs, target, kept)):
                with autocast(self.precision, modules.device_of(self.model)):
                    value = self._value(some, wanted, said)
                share = modules.batch_size(some) * self.together.count / whole
                value = value if share == 1 else value * share
                total += float(value.detach())
                if not math.isfinite(total):
                    break
                self.scaler.scale(value).backward()  # type: ignore[no-untyped-call]
        return total

    def _value(self, inputs: Any, target: object, said: object) -> Tensor:
        output = modules.call(self.model, inputs)
        asks = self.recipe.distill_weight > 0 or self.features is not None
        if said is None and self.teacher is not None and asks:
            said = self.teacher(inputs)
        return combined(
            output,
            target,
            said,
            loss=self.loss,
            places=self.places,
            recipe=self.recipe,
            features=self.features,
        )

    def _clear(self) -> None:
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.grad = None
