"""Criteria that rank nothing say so; units that are addends are compared at their sums."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit.criteria import UnitScore, score_units, taylor
from srinit.errors import ConfigError, ResourceError
from srinit.units import find_units

WIDTH = 6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Layer(nn.Module):
    """Two addends in one module; the first one fills a list that the layer was given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, seen: list[Tensor]) -> Tensor:
        seen.append(x)
        x = x + self.first(x) / len(seen)
        change = torch.tanh(self.second(x))
        if torch.is_grad_enabled():
            return x + change
        x += change  # written over, where no gradient needs it
        return x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.head = nn.Linear(WIDTH, 3)
        for parameter in self.parameters():
            parameter.detach().normal_(0, 0.5, generator=generator(parameter.numel()))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, [])
        out: Tensor = self.head(x)
        return out


MODEL = Net().eval()
X = torch.randn(20, WIDTH, generator=generator(1))
DATA = [(X, torch.arange(20) % 3)]


def test_units_that_are_addends_are_compared_at_the_sums_that_they_go_into() -> None:
    units = find_units(MODEL, X, level="sublayer")
    found = score_units(MODEL, units, DATA, criterion="block_influence", precision="keep")
    wanted = {}
    with torch.no_grad():
        x = X
        for index, layer in enumerate(MODEL.layers):
            between = x + layer.first(x)
            after = between + torch.tanh(layer.second(between))
            wanted[f"layers.{index}.first"] = 1 - F.cosine_similarity(x, between).mean()
            wanted[f"layers.{index}.second"] = 1 - F.cosine_similarity(between, after).mean()
            x = after
    assert {unit.unit: unit.score for unit in found.units} == pytest.approx(
        {name: float(value) for name, value in wanted.items()}, abs=1e-5
    )


UNITS = find_units(MODEL, X)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_scores_that_are_all_the_same_rank_nothing_and_say_so(value: float) -> None:
    found = score_units(
        MODEL, UNITS, DATA, criterion=lambda m, u, d, o: dict.fromkeys(u.names, value)
    )
    assert found.order == ()
    assert all(f"gave all 2 units the same score, {value:g}" in unit.reason for unit in found.units)


def test_taylor_of_a_network_without_gradients_ranks_nothing() -> None:
    def flat(output: Any, target: Any) -> Tensor:
        return output.sum() * 0

    found = score_units(MODEL, UNITS, DATA, criterion="taylor", loss=flat)
    assert found.order == ()


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinity")])
@pytest.mark.parametrize("wrapped", [False, True])
def test_scores_that_are_not_finite_are_none(value: float, word: str, wrapped: bool) -> None:
    def mine(model: Any, units: Any, data: Any, options: Any) -> dict[str, Any]:
        name = units.names[0]
        return {name: UnitScore(unit=name, score=value) if wrapped else value, "layers.1": 1.0}

    found = score_units(MODEL, UNITS, DATA, criterion=mine)
    assert found["layers.0"].score is None
    assert word in found["layers.0"].reason
    assert found.order == ("layers.1",)


@pytest.mark.parametrize("given", [[1.0], [1.0, 2.0], None, 3, torch.ones(2)])
def test_criteria_that_return_no_dict_are_refused_with_what_they_returned(given: Any) -> None:
    with pytest.raises(ConfigError, match=rf"returned {type(given).__name__}; return a dict"):
        score_units(MODEL, UNITS, DATA, criterion=lambda m, u, d, o: given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"layers.0": [1, 2]}, "gave list for 'layers.0'"),
        ({"layers.0": torch.ones(2)}, "gave Tensor for 'layers.0'"),
        ({"layers.0": UnitScore(unit="layers.1", score=1.0)}, "the score of 'layers.1'"),
        ({0: 1.0, 1: 2.0}, "scored 0, which is no removable unit"),
    ],
)
def test_entries_that_are_no_scores_are_refused_by_name(given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        score_units(MODEL, UNITS, DATA, criterion=lambda m, u, d, o: given)


def masked_loss(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.movedim(2, 1), target)


class ByToken(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_taylor_in_parts_is_taylor_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ByToken().eval()
    x = torch.randn(10, 4, WIDTH, generator=generator(3))
    target = torch.randint(0, 3, (10, 4), generator=generator(4))
    for row in range(10):
        target[row, : row % 5] = -100  # some examples have no scored token at all
    units = find_units(model, x)
    sizes: list[int] = []
    model.layers[0].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    found = []
    for room in (taylor.KEPT_BYTES, 10_000, 1):
        monkeypatch.setattr(taylor, "KEPT_BYTES", room)
        sizes.clear()
        scores = score_units(model, units, [(x, target)], criterion="taylor", loss=masked_loss)
        found.append([unit.score for unit in scores.units])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_taylor_halves_a_batch_that_does_not_fit() -> None:
    seen: list[int] = []

    class Hungry(Net):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            if len(x) > 6:
                raise MemoryError
            return super().forward(x)

    model = Hungry().eval()
    units = find_units(model, X[:4])
    wanted = score_units(MODEL, UNITS, DATA, criterion="taylor")
    found = score_units(model, units, DATA, criterion="taylor")
    assert max(seen) == 20
    assert [u.score for u in found.units] == pytest.approx(
        [u.score for u in wanted.units], rel=1e-4
    )


def test_taylor_says_when_not_even_one_example_fits() -> None:
    class Full(Net):
        full = False

        def forward(self, x: Tensor) -> Tensor:
            if self.full:
                raise MemoryError
            return super().forward(x)

    model = Full().eval()
    units = find_units(model, X[:4])
    Full.full = True
    with pytest.raises(ResourceError, match="one example does not fit"):
        score_units(model, units, DATA, criterion="taylor")


def test_taylor_leaves_the_weights_and_their_flags_as_they_were() -> None:
    model = Net().eval().requires_grad_(False)
    model.head.requires_grad_(True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score_units(model, UNITS, DATA, criterion="taylor")
    assert [p.requires_grad for p in model.parameters()] == [False] * 8 + [True] * 2
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_criterion_of_ones_own_gets_weights_of_its_own_to_change() -> None:
    def mine(model: nn.Module, units: Any, data: Any, options: Any) -> dict[str, float]:
        for parameter in model.parameters():
            parameter.detach().zero_()
        return {name: float(number) for number, name in enumerate(units.names)}

    before = MODEL.head.weight.clone()
    score_units(MODEL, UNITS, DATA, criterion=mine)
    assert torch.equal(MODEL.head.weight, before)
