"""Weights that are computed from other parameters are drawn too, or the unit is not measured."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from srinit.criteria import score_units
from srinit.errors import ReinitError
from srinit.reinit import Call, Reinitializer, reinitialized
from srinit.reinit.proof import unread
from srinit.sensitivity import Sensitivity, measure_sensitivity
from srinit.units import find_units

WIDTH = 8
SCHEMES = ("default", "keep_norm", "matched", "permuted")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(seed: int = 0) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, WIDTH, WIDTH)
    layer.weight.detach().normal_(0, 0.5, generator=generator(seed))
    layer.bias.detach().normal_(0, 0.3, generator=generator(seed + 1))
    return layer


class Block(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + 2 * torch.tanh(3 * self.inner(x))


def network(make: Callable[[int], nn.Module]) -> nn.Sequential:
    head = nn.utils.skip_init(nn.Linear, WIDTH, 4)
    head.weight.detach().normal_(generator=generator(9))
    head.bias.detach().zero_()
    return nn.Sequential(*(Block(make(seed)) for seed in range(3)), head).eval()


def scan(model: nn.Module, scheme: str, **options: object) -> Sensitivity:
    x = torch.randn(128, WIDTH, generator=generator(5))
    with torch.no_grad():
        target = model(x).argmax(1)
    return measure_sensitivity(
        model, find_units(model, x[:4]), [(x, target)], scheme=scheme, precision="keep", **options
    )


def old(function: Callable[[nn.Module], nn.Module]) -> Callable[[int], nn.Module]:
    def make(seed: int) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return settled(function(linear(seed)))

    return make


def settled(layer: nn.Module) -> nn.Module:
    """Let power iterations run, as training does, and return the layer in evaluation mode."""
    with torch.no_grad():
        for _ in range(20):
            layer.train()(torch.zeros(1, WIDTH))
    return layer.eval()


def by_own_hook(seed: int) -> nn.Module:
    layer = linear(seed)
    layer.raw = nn.Parameter(layer.weight.detach().clone())
    del layer._parameters["weight"]
    layer.weight = layer.raw.detach().clone()

    def compute(module: nn.Module, args: object) -> None:
        module.weight = module.raw * 1.0

    layer.register_forward_pre_hook(compute)
    return layer


COMPUTED = {
    "weight_norm": old(weight_norm),
    "spectral_norm": old(spectral_norm),
    "parametrized weight norm": old(parametrizations.weight_norm),
    "parametrized spectral norm": old(parametrizations.spectral_norm),
    "orthogonal": old(parametrizations.orthogonal),
}


def plain_twin(model: nn.Module) -> nn.Sequential:
    """Return the network whose weights are those that `model` computes with, by hand."""
    twin = network(linear)
    with torch.no_grad():
        model(torch.zeros(1, WIDTH))
        for mine, other in zip(twin[:3], model[:3], strict=True):
            mine.inner.weight.copy_(other.inner.weight)
            mine.inner.bias.copy_(other.inner.bias)
        twin[3].load_state_dict(model[3].state_dict())
    return twin


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", COMPUTED)
def test_drops_are_those_of_the_network_that_holds_the_same_weights_plainly(
    kind: str, scheme: str
) -> None:
    model = network(COMPUTED[kind])
    found, wanted = scan(model, scheme), scan(plain_twin(model), scheme)
    assert [u.reinit_drop for u in found.units] == pytest.approx(
        [u.reinit_drop for u in wanted.units], abs=0.02
    )
    assert all((unit.reinit_drop or 0) > 0.1 for unit in found.units)


@pytest.mark.parametrize("scheme", [*SCHEMES, "paper"])
@pytest.mark.parametrize("precision", ["auto", "keep"])
def test_a_weight_that_ones_own_hook_computes_is_drawn(scheme: str, precision: str) -> None:
    model = network(by_own_hook)
    x = torch.randn(64, WIDTH, generator=generator(5))
    with torch.no_grad():
        target = model(x).argmax(1)
    found = measure_sensitivity(
        model, find_units(model, x), [(x, target)], scheme=scheme, precision=precision
    )
    assert all((unit.reinit_drop or 0) > 0.1 for unit in found.units)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_pruned_layer_is_drawn_under_its_mask(scheme: str) -> None:
    def masked(seed: int) -> nn.Module:
        return prune.l1_unstructured(linear(seed), "weight", amount=0.4)

    model = network(masked)
    found = scan(model, scheme)
    assert all((unit.reinit_drop or 0) > 0.1 for unit in found.units)
    x = torch.randn(30, WIDTH, generator=generator(3))
    fresh = reinitialized(model[0], seed=0, scheme=scheme, reference=x)
    with torch.no_grad():
        fresh(x)
    layer = fresh.inner
    assert bool((layer.weight[layer.weight_mask == 0] == 0).all())
    assert not torch.equal(layer.weight_orig, model[0].inner.weight_orig)
    if scheme == "keep_norm":
        spread = float(layer.weight_orig.detach().std())
        assert spread == pytest.approx((2 / WIDTH) ** 0.5, rel=0.3)


def test_the_network_that_was_scanned_still_computes_its_weights() -> None:
    model = network(COMPUTED["parametrized weight norm"])
    before = copy.deepcopy(model.state_dict())
    scan(model, "default")
    assert type(model[0].inner).__name__ == "ParametrizedLinear"
    with torch.no_grad():
        model[0].inner.parametrizations.weight.original0.mul_(2)
        assert torch.allclose(
            model[0].inner.weight.norm(dim=1, keepdim=True),
            before["0.inner.parametrizations.weight.original0"] * 2,
        )


def test_a_network_that_was_just_trained_with_weight_norm_can_be_measured() -> None:
    model = network(COMPUTED["weight_norm"])
    model(torch.randn(4, WIDTH, generator=generator(1))).sum().backward()
    assert not model[0].inner.weight.is_leaf
    fresh = reinitialized(model[0], seed=0)
    assert not torch.equal(fresh.inner.weight, model[0].inner.weight)
    x = torch.randn(8, WIDTH, generator=generator(1))
    unit_map = find_units(network(COMPUTED["weight_norm"]), x)
    score_units(model, unit_map, [(x, torch.zeros(8).long())], criterion="block_influence")


class ByBuffer(nn.Module):
    """Computes with a copy of its weight that was made once."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        inner = linear(seed)
        self.weight, self.bias = inner.weight, inner.bias
        self.register_buffer("fused", inner.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.fused, self.bias)


class Fused(nn.Module):
    """Never calls its layers: it computes with what they were once."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.one, self.two, self.used = linear(seed), linear(seed + 3), linear(seed + 5)
        self.register_buffer("both", (self.one.weight + self.two.weight).detach())

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x) + F.linear(x, self.both)


@pytest.mark.parametrize("scheme", ["auto", *SCHEMES, "paper"])
@pytest.mark.parametrize(
    ("kind", "names"),
    [(ByBuffer, "'inner.weight'"), (Fused, "'inner.one.weight', 'inner.one.bias', ")],
)
def test_a_unit_that_computes_with_stale_copies_is_not_measured(
    kind: type[nn.Module], names: str, scheme: str
) -> None:
    found = scan(network(kind), scheme, max_drop=0.05)
    for unit in found.units:
        assert unit.decision == "not measured"
        assert unit.reinit_drop is None
        assert names in unit.reason or scheme == "permuted"
        assert "parameters that were drawn again change nothing" in unit.reason


class Kept(nn.Module):
    """Keeps what it computed from its table until it is trained again, as timm's LeViT does."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.inner = linear(seed)
        self.table = nn.Parameter(torch.randn(WIDTH, generator=generator(seed)) * 2)
        self.kept: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        if mode:
            self.kept = {}
        return self

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and "bias" not in self.kept:
            self.kept["bias"] = self.table * 1
        return self.inner(x) * self.kept.get("bias", self.table)


def test_what_a_module_keeps_of_its_weights_is_forgotten_at_every_draw() -> None:
    unit = Kept(0).eval()
    x = torch.randn(4, WIDTH, generator=generator(1))
    with torch.no_grad():
        unit(x)
        reinitializer = Reinitializer(unit, scheme="keep_norm")
        for seed in range(3):
            drawn = reinitializer.draw(seed)
            assert not drawn.training
            torch.testing.assert_close(drawn(x), drawn.inner(x) * drawn.table)
    found = scan(network(Kept), "keep_norm")
    assert all((unit.reinit_drop or 0) > 0.1 for unit in found.units)


class Gated(nn.Module):
    """Its output is multiplied by zero: nothing it holds has an effect, and that is measured."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.inner = linear(seed)
        self.register_buffer("gate", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.gate


def test_a_layer_behind_a_gate_at_zero_is_measured_and_redundant() -> None:
    found = scan(network(Gated), "default", max_drop=0.2)
    assert [unit.reinit_drop for unit in found.units] == [0.0] * 3


class Experts(nn.Module):
    """Sends everything to its first expert."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(linear(seed + index) for index in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.experts[0](x)


def test_an_expert_that_no_example_went_to_does_not_stop_the_measurement() -> None:
    found = scan(network(Experts), "default")
    assert all((unit.reinit_drop or 0) > 0.1 for unit in found.units)
    assert all("4 parameters have no effect on the examples" in unit.reason for unit in found.units)


class Closed(nn.Module):
    """Computes with a weight that only a function holds."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.inner, self.used = linear(seed), linear(seed + 3)
        once = self.inner.weight.detach().clone()
        self.product = lambda x: F.linear(x, once)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x) + self.used(x)


def test_a_weight_that_only_a_function_holds_is_found_out() -> None:
    found = scan(network(Closed), "default")
    assert all("'inner.inner.weight'" in unit.reason for unit in found.units)
    assert all(unit.decision == "not measured" for unit in found.units)


class OwnReset(nn.Linear):
    """A layer whose inherited `reset_parameters` sets nothing that it computes with."""

    def __init__(self, seed: int) -> None:
        super().__init__(WIDTH, WIDTH, bias=False)
        one, other = (torch.randn(WIDTH, 3, generator=generator(seed + i)) for i in (0, 1))
        self.one, self.other = nn.Parameter(one), nn.Parameter(other)
        del self._parameters["weight"]

    def reset_parameters(self) -> None:
        if "weight" in self._parameters:
            super().reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.one @ self.other.T / WIDTH


@pytest.mark.parametrize("scheme", SCHEMES)
def test_parameters_that_reset_parameters_leaves_out_are_drawn_too(scheme: str) -> None:
    unit = OwnReset(0)
    x = torch.randn(30, WIDTH, generator=generator(2))
    fresh = reinitialized(unit, seed=0, scheme=scheme, reference=x)
    assert not torch.equal(fresh.one, unit.one)
    assert not torch.equal(fresh.other, unit.other)


def test_a_scheme_of_ones_own_that_draws_half_a_layer_is_refused() -> None:
    def resets_biases(unit: nn.Module, noise: torch.Generator) -> None:
        for module in unit.modules():
            if isinstance(module, nn.Linear):
                module.bias.normal_(generator=noise)

    found = scan(network(linear), resets_biases)  # type: ignore[arg-type]
    assert all("but not 'inner.weight'" in unit.reason for unit in found.units)
    reinitializer = Reinitializer(Block(linear()), scheme=resets_biases)
    reinitializer.draw(0)
    with pytest.raises(ReinitError, match=r"drew a part .* but not 'inner.weight'"):
        reinitializer.prove(Call.of(torch.ones(2, WIDTH)), set())


def test_parameters_that_multi_head_attention_reads_without_a_call_count_as_read() -> None:
    unit = nn.MultiheadAttention(WIDTH, 2, batch_first=True).eval()
    x = torch.randn(2, 5, WIDTH, generator=generator())
    values = {name: value.detach() + 1.5 for name, value in unit.named_parameters()}
    for name in ("in_proj_weight", "out_proj.weight"):
        values[name] = torch.randn(values[name].shape, generator=generator(1))
    before = copy.deepcopy(unit.state_dict())
    assert unread(unit, values, Call.of((x, x, x))) == []
    assert all(torch.equal(value, before[name]) for name, value in unit.state_dict().items())
