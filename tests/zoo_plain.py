"""Networks of a line or two that only answer: an echo, a limit, a pause, a failure."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from planted import Planted


class Echo(nn.Module):
    """Returns its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x


CPU_IS_FULL = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"
)


SEEN: defaultdict[int, list[int]] = defaultdict(list)  # not in the network, which is put back


class Hungry(nn.Module):
    """Raises where it sits when more than `limit` examples arrive; notes how many did."""

    def __init__(self, limit: int | None, error: BaseException = CPU_IS_FULL) -> None:
        super().__init__()
        self.limit, self.error, self.number = limit, error, len(SEEN)
        SEEN[self.number] = []

    @property
    def seen(self) -> list[int]:
        return SEEN[self.number]

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if self.limit is not None and len(x) > self.limit:
            raise self.error
        return x


class Answers(nn.Module):
    """Gives its input as logits, with some changed."""

    def __init__(self, flip: tuple[int, ...] = (), broken: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.flip, self.broken = flip, broken

    def forward(self, x: Tensor) -> Tensor:
        out = x.clone()
        out[list(self.flip)] = out[list(self.flip)].flip(1)
        out[list(self.broken)] = float("nan")
        return out


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


class Masked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.masked_fill(x < 0, -torch.inf)


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svdvals(x)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.layer(pixel_values)}


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


class Constant(nn.Module):
    """Any draw of `gate` makes the answer the first class."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(2, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, x: Tensor) -> Tensor:
        off = self.gate(x).abs() > 0
        return torch.where(off, torch.tensor([9.0, 0.0]), torch.stack([-x[:, 0], x[:, 0]], 1))


class Root(nn.Module):
    """Not a number for every draw with a negative weight."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.gate.weight)
        self.model = Planted()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) * self.gate(torch.ones(len(x), 1)).sqrt()


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.one(a) + self.two(b)


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y
