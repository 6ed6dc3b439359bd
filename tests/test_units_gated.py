"""Gated sums: the whole goes where its weights add up to one, and it is locked otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit.rng import isolated_rng
from srinit.surgery import bypassed, remove_units
from srinit.units import find_units
from zoo import noise

X = noise(4, 8)


class Gated(nn.Module):
    """A branch, gates and weights; a form says how they are joined."""

    def __init__(self, form: Any = None) -> None:
        super().__init__()
        self.form = form
        self.h, self.g, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.one, self.both, self.norm = nn.Linear(8, 1), nn.Linear(8, 16), nn.LayerNorm(8)
        self.a, self.w = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor([0.2, 0.9]))

    def forward(self, x: Tensor) -> Tensor:
        return self.form(self, x)


def highway(s: Gated, x: Tensor) -> Tensor:
    t = torch.sigmoid(s.g(x))
    return t * torch.relu(s.h(x)) + (1 - t) * x


def carried(s: Gated, x: Tensor) -> Tensor:
    t = torch.sigmoid(s.g(x))
    return x * t + (1 - t) * s.h(x)


def one_number(s: Gated, x: Tensor) -> Tensor:
    t = torch.sigmoid(s.one(x))
    return t * s.h(x) + (1 - t) * x


def normed(s: Gated, x: Tensor) -> Tensor:
    n = s.norm(x)
    t = torch.sigmoid(s.g(n))
    return t * s.h(n) + (1 - t) * x


def in_place(s: Gated, x: Tensor) -> Tensor:
    t = torch.sigmoid(s.g(x))
    return (t * s.h(x)).add_((1 - t) * x)


def addcmul(s: Gated, x: Tensor) -> Tensor:
    t = torch.sigmoid(s.g(x))
    return torch.addcmul((1 - t) * x, t, s.h(x))


def chunked(s: Gated, x: Tensor) -> Tensor:
    p, g = s.both(x).chunk(2, -1)
    return torch.sigmoid(g) * x + (1 - torch.sigmoid(g)) * torch.relu(p)


def two_gates(s: Gated, x: Tensor) -> Tensor:
    return torch.sigmoid(s.g(x)) * s.h(x) + torch.sigmoid(s.c(x)) * x


def two_small_gates(s: Gated, x: Tensor) -> Tensor:
    return torch.sigmoid(s.g(x)) * s.h(x) + torch.sigmoid(s.one(x)) * x


def half_gated(s: Gated, x: Tensor) -> Tensor:
    return s.h(x) + (1 - torch.sigmoid(s.g(x))) * x


def weighted(s: Gated, x: Tensor) -> Tensor:
    w = torch.softmax(s.w, 0)
    return w[0] * x + w[1] * s.h(x)


Form = Callable[[Gated, Tensor], Tensor]
WHOLE: dict[str, Form] = {
    "highway": highway,
    "carried": carried,
    "one_number": one_number,
    "normed": normed,
    "in_place": in_place,
    "addcmul": addcmul,
    "lerp": lambda s, x: torch.lerp(x, s.h(x), torch.sigmoid(s.g(x))),
    "lerp_back": lambda s, x: torch.lerp(s.h(x), x, torch.sigmoid(s.g(x))),
    "where": lambda s, x: torch.where(s.g(x) > 0, s.h(x), x),
    "difference": lambda s, x: x + torch.sigmoid(s.g(x)) * (s.h(x) - x),
    "learned": lambda s, x: s.a * s.h(x) + (1 - s.a) * x,
    "constant": lambda s, x: 0.3 * s.h(x) + 0.7 * x,
    "average": lambda s, x: (x + s.h(x)) / 2,
    "softmax": weighted,
    "chunked": chunked,
}
LOCKED: dict[str, Form] = {
    "two_gates": two_gates,
    "two_small_gates": two_small_gates,
    "half_gated": half_gated,
}


class Inline(nn.Module):
    """The same sums in the forward of the network itself."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        self.layers, self.head = nn.ModuleList(Gated() for _ in range(2)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.form(layer, x)
        return self.head(x)


def stack(form: Form) -> nn.Module:
    with isolated_rng(0):
        return nn.Sequential(Gated(form), Gated(form), nn.Linear(8, 3)).eval()


def inline(form: Form) -> Inline:
    with isolated_rng(0):
        model = Inline(form)
    return model.eval()


@pytest.mark.parametrize("name", WHOLE)
def test_a_module_that_ends_in_a_gated_sum_goes_as_a_whole(name: str) -> None:
    model = stack(WHOLE[name])
    units = find_units(model, X)
    assert units.names == ("0", "1")
    pruned = remove_units(model, [units["0"]], example_inputs=X)
    assert torch.equal(pruned(X), model[2](model[1](X)))


@pytest.mark.parametrize("name", WHOLE)
def test_a_gated_sum_in_the_networks_own_forward_goes_as_a_whole(name: str) -> None:
    model = inline(WHOLE[name])
    units = find_units(model, X)
    assert len(units) == 2
    pruned = remove_units(model, units.removable[:1], example_inputs=X)
    expected = model.head(model.form(model.layers[1], X))
    assert torch.equal(pruned(X), expected)
    with bypassed(model, units.removable):
        assert torch.equal(model(X), model.head(X))


@pytest.mark.parametrize("name", LOCKED)
@pytest.mark.parametrize("build", [stack, inline])
def test_a_shortcut_behind_a_gate_of_its_own_is_locked_with_that_reason(
    name: str, build: Any
) -> None:
    units = find_units(build(LOCKED[name]), X)
    assert not units.names
    assert [lock.reason for lock in units.locked] == ["gated", "gated"]
    assert "weights add up to one" in units.locked[0].detail


def test_a_gated_sum_that_code_cannot_be_rewritten_for_is_locked_with_that_reason() -> None:
    def chosen(s: Gated, x: Tensor) -> Tensor:
        w = torch.softmax(s.g(x)[:, :2], -1)
        return w[:, :1] * x + w[:, 1:] * s.h(x)

    units = find_units(inline(chosen), X)
    assert not units.names
    assert {lock.reason for lock in units.locked} == {"gated"}


@pytest.mark.parametrize(
    "form",
    [lambda s, x: s.h(x) - x, lambda s, x: torch.add(s.h(x), x, alpha=2)],
    ids=["subtracted", "doubled"],
)
def test_a_shortcut_that_enters_with_another_factor_is_not_what_stays(form: Form) -> None:
    assert not find_units(stack(form), X).names
    assert not find_units(inline(form), X).names
