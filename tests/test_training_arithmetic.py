"""In which format and layout a network is trained, and that nothing of it stays behind."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from srinit.finetune import Recipe, arithmetic, fine_tune
from srinit.finetune.arithmetic import precision_of
from srinit.finetune.teacher import Teacher
from srinit.rng import isolated_rng


class Pictures(nn.Module):
    """Two convolutions and a head."""

    def __init__(self, *, groups: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=groups)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(x.mean((2, 3)))


def network(**settings: int) -> Pictures:
    with isolated_rng(0):
        return Pictures(**settings)


def batches(count: int = 6) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(8, 3, 8, 8, generator=generator),
            torch.randint(0, 4, (8,), generator=generator),
        )
        for _ in range(count)
    ]


def test_auto_is_bfloat16_where_processor_and_network_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe()
    assert precision_of(recipe, network()) == "float32"  # too small
    monkeypatch.setattr(arithmetic, "LARGE", 1)
    monkeypatch.setattr(arithmetic, "has_fast_bfloat16", lambda _: True)
    assert precision_of(recipe, network()) == "bfloat16"
    assert precision_of(recipe, network(groups=8)) == "float32"  # depthwise
    assert precision_of(Recipe(precision="float32"), network()) == "float32"
    monkeypatch.setattr(arithmetic, "has_fast_bfloat16", lambda _: False)
    assert precision_of(recipe, network()) == "float32"


def test_layouts_are_put_back_and_the_teacher_is_not_touched() -> None:
    model, teacher = network(), network()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    versions = [parameter._version for parameter in teacher.parameters()]
    held = [parameter.data_ptr() for parameter in teacher.parameters()]
    fine_tune(model, batches(), None, teacher=teacher, recipe=Recipe(epochs=1))
    for parameter in (*model.parameters(), *teacher.parameters()):
        assert parameter.is_contiguous()
    assert [parameter.data_ptr() for parameter in teacher.parameters()] == held
    assert [parameter._version for parameter in teacher.parameters()] == versions
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not torch.equal(model.first.weight, teacher.first.weight)


def test_a_layout_of_the_callers_own_stays() -> None:
    model = network().to(memory_format=torch.channels_last)
    fine_tune(model, batches(), None, recipe=Recipe(epochs=1, distill_weight=0.0))
    assert model.second.weight.is_contiguous(memory_format=torch.channels_last)


def test_training_in_bfloat16_goes_on_bit_for_bit_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "LARGE", 1)
    monkeypatch.setattr(arithmetic, "has_fast_bfloat16", lambda _: True)
    monkeypatch.setattr("srinit.finetune.loop.CHECKPOINT_STEPS", 2)
    start = network()

    class StopError(Exception):
        pass

    def stop(step: int, *_: object) -> None:
        if step == 5:
            raise StopError

    whole, halved = copy.deepcopy(start), copy.deepcopy(start)
    recipe, state = Recipe(epochs=2), tmp_path / "state.safetensors"
    fine_tune(whole, batches(), batches(1), teacher=start, recipe=recipe, seed=3)
    with pytest.raises(StopError):
        fine_tune(
            halved, batches(), batches(1), teacher=start, recipe=recipe, seed=3, state=state,
            on_progress=stop,
        )  # fmt: skip
    fine_tune(halved, batches(), batches(1), teacher=start, recipe=recipe, seed=3, state=state)
    found = halved.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in whole.state_dict().items())


class Mixed(Pictures):
    """Has weights of five dimensions and a buffer that two of its modules share, too."""

    def __init__(self) -> None:
        super().__init__()
        self.volume = nn.Parameter(torch.zeros(1, 1, 1, 2, 2))
        self.register_buffer("mask", torch.ones(2, 8, 3, 3))
        self.first.register_buffer("mask", self.mask)
        self.register_buffer("counts", torch.ones(2, 3, 2, 2, dtype=torch.int64))


def test_networks_with_other_dimensions_and_shared_buffers_are_laid_out_and_put_back() -> None:
    with isolated_rng(0):
        model = Mixed()
    mask, weight = model.mask, model.second.weight
    with arithmetic.laid_out(model):
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert mask.is_contiguous(memory_format=torch.channels_last)
        assert model.mask is model.first.mask is mask
        assert model.counts.is_contiguous()
        assert model.volume.is_contiguous()
    assert model.mask is model.first.mask is mask
    assert mask.is_contiguous()
    assert weight.is_contiguous()
    teacher = Teacher(model, "float32").model
    assert teacher is not model
    assert teacher.mask is teacher.first.mask
    assert teacher.second.weight.is_contiguous(memory_format=torch.channels_last)
    assert weight.is_contiguous()


def test_a_layout_that_fails_half_way_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()

    def half(model: nn.Module) -> None:
        first = model.first.weight
        first.data = first.data.contiguous(memory_format=torch.channels_last)
        raise MemoryError

    monkeypatch.setattr(arithmetic, "lay_out", half)
    with pytest.raises(MemoryError), arithmetic.laid_out(model):
        pass
    assert all(parameter.is_contiguous() for parameter in model.parameters())
