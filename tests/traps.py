"""Networks with one planted trap each: removing a block runs, and is wrong unless one knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo import Residual

WIDTH = 8


class Head(nn.Module):
    """Four residual blocks and a head; subclasses say how the blocks are walked."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self.block(i) for i in range(4))
        self.head = nn.Linear(WIDTH, 3)

    def block(self, _index: int) -> nn.Module:
        return Residual(WIDTH)

    def forward(self, x: Tensor) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Walked(Head):
    """The blocks are walked in step with a list of scales."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ParameterList(torch.full((1,), 1.0 + i) for i in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for block, scale in zip(self.blocks, self.scales, strict=False):
            x = block(x * scale)
        return self.head(x)


class Glue(Head):
    """Code between the blocks runs once for every entry of the list."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


class Indexed(Head):
    """What happens depends on the index of a block."""

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == 1:
                x = x.flip(-1)
        return self.head(x)


class Tapped(Head):
    """Every block's output is returned too."""

    def forward(self, x: Tensor) -> Any:
        taps = []
        for block in self.blocks:
            x = block(x)
            taps.append(x)
        return {"logits": self.head(x), "features": tuple(taps)}


class Pyramid(Head):
    """The outputs of blocks 1 and 3 are used beside the stream."""

    def forward(self, x: Tensor) -> Tensor:
        side = 0
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in (1, 3):
                side = side + x.mean(-1, keepdim=True)
        return self.head(x) + side


class BiasBlock(nn.Module):
    """Takes and returns a bias; the first block makes it."""

    def __init__(self, makes: bool) -> None:
        super().__init__()
        self.inner = Residual(WIDTH)
        self.bias = nn.Linear(WIDTH, WIDTH) if makes else None

    def forward(self, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.bias is not None:
            bias = self.bias(torch.ones(WIDTH))
        if bias is None:
            bias = torch.zeros(WIDTH)
        return self.inner(x + bias), bias


class Provider(Head):
    """Block 0 makes a bias that all later blocks use, like the position bias of T5."""

    def block(self, index: int) -> nn.Module:
        return BiasBlock(makes=index == 0)

    def forward(self, x: Tensor) -> Tensor:
        bias = None
        for block in self.blocks:
            x, bias = block(x, bias)
        return self.head(x)


class Remembering(nn.Module):
    """A block that keeps a value as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Residual(WIDTH)
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x.mean()
        return self.inner(x)


class ReadAttribute(Head):
    """The head uses what block 0 remembers."""

    def block(self, index: int) -> nn.Module:
        return Remembering() if index == 0 else Residual(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.blocks[0].seen


class Typed(Residual):
    """A block whose parent asks for its kind."""

    def __init__(self) -> None:
        super().__init__(WIDTH)
        self.attention_type = "full"


class AskedFor(Head):
    """The parent reads an attribute of each block, and calls `forward` itself."""

    def block(self, _index: int) -> nn.Module:
        return Typed()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block.forward(x) if block.attention_type == "full" else -x
        return self.head(x)


class Twice(Head):
    """Block 1 is called twice, block 3 never."""

    def forward(self, x: Tensor) -> Tensor:
        for index in (0, 1, 1, 2):
            x = self.blocks[index](x)
        return self.head(x)


class Random(Head):
    """The forward draws at random, also in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.randn(x.shape))


class Structured(nn.Module):
    """A block that takes and returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Residual(WIDTH)

    def forward(self, state: dict[str, Any]) -> dict[str, Any]:
        return {"x": self.inner(state["x"]), "mask": state["mask"], "step": "done"}


class Dicts(Head):
    """Blocks hand dicts on."""

    def block(self, _index: int) -> nn.Module:
        return Structured()

    def forward(self, x: Tensor) -> Tensor:
        state = {"x": x, "mask": torch.ones(1)}
        for block in self.blocks:
            state = block(state)
        return self.head(state["x"]) * state["mask"]


class Raises(Head):
    """Raises in the middle of the forward."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks[:2]:
            x = block(x)
        raise RuntimeError("sensor offline")


def concatenating() -> nn.Module:
    """Blocks that join their input to a branch by concatenation: they copy, nothing more."""

    class Dense(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.new = nn.Linear(width, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.new(x)], 1)

    return nn.Sequential(*(Dense(WIDTH + 4 * i) for i in range(3)), nn.Linear(WIDTH + 12, 3))


class Held(Head):
    """A plain list holds the blocks too, and the forward walks that one."""

    def __init__(self) -> None:
        super().__init__()
        self.order = [self.blocks[i] for i in (0, 2, 1, 3)]

    def forward(self, x: Tensor) -> Tensor:
        for block in self.order:
            x = block(x)
        return self.head(x)


class KeptForwards(Head):
    """Keeps the bound forwards of its blocks from the first call on."""

    def forward(self, x: Tensor) -> Tensor:
        if "fast" not in vars(self):
            vars(self)["fast"] = [block.forward for block in self.blocks]
        for forward in vars(self)["fast"]:
            x = forward(x)
        return self.head(x)


class StopsEarly(Head):
    """Leaves out the rest as soon as a block changes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            before, x = x, block(x)
            if (x - before).abs().max() == 0:
                break
        return self.head(x)


class CountingBlock(Residual):
    """Hands on a number that it makes from its input's size, or one it was given."""

    def __init__(self, given: bool) -> None:
        super().__init__(WIDTH)
        self.given = given

    def forward(self, x: Tensor, number: int = 0) -> tuple[Tensor, int]:
        return super().forward(x), number if self.given else 7 * x.shape[0]


class MakesNumbers(Head):
    """Every block returns a number that depends on the input, and the head uses the last."""

    given = False

    def block(self, _index: int) -> nn.Module:
        return CountingBlock(self.given)

    def forward(self, x: Tensor) -> Tensor:
        number = x.shape[0]
        for block in self.blocks:
            x, number = block(x, number) if self.given else block(x)
        return self.head(x) * number


class HandsNumbersOn(MakesNumbers):
    """The same, but the number is only passed on."""

    given = True


class Pair(NamedTuple):
    x: Tensor
    step: int


@dataclass
class State:
    x: Tensor
    step: int


class RecordBlock(Residual):
    """Takes a named tuple or dataclass and returns another one."""

    def __init__(self, kind: type[Any]) -> None:
        super().__init__(WIDTH)
        self.kind = kind

    def forward(self, state: Any) -> Any:
        return self.kind(super().forward(state.x), state.step)


class NamedTuples(Head):
    """Blocks hand named tuples on."""

    kind: type[Any] = Pair

    def block(self, _index: int) -> nn.Module:
        return RecordBlock(self.kind)

    def forward(self, x: Tensor) -> Tensor:
        state = self.kind(x, x.shape[0])
        for block in self.blocks:
            state = block(state)
        return self.head(state.x) * state.step


class Dataclasses(NamedTuples):
    """Blocks hand dataclasses on."""

    kind = State


class OwnWeights(nn.Module):
    """A block whose branch and shortcut read weights and a buffer of the block itself."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.short = nn.Linear(WIDTH, WIDTH)
        self.gamma = nn.Parameter(torch.ones(WIDTH))
        self.register_buffer("table", torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.gamma * self.down(torch.relu(self.up(x)))
        return self.short(x) * (2 * self.table) + branch


class OwnWeightsInBranch(Head):
    """Blocks with a projection as shortcut and a scale of their own in the branch."""

    def block(self, _index: int) -> nn.Module:
        return OwnWeights()


class StateBlock(Residual):
    """Hands on a state that the network keeps in evaluation mode only."""

    def forward(self, x: Tensor, state: Any = None, memory: Any = None) -> Any:
        return super().forward(x), state, memory


class StateInEvaluation(Head):
    """The state and the memory are None in training mode, as in RWKV."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(StateBlock(WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        state = None if self.training else [x.new_zeros(2), x.new_ones(2)]
        memory = None if self.training else {"keys": x.new_zeros(3)}
        for block in self.blocks:
            x, state, memory = block(x, state=state, memory=memory)
            assert (state is None) == (memory is None) == self.training
        return self.head(x)


class Inline(nn.Module):
    """Eight residual additions in the forward of the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(8))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x).relu()
        return self.head(x)


class ScaledBlock(nn.Module):
    """Two additions whose branches a plain value scales."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.one = nn.Linear(WIDTH, WIDTH)
        self.two = nn.Linear(WIDTH, WIDTH)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.one(x)
        return x + self.scale * self.two(x).relu()


class Scaled(Head):
    """Blocks of one class, one of them with another scale."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ScaledBlock(scale) for scale in (0.5, 0.5, 2.0))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Rescales(Indexed):
    """The network scales weights inside its blocks when the mode changes, as RWKV does."""

    def __init__(self) -> None:
        super().__init__()
        self.is_scaled = False

    def forward(self, x: Tensor) -> Tensor:
        if self.is_scaled != self.training:
            self.is_scaled = self.training
            for block in self.blocks:
                with torch.no_grad():
                    block.up.weight.mul_(2.0 if self.training else 0.5)
        return super().forward(x)
