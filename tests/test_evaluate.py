"""Scores of every kind lie in [0, 1]; nothing that is not finite counts as right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srinit.errors import ConfigError, DataError, ModelError, ResourceError
from srinit.evaluate import (
    SCORERS,
    agreement,
    evaluate,
    find_scorer,
    image_iou,
    labeled_by,
    load_outcomes,
    next_token_accuracy,
    save_outcomes,
    token_accuracy,
    top1,
)
from zoo import noise
from zoo_plain import Echo, Hungry


def outcomes_of(logits: Tensor, target: Tensor, **options: Any) -> Any:
    return evaluate(Echo(), [(logits, target)], **options)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_outputs_that_are_not_finite_are_wrong_and_flagged(bad: float) -> None:
    found = outcomes_of(torch.tensor([[bad, 0.0], [1.0, 0.0]]), torch.tensor([0, 0]))
    assert found.scores.tolist() == [0.0, 1.0]
    assert found.finite.tolist() == [False, True]
    assert found.predictions.tolist() == [-1, 0]
    assert found.confidence[0] == 0


def test_a_single_logit_is_a_yes_above_zero() -> None:
    found = outcomes_of(torch.tensor([[2.0], [-1.0], [3.0]]), torch.tensor([1, 0, 0]))
    assert found.predictions.tolist() == [1, 0, 1]
    assert found.scores.tolist() == [1.0, 1.0, 0.0]
    assert found.confidence[1] == pytest.approx(1 / (1 + np.exp(-1)))


def test_token_scores_leave_out_what_is_not_labeled() -> None:
    logits = nn.functional.one_hot(torch.tensor([[1, 2, 0, 0], [1, 1, 1, 1]]), 3).float()
    target = torch.tensor([[1, 0, -100, -100], [1, 1, -100, 1]])
    assert token_accuracy(logits, target).tolist() == [0.5, 1.0]
    ids = torch.tensor([[0, 1, 2, -100], [2, 1, 1, 2]])
    assert next_token_accuracy(logits, ids).tolist() == pytest.approx([1.0, 2 / 3])
    with pytest.raises(DataError, match="no scored token"):
        token_accuracy(logits, torch.full((2, 4), -100))
    with pytest.raises(DataError, match=r"found \(2, 4, 3\) and \(2, 3\)"):
        token_accuracy(logits, target[:, :3])


def test_iou_equals_the_counts_by_hand() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(3, 4, 6, 5)).astype(np.float32))
    target = torch.from_numpy(rng.integers(0, 4, (3, 6, 5)))
    target[:, 0] = 255
    for score, guess, mask in zip(image_iou(logits, target), logits.argmax(1), target, strict=True):
        kept = mask != 255
        values = []
        for label in range(4):
            one, other = (guess == label) & kept, (mask == label) & kept
            if (one | other).any():
                values.append(float((one & other).sum() / (one | other).sum()))
        assert float(score) == pytest.approx(sum(values) / len(values))


def test_iou_enlarges_coarse_logits() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    logits[:, 0, :, 0] = logits[:, 1, :, 1] = 9.0
    target = torch.tensor([[[0, 0, 1, 1]] * 4])
    assert outcomes_of(logits, target, scorer=image_iou).score == 1.0
    with pytest.raises(DataError, match=r"needs logits \(B, C, H, W\)"):
        image_iou(logits[0], target)


@pytest.mark.parametrize("shape", [(5, 3), (5, 7, 3), (5, 3, 4, 4)])
def test_a_model_agrees_with_itself_and_not_with_another(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    data = labeled_by(Echo(), [(logits, None)])
    assert evaluate(Echo(), data, scorer=agreement).score == 1.0
    inverse = evaluate(nn.Threshold(1e9, 0.0), data, scorer=agreement)  # all outputs equal
    assert 0 < inverse.score < 1


def test_agreement_with_nan_is_refused() -> None:
    data = labeled_by(Echo(), [(torch.tensor([[float("nan"), 1.0]]), None)])
    with pytest.raises(ModelError, match="nothing can agree with that"):
        evaluate(Echo(), data, scorer=agreement)


def test_targets_that_do_not_fit_are_named() -> None:
    logits = torch.zeros(2, 3)
    with pytest.raises(DataError, match="class index 3, but the model has 3 outputs"):
        outcomes_of(logits, torch.tensor([0, 3]))
    with pytest.raises(DataError, match="score them by agreement"):
        outcomes_of(logits, torch.tensor([-1, -1]))
    with pytest.raises(DataError, match="holds no example"):
        evaluate(Echo(), [])


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (lambda output, target: torch.tensor([2.0, 0.0]), r"in \[0, 1\], found 0 to 2"),
        (lambda output, target: torch.tensor(0.5), r"a tensor \(2,\), found \(\)"),
        (lambda output, target: 0.5, r"a tensor \(2,\), found float"),
        (lambda output, target: torch.full((2,), float("nan")), r"in \[0, 1\]"),
    ],
)
def test_a_wrong_scorer_is_named(scorer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        outcomes_of(torch.zeros(2, 3), torch.tensor([0, 1]), scorer=scorer)


def test_a_batch_that_does_not_fit_is_halved_and_the_size_remembered() -> None:
    logits, target = noise(8, 3), torch.arange(8) % 3
    model = Hungry(limit=2)
    found = evaluate(model, [(logits, target), (logits, target)])
    assert found.scores.tolist() == 2 * top1(logits, target).tolist()
    assert model.seen == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    with pytest.raises(ResourceError, match="one example does not fit") as caught:
        evaluate(Hungry(limit=0), [(logits, target)])
    assert caught.value.exit_code == 5


def test_the_train_flags_are_as_before_also_when_it_raises() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout())
    model[0].eval()
    before = [module.training for module in model.modules()]
    evaluate(model, [(torch.zeros(2, 3), torch.tensor([0, 1]))])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        evaluate(model, [(torch.zeros(2, 4), torch.tensor([0, 1]))])
    assert [module.training for module in model.modules()] == before


def test_scorers_are_found_by_name_or_in_a_file(tmp_path: Path) -> None:
    def load(name: str, root: Path) -> str:
        return f"{root}/{name}"

    assert find_scorer("top1", load=load) is top1
    assert find_scorer("py:a.py:mine", load=load, root=Path("r")) == "r/py:a.py:mine"
    with pytest.raises(ConfigError, match="there is no score 'f1'; known are top1"):
        find_scorer("f1", load=load)
    assert all(callable(scorer) for scorer in SCORERS.values())


def test_outcomes_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    one = outcomes_of(torch.eye(3), torch.tensor([0, 1, 0]))
    other = outcomes_of(torch.zeros(3, 2, 4), torch.zeros(3, 2), scorer=token_accuracy)
    save_outcomes(path, ids=["a", "b", "c"], baseline=one, pruned=other)
    found, ids = load_outcomes(path)
    assert ids == ("a", "b", "c")
    for name, made in (("baseline", one), ("pruned", other)):
        for key, array in vars(made).items():
            assert np.array_equal(array, getattr(found[name], key))
            assert array.dtype == getattr(found[name], key).dtype
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"predictions\.npz is damaged"):
        load_outcomes(path)
    np.savez(path, a_scores=np.zeros(2))
    with pytest.raises(DataError, match="holds no outcomes"):
        load_outcomes(path)
