"""Networks that cannot be looked into say so; those that can be unwrapped are cut."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from srinit.errors import ModelError
from srinit.rng import isolated_rng
from srinit.surgery import remove_units
from srinit.units import find_units
from zoo import Residual, noise

X = noise(2, 8)


def network() -> nn.Sequential:
    with isolated_rng(0):
        return nn.Sequential(*(Residual(8) for _ in range(3)), nn.Linear(8, 3)).eval()


def quietly(make: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


@pytest.mark.parametrize(
    ("convert", "why"),
    [
        (torch.jit.script, "compiled by torch.jit"),
        (lambda m: torch.jit.trace(m, X), "compiled by torch.jit"),
        (lambda m: torch.ao.quantization.quantize_dynamic(m, {nn.Linear}), "is quantized"),
    ],
    ids=["scripted", "traced", "quantized"],
)
def test_a_converted_network_says_why_it_has_no_units(convert: Any, why: str) -> None:
    model = quietly(lambda: convert(network()))
    units = quietly(lambda: find_units(model, X))
    assert not units.names
    assert why in units.note
    assert "the network it was made from" in units.note


def test_a_block_with_quantized_layers_is_locked_with_that_reason() -> None:
    model = network()
    model[1] = quietly(lambda: torch.ao.quantization.quantize_dynamic(model[1], {nn.Linear}))
    units = find_units(model, X)
    assert units.names == ("0", "2")
    assert [(lock.name, lock.reason) for lock in units.locked] == [("1", "opaque")]
    assert "of 1.up (Linear)" in units.locked[0].detail


def test_a_scripted_block_can_go_as_a_whole() -> None:
    model = network()
    model[1] = quietly(lambda: torch.jit.script(model[1]))
    assert find_units(model, X).names == ("0", "1", "2")


def test_an_exported_network_is_refused_with_what_to_do() -> None:
    model = torch.export.export(network(), (X,)).module()
    with pytest.raises(ModelError, match=r"exported by torch\.export.*it was made from"):
        find_units(model, X)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module, not function"):
        find_units(lambda x: x, X)  # type: ignore[arg-type]


def test_modules_in_a_plain_list_are_told_of() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = [network()]

        def forward(self, x: Tensor) -> Tensor:
            return self.inner[0](x)

    assert "14 parameters that it does not register" in find_units(Hidden(), X).note


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (fx.symbolic_trace, "{}.up"),
        (lambda m: torch.compile(m, backend="eager"), "_orig_mod.{}"),
        (nn.DataParallel, "module.{}"),
        (torch.optim.swa_utils.AveragedModel, "module.{}"),
    ],
    ids=["fx", "compiled", "parallel", "averaged"],
)
def test_a_wrapped_network_is_cut_like_the_network_inside(wrap: Any, name: str) -> None:
    inside = network()
    model = wrap(inside)
    units = find_units(model, X)
    assert units.names == tuple(name.format(i) for i in range(3))
    one = remove_units(model, [units[name.format(1)]], example_inputs=X)
    assert torch.equal(one(X), inside[3](inside[2](inside[0](X))))
    none = remove_units(model, units.removable, example_inputs=X)
    assert torch.equal(none(X), inside[3](X))
