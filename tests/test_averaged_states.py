"""Entries of a network that are no weights go through training as what they are."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from srinit.finetune import Recipe, fine_tune, loop
from srinit.finetune.average import averaged
from zoo_weights import Indexed


def batches(count: int = 9) -> list[tuple[Tensor, Tensor]]:
    x = torch.randn(count, 16, 4, generator=torch.Generator().manual_seed(1))
    return [(each, each[:, :3].argmax(1)) for each in x]


def test_averaged_weights_leave_whole_numbers_flags_and_constants_as_they_are() -> None:
    model, data = Indexed(), batches()
    before = copy.deepcopy(model)
    recipe = Recipe(epochs=3, lr=0.05, ema=0.9, distill_weight=0.0)
    fine_tune(model, data, None, recipe=recipe)
    for name in ("index", "seen", "mask", "rate"):
        assert torch.equal(getattr(model, name), getattr(before, name)), name
    assert model.steps.tolist() == [27, 27]
    assert not torch.equal(model.layer.weight, before.layer.weight)


def test_the_mean_is_that_of_the_formula() -> None:
    model = Indexed()
    mean, values = averaged(model, 0.8), []
    for number in range(4):
        with torch.no_grad():
            model.mean.fill_(float(number))
            model.layer.bias.fill_(float(number))
        mean.update_parameters(model)
        values.append(float(number))
    expected = values[0]
    for value in values[1:]:
        expected = 0.8 * expected + 0.2 * value
    assert mean.module.mean.tolist() == pytest.approx([expected] * 4)
    assert mean.module.layer.bias.tolist() == pytest.approx([expected] * 3)


def test_an_interrupted_training_brings_every_entry_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(epochs=2, lr=0.05, ema=0.9, distill_weight=0.0)
    whole, resumed, state = Indexed(), Indexed(), tmp_path / "state.safetensors"
    fine_tune(whole, batches(), None, recipe=recipe)
    monkeypatch.setattr(loop, "CHECKPOINT_STEPS", 3)

    def stop(done: int, _total: int, _note: str) -> None:
        if done == 10:
            raise KeyboardInterrupt("stopped")

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        fine_tune(Indexed(), batches(), None, recipe=recipe, state=state, on_progress=stop)
    fine_tune(resumed, batches(), None, recipe=recipe, state=state)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


class Short(Indexed):
    """Its first call with many examples fails like a full device, after it counted."""

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        if self.training and len(x) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return found


def test_a_step_that_is_taken_again_in_parts_counts_once() -> None:
    model = Short()
    log = fine_tune(model, batches(2), None, recipe=Recipe(epochs=1, distill_weight=0.0))
    assert log.part_size == 8
    assert model.steps.tolist() == [4, 4]  # two parts of two batches


def test_swins_index_of_positions_survives_averaging() -> None:
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        model = timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=8,
            depths=(2, 2), num_heads=(1, 2), num_classes=3,
        )  # fmt: skip
    kept = {n: b.clone() for n, b in model.named_buffers() if not b.is_floating_point()}
    assert any("relative_position_index" in name for name in kept)
    own = torch.Generator().manual_seed(0)
    data = [(torch.randn(2, 3, 32, 32, generator=own), torch.tensor([0, 1]))] * 3
    fine_tune(model, data, None, recipe=Recipe(epochs=2, ema=0.9, distill_weight=0.0))
    for name, value in model.named_buffers():
        assert name not in kept or torch.equal(value, kept[name]), name
