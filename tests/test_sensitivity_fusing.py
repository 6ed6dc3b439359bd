"""Fewer steps for the same output: additions and ReLUs in convolutions, many draws at once."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit.engine.batched_weights import BatchedWeights
from srinit.engine.folding import bypass
from srinit.engine.fusing import fuse
from srinit.engine.groups import Group, Layout
from srinit.engine.layers import (
    MOST_STACKED,
    Layer,
    Part,
    Stack,
    by_products,
    can_stack,
    fused_dtypes,
)
from srinit.reinit import Reinitializer
from zoo import noise
from zoo_images import BasicBlock

BATCH_FIRST = Layout(inputs=(0,), outputs=(0,))
HAS_HALF = torch.bfloat16 in fused_dtypes()


class Block(BasicBlock):
    """With statistics and weights of the norms that are not those of a new one."""

    def __init__(self, width: int = 16) -> None:
        super().__init__(width)
        with torch.no_grad():
            for index, norm in enumerate((self.bn1, self.bn2)):
                norm.running_mean.copy_(0.1 * noise(width, seed=index))
                norm.weight.copy_(1 + 0.3 * noise(width, seed=9 + index))


class Branching(Block):
    """What no tracer reads: a forward that looks at numbers."""

    bias = True

    def forward(self, x: Tensor) -> Tensor:
        if float(x.sum()) > 1e9:
            return x
        return super().forward(x)


class Projected(Block):
    """The shortcut is a convolution of its own, whose one user is the fused second one."""

    def __init__(self, width: int = 16) -> None:
        super().__init__(width)
        self.shortcut = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class Silenced(Block):
    """Modules that do nothing in evaluation mode between a normalization and what follows it."""

    def __init__(self, width: int = 16) -> None:
        super().__init__(width)
        self.drop, self.name = nn.Dropout(0.5), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.drop(self.bn1(self.conv1(x))))
        return self.relu(self.name(self.bn2(self.conv2(out))) + x)


class Twice(Block):
    """A convolution whose output is needed before its ReLU as well."""

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        return torch.relu(first) + first


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "rewritten"),
    [(Block, 1), (Branching, 0), (Twice, 0), (Projected, 1), (Silenced, 2)],
)
def test_fused_convolutions_give_the_same_output(kind: Any, rewritten: int, dtype: Any) -> None:
    model = nn.Sequential(kind(), nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU())).eval()
    for norm in (model[0].bn1, model[0].bn2):  # as after folding
        bypass(norm)
    model = model.to(dtype).to(memory_format=torch.channels_last)
    x = noise(4, 16, 8, 8).to(dtype).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    with torch.no_grad():
        wanted = model(x)
        fuse(model, units=["0"])
        found = model(x)
    assert torch.equal(x, before)
    tolerance = 1e-4 if dtype is torch.float32 else 5e-2
    assert torch.allclose(found.float(), wanted.float(), atol=tolerance, rtol=tolerance)
    assert ("forward" in model[0].__dict__) == bool(rewritten)
    if kind is Silenced:
        layers = [m for m in model[0].forward.__self__.modules() if isinstance(m, Layer)]
        assert len(layers) == rewritten
    assert "forward" in model[1].__dict__


class Keyword(Block):
    """A module that does nothing, called by keyword, or watched by a hook."""

    def __init__(self, width: int = 16) -> None:
        super().__init__(width)
        self.drop, self.name = nn.Dropout(0.5), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.name(self.conv1(self.drop(input=x))))


def test_modules_that_do_nothing_stay_where_they_are_called_by_keyword_or_watched() -> None:
    model = nn.Sequential(nn.Identity(), Keyword()).eval()
    seen: list[int] = []
    model[1].name.register_forward_hook(lambda *_: seen.append(1))
    x = noise(2, 16, 8, 8)
    with torch.no_grad():
        wanted = model(x)
        fuse(model, units=["0"])
        assert torch.allclose(model(x), wanted, atol=1e-4)
    assert len(seen) == 2


def test_additions_leave_what_is_added_as_it_was() -> None:
    layer = Layer(nn.Conv2d(3, 4, 1).requires_grad_(False))
    x, other = noise(2, 3, 5, 5), noise(2, 4, 5, 5, seed=1)
    before = other.clone()
    found = layer(x, other, True)
    assert torch.equal(other, before)
    assert torch.allclose(found, torch.relu(layer(x) + other))
    wide = layer(x, noise(2, 2, 4, 5, 5), False)  # one more dimension: broadcast
    assert wide.shape == (2, 2, 4, 5, 5)


def test_layer_gives_each_group_its_own_weights() -> None:
    layer = Layer(nn.Linear(3, 2))
    x = noise(5, 3)
    weights = [noise(2, 3, seed=1), noise(2, 3, seed=2)]
    layer.parts = [
        Part(start=0, stop=2, weight=weights[0], bias=None),
        Part(start=2, stop=5, weight=weights[1], bias=None),
    ]
    layer.size = 5
    found = layer(x)
    assert torch.allclose(found, torch.cat([x[:2] @ weights[0].T, x[2:] @ weights[1].T]))


@pytest.mark.parametrize("dtype", fused_dtypes())
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [None, "like the output", "one for all"])
@pytest.mark.parametrize(
    "made", [{"stride": 2, "padding": 1}, {"groups": 2, "padding": 2, "dilation": 2}]
)
def test_one_grouped_convolution_does_what_one_for_each_group_does(
    made: dict[str, Any], added: str | None, relu: bool, dtype: torch.dtype
) -> None:
    conv = nn.Conv2d(8, 16, 3, bias=False, **made).to(dtype).requires_grad_(False)
    layer = Layer(conv)
    x = noise(6, 8, 9, 9).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = noise(3, *conv.weight.shape, seed=1).to(dtype)
    bias = noise(16, seed=2).to(dtype)
    shape = (6, *conv(x).shape[1:])
    other = {
        None: None,
        "like the output": noise(*shape, seed=3).to(dtype),
        "one for all": noise(1, *shape[1:], seed=3).expand(shape).to(dtype),
    }[added]
    layer.size = 6
    layer.parts = [Part(start=2 * i, stop=2 * i + 2, weight=weight[i], bias=bias) for i in range(3)]
    wanted = layer(x, other, relu)
    assert can_stack(conv, 2) == (dtype is torch.bfloat16)
    layer.parts = [Stack(start=0, stop=6, groups=3, weight=weight, bias=bias)]
    found = layer(x, other, relu)
    assert found.shape == shape
    assert torch.allclose(found.float(), wanted.float(), atol=0.05, rtol=0.02)
    swapped = weight.roll(1, 0)
    layer.parts = [Stack(start=0, stop=6, groups=3, weight=swapped, bias=bias)]
    assert not torch.allclose(layer(x, other, relu).float(), wanted.float(), atol=0.05, rtol=0.02)


def test_on_a_cpu_groups_of_few_examples_are_stacked_in_bfloat16() -> None:
    conv = nn.Conv2d(8, 8, 3).bfloat16()
    assert can_stack(conv, 1) == HAS_HALF
    assert not can_stack(conv, MOST_STACKED + 1)
    assert not can_stack(nn.Conv2d(8, 8, 3), 1)  # 32 bits
    assert not can_stack(nn.Linear(8, 8).bfloat16(), 1)
    assert not can_stack(nn.Conv2d(8, 8, 3, padding_mode="reflect", padding=1).bfloat16(), 1)


@pytest.mark.parametrize(
    "made",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 1},
        {"kernel_size": (3, 5), "padding": (0, 2), "stride": (1, 2)},
        {"kernel_size": 3, "padding": 2, "dilation": (2, 1), "stride": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_one_product_for_each_group_is_its_convolution(
    made: dict[str, Any], channels: int, dtype: torch.dtype
) -> None:
    conv = nn.Conv2d(channels, 16, bias=False, **made).to(dtype).requires_grad_(False)
    x = noise(6, channels, 9, 11).to(dtype).contiguous(memory_format=torch.channels_last)
    weight, bias = noise(3, *conv.weight.shape, seed=1).to(dtype), noise(16, seed=2).to(dtype)
    pairs = zip(x.split(2), weight, strict=True)
    geometry = conv.stride, conv.padding, conv.dilation
    wanted = torch.cat([nn.functional.conv2d(a, b, bias, *geometry) for a, b in pairs])
    found = by_products(conv, x, Stack(start=0, stop=6, groups=3, weight=weight, bias=bias))
    assert found.shape == wanted.shape
    tolerance = 1e-4 if dtype is torch.float32 else 0.15
    assert torch.allclose(found, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: x[:, :, 0, 0][:, :, None, None],
        lambda x: x.flatten(1)[:, :8].view(-1, 8, 1, 1),
        lambda x: x.contiguous(memory_format=torch.channels_last).mean((2, 3), keepdim=True),
    ],
)
def test_one_product_for_each_group_takes_single_pixels_in_any_layout(view: Any) -> None:
    conv = nn.Conv2d(8, 4, 1, bias=False).bfloat16().requires_grad_(False)
    x = view(noise(6, 8, 3, 3).bfloat16())
    weight = noise(3, 4, 8, 1, 1, seed=1).bfloat16()
    found = by_products(conv, x, Stack(start=0, stop=6, groups=3, weight=weight, bias=None))
    pairs = zip(x.split(2), weight, strict=True)
    wanted = torch.cat([nn.functional.conv2d(a, b) for a, b in pairs])
    assert torch.allclose(found, wanted, atol=0.1, rtol=0.1)


def test_one_product_for_each_group_is_its_linear_layer() -> None:
    layer = nn.Linear(5, 7).requires_grad_(False)
    x, weight = noise(6, 4, 5), noise(3, 7, 5, seed=1)
    pairs = list(zip(x.split(2), weight, strict=True))
    wanted = torch.cat([nn.functional.linear(a, b, layer.bias) for a, b in pairs])
    for bias in (layer.bias, layer.bias.expand(3, 7)):
        stack = Stack(start=0, stop=6, groups=3, weight=weight, bias=bias)
        assert torch.allclose(by_products(layer, x, stack), wanted, atol=1e-5)
    shifted = Stack(start=0, stop=6, groups=3, weight=weight, bias=noise(3, 7, seed=4))
    assert not torch.allclose(by_products(layer, x, shifted), wanted, atol=1e-2)


@pytest.mark.parametrize("kind", [Block, Projected, Branching])
@pytest.mark.parametrize("each", [1, 2, 4])
def test_batched_weights_in_bfloat16_runs_equal_groups_through_their_own_draws(
    kind: Any, each: int
) -> None:
    unit = kind().eval()
    freeze = lambda module: module.eval().requires_grad_(False)  # noqa: E731
    half = lambda module: (  # noqa: E731
        freeze(module).bfloat16().to(memory_format=torch.channels_last)
    )
    batched = BatchedWeights(
        Reinitializer(unit, scheme="keep_norm", prepare=freeze),
        [("conv1", "bn1"), ("conv2", "bn2")],
        half,
    )
    alone = Reinitializer(unit, scheme="keep_norm", prepare=freeze)
    x = noise(8, 16, 8, 8)
    groups = [Group(draw=i, start=each * i, stop=each * (i + 1)) for i in range(8 // each)]
    with torch.inference_mode():
        ready = x.bfloat16().contiguous(memory_format=torch.channels_last)
        found = batched.replacement(groups, 8, lambda draw: 100 + draw, BATCH_FIRST)(
            None, ready
        ).float()
        wanted = torch.cat([alone.draw(100 + g.draw)(x[g.start : g.stop]) for g in groups])
    assert torch.allclose(found, wanted, atol=5e-2 * float(wanted.abs().max()))


@pytest.mark.parametrize("kind", [Block, Branching])
@pytest.mark.parametrize("scheme", ["keep_norm", "default", "paper", "permuted"])
def test_batched_weights_runs_each_group_through_its_own_draw(kind: Any, scheme: str) -> None:
    unit = kind().eval()
    state = copy.deepcopy(unit.state_dict())
    freeze = lambda module: module.eval().requires_grad_(False)  # noqa: E731
    batched = BatchedWeights(
        Reinitializer(unit, scheme=scheme, prepare=freeze),
        [("conv1", "bn1"), ("conv2", "bn2")],
        freeze,
    )
    alone = Reinitializer(unit, scheme=scheme, prepare=freeze)
    x = noise(7, 16, 8, 8)
    groups = [
        Group(draw=0, start=0, stop=2),
        Group(draw=1, start=2, stop=3),
        Group(draw=5, start=3, stop=7),
    ]
    with torch.inference_mode():
        found = batched.replacement(groups, 7, lambda draw: 100 + draw, BATCH_FIRST)(None, x)
        wanted = torch.cat([alone.draw(100 + g.draw)(x[g.start : g.stop]) for g in groups])
    assert torch.allclose(found, wanted, atol=1e-3 * float(wanted.abs().max()))
    assert (alone.draw_many([1], int) is None) == (scheme == "permuted")
    assert len({float(part.sum()) for part in (found[0], found[2], found[3])}) == 3
    assert all(torch.equal(value, state[name]) for name, value in unit.state_dict().items())


@pytest.mark.parametrize("kind", [Block, Branching])
@pytest.mark.parametrize("most", [3, 100])
def test_equal_groups_are_run_together_and_the_rest_alone_in_as_many_turns_as_fit(
    monkeypatch: Any, kind: Any, most: int
) -> None:
    unit = kind().eval()
    freeze = lambda module: module.eval().requires_grad_(False)  # noqa: E731
    batched = BatchedWeights(
        Reinitializer(unit, scheme="keep_norm", prepare=freeze),
        [("conv1", "bn1"), ("conv2", "bn2")],
        freeze,
    )
    sizes: list[int] = []

    def stacked(inner: nn.Module, size: int) -> bool:
        sizes.append(size)
        return size == 2

    monkeypatch.setattr("srinit.engine.batched_weights.can_stack", stacked)
    monkeypatch.setattr("srinit.engine.batched_weights.MOST_BYTES", {"cpu": most * batched.bytes})
    alone = Reinitializer(unit, scheme="keep_norm", prepare=freeze)
    x = noise(9, 16, 8, 8)
    groups = [Group(draw=i, start=2 * i, stop=min(2 * i + 2, 9)) for i in range(5)]
    with torch.inference_mode():
        found = batched.replacement(groups, 9, lambda draw: 100 + draw, BATCH_FIRST)(None, x)
        wanted = torch.cat([alone.draw(100 + g.draw)(x[g.start : g.stop]) for g in groups])
    assert torch.allclose(found, wanted, atol=1e-3 * float(wanted.abs().max()))
    assert sizes.count(1) == 2  # once for each layer


def test_batched_weights_refuses_what_is_not_plain_layers() -> None:
    unit = nn.Sequential(nn.Linear(4, 4), nn.PReLU()).eval()
    with pytest.raises(ValueError, match="plain convolutions"):
        BatchedWeights(Reinitializer(unit, scheme="default"), [], lambda module: module)
