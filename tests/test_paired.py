"""Statistics of paired comparisons against known answers."""

from __future__ import annotations

from statistics import mean

import numpy as np
import pytest
from scipy import optimize, stats

from srinit.stats import paired


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs() -> None:
    assert paired.mcnemar_exact(12, 3) == stats.binomtest(12, 15, 0.5).pvalue
    assert paired.mcnemar_exact(3, 12) == paired.mcnemar_exact(12, 3)


def score_statistic(lost: int, gained: int, total: int, delta: float) -> float:
    """The score test of "the difference is delta", its nuisance parameter found numerically."""

    def negative_log_likelihood(q: float) -> float:
        return -(
            lost * np.log(q + delta)
            + gained * np.log(q)
            + (total - lost - gained) * np.log(1 - 2 * q - delta)
        )

    low, high = max(0.0, -delta) + 1e-9, (1 - delta) / 2 - 1e-9
    q = optimize.minimize_scalar(
        negative_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    ).x
    return float((lost - gained - total * delta) / np.sqrt(total * (2 * q + delta * (1 - delta))))


@pytest.mark.parametrize(("lost", "gained", "total"), [(13, 1, 50), (7, 2, 100), (30, 25, 2000)])
def test_tango_interval_ends_where_the_score_test_rejects(
    lost: int, gained: int, total: int
) -> None:
    z = stats.norm.ppf(0.975)
    low, high = paired.tango_interval(lost, gained, total, 0.95)
    assert score_statistic(lost, gained, total, low) == pytest.approx(z, abs=1e-3)
    assert score_statistic(lost, gained, total, high) == pytest.approx(-z, abs=1e-3)


def test_tango_interval_turns_round_with_the_pairs() -> None:
    low, high = paired.tango_interval(7, 2, 100, 0.9)
    assert paired.tango_interval(2, 7, 100, 0.9) == pytest.approx((-high, -low))


def test_tango_interval_covers_what_it_promises() -> None:
    rng = np.random.default_rng(0)
    cells = np.array([0.06, 0.03, 0.91])
    inside = []
    for lost, gained, _ in rng.multinomial(200, cells, size=1000):
        low, high = paired.tango_interval(int(lost), int(gained), 200, 0.95)
        inside.append(low <= 0.03 <= high)
    assert 0.935 <= mean(inside) <= 0.975


def test_no_difference_in_few_examples_rules_out_little() -> None:
    few = paired.tango_interval(0, 0, 20, 0.95)[1]
    many = paired.tango_interval(0, 0, 2000, 0.95)[1]
    assert few > 0.15
    assert many < 0.002


def test_mean_interval_is_students() -> None:
    differences = np.random.default_rng(1).normal(0.01, 0.1, 80)
    low, high = paired.mean_interval(differences, 0.95)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_exact_interval_of_no_misses_is_the_rule_of_three() -> None:
    assert paired.clopper_pearson(0, 300, 0.90)[1] == pytest.approx(3 / 300, rel=0.01)


def test_holm_never_lowers_a_p_value_and_keeps_their_order() -> None:
    values = np.random.default_rng(2).uniform(size=20).tolist()
    adjusted = paired.holm(values)
    assert all(a >= v for a, v in zip(adjusted, values, strict=True))
    order = np.argsort(values)
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)
