"""Does the interval of the cost of errors cover the truth? Simulated, with a known truth.

    python benchmarks/error_cost.py [--samples 400]     writes benchmarks/results/error_cost.json

Three classes (good, scratch, dent) with the prices of docs/compare.md. Samples are drawn from a
known joint distribution of both networks' answers; beside the interval of srinit stands the
normal interval of a stratified mean, which is what one would write down without thinking.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from srinit.comparison.costs import cost_matrix, error_cost
from srinit.evaluate import Outcomes
from srinit.stats import paired

RESULT = Path(__file__).parent / "results" / "error_cost.json"
NAMES = ("good", "scratch", "dent")
COSTS = {
    "good": {"scratch": 30.0, "dent": 30.0},
    "scratch": {"good": 5000.0, "dent": 20.0},
    "dent": {"good": 3000.0, "scratch": 20.0},
}
# probability of each wrong answer of both networks, of the pruned alone, of the baseline alone
ERRORS = {
    "rare": ((0.0005, 0.0005, 0.0005), (0.002, 0.002, 0.002)),
    "few": ((0.002, 0.003, 0.001), (0.01, 0.01, 0.004)),
    "many": ((0.01, 0.02, 0.01), (0.03, 0.04, 0.02)),
}
COUNTS = ((1250, 120, 90), (300, 40, 30))
SHARES = (None, 0.002)
CONFIDENCE = 0.95


def joint(kind: str) -> list[np.ndarray]:
    """Return, for every true class, the distribution of (baseline's, pruned one's) answers."""
    found = []
    for actual in range(len(NAMES)):
        both, lost, gained = ERRORS[kind][0 if actual == 0 else 1]
        table = np.zeros((3, 3))
        for wrong in set(range(3)) - {actual}:
            table[wrong, wrong], table[actual, wrong], table[wrong, actual] = both, lost, gained
        table[actual, actual] = 1 - table.sum()
        found.append(table)
    return found


def outcomes(targets: np.ndarray, answers: np.ndarray) -> Outcomes:
    """Return outcomes with these answers."""
    return Outcomes(
        scores=(targets == answers).astype(float),
        finite=np.ones(len(targets), dtype=bool),
        targets=targets,
        predictions=answers,
        confidence=np.ones(len(targets)),
    )


def measured(kind: str, counts: tuple[int, ...], share: float | None, samples: int) -> dict:
    """Return how often both intervals cover the truth, and how wide they are."""
    random, tables = np.random.default_rng(0), joint(kind)
    prices = cost_matrix(NAMES, COSTS)[:, :3]
    targets, total = np.repeat(np.arange(3), counts), np.array(counts)
    weights = total / total.sum()
    if share is not None:
        weights = np.array([1 - share, *(share * total[1:] / total[1:].sum())])
    rises = [prices[i][None, :] - prices[i][:, None] for i in range(3)]
    truth = float(sum(w * (t * r).sum() for w, t, r in zip(weights, tables, rises, strict=True)))
    z, hits, widths = paired.quantile(CONFIDENCE), [0, 0], [0.0, 0.0]
    for _ in range(samples):
        answers = np.concatenate(
            [random.choice(9, size=n, p=t.ravel()) for n, t in zip(counts, tables, strict=True)]
        )
        before, after = answers // 3, answers % 3
        found = error_cost(
            outcomes(targets, before), outcomes(targets, after), NAMES, COSTS,
            defects=NAMES[1:], defect_share=share, confidence=CONFIDENCE,
        )  # fmt: skip
        assert found is not None
        paid = prices[targets, after] - prices[targets, before]
        parts = [paid[targets == i] for i in range(3)]
        mean = sum(w * part.mean() for w, part in zip(weights, parts, strict=True))
        error = sum(w**2 * p.var(ddof=1) / len(p) for w, p in zip(weights, parts, strict=True))
        reach = z * float(error) ** 0.5
        ends = ((found.increase.low, found.increase.high), (mean - reach, mean + reach))
        for place, (low, high) in enumerate(ends):
            hits[place] += bool(low <= truth <= high)
            widths[place] += high - low
    return {
        "errors": kind,
        "counts": counts,
        "defect_share": share,
        "truth": truth,
        "coverage": hits[0] / samples,
        "width": widths[0] / samples,
        "normal_coverage": hits[1] / samples,
        "normal_width": float(widths[1]) / samples,
    }


def main() -> None:
    """Measure every case, and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=400)
    samples = parser.parse_args().samples
    rows = [
        measured(kind, counts, share, samples)
        for kind in ERRORS
        for counts in COUNTS
        for share in SHARES
    ]
    body = {"schema": "srinit.error_cost/1", "samples": samples, "seed": 0, "rows": rows}
    RESULT.write_text(json.dumps(body, indent=2) + "\n", "utf-8")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
