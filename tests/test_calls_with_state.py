"""Calls that change what they are given: they are made again with what they were given first."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.arguments import copied
from srinit.engine.evaluator import PerturbationEvaluator
from srinit.engine.perturb import Perturbation, Target
from srinit.errors import ModelError, ReinitError
from srinit.evaluate import next_token_accuracy
from srinit.finetune.features import watched
from srinit.reinit import Call, reinitialized
from srinit.rng import seed_for
from srinit.sensitivity import measure_sensitivity
from srinit.units import find_units

WIDTH = 6


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.detach().normal_(0, 0.4, generator=generator)
    return module.eval()


class Layer(nn.Module):
    """A residual layer that does something to what it is called with."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.linear = kind, nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, state: Any) -> Tensor:
        if self.kind == "list":  # a cache of tokens: the next call sees more of them
            state.append(x.detach().mean(1, keepdim=True))
            x = x + torch.stack(state).sum(0)
        elif self.kind == "dict":
            state["calls"] = state.get("calls", 0) + 1
            x = x * state["calls"]
        elif self.kind == "tensor":
            state += 1
            x = x * state
        elif self.kind == "object":
            state.seen += 1
            x = x * state.seen
        elif self.kind == "iterator":
            x = x * next(state)
        return x + torch.tanh(self.linear(x))


class Memory:
    def __init__(self) -> None:
        self.seen = 0


def numbers() -> Iterator[float]:
    yield from (1.0, 2.0, 3.0, 4.0, 5.0)


NEW_STATE = {
    "list": list,
    "dict": dict,
    "tensor": lambda: torch.zeros(1, 1),
    "object": Memory,
    "iterator": lambda: iter([1.0, 2.0, 3.0, 4.0, 5.0]),
    "generator": numbers,
}


class Net(nn.Module):
    """Layers that share what its forward makes for every call, or one of their own each."""

    def __init__(self, kind: str, *, shared: bool = False) -> None:
        super().__init__()
        inner = "iterator" if kind == "generator" else kind
        self.kind, self.shared = kind, shared
        self.layers = nn.ModuleList(Layer(inner) for _ in range(3))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = NEW_STATE[self.kind]()
        for layer in self.layers:
            x = layer(x, state)
            state = state if self.shared else NEW_STATE[self.kind]()
        out: Tensor = self.head(x)
        return out


TARGETS = tuple(Target(name=f"layers.{index}") for index in range(3))


def by_hand(model: Net, bench_name: str, batch: tuple[Tensor, Tensor], scheme: str) -> list[float]:
    """Return the scores with the unit drawn again, group by group, each in a new network."""
    module = model.get_submodule(bench_name)
    calls: list[Call] = []
    if scheme == "matched":
        handle = module.register_forward_pre_hook(lambda _, args: calls.append(Call(args)))
        with torch.no_grad():
            model(batch[0])
        handle.remove()
    scores: list[float] = []
    for start in range(0, len(batch[0]), 4):
        seed = seed_for(0, "draw", bench_name, "batch", 0, start // 4)
        fresh = reinitialized(module, seed=seed, scheme=scheme, reference=[*calls, None][0])
        with torch.no_grad(), modules.swapped(model, bench_name, fresh):
            found = model(batch[0][start : start + 4]).argmax(1)
        scores += (found == batch[1][start : start + 4]).float().tolist()
    return scores


@pytest.mark.parametrize("scheme", ["keep_norm", "matched"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", NEW_STATE)
def test_the_scan_of_layers_that_change_their_arguments_is_what_it_is_by_hand(
    kind: str, shared: bool, scheme: str
) -> None:
    model = seeded(Net(kind, shared=shared))
    batch = noise(24, WIDTH, seed=1), torch.arange(24) % 3
    bench = PerturbationEvaluator(model, TARGETS, batch, scorer=_top1, precision="keep")
    perturbation = Perturbation(scheme=scheme)
    problems = bench.check(perturbation)
    if kind == "generator" and scheme == "matched":
        assert all("generator that cannot be copied" in text for text in problems.values())
        return
    assert not problems
    names = [target.name for target in TARGETS]
    found = bench.measure(batch, 0, dict.fromkeys(names, 4), perturbation)
    for name in names:
        wanted = by_hand(model, name, batch, scheme)
        assert list(found.units[name][0].scores) == wanted


def _top1(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(1) == target).float()


def test_a_unit_whose_calls_cannot_be_made_again_says_so() -> None:
    model = seeded(Net("generator"))
    data = [(noise(16, WIDTH, seed=1), torch.arange(16) % 3)]
    units = find_units(model, data[0][0])
    found = measure_sensitivity(model, units, data, scheme="keep_norm", precision="keep")
    assert all("took a whole forward pass" in unit.reason for unit in found.units)


def test_an_in_place_first_step_does_not_change_what_matched_matches_on() -> None:
    unit = nn.Sequential(nn.SiLU(inplace=True), nn.Linear(WIDTH, WIDTH))
    seeded(unit)
    x = noise(64, WIDTH)
    kept = x.clone()
    fresh = reinitialized(unit, seed=0, scheme="matched", reference=x)
    assert torch.equal(x, kept)
    with torch.no_grad():
        wanted, found = unit(kept.clone()), fresh(kept.clone())
    torch.testing.assert_close(found.mean(0), wanted.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.std(0), wanted.std(0), atol=1e-5, rtol=1e-4)


def test_a_call_with_a_generator_is_refused_with_its_name() -> None:
    with pytest.raises(ModelError, match="a generator that cannot be copied"):
        reinitialized(nn.Linear(2, 2), seed=0, scheme="matched", reference=(numbers(),))


def test_the_same_inputs_can_be_given_twice_to_a_model_that_writes_over_them() -> None:
    x = noise(2, 3)
    kept = x.clone()
    one = modules.call(nn.SiLU(inplace=True), x)
    assert torch.equal(modules.call(nn.SiLU(inplace=True), x), one)
    assert torch.equal(x, kept)


def test_a_copy_keeps_what_is_the_same_object_the_same() -> None:
    x, weight = noise(2), nn.Parameter(noise(2))
    box = Memory()
    a, b, [c], d, e = copied((x, x, [x], weight, box))
    assert a is b is c
    assert a is not x
    assert d is weight
    assert e is not box


def test_features_are_what_the_module_put_out_although_what_follows_writes_over_it() -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    with watched(model, ["0"]) as found:
        model(torch.tensor([-1.0, 2.0]))
    assert found["0"].tolist() == [-1.0, 2.0]


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers")
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_cache_that_a_causal_model_fills_changes_no_drop(attention: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, attn_implementation=attention,
    )  # fmt: skip
    model = seeded(LlamaForCausalLM(config))
    tokens = torch.randint(1, 32, (24, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    for row in range(0, 24, 2):
        mask[row, : row % 5] = 0
    inputs = {"input_ids": tokens, "attention_mask": mask}
    data = [(inputs, tokens.masked_fill(mask == 0, -100))]
    drops = []
    for use_cache in (False, True):
        model.config.use_cache = use_cache
        found = measure_sensitivity(
            model, find_units(model, inputs), data, scorer=next_token_accuracy, precision="keep",
            scheme="matched",
        )  # fmt: skip
        drops.append([(unit.reinit_drop, unit.num_draws) for unit in found.units])
    assert drops[0] == drops[1]


def test_reinit_errors_name_what_cannot_be_called_again() -> None:
    model = seeded(Net("generator"))
    batch = noise(8, WIDTH), torch.zeros(8).long()
    bench = PerturbationEvaluator(model, TARGETS, batch, scorer=_top1, precision="keep")
    with pytest.raises(ReinitError, match=r"matched.*generator"):
        bench._perturber._new_reinitializer(
            "layers.0", Perturbation(scheme="matched"), lambda unit: unit
        )
