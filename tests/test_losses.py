"""What is trained follows from what is scored, for every caller alike."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit.criteria import score_units
from srinit.errors import ConfigError, DataError
from srinit.evaluate import (
    LOSSES,
    SCORERS,
    evaluate,
    image_iou,
    loss_for,
    next_token_accuracy,
    token_accuracy,
    top1,
)
from srinit.evaluate.losses import distillation
from srinit.finetune import Recipe, fine_tune
from srinit.units import find_units
from zoo_images import Pixels
from zoo_tokens import Counting

# B batch, C classes, T tokens, V vocabulary, H W space


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(model: nn.Module, seed: int = 0, scale: float = 0.3) -> nn.Module:
    """Return a network whose weights come from a seed."""
    own = source(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=own))
    return model.eval()


def counting(batches: int = 8, padding: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Return texts that count up modulo 8, with places at the left that are not scored."""
    found = []
    for number in range(batches):
        start = torch.randint(0, 8, (16, 1), generator=source(number))
        ids = (start + torch.arange(10)) % 8
        target = ids.clone()
        target[:, :padding] = -100
        found.append((ids, target))
    return found


@pytest.mark.parametrize("padding", [0, 4])
def test_a_causal_model_is_trained_to_go_on_and_not_to_copy(padding: int) -> None:
    model, data = drawn(Counting()), counting(padding=padding)
    recipe = Recipe(epochs=6, lr=3e-2, optimizer="adamw", distill_weight=0.0)
    log = fine_tune(model, data, data, scorer=next_token_accuracy, recipe=recipe)
    assert log.score_after is not None
    assert log.score_after > 0.95
    assert evaluate(model, data, scorer=token_accuracy_without_ignored).score < 0.2


def token_accuracy_without_ignored(output: Any, target: Any) -> Tensor:
    return token_accuracy(output, target.where(target >= 0, torch.tensor(-100)))


def test_taylor_takes_gradients_of_the_loss_that_is_trained() -> None:
    model, data = drawn(Counting()), counting(1, padding=3)
    units = find_units(model, data[0][0])
    shifted = score_units(model, units, data, criterion="taylor", scorer=next_token_accuracy)
    own = score_units(model, units, data, criterion="taylor", scorer=token_accuracy)
    by_name = score_units(model, units, data, criterion="taylor", loss=LOSSES["next_token"])
    ids, target = data[0]
    loss = F.cross_entropy(model(ids)[:, :-1].reshape(-1, 8), target[:, 1:].reshape(-1))
    weights = list(model.block.parameters())
    slopes = torch.autograd.grad(loss, weights)
    hand = sum(float((w * s).detach().abs().sum()) for w, s in zip(weights, slopes, strict=True))
    assert shifted["block"].score == pytest.approx(hand, rel=1e-4)
    assert by_name["block"].score == shifted["block"].score
    assert own["block"].score != pytest.approx(hand, rel=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.long, torch.uint8])
def test_masks_with_void_are_scored_and_trained_alike(stride: int, dtype: torch.dtype) -> None:
    model = drawn(Pixels(stride))
    x = torch.randn(6, 1, 8, 8, generator=source())
    masks = (x[:, 0] > 0).to(dtype)
    masks[:, :2] = 255
    data = [(x, masks)]
    found = score_units(model, find_units(model, x), data, criterion="taylor", scorer=image_iou)
    assert found["block"].score is not None
    with torch.no_grad():
        output = model(x)
    logits = output["out"]
    if stride == 2:
        logits = F.interpolate(logits, size=(8, 8), mode="bilinear")
    hand = F.cross_entropy(logits, masks.long(), ignore_index=255)
    assert float(loss_for(image_iou)(output, masks)) == pytest.approx(float(hand))
    before = evaluate(model, data, scorer=image_iou).score
    recipe = Recipe(epochs=40, lr=0.05, optimizer="adamw")
    log = fine_tune(model, data, data, teacher=drawn(Pixels(stride)), scorer=image_iou,
                    recipe=recipe)  # fmt: skip
    assert log.score_after is not None
    assert log.score_after > before


@pytest.mark.parametrize("ignored", [(), (0, 1), (0, 1, 2, 3)])
def test_what_is_ignored_moves_neither_loss_nor_teacher(ignored: tuple[int, ...]) -> None:
    logits = torch.randn(2, 4, 5, generator=source()).requires_grad_()
    target = torch.randint(0, 5, (2, 4), generator=source(1))
    target[:, list(ignored)] = -100
    loss = loss_for(token_accuracy)
    counted = loss.places(logits, target)
    assert counted is not None
    guide = torch.randn(2, 4, 5, generator=source(2))
    (own,) = torch.autograd.grad(loss(logits, target), logits)
    (copied,) = torch.autograd.grad(distillation(logits, guide, 2.0, counted), logits)
    for slope in (own, copied):
        assert bool(torch.isfinite(slope).all())
        moved = slope.abs().sum(2) > 0
        assert torch.equal(moved, target != -100)


def test_the_last_place_of_a_causal_model_copies_nothing() -> None:
    target = torch.tensor([[-100, -100, 3, 4]])
    counted = loss_for(next_token_accuracy).places(torch.zeros(1, 4, 5), target)
    assert counted is not None
    assert counted.tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("kind", [torch.long, torch.int32, torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_whole_numbers_of_any_kind_are_classes(kind: torch.dtype, shape: tuple[int, ...]) -> None:
    logits, labels = torch.randn(3, 4, generator=source()), torch.tensor([0, 3, 1])
    target = labels.to(kind).reshape(shape)
    loss = loss_for(top1)
    assert float(loss(logits, target)) == pytest.approx(float(F.cross_entropy(logits, labels)))
    found = evaluate(nn.Identity(), [(logits, target)])
    assert found.scores.tolist() == (logits.argmax(1) == labels).double().tolist()
    assert found.targets.tolist() == labels.tolist()


def test_soft_labels_train_and_are_refused_as_a_score() -> None:
    logits = torch.randn(3, 3, generator=source())
    soft = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])
    loss = loss_for(top1)
    assert float(loss(logits, soft)) == pytest.approx(float(F.cross_entropy(logits, soft)))
    for target in (soft, F.one_hot(torch.tensor([0, 1, 2]))):
        with pytest.raises(DataError, match=r"one-hot and soft labels do.*target\.argmax\(1\)"):
            evaluate(nn.Identity(), [(logits, target)])
    with pytest.raises(DataError, match="one-hot and soft labels do"):
        loss(logits, F.one_hot(torch.tensor([0, 1, 2])))


@pytest.mark.parametrize(
    ("shape", "target", "message"),
    [
        ((3, 4), torch.zeros(2, dtype=torch.long), r"logits \(3, 4\) a class index \(B,\)"),
        ((3, 4), torch.tensor([0.5, 1.0, 2.0]), "no whole number"),
        ((3, 4), torch.tensor([0, 1, 4]), "class index 4, but the model has 4 outputs"),
        ((3, 4), torch.tensor([0, 1, -1]), r"unlabeled examples \(target -1\)"),
        ((3, 4), [0, 1, 2], "a tensor of class indices, found list"),
        ((3, 4), None, "hold no target"),
        ((3, 2, 4), torch.zeros(3, 3, dtype=torch.long), r"\(B, T\) is needed, found \(3, 3\)"),
        ((3, 2, 4, 4), torch.zeros(3, dtype=torch.long), r"\(B, H, W\) is needed, found \(3,\)"),
        ((3, 2, 2, 2, 2), torch.zeros(3, dtype=torch.long), "a loss of your own"),
    ],
)
def test_a_target_that_does_not_fit_is_named(
    shape: tuple[int, ...], target: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        loss_for(top1)(torch.zeros(shape), target)


def test_a_score_of_ones_own_needs_a_loss() -> None:
    def near(output: Any, target: Any) -> Tensor:
        return top1(output, target)

    model, data = drawn(Counting()), counting(1)
    with pytest.raises(ConfigError, match=r"score near is not known: give loss=.*next_token"):
        loss_for(near)
    with pytest.raises(ConfigError, match="score near is not known"):
        fine_tune(model, data, None, scorer=near)
    units = find_units(model, data[0][0])
    with pytest.raises(ConfigError, match="score near is not known"):
        score_units(model, units, data, criterion="taylor", scorer=near)
    assert loss_for(functools.partial(next_token_accuracy)).shifted
    assert all(loss_for(scorer) for scorer in SCORERS.values())


def test_a_teacher_alone_needs_no_labels() -> None:
    teacher, model = drawn(nn.Linear(4, 3), 1), drawn(nn.Linear(4, 3), 2)
    x = torch.randn(32, 4, generator=source())
    recipe = Recipe(epochs=60, lr=0.1, optimizer="adamw", distill_weight=1.0, weight_decay=0.0)
    fine_tune(model, [(x, None)], None, teacher=teacher, recipe=recipe)
    apart = (model(x).softmax(1) - teacher(x).softmax(1)).detach().abs().max()
    assert float(apart) < 0.05


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda output, target: 0.5, ConfigError, "one number as a tensor, not float"),
        (lambda output, target: output, ConfigError, r"one number as a tensor, not \(\d+, 10, 8\)"),
        (lambda output, target: output.detach().sum(), ConfigError, "gives no gradient"),
    ],
)
def test_a_wrong_loss_is_named(loss: Any, error: type[Exception], message: str) -> None:
    model, data = drawn(Counting()), counting(1)
    with pytest.raises(error, match=message):
        fine_tune(model, data, None, loss=loss)
    units = find_units(model, data[0][0])
    with pytest.raises(error, match=message):
        score_units(model, units, data, criterion="taylor", loss=loss, batch_size=16)


def test_a_loss_that_is_no_number_is_said_and_not_only_a_divergence() -> None:
    model, data = drawn(Counting()), counting(2)

    def broken(output: Any, target: Any) -> Tensor:
        return output.sum() * math.nan

    units = find_units(model, data[0][0])
    with pytest.raises(DataError, match="the loss broken is nan on a batch"):
        score_units(model, units, data, criterion="taylor", loss=broken)
    log = fine_tune(model, data, None, loss=broken, recipe=Recipe(epochs=1))
    assert log.stopped == "diverged"
    assert "the loss was nan at step 1; before anything was trained" in log.note
