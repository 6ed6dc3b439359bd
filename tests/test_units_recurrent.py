"""Recurrent residual networks, and what is counted of them and of other operations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit.cost import count_cost
from srinit.rng import isolated_rng
from srinit.surgery import remove_units
from srinit.units import find_units
from zoo import noise

X = noise(2, 5, 8)
RECURRENT: dict[str, Callable[[], nn.RNNBase]] = {
    "lstm": lambda: nn.LSTM(8, 8, batch_first=True),
    "gru": lambda: nn.GRU(8, 8, batch_first=True),
    "rnn": lambda: nn.RNN(8, 8, batch_first=True),
    "both_ways": lambda: nn.LSTM(8, 4, batch_first=True, bidirectional=True),
    "two_layers": lambda: nn.GRU(8, 8, 2, batch_first=True),
    "no_bias": lambda: nn.LSTM(8, 8, batch_first=True, bias=False),
}


class Residuals(nn.Module):
    """`x + layer(x)[0]`; the state may start the next layer, or be returned."""

    def __init__(self, make: Callable[[], nn.Module], state: str = "") -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList(make() for _ in range(3)), nn.Linear(8, 3)
        self.state = state

    def forward(self, x: Tensor) -> Any:
        state, states = None, []
        for layer in self.layers:
            out, state = layer(x, state) if self.state == "next" else layer(x)
            x = x + out
            states.append(state)
        return (self.head(x), states) if self.state == "returned" else self.head(x)


def build(make: Callable[[], nn.Module]) -> nn.Module:
    with isolated_rng(0):
        return make().eval()


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_residual_layer_is_a_unit_and_counted(name: str) -> None:
    model = build(lambda: Residuals(RECURRENT[name]))
    units = find_units(model, X)
    assert units.names == ("layers.0", "layers.1", "layers.2")
    matrices = sum(p.numel() for p in model.layers[0].parameters() if p.ndim == 2)
    assert units["layers.1"].flops == 2 * 5 * matrices  # every step multiplies by each once
    assert units.flops == 3 * 2 * 5 * matrices + 2 * 5 * 8 * 3
    assert count_cost(model, X).flops == units.flops
    pruned = remove_units(model, [units["layers.1"]], example_inputs=X)
    hidden = X + model.layers[0](X)[0]
    assert torch.equal(pruned(X), model.head(hidden + model.layers[2](hidden)[0]))


def test_an_lstm_with_projections_is_a_unit() -> None:
    model = build(lambda: Residuals(lambda: nn.LSTM(8, 16, proj_size=8, batch_first=True)))
    with warnings.catch_warnings():  # torch says once that oneDNN does not take part
        warnings.simplefilter("ignore")
        units = find_units(model, X)
    assert len(units) == 3
    assert units["layers.0"].flops == 2 * 5 * (4 * 16 * (8 + 8) + 8 * 16)


@pytest.mark.parametrize(("state", "locked"), [("next", 2), ("returned", 3)])
def test_a_recurrent_layer_whose_state_is_used_is_locked(state: str, locked: int) -> None:
    units = find_units(build(lambda: Residuals(RECURRENT["gru"], state)), X)
    assert [lock.reason for lock in units.locked] == ["dependency"] * locked
    assert len(units) == 3 - locked


def test_attention_whose_weights_nobody_reads_is_a_unit() -> None:
    class Attention(nn.MultiheadAttention):
        def forward(self, x: Tensor) -> Any:  # type: ignore[override]
            return super().forward(x, x, x)

    units = find_units(build(lambda: Residuals(lambda: Attention(8, 2, batch_first=True))), X)
    assert units.names == ("layers.0", "layers.1", "layers.2")


class Applied(nn.Module):
    """A function with a weight."""

    def __init__(self, function: Any, *shape: int) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(noise(*shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


@pytest.mark.parametrize(
    ("function", "shape", "flops"),
    [
        (lambda x, w: x @ w, (8,), 2 * 5 * 8),
        (lambda x, w: torch.addmv(x[0, :, 0], x[0], w), (8,), 5 * 8),  # of two examples
        (lambda x, w: torch.dot(x.flatten(), w), (80,), 80),
        (lambda x, w: nn.functional.bilinear(x, x, w), (3, 8, 8), 2 * 5 * 3 * (64 + 8)),
        (lambda x, w: torch.einsum("btd,ed->bte", x, w), (3, 8), 2 * 5 * 8 * 3),
        (lambda x, w: torch.cdist(x, w), (3, 8), 2 * 5 * 8 * 3),
    ],
    ids=["mv", "addmv", "dot", "bilinear", "einsum", "cdist"],
)
def test_products_that_torch_does_not_count_are_counted(
    function: Any, shape: tuple[int, ...], flops: int
) -> None:
    model = Applied(function, *shape)
    cost = count_cost(model, X)
    assert (cost.flops, cost.not_counted) == (flops, ())
    assert find_units(model, X).flops == flops


def test_bilinear_counts_like_the_same_network_in_products() -> None:
    def products(x: Tensor, w: Tensor) -> Tensor:
        return torch.einsum("btoj,btj->bto", torch.einsum("bti,oij->btoj", x, w), x)

    by_hand = Applied(products, 3, 8, 8)
    direct = Applied(lambda x, w: nn.functional.bilinear(x, x, w), 3, 8, 8)
    assert torch.allclose(by_hand(X), direct(X), atol=1e-5)
    assert count_cost(by_hand, X).flops == count_cost(direct, X).flops


def test_what_has_no_rule_is_named() -> None:
    def fourier(x: Tensor, w: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x) * w)

    model = Applied(fourier, 5)
    assert count_cost(model, X).not_counted == ("aten::_fft_c2r", "aten::_fft_r2c")
    assert find_units(model, X).not_counted == ("aten::_fft_c2r", "aten::_fft_r2c")
    bag = count_cost(nn.EmbeddingBag(9, 4), torch.ones(2, 3, dtype=torch.long))
    assert bag.not_counted == ("aten::_embedding_bag",)


def test_a_custom_operation_is_named() -> None:
    @torch.library.custom_op("srinit_tests::matmul", mutates_args=())
    def matmul(x: Tensor, w: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() @ w.detach().numpy())

    assert count_cost(Applied(matmul, 8, 3), X).not_counted == ("srinit_tests::matmul",)


def test_ordinary_networks_have_nothing_that_is_not_counted() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(nn.Conv1d(5, 5, 3, padding=1), nn.BatchNorm1d(5), nn.Hardswish(True), layer)
    assert count_cost(net, X).not_counted == ()
