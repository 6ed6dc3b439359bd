"""Perturbations: every kind of layer, every scheme, and what cannot be drawn."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from srinit.errors import ReinitError
from srinit.reinit import SCHEMES, Call, Reinitializer, RuleScheme, reinitialized
from srinit.reinit.plain import make_plain
from srinit.rng import isolated_rng
from zoo import noise
from zoo_images import BasicBlock
from zoo_weights import Bare, Own


class Block(BasicBlock):
    """With a bias, and norms that have seen data."""

    bias = True

    def __init__(self) -> None:
        super().__init__(4)
        for norm in (self.bn1, self.bn2):
            norm.running_mean.copy_(noise(4))
            norm.running_var.copy_(noise(4).abs() + 0.5)
            norm.weight.detach().copy_(noise(4).abs() + 0.5)


MODULES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "block": (Block, noise(8, 4, 6, 6)),
    "conv1d": (lambda: nn.Conv1d(4, 4, 3), noise(5, 4, 9)),
    "conv_transpose": (lambda: nn.ConvTranspose2d(4, 2, 3), noise(3, 4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), noise(5, 4, 6, 6)),
    "linear": (lambda: nn.Linear(6, 5), noise(20, 6)),
    "attention": (
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        (noise(2, 5, 8), noise(2, 5, 8), noise(2, 5, 8)),
    ),
    "attention_kv": (
        lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True, batch_first=True),
        (noise(2, 5, 8), noise(2, 5, 4), noise(2, 5, 6)),
    ),
    "encoder_layer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        noise(4, 5, 8),
    ),
    "embedding": (lambda: nn.Embedding(7, 3, padding_idx=2), torch.tensor([[0, 1], [3, 4]])),
    "lstm": (lambda: nn.LSTM(4, 3, 2, bidirectional=True), noise(6, 2, 4)),
    "gru_cell": (lambda: nn.GRUCell(4, 3), (noise(5, 4), noise(5, 3))),
    "bilinear": (lambda: nn.Bilinear(3, 4, 2), (noise(6, 3), noise(6, 4))),
    "bare": (Bare, noise(4, 6)),
    "own": (Own, noise(4, 6)),
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(4, 4)), noise(5, 4)),
}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", MODULES)
def test_every_module_is_drawn_by_every_scheme_and_left_untouched(kind: str, scheme: str) -> None:
    build, inputs = MODULES[kind]
    unit = build().eval()
    before, state = _tensors(unit), torch.get_rng_state()

    fresh = reinitialized(unit, seed=3, scheme=scheme, reference=inputs)
    again = reinitialized(unit, seed=3, scheme=scheme, reference=inputs)
    other = reinitialized(unit, seed=4, scheme=scheme, reference=inputs)

    plain = copy.deepcopy(unit)
    make_plain(plain)
    assert type(fresh) is type(plain)
    assert torch.equal(state, torch.get_rng_state())
    after = _tensors(unit)
    assert all(torch.equal(before[name], after[name]) for name in before)
    one, two, three = _tensors(fresh), _tensors(again), _tensors(other)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], value) for name, value in _tensors(plain).items())
    assert any(not torch.equal(one[name], three[name]) for name in one)
    Call.of(inputs)(fresh)  # it runs


def test_draw_depends_on_the_seed_alone_and_not_on_draws_before() -> None:
    reinitializer = Reinitializer(Block(), scheme="keep_norm")
    reinitializer.draw(1)
    late = _tensors(reinitializer.draw(2))
    first = _tensors(Reinitializer(Block(), scheme="keep_norm").draw(2))
    assert all(torch.equal(late[name], first[name]) for name in ("conv1.weight", "conv2.weight"))


@pytest.mark.parametrize("scheme", ["keep_norm", "default", "paper"])
def test_many_draws_at_once_are_what_each_is_alone(scheme: str) -> None:
    unit = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    reinitializer = Reinitializer(unit, scheme=scheme, scale=0.7)
    many = reinitializer.draw_many([2, 5], lambda number: 100 + number)
    assert many is not None
    assert set(many) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    for row, number in enumerate((2, 5)):
        alone = reinitializer.draw(100 + number)
        for name, values in many.items():
            assert torch.equal(values[row], alone.get_parameter(name).detach()), name
    assert not torch.equal(many["3.bias"][0], many["3.bias"][1])
    assert Reinitializer(unit, scheme="permuted").draw_many([0], int) is None


def test_paper_is_kaiming_normal_with_normalization_at_its_start() -> None:
    unit = nn.Sequential(nn.Conv2d(64, 64, 3, bias=False), nn.BatchNorm2d(64))
    unit[1].running_mean.fill_(3)
    unit[1].num_batches_tracked.fill_(7)
    fresh = reinitialized(unit, seed=0, scheme="paper")
    assert float(fresh[0].weight.detach().std()) == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert fresh[1].running_mean.abs().max() == 0
    assert bool((fresh[1].running_var == 1).all())
    assert bool((fresh[1].weight == 1).all())
    assert fresh[1].num_batches_tracked == 0


def test_default_has_the_distribution_of_reset_parameters() -> None:
    unit = nn.Linear(100, 400)
    fresh = reinitialized(unit, seed=0, scheme="default")
    for name in ("weight", "bias"):
        drawn, built = getattr(fresh, name).detach(), getattr(unit, name).detach()
        assert drawn.abs().max() <= 0.1
        assert float(drawn.std()) == pytest.approx(float(built.std()), rel=0.1)


def test_keep_norm_keeps_every_norm_layer() -> None:
    unit = nn.TransformerEncoderLayer(8, 2, 16)
    unit.norm1.weight.detach().copy_(noise(8))
    fresh = reinitialized(unit, seed=0, scheme="keep_norm")
    assert torch.equal(fresh.norm1.weight, unit.norm1.weight)
    assert not torch.equal(fresh.linear1.weight, unit.linear1.weight)


@pytest.mark.parametrize(
    "kind", ["block", "linear", "conv_transpose", "encoder_layer", "attention"]
)
def test_matched_has_the_mean_and_spread_of_the_trained_output(kind: str) -> None:
    build, inputs = MODULES[kind]
    with isolated_rng(8):
        unit = build().eval()
    fresh = reinitialized(unit, seed=1, scheme="matched", reference=inputs)
    channel = 1 if kind in ("block", "conv_transpose") else -1
    with torch.no_grad():
        wanted, found = Call.of(inputs)(unit), Call.of(inputs)(fresh)
    if isinstance(wanted, tuple):
        wanted, found = wanted[0], found[0]
    dims = [dim for dim in range(wanted.ndim) if dim != channel % wanted.ndim]
    assert not torch.allclose(wanted, found, atol=1e-2)
    torch.testing.assert_close(found.mean(dims), wanted.mean(dims), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.std(dims), wanted.std(dims), atol=1e-4, rtol=1e-3)


def test_matched_needs_inputs() -> None:
    with pytest.raises(ReinitError, match="reference=inputs"):
        reinitialized(Block(), seed=0, scheme="matched")


def test_permuted_keeps_the_values_of_each_tensor() -> None:
    unit = Block()
    fresh = reinitialized(unit, seed=0, scheme="permuted")
    for name in ("conv1.weight", "conv2.weight", "conv2.bias"):
        one = unit.get_parameter(name).detach().flatten()
        other = fresh.get_parameter(name).detach().flatten()
        assert torch.equal(one.sort().values, other.sort().values)
        assert not torch.equal(one, other)


def test_embedding_keeps_a_zero_padding_row() -> None:
    fresh = reinitialized(nn.Embedding(7, 3, padding_idx=2), seed=0)
    assert fresh.weight[2].abs().max() == 0


def test_scale_multiplies_the_drawn_weights_and_not_the_norms() -> None:
    once = reinitialized(Block(), seed=0, scheme="paper")
    twice = reinitialized(Block(), seed=0, scheme="paper", scale=2.0)
    torch.testing.assert_close(twice.conv1.weight, 2 * once.conv1.weight)
    assert bool((twice.bn1.weight == 1).all())


def test_only_the_named_parts_are_drawn() -> None:
    unit = Block()
    fresh = reinitialized(unit, seed=0, scheme="default", parts=("conv2", "bn2"))
    assert torch.equal(fresh.conv1.weight, unit.conv1.weight)
    assert torch.equal(fresh.bn1.running_mean, unit.bn1.running_mean)
    assert not torch.equal(fresh.conv2.weight, unit.conv2.weight)
    with pytest.raises(ReinitError, match="no submodule 'conv3'"):
        reinitialized(unit, seed=0, parts=("conv3",))


def test_a_scheme_of_ones_own_draws_from_the_trained_values_each_time() -> None:
    def shifted(unit: nn.Module, generator: torch.Generator) -> None:
        for parameter in unit.parameters():
            parameter.add_(torch.rand((), generator=generator))

    unit = nn.Linear(2, 2)
    reinitializer = Reinitializer(unit, scheme=shifted)
    first = reinitializer.draw(0).weight.clone()
    reinitializer.draw(1)
    assert torch.equal(reinitializer.draw(0).weight, first)
    assert (first - unit.weight).detach().std() < 1e-6


@pytest.mark.parametrize(
    ("build", "scheme", "words"),
    [
        (nn.ReLU, "default", "no parameters"),
        (lambda: nn.BatchNorm2d(4), "keep_norm", "only normalization"),
        (nn.PReLU, "default", "changed none of its values"),
        (lambda: nn.LazyLinear(3), "default", "lazy or meta"),
        (lambda: nn.Linear(2, 2, device="meta"), "default", "lazy or meta"),
        (lambda: nn.Linear(2, 2), "kaming", "no scheme 'kaming'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_cannot_be_drawn_is_refused_with_its_reason(
    build: Callable[[], nn.Module], scheme: str, words: str
) -> None:
    with pytest.raises(ReinitError, match=words):
        reinitialized(build(), seed=0, scheme=scheme)


def test_integer_parameters_are_refused() -> None:
    unit = nn.Linear(2, 2)
    unit.codes = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ReinitError, match=r"'codes' has dtype torch\.int8"):
        reinitialized(unit, seed=0)


def test_half_precision_units_get_the_same_noise() -> None:
    unit = nn.Linear(8, 8)
    full = reinitialized(unit, seed=0)
    half = reinitialized(copy.deepcopy(unit).bfloat16(), seed=0)
    assert half.weight.dtype == torch.bfloat16
    assert torch.equal(full.weight.bfloat16(), half.weight)


def test_built_in_schemes_are_callables_like_any_other() -> None:
    unit = nn.Linear(8, 8)
    for name, scheme in SCHEMES.items():
        assert isinstance(scheme, RuleScheme)
        copy_ = copy.deepcopy(unit).requires_grad_(False)
        scheme(copy_, torch.Generator().manual_seed(0))
        assert not torch.equal(copy_.weight, unit.weight), name
