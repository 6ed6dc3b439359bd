"""Perplexity beside scores: the loss of tokens, and the paired interval of the ratio."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from srinit.comparison import compare_outcomes
from srinit.comparison.perplexity import perplexity_change
from srinit.evaluate import Outcomes, evaluate, next_token_accuracy, next_token_probability
from srinit.gates import check_gates

EMPTY = np.empty(0)


def outcomes(losses: np.ndarray, tokens: np.ndarray) -> Outcomes:
    count = len(losses)
    return Outcomes(
        scores=np.zeros(count), finite=np.ones(count, bool), targets=EMPTY.astype(int),
        predictions=EMPTY.astype(int), confidence=EMPTY, losses=losses, tokens=tokens,
    )  # fmt: skip


def test_losses_are_those_of_torch_and_leave_padding_out() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=random)
    target = torch.randint(7, (3, 5), generator=random)
    target[1, 3:] = -100

    class Fixed(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return logits[rows]

    found = evaluate(Fixed(), [(torch.arange(3), target)], scorer=next_token_accuracy)
    assert found.tokens.tolist() == [4, 2, 4]
    for row in range(3):
        wanted = nn.functional.cross_entropy(logits[row, :-1], target[row, 1:], reduction="sum")
        assert found.losses[row] == pytest.approx(float(wanted), rel=1e-5)
    probable = evaluate(Fixed(), [(torch.arange(3), target)], scorer=next_token_probability)
    first = logits[0, :-1].softmax(1)[torch.arange(4), target[0, 1:]].mean()
    assert probable.scores[0] == pytest.approx(float(first), rel=1e-5)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits, trials, documents = 0, 1000, 20
    for _ in range(trials):
        tokens = random.integers(5, 60, documents)
        base = tokens * (3 + random.normal(0, 0.4, documents))
        change = tokens * (0.2 + random.normal(0, 0.1, documents))
        found = perplexity_change(
            outcomes(base, tokens), outcomes(base + change, tokens), None, 0.95
        )
        assert found is not None
        hits += int(found.ratio.low <= np.exp(0.2) <= found.ratio.high)
    assert 0.935 <= hits / trials <= 0.965


def test_rows_of_one_document_count_as_one() -> None:
    losses, tokens = np.array([6.0, 6.0, 9.0, 9.0]), np.array([3, 3, 3, 3])
    after = outcomes(losses + np.array([0.3, 0.3, 0.9, 0.9]), tokens)
    single = compare_outcomes(outcomes(losses, tokens), after).perplexity
    grouped = compare_outcomes(
        outcomes(losses, tokens), after, documents=np.array([7, 7, 9, 9])
    ).perplexity
    assert single is not None
    assert grouped is not None
    assert grouped.num_documents == 2
    assert grouped.ratio.value == single.ratio.value
    assert grouped.ratio.high > single.ratio.high
    assert "over 2 documents" in grouped.method


def test_the_gate_judges_the_unfavorable_end() -> None:
    losses, tokens = np.full(30, 9.0), np.full(30, 3)
    noise = np.random.default_rng(0).normal(0.3, 0.3, 30)
    found = compare_outcomes(outcomes(losses, tokens), outcomes(losses + noise, tokens))
    assert found.perplexity is not None
    ratio = found.perplexity.ratio
    middle = (ratio.known + ratio.high) / 2
    assert not check_gates(found, {"max_perplexity_ratio": middle}).passed
    assert check_gates(found, {"max_perplexity_ratio": ratio.high + 1e-6}).passed
