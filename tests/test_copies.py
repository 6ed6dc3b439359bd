"""Every copy is one: it computes what its original does, and reaches nothing of it."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import srinit
from srinit.copying import detached_copy
from srinit.criteria import score_units
from srinit.errors import ModelError
from srinit.reinit import reinitialized
from srinit.rng import isolated_rng
from srinit.trial import try_removals
from zoo import noise
from zoo_loops import Block, Net

X, FRESH = noise(6, 8), noise(6, 8) * 2 + 1
BATCHES = [(X, torch.arange(6) % 3)]
KNOWN: dict[str, nn.Module] = {}  # a registry outside of any module


class Registered(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + KNOWN["net"].stem(x).mean()


def net(cls: type[Net] = Net) -> Net:
    with isolated_rng(0):
        return cls().eval()


def by_hook(model: Net) -> None:
    def adds(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return output + model.stem.bias.mean()

    model.head.register_forward_hook(adds)


def by_pre_hook(model: Net) -> None:
    held = {"stem": model.stem}
    model.head.register_forward_pre_hook(lambda _, args: (args[0] + held["stem"].bias,))


def by_patched_forward(model: Net) -> None:
    old = model.blocks[1].forward
    model.blocks[1].forward = lambda x: 1.5 * old(x)


def by_default(model: Net) -> None:
    model.stem.forward = lambda x, of=model.stem: nn.functional.linear(x, of.weight)


def by_partial(model: Net) -> None:
    act = functools.partial(lambda owner, x: x * owner().stem.bias.mean(), weakref.ref(model))
    model.stem.register_forward_hook(lambda _, __, output, act=act: act(output))


def by_kept_tensor(model: Net) -> None:
    weight = model.head.weight
    model.head.forward = lambda x: x @ weight.T


def by_global(model: Net) -> None:
    KNOWN["net"] = model
    model.head.register_forward_hook(lambda _, __, output: output + KNOWN["net"].stem.bias.mean())


REFERENCES = {
    by_global: "of 'head', global variable 'KNOWN', entry 'net' would still be the original itself",
    by_hook: "forward hook 'by_hook.<locals>.adds' of 'head', closure variable 'model'",
    by_pre_hook: "forward pre hook .* of 'head', closure variable 'held', entry 'stem'",
    by_patched_forward: "attribute 'forward' of 'blocks.1', closure variable 'old'",
    by_default: "attribute 'forward' of 'stem', default argument",
    by_partial: "weak reference would still be the original itself",
    by_kept_tensor: "closure variable 'weight' would still be a tensor of the original",
}


@pytest.mark.parametrize("spoil", REFERENCES)
def test_a_function_that_leads_back_to_the_original_is_named(spoil: Callable[[Net], None]) -> None:
    model = net()
    spoil(model)
    with pytest.raises(ModelError, match=REFERENCES[spoil]):
        detached_copy(model, X)


USERS: dict[str, Callable[[nn.Module, srinit.UnitMap], object]] = {
    "scan": lambda m, u: srinit.measure_sensitivity(m, u, BATCHES, scheme="default"),
    "criteria": lambda m, u: score_units(m, u, BATCHES, criterion="block_influence"),
    "surgery": lambda m, u: srinit.surgery.remove_units(m, list(u)[:1], example_inputs=X),
    "trials": lambda m, u: try_removals(m, u, [u.names[:1]], BATCHES, example_inputs=X),
}


@pytest.mark.parametrize("user", USERS)
def test_everybody_who_copies_refuses_such_a_network(user: str) -> None:
    model = net()
    by_hook(model)
    units = srinit.find_units(model, X)
    with pytest.raises(ModelError, match="forward hook 'by_hook"):
        USERS[user](model, units)


def test_what_no_search_finds_a_forward_does() -> None:
    KNOWN["net"] = model = net(Registered)
    with pytest.raises(ModelError, match=r"reads 'stem\.weight' of the original"):
        detached_copy(model, X)
    with pytest.raises(ModelError, match=r"reads 'stem\.weight' of the original"):
        detached_copy(model, X, shared=lambda _: True)


def test_a_copy_that_writes_what_the_caller_holds_is_refused_and_writes_nothing() -> None:
    model, log = net(), []

    def noted(self: nn.Linear, x: Tensor) -> Tensor:
        log.append(len(x))
        return nn.Linear.forward(self, x)

    model.stem.forward = types.MethodType(noted, model.stem)
    with pytest.raises(ModelError, match=r"changes attribute 'forward' of 'stem'.*'log'"):
        detached_copy(model, X)
    assert log == []


def scale(model: Net) -> None:
    model.stem.register_forward_hook(lambda _, __, output: 0.5 * output)


def scale_in_place(model: Net) -> None:
    def halve(_: nn.Module, __: Any, output: Tensor) -> None:
        output.mul_(0.5)

    model.stem.register_forward_hook(halve)


def bound(model: Net) -> None:
    model.blocks[1].forward = types.MethodType(lambda self, x: x - self.linear(x), model.blocks[1])


def applied(model: Net) -> None:
    model.blocks[1].forward = functools.partial(Block.forward, model.blocks[1])


def beside(model: Net) -> None:
    vars(model)["again"] = [model.blocks[0], {"head": model.head}]
    model.forward = types.MethodType(
        lambda self, x: self.again[1]["head"](self.again[0](self.stem(x))), model
    )


def parametrized(model: Net) -> None:
    nn.utils.parametrizations.weight_norm(model.stem)


@pytest.mark.parametrize("change", [scale, scale_in_place, bound, applied, beside, parametrized])
@pytest.mark.parametrize("share", [False, True])
def test_what_can_be_copied_computes_the_same_on_its_own(
    change: Callable[[Net], None], share: bool
) -> None:
    model = net()
    change(model)
    with torch.no_grad():
        expected = model(FRESH)
        twin, pairs = detached_copy(model, X, shared=(lambda _: True) if share else None)
        assert torch.equal(twin(FRESH), expected)
        if not share:
            for _, ours in pairs:
                ours.zero_()
        assert torch.equal(model(FRESH), expected)
        if share:
            assert all(a.data_ptr() == b.data_ptr() and a is not b for a, b in pairs)


def test_observers_stay_behind_and_hear_nothing() -> None:
    model, heard = net(), []
    model.blocks[1].register_forward_hook(lambda _, __, output: heard.append(output))
    model.stem.register_full_backward_hook(lambda *_: heard.append("backward"))
    units = srinit.find_units(model, X)
    for use in USERS.values():
        use(model, units)
    assert heard == []
    assert len(model.blocks[1]._forward_hooks) == 1


def test_the_published_cut_keeps_a_hook_that_computes() -> None:
    model, plain = net(), net()
    scale(model)
    units = srinit.find_units(model, X)
    cut = srinit.surgery.remove_units(model, [units["blocks.1"]], example_inputs=X)
    with torch.no_grad():
        x = 0.5 * plain.stem(FRESH)
        assert torch.equal(cut(FRESH), plain.head(plain.blocks[2](plain.blocks[0](x))))


def test_a_network_of_chance_is_not_taken_for_a_wrong_copy() -> None:
    model = net()
    calls = iter(range(10**6))
    model.head.register_forward_hook(lambda _, __, output: output + next(calls))
    detached_copy(model, X)


def test_a_unit_that_works_with_weights_of_another_is_not_measured() -> None:
    model = net()
    model.blocks[1].forward = model.blocks[0].forward
    with pytest.raises(srinit.errors.ReinitError, match="weights of another module"):
        reinitialized(model.blocks[1], seed=0)
    units = srinit.find_units(model, X)
    found = srinit.measure_sensitivity(model, units, BATCHES, scheme="default")
    assert {u.unit: u.decision for u in found.units}["blocks.1"] == "not measured"
