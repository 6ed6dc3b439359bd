"""Quantiles and tails come from scipy.special; scipy.stats is their check, and is not imported."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from srinit.stats import paired

CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1 - 1e-9)
COUNTS = [(0, 0), (0, 1), (1, 0), (3, 3), (10, 2), (2, 10), (0, 40), (150, 148), (4000, 3900)]


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_quantiles_are_those_of_scipy_stats(confidence: float) -> None:
    assert paired.quantile(confidence) == float(stats.norm.ppf(0.5 + confidence / 2))
    for freedom in (1, 2, 7, 30, 4999):
        expected = float(stats.t.ppf(0.5 + confidence / 2, freedom))
        assert paired.student_quantile(confidence, freedom) == expected


@pytest.mark.parametrize(("lost", "gained"), COUNTS)
def test_mcnemar_is_the_binomial_test_of_scipy_stats(lost: int, gained: int) -> None:
    total = lost + gained
    expected = float(stats.binomtest(lost, total, 0.5).pvalue) if total else 1.0
    assert paired.mcnemar_exact(lost, gained) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("hits", "total"), [(0, 1), (1, 1), (0, 300), (7, 10), (300, 300)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_the_exact_interval_of_a_rate_is_that_of_scipy_stats(
    hits: int, total: int, confidence: float
) -> None:
    expected = stats.binomtest(hits, total).proportion_ci(confidence, method="exact")
    found = paired.clopper_pearson(hits, total, confidence)
    assert found == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-11)


def test_the_tails_of_the_exact_tests_are_those_of_scipy_stats() -> None:
    for hits, total in ((0, 0), (0, 5), (3, 3), (9, 12), (700, 1200), (1000, 1000)):
        expected = stats.binom.sf(hits - 1, total, 0.5)
        assert paired.fair_tail(hits, total) == pytest.approx(expected, rel=1e-12)


def test_an_exchange_beyond_the_smallest_number_is_still_found() -> None:
    """Its chance is 0 in floating point, whose logarithm is minus infinity."""
    from srinit.evaluate.soundness import suspicions

    truth = np.repeat(np.arange(12), 400)
    names = [str(number) for number in range(12)]
    found = suspicions(truth, (truth + 1) % 12, names)
    assert "exchanged" in {suspicion.kind for suspicion in found}
    assert math.isfinite(sum(paired.tango_interval(3, 1, 100, 0.95)))


IMPORTED = """
import sys
from srinit import find_units, measure_sensitivity, make_plan, apply_plan
print(sorted(name for name in ("scipy.stats", "scipy.optimize", "scipy.spatial", "triton",
    "pandas", "matplotlib", "torchvision", "transformers", "jinja2", "typer")
    if name in sys.modules))
"""


def test_the_four_main_functions_import_little_beyond_torch() -> None:
    command = [sys.executable, "-c", IMPORTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
