"""Replays from the middle: same answers as from the start, on models that no tracer could read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from planted import Planted, batches_of, planted_data, units_of
from srinit.engine import cheap_dtypes
from srinit.engine.copies import cheaper_copy, shared_copy
from srinit.engine.evaluator import PerturbationEvaluator
from srinit.engine.folding import fold, pairs_of
from srinit.engine.groups import groups_of
from srinit.engine.perturb import Perturbation
from srinit.engine.replay import Replayer
from srinit.errors import DataError
from srinit.evaluate import top1
from srinit.modules import count_params, logits_of, swapped
from srinit.reinit import reinitialized
from srinit.rng import seed_for
from srinit.sensitivity import measure_sensitivity
from srinit.sensitivity.settings import targets_of
from zoo import cifar_resnet, noise
from zoo_replay import Fragile, Mixing, Moody, Plain, SequenceFirst, Shared, Tuple


def conv_net() -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(noise(6))
            module.running_var.copy_(noise(6).abs() + 0.5)
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "plain": (Plain, (6,), ("stem", "blocks.0", "blocks.1", "blocks.2", "head")),
    "tuple": (Tuple, (5, 4), ("one", "two", "head")),
    "sequence_first": (SequenceFirst, (7, 8), ("layer", "next", "head")),
    "shared": (Shared, (6,), ("stem", "block", "head")),
    "conv": (conv_net, (3, 8, 8), ("0", "3", "4", "8")),
    "mixing": (Mixing, (6,), ("head",)),
}


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    model = build().eval()
    for index, parameter in enumerate(model.parameters()):
        values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
        parameter.detach().copy_(0.4 * values + (parameter.ndim == 1))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_measuring_equals_swapping_each_group_by_hand(name: str) -> None:
    """Every score of the workbench, against a plain forward of a model with that draw in it."""
    build, shape, units = MODELS[name]
    model = seeded(build)
    x = noise(10, *shape)
    target = logits_of(model(x)).argmax(1).detach()
    bench = PerturbationEvaluator(
        model, targets_of(units_of(model, *units)), (x, target), scorer=top1, precision="keep"
    )
    assert bench.problems == {}
    expected = set() if name == "mixing" else set(units)
    perturbation = Perturbation(scheme="default", scale=2.0)
    per_draw = 10 if name == "mixing" else 4
    found = bench.measure((x, target), 7, dict.fromkeys(units, per_draw), perturbation)
    assert expected <= bench.grouped
    for unit in units:
        wanted: list[int] = []
        for group in groups_of(0, 10, per_draw):
            fresh = reinitialized(
                model.get_submodule(unit),
                seed=seed_for(0, "draw", unit, "batch", 7, group.draw),
                scheme="default",
                scale=2.0,
            )
            with swapped(model, unit, fresh), torch.no_grad():
                wanted += model(x[group.start : group.stop]).argmax(1).tolist()
        (rows,) = found.units[unit]
        assert list(rows.predictions or ()) == wanted


def test_what_lies_before_the_unit_is_not_computed_again() -> None:
    calls: list[str] = []

    class Counting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            calls.append("called")
            return super().forward(x)

    model = nn.Sequential(Counting(4, 4), Counting(4, 4), nn.Linear(4, 3))
    replayer = Replayer(shared_copy(model), ["2"])
    replayer.learn(noise(3, 4))
    output, same = replayer.record(noise(5, 4))
    calls.clear()
    again = replayer.replay("2", noise(5, 4), None)
    assert same
    assert torch.equal(output, again)
    assert calls == []


def test_only_the_outermost_finished_outputs_are_kept() -> None:
    model = nn.Sequential(
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)),
        nn.Linear(4, 4),
        nn.Linear(4, 3),
    )
    replayer = Replayer(shared_copy(model), ["1"])
    replayer.learn(noise(3, 4))
    replayer.record(noise(5, 4))
    assert len(replayer._cache) == 1


def test_calls_that_change_from_batch_to_batch_are_noticed() -> None:
    replayer = Replayer(shared_copy(Moody()), ["two"])
    replayer.learn(noise(3, 4))
    assert replayer.record(noise(5, 4))[1]
    assert not replayer.record(noise(9, 4))[1]


def test_folding_keeps_the_output_and_stays_inside_units() -> None:
    model = shared_copy(conv_net())
    x = noise(4, 3, 8, 8)
    with torch.no_grad():
        before = model(x)
    assert pairs_of(model, x, ["0"]) == [("3", "4")]
    pairs = pairs_of(model, x, [])
    assert pairs == [("0", "1"), ("3", "4")]
    fresh = conv_net().eval()
    fresh.load_state_dict(model.state_dict())
    fold(fresh, pairs)
    torch.testing.assert_close(fresh(x), before, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        assert torch.equal(model(x), before)


def test_groups_cover_a_batch_that_was_cut_anywhere() -> None:
    whole = [(g.draw, i) for g in groups_of(0, 20, 6) for i in range(g.start, g.stop)]
    parts = [
        (g.draw, start + i)
        for start, stop in ((0, 7), (7, 8), (8, 20))
        for g in groups_of(start, stop, 6)
        for i in range(g.start, g.stop)
    ]
    assert parts == whole


def _state(model: nn.Module) -> dict[str, Any]:
    return {
        "tensors": {
            name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()
        },
        "modes": [(name, module.training) for name, module in model.named_modules()],
        "children": [(name, id(module)) for name, module in model.named_modules()],
        "attributes": [sorted(module.__dict__) for module in model.modules()],
        "hooks": [
            (
                len(module._forward_hooks),
                len(module._forward_pre_hooks),
                len(module._backward_hooks),
            )
            for module in model.modules()
        ],
        "grads": [(p.requires_grad, p.grad) for p in model.parameters()],
    }


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    tensors, others = one.pop("tensors"), other.pop("tensors")
    equal = all(
        tensors[name][0] == others[name][0] and torch.equal(tensors[name][1], others[name][1])
        for name in tensors
    )
    return equal and one == other


@pytest.mark.parametrize("ending", ["returns", "raises in the middle", "bad data"])
@pytest.mark.parametrize("kind", ["plain", "conv", "resnet", "planted"])
def test_the_callers_model_is_never_touched(kind: str, ending: str) -> None:
    builds: dict[str, Callable[[], nn.Module]] = {
        "plain": Plain, "conv": conv_net, "resnet": lambda: cifar_resnet(8), "planted": Planted,
    }  # fmt: skip
    names = {
        "plain": ("stem", "blocks.1"), "conv": ("3",), "resnet": ("layer1.0", "layer3.0"),
        "planted": ("blocks.0",),
    }[kind]  # fmt: skip
    shape = {"plain": (6,), "conv": (3, 8, 8), "resnet": (3, 32, 32), "planted": (8,)}[kind]
    model = builds[kind]()
    model.train()
    next(iter(model.children())).eval()
    model.register_forward_hook(lambda module, inputs, output: None)
    data: list[Any] = [(noise(16, *shape), torch.zeros(16, dtype=torch.long)) for _ in range(3)]
    before, state = _state(model), torch.get_rng_state()
    threads = torch.get_num_threads()

    def stop(done: float, total: float | None, note: str) -> None:
        if ending == "raises in the middle":
            raise RuntimeError("stopped here")

    if ending == "bad data":
        data[1] = (noise(16, 2), data[1][1])
    units = units_of(model, *names)
    kwargs: dict[str, Any] = {"scheme": "auto", "half_width": 0.01, "batch_size": 16}
    if ending == "returns":
        measure_sensitivity(model, units, data, on_progress=stop, **kwargs)
    else:
        with pytest.raises((RuntimeError, DataError), match=r"stopped here|do not fit into one"):
            measure_sensitivity(model, units, data, on_progress=stop, **kwargs)
    assert _same(_state(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_memory_of_copies_is_bounded_by_what_was_learned() -> None:
    model = Planted()
    bench = PerturbationEvaluator(
        model, targets_of(units_of(model, "blocks.0", "head")),
        batches_of(*planted_data(100))[0], scorer=top1, precision="keep",
    )  # fmt: skip
    own = {p.data_ptr() for p in bench._replayer.model.parameters()}
    assert own == {p.data_ptr() for p in model.parameters()}  # nothing is copied, nothing moved
    assert count_params(bench._replayer.model) == count_params(model)


def test_bfloat16_is_used_only_where_scores_agree() -> None:
    class Fragile(nn.Module):
        """Classes that differ by less than bfloat16 can tell."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 2)
            with torch.no_grad():
                self.head.weight.copy_(torch.tensor([[1.0], [1.0]]))
                self.head.bias.copy_(torch.tensor([0.0, 1e-4]))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x)

    x = noise(64, 1) + 5
    target = torch.ones(64, dtype=torch.long)
    fragile, sturdy = Fragile(), Planted()
    targets = targets_of(units_of(fragile, "head"))
    bench = PerturbationEvaluator(fragile, targets, (x, target), scorer=top1, precision="bfloat16")
    assert bench.dtype is None
    data = batches_of(*planted_data(100))[0]
    targets = targets_of(units_of(sturdy, "head"))
    bench = PerturbationEvaluator(sturdy, targets, data, scorer=top1, precision="bfloat16")
    assert bench.dtype is torch.bfloat16


def test_in_32_bits_the_copy_owns_no_more_than_it_changes() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).relu().mean((2, 3))
            for block in self.blocks:
                x = x + block(x)
            return self.head(x)

    model = Net()
    strides = model.conv.weight.stride()
    copied = cheaper_copy(model, torch.float32, noise(3, 3, 8, 8), ("blocks.0", "blocks.1"))[0]
    shared = copied.blocks[0].weight  # type: ignore[index, union-attr]
    assert shared.data_ptr() == model.blocks[0].weight.data_ptr()  # type: ignore[union-attr]
    assert copied.conv.weight.data_ptr() != model.conv.weight.data_ptr()
    assert copied.conv.weight.stride() != strides
    assert model.conv.weight.stride() == strides
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("has_half", [False, True])
def test_where_bfloat16_disagrees_32_bits_are_tried(
    monkeypatch: pytest.MonkeyPatch, has_half: bool
) -> None:
    monkeypatch.setattr("srinit.engine.copies.has_fast_bfloat16", lambda device: has_half)
    formats = cheap_dtypes(Planted(), "auto")
    assert formats == ((torch.bfloat16, torch.float32) if has_half else (torch.float32,))
    assert cheap_dtypes(Planted(), "keep") == ()
    assert cheap_dtypes(Planted().double(), "auto") == ()

    model = Fragile()
    targets = targets_of(units_of(model, "blocks.0"))
    bench = PerturbationEvaluator(model, targets, batches_of(*planted_data(100))[0], scorer=top1)
    assert bench.dtype is torch.float32
