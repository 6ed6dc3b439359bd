"""Compensation: linear maps behind a cut solved again, chosen on examples held out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit import apply_plan, compensate, find_units, load_pruned, save_pruned
from srinit.compensation import LeftMap, realign
from srinit.compensation.answers import answers, divergence
from srinit.compensation.choose import folds, split
from srinit.compensation.normalization import with_new_statistics
from srinit.errors import CompensationError, DataError
from srinit.plan import PrunePlan, Removal
from srinit.realignment.equations import Equations, Geometry
from srinit.rng import generator, isolated_rng
from srinit.surgery import remove_with_origins
from zoo_images import Inverted

# B batch, C channels, H W space, T tokens


class Residual(nn.Module):
    """A block: two convolutions with normalization, added to the input, then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return F.relu(out)


def convolutional(block: Callable[[int], nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sequential(*(block(8) for _ in range(4))),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def plain() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1)]
    for _ in range(4):
        layers += [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def encoder(*, norm_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        16, 2, 32, batch_first=True, dropout=0.0, norm_first=norm_first
    )
    body = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    return nn.Sequential(body, nn.Flatten(), nn.Linear(96, 5))


class Halves(nn.Module):
    """A pre-norm transformer block whose halves are modules of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attn = Mixing()
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Mixing(nn.Module):
    """Attention with one head and its own projections."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj(F.scaled_dot_product_attention(q, k, v))


def halves() -> nn.Module:
    return nn.Sequential(*(Halves() for _ in range(3)), nn.Flatten(), nn.Linear(96, 5))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any]]] = {
    "basic blocks": (lambda: convolutional(Residual), (3, 8, 8), {}),
    "inverted residuals": (lambda: convolutional(Inverted), (3, 8, 8), {}),
    "plain layers": (plain, (3, 8, 8), {"include_plain": True}),
    "pre-norm transformer": (lambda: encoder(norm_first=True), (6, 16), {}),
    "post-norm transformer": (lambda: encoder(norm_first=False), (6, 16), {}),
    "sublayers": (halves, (6, 16), {"level": "sublayer"}),
}


def made(name: str, examples: int = 96) -> tuple[nn.Module, list[Tensor], Any]:
    """Return a network whose blocks do something, batches of inputs, and its units."""
    build, shape, options = NETWORKS[name]
    with isolated_rng(7):
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
    x = torch.randn(examples, *shape, generator=generator("compensation"))
    model.train()
    with torch.no_grad():  # statistics of the normalizations
        for _ in range(20):
            model(x)
    model.eval()
    return model, list(x.split(32)), find_units(model, x[:2], **options)


def plan_of(units: Any, names: list[str]) -> PrunePlan:
    return PrunePlan(
        remove=tuple(Removal(unit=units[name]) for name in names),
        ranking=(), prefixes=(), target={}, criterion="", inputs=units.inputs,
    )  # fmt: skip


def distance(model: nn.Module, other: nn.Module, batches: list[Any]) -> float:
    pairs = answers(model, batches), answers(other, batches)
    return float(divergence(*pairs, batches, "squared").mean())


@pytest.mark.parametrize("name", list(NETWORKS))
def test_realignment_brings_answers_nearer_on_examples_it_was_not_fitted_on(name: str) -> None:
    model, batches, units = made(name)
    gone = [units[unit] for unit in units.names[1:2]]  # what follows is numbered anew
    pruned, origins = remove_with_origins(model, gone, example_inputs=batches[0][:2])
    before = distance(model, pruned, batches[2:])
    update = realign(model, pruned, origins, batches[:2])
    assert update.solved
    assert distance(model, pruned, batches[2:]) < 0.7 * before
    assert all(each.lacking_after <= each.lacking_before for each in update.solved)
    assert LeftMap in {type(each) for each in update.left}  # the classifier, named
    assert any("the network's answer" in each.reason for each in update.left)


@pytest.mark.parametrize("name", ["basic blocks", "pre-norm transformer"])
def test_waiting_forwards_give_what_forwards_begun_anew_give(name: str) -> None:
    model, batches, units = made(name)
    found = []
    for budget in (1 << 30, 0):
        pruned, origins = remove_with_origins(
            model, [units[units.names[1]]], example_inputs=batches[0][:2]
        )
        realign(model, pruned, origins, batches, budget=budget)
        found.append(pruned)
    torch.testing.assert_close(found[0](batches[0]), found[1](batches[0]), rtol=1e-3, atol=1e-4)


def test_a_network_whose_run_is_without_effect_is_left_as_it_is() -> None:
    model, batches, units = made("basic blocks")
    unit = units.names[1]
    block: Any = model.get_submodule(unit)
    with torch.no_grad():
        block.bn2.weight.zero_()
        block.bn2.bias.zero_()
    pruned, origins = remove_with_origins(model, [units[unit]], example_inputs=batches[0][:2])
    update = realign(model, pruned, origins, batches)
    assert update.changes == {}
    assert torch.equal(pruned(batches[0]), model(batches[0]))


def test_the_solution_is_that_of_least_squares_written_out() -> None:
    noise = generator("least squares")
    u, r = torch.randn(50, 6, generator=noise), torch.randn(50, 3, generator=noise)
    equations = Equations(Geometry())
    for a, b in zip(u.split(20), r.split(20), strict=True):
        equations.add(a, b)
    found = equations.solve(0.0)
    assert found is not None
    wide = torch.cat([u, torch.ones(50, 1)], 1).double()
    expected = torch.linalg.lstsq(wide, r.double()).solution.T
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)
    only_bias = equations.solve(float("inf"))
    assert only_bias is not None
    torch.testing.assert_close(only_bias[0, :, -1], r.double().mean(0), rtol=1e-5, atol=1e-6)
    assert not only_bias[0, :, :-1].any()


@pytest.mark.parametrize(
    ("groups", "kernel", "stride", "padding", "dilation"),
    [(1, 3, 1, 1, 1), (4, 3, 2, 1, 1), (2, 1, 1, 0, 1), (1, 3, 1, 2, 2), (1, 1, 2, 0, 1)],
)
def test_columns_times_weight_are_the_convolution(
    groups: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    noise = generator("columns")
    x = torch.randn(2, 4, 7, 7, generator=noise)
    weight = torch.randn(8, 4 // groups, kernel, kernel, generator=noise)
    pairs = [(kernel, kernel), (stride, stride), (padding, padding), (dilation, dilation)]
    geometry = Geometry(groups, *pairs)
    out = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    columns, rows = geometry.columns(x), geometry.rows(out)
    columns = columns[..., geometry.order(columns.shape[-1], x.device)]
    product = columns @ weight.reshape(groups, 8 // groups, -1).mT
    torch.testing.assert_close(product, rows, rtol=1e-4, atol=1e-5)
    some = torch.tensor([3, 0, 5])
    assert torch.equal(geometry.columns(x, some), geometry.columns(x)[:, some])
    assert torch.equal(geometry.rows(out, some), rows[:, some])


def test_compensate_chooses_on_held_out_examples_and_touches_nothing() -> None:
    model, batches, units = made("basic blocks")
    state = {key: value.clone() for key, value in model.state_dict().items()}
    plan = plan_of(units, [units.names[1], units.names[2]])
    pairs = [(batch, torch.full((len(batch),), 1_000_000)) for batch in batches]  # never read
    found = compensate(model, plan, pairs)
    again = compensate(model, plan, batches)
    choice = found.choice
    assert choice.num_held_out == 96  # each third was, in turn
    assert choice == again.choice
    tried = {c.name for c in choice.candidates}
    assert {"nothing", "recalibrated", "realigned", "realigned, tenfold penalty"} <= tried
    assert {each.name for each in choice.skipped} >= {"patch", "bias", "folded"}
    best = min(choice.candidates, key=lambda each: each.distance)
    assert found.chosen == best.name != "nothing"
    assert best.is_surely_nearer
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    fresh = [torch.randn(64, 3, 8, 8, generator=generator("fresh"))]
    cut = apply_plan(model, plan)
    assert distance(model, found.model, fresh) < distance(model, cut, fresh)


def test_nothing_is_done_where_nothing_surely_helps() -> None:
    model, batches, units = made("basic blocks")
    block: Any = model.get_submodule(units.names[1])
    with torch.no_grad():
        block.bn2.weight.zero_()
        block.bn2.bias.zero_()
    found = compensate(model, plan_of(units, [units.names[1]]), batches, recalibration=False)
    assert found.chosen == "nothing"
    assert found.choice.num_fitted == 0
    assert torch.equal(found.model(batches[0]), model(batches[0]))


def test_a_compensated_network_survives_saving_and_loading(tmp_path: Any) -> None:
    model, batches, units = made("basic blocks")
    plan = plan_of(units, [units.names[2]])
    found = compensate(model, plan, batches)
    assert found.chosen != "nothing"
    save_pruned(tmp_path / "net", found.model, plan, base={})

    def base() -> nn.Module:
        return made("basic blocks")[0]

    loaded = load_pruned(tmp_path / "net", base=base).eval()
    assert torch.equal(loaded(batches[0]), found.model.eval()(batches[0]))


def test_new_statistics_keep_what_is_computed_and_fit_what_is_seen() -> None:
    model, batches, _ = made("inverted residuals")
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight *= 1.7
    before = model(batches[0])
    assert with_new_statistics(model, batches) == 12
    torch.testing.assert_close(model(batches[0]), before, rtol=1e-4, atol=1e-5)
    norm: Any = model.get_submodule("1.0.body.1")
    seen = torch.cat([model.get_submodule("1.0.body.0")(model[0](b)) for b in batches])
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


class Branching(nn.Module):
    """A network whose steps depend on the values of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Residual(3), Residual(3), Residual(3))
        self.extra = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        if float(x.mean()) > 1:
            x = self.extra(x) - 1
        return self.head(self.blocks(x).mean((2, 3)))


def test_a_forward_whose_steps_depend_on_its_inputs_is_refused() -> None:
    with isolated_rng(3):
        model = Branching().eval()
    x = torch.randn(8, 3, 6, 6, generator=generator("steps"))
    units = find_units(model, x)
    pruned, origins = remove_with_origins(model, [units["blocks.1"]], example_inputs=x)
    with pytest.raises(CompensationError, match="depend on its inputs"):
        realign(model, pruned, origins, [x, x + 5])


class Remembering(nn.Module):
    """A network that puts its input away in itself and takes it out again later."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Residual(3), Residual(3), Residual(3))
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        self.__dict__["kept"] = x
        return self.head((self.blocks(x) + self.__dict__["kept"]).mean((2, 3)))


def test_networks_that_keep_something_in_themselves_are_walked_one_batch_at_a_time() -> None:
    with isolated_rng(3):
        model = Remembering().eval()
    x = torch.randn(16, 3, 6, 6, generator=generator("kept"))
    units = find_units(model, x[:2])
    found = []
    for budget in (1 << 30, 0):
        pruned, origins = remove_with_origins(model, [units["blocks.1"]], example_inputs=x[:2])
        realign(model, pruned, origins, list(x.split(8)), budget=budget)
        found.append(pruned(x))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_too_few_examples_are_refused_and_every_example_is_held_out_once() -> None:
    batches = [torch.arange(6)[:, None], torch.arange(6, 10)[:, None]]
    fitted, held = split(batches)
    assert torch.cat([*fitted, *held]).tolist() == torch.cat(batches).tolist()
    assert sum(map(len, held)) == 2
    rounds = folds(batches)
    assert (
        torch.cat([torch.cat(held) for _, held in rounds]).tolist() == torch.cat(batches).tolist()
    )
    for fitted, held in rounds:
        both = torch.cat([*fitted, *held]).flatten().tolist()
        assert sorted(both) == list(range(10))
    with pytest.raises(DataError, match="at least 6 examples"):
        split([torch.zeros(3, 2)])
