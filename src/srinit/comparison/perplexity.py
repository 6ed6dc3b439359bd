"""Perplexity of two language models on the same tokens, with a paired interval over documents."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from srinit.comparison.records import PerplexityChange
from srinit.evaluate import Outcomes
from srinit.records import Interval


def perplexity_change(
    baseline: Outcomes,
    pruned: Outcomes,
    documents: npt.NDArray[Any] | None,
    confidence: float,
) -> PerplexityChange | None:
    """Return the perplexity of both; None where they are no causal language models.

    The logarithm of the ratio is the change of the mean loss of a token, a ratio of sums over
    documents. Its standard error is that of the jackknife that leaves each document out once
    (Cochran, Sampling Techniques, section 6.17), paired, as both networks read the same tokens;
    Student's quantile counts documents by their share of the tokens (Kish's effective number).

    Args:
        baseline: Outcomes of the unpruned network.
        pruned: Of the pruned one, on the same examples.
        documents: The number of the document of every example; None: each stands for itself.
        confidence: Of the interval, two-sided.
    """
    count = len(baseline.losses)
    if not count or len(pruned.losses) != count:
        return None
    groups = np.arange(count) if documents is None else np.unique(documents, return_inverse=True)[1]
    tokens, before, after = (
        np.bincount(groups, weights=column).astype(np.float64)
        for column in (baseline.tokens, baseline.losses, pruned.losses)
    )
    total = float(tokens.sum())
    of = "rows, which may hold several documents" if documents is None else "documents"
    num = len(tokens)
    return PerplexityChange(
        baseline=_exp(float(before.sum()) / total),
        pruned=_exp(float(after.sum()) / total),
        ratio=_interval(after - before, tokens, confidence),
        num_documents=num,
        num_tokens=int(total),
        method=f"normal (Student's t) on the logarithm, paired, jackknife over {num} {of}",
    )


def _interval(
    change: npt.NDArray[np.float64], tokens: npt.NDArray[np.float64], confidence: float
) -> Interval:
    """Return the ratio with its ends; of one document nothing is known but that it is positive."""
    num, total = len(tokens), float(tokens.sum())
    log_ratio = float(change.sum()) / total
    value = _exp(log_ratio)
    if num < 2 or not math.isfinite(log_ratio) or float(tokens.max()) == total:
        return Interval(value=value, low=0.0, high=_exp(math.inf), confidence=confidence)
    without = (change.sum() - change) / (total - tokens)
    error = math.sqrt((num - 1) / num * float(((without - without.mean()) ** 2).sum()))
    freedom = max(1.0, total**2 / float((tokens**2).sum()) - 1)
    half = float(student.ppf(0.5 + confidence / 2, freedom)) * error
    return Interval(
        value=value, low=_exp(log_ratio - half), high=_exp(log_ratio + half), confidence=confidence
    )


def _exp(value: float) -> float:
    """Return exp; beyond what a record can hold the largest number of it."""
    return math.exp(min(value, 700.0)) if not math.isnan(value) else math.exp(700.0)
