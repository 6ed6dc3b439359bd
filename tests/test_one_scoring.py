"""One scoring of examples: the scan, criteria, trials and comparisons agree on every example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srinit.engine.outcomes import score_batch
from srinit.errors import ConfigError, DataError
from srinit.evaluate import evaluate, next_token_accuracy, top1
from srinit.evaluate.loop import outcome_of


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Given(nn.Module):
    """Answers with its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x


CASES: dict[str, tuple[Tensor, Tensor, Any]] = {
    "classes": (noise(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), top1),
    "column": (noise(6, 3), torch.tensor([[0], [1], [2], [0], [1], [2]]), top1),
    "yes or no": (noise(6, 1), torch.tensor([0, 1, 1, 0, 1, 0]), top1),
    "one number": (noise(6), torch.tensor([0, 1, 1, 0, 1, 0]), top1),
    "floats": (noise(6, 3), torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0, 2.0]), top1),
    "tokens": (noise(6, 4, 5), noise(6, 4).argsort(1), next_token_accuracy),
}


@pytest.mark.parametrize("case", CASES)
def test_the_scan_scores_as_the_comparison_does(case: str) -> None:
    """The scan refused yes-or-no networks, and saw no classes in columns and floats."""
    logits, target, scorer = CASES[case]
    logits[2].fill_(float("nan"))
    wanted = evaluate(Given(), [(logits, target)], scorer=scorer)
    found = score_batch(logits, target, scorer)
    assert list(found.scores) == wanted.scores.tolist()
    assert found.nonfinite == 1
    assert list(found.predictions or ()) == wanted.predictions.tolist()
    if len(wanted.predictions):
        assert wanted.predictions[2] == -1
        assert wanted.confidence[2] == 0
        assert wanted.targets.tolist() == target.reshape(-1).long().tolist()


def test_what_was_not_finite_on_the_way_counts_as_wrong() -> None:
    logits, target = torch.eye(3), torch.arange(3)
    found = outcome_of(logits, target, top1, within=torch.tensor([True, False, True]))
    assert found.scores.tolist() == [1, 0, 1]
    assert found.predictions.tolist() == [0, -1, 2]
    np.testing.assert_array_equal(found.finite, [True, False, True])


@pytest.mark.parametrize("score", [score_batch, outcome_of])
def test_scorers_and_targets_that_do_not_fit_are_refused(score: Any) -> None:
    logits, target = torch.eye(3), torch.arange(3)
    with pytest.raises(ConfigError, match=r"the scorer <lambda> should return a tensor \(3,\)"):
        score(logits, target, lambda output, target: torch.ones(3, 2))
    with pytest.raises(ConfigError, match=r"should return scores in \[0, 1\], found nan"):
        score(logits, target, lambda output, target: torch.full((3,), float("nan")))
    with pytest.raises(DataError, match="class index 3, but the model has 3 outputs"):
        score(logits, target + 1, top1)
    with pytest.raises(DataError, match="the data holds unlabeled examples"):
        score(logits, target - 1, top1)
