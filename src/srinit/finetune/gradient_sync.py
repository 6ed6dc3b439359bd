"""Training in several processes: what they must share so that each takes the same steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn

from srinit import modules
from srinit.distributed import ProcessGroup
from srinit.evaluate import Scorer, evaluate, inputs_and_target


class GradientSync:
    """The processes of one training; alone, everything here leaves its arguments as they are.

    Every process holds the whole network and takes its share of every batch. Gradients are
    averaged after the backward pass, so that all take the same step from the same weights.
    """

    def __init__(self, ranks: ProcessGroup) -> None:
        self.ranks, self.rank, self.count = ranks, ranks.rank, ranks.count

    def start_equal(self, model: nn.Module) -> None:
        """Give every process the weights and buffers of rank 0."""
        if self.count > 1:
            for value in (*model.parameters(), *model.buffers()):
                distributed.broadcast(value.data, 0)

    def agree(self, loss: float | None, device: torch.device) -> float | None:
        """Return the loss over the shares of all processes; None if one had too little memory.

        Args:
            loss: Of this process's share, weighted so that the mean over the processes is the
                loss of the whole batch; None if its memory did not suffice.
            device: Where the exchange takes place.
        """
        if self.count == 1:
            return loss
        found = torch.tensor([loss or 0.0, float(loss is None)], device=device)
        distributed.all_reduce(found)
        total, failed = found.tolist()
        return None if failed else total / self.count

    def average_gradients(self, model: nn.Module) -> None:
        """Average the gradients of all processes, in one exchange."""
        if self.count == 1:
            return
        trained = [p for p in model.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:  # not used by this share
                parameter.grad = torch.zeros_like(parameter)
        self._average([p.grad for p in trained if p.grad is not None])

    def average_buffers(self, *models: nn.Module | None) -> None:
        """Average running statistics, which each process estimated on its own shares."""
        if self.count == 1:
            return
        present = [model for model in models if model is not None]
        floats = [b for m in present for b in m.buffers() if b.is_floating_point()]
        self._average(floats, keep_equal=True)

    def _average(self, values: list[Tensor], *, keep_equal: bool = False) -> None:
        """Average values in place; `keep_equal`: what all have alike stays so, bit for bit."""
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for value in values:
            by_type.setdefault(value.dtype, []).append(value)
        for some in by_type.values():
            own = torch.cat([value.reshape(-1) for value in some])
            flat = own.clone() if keep_equal else own
            distributed.all_reduce(flat)
            flat /= self.count
            if keep_equal:
                low, high = own.clone(), own.clone()
                distributed.all_reduce(low, distributed.ReduceOp.MIN)
                distributed.all_reduce(high, distributed.ReduceOp.MAX)
                flat = torch.where(low == high, own, flat)
            parts = torch.split(flat, [value.numel() for value in some])
            for value, part in zip(some, parts, strict=True):
                value.copy_(part.view_as(value))

    def score(
        self, model: nn.Module, data: Iterable[tuple[Any, Any]], scorer: Scorer
    ) -> tuple[float, int]:
        """Return mean score and number of examples; every process reads every n-th batch."""
        if self.count == 1:
            outcomes = evaluate(model, data, scorer=scorer)
            return outcomes.score, outcomes.num_examples
        mine = [0.0, 0]
        own = list(self._own(data))
        if own:
            outcomes = evaluate(model, own, scorer=scorer)
            mine = [outcomes.score * outcomes.num_examples, outcomes.num_examples]
        parts = self.ranks.gather(mine)
        count = sum(part[1] for part in parts)
        return sum(part[0] for part in parts) / count, count

    def _own(self, data: Iterable[Any]) -> Iterator[Any]:
        return (batch for number, batch in enumerate(data) if number % self.count == self.rank)

    def share(self, batch: object, model: nn.Module) -> tuple[Any, Any, int]:
        """Return this process's examples of a batch, and how many the whole batch has."""
        inputs, target = inputs_and_target(batch, model)
        whole = modules.batch_size(inputs)
        if self.count == 1:
            return inputs, target, whole
        inputs, target = modules.tree_map(lambda t: t[self.rank :: self.count], (inputs, target))
        return inputs, target, whole
