"""Signs that a network was put together wrongly: exchanged classes, guessing, one answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field

import numpy as np
import numpy.typing as npt

from srinit.records import record
from srinit.stats.paired import fair_tail

# K classes; the confusion matrix is (true class, answer)
Counts = npt.NDArray[np.int64]

SHOWN = 12  # class names in one sentence
SIGNIFICANT = 0.01  # of an exchange of classes, after all exchanges that might have been found
LITTLE = 0.2  # Cohen's kappa up to which answers are called little better than guessing
MOST = 0.8  # share of all answers that one class takes
KEEP = 0.01  # of an example: between equal orders, that of the classes


@record
class Suspicion:
    """A sign that the unpruned network does not do what it was trained for."""

    kind: str  # never_right, exchanged, guessing, one_answer, normalization
    text: str  # one sentence
    values: dict[str, str] = field(default_factory=dict)  # what the report puts into its own


def suspicions(
    targets: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], names: Sequence[str]
) -> tuple[Suspicion, ...]:
    """Return what is suspicious about a network's answers.

    Four signs: classes that are never recognized; an exchange of outputs that fits much better
    (the best assignment of answers to classes, by the Hungarian method, where an exact binomial
    test holds it against all exchanges of its length); a Cohen's kappa of `LITTLE` or less; one
    class that takes nearly all answers.

    Args:
        targets: Class indices (N,); negative ones are left out.
        predictions: Answers (N,); -1 where there is none.
        names: Of the classes.

    Example:
        >>> truth = np.repeat([0, 1, 2], 10)
        >>> [found.text for found in suspicions(truth, np.array([1, 0, 2])[truth], "abc")][1][:52]
        "the outputs of 'a' and 'b' seem to be exchanged: 20 "
    """
    known = targets >= 0
    size = len(names)
    if not known.any() or size < 2:
        return ()
    table = np.zeros((size, size), dtype=np.int64)
    answered = known & (predictions >= 0) & (predictions < size) & (targets < size)
    np.add.at(table, (targets[answered], predictions[answered]), 1)
    counts = np.bincount(targets[known], minlength=size)[:size]
    exchanged = _exchanged(table, counts, names)
    found = [*_never_right(table, counts, names), *exchanged]
    if not exchanged:
        found += _guessing(table, counts)
    return (*found, *_one_answer(table, counts, names))


def _never_right(table: Counts, counts: Counts, names: Sequence[str]) -> list[Suspicion]:
    missed = np.flatnonzero((counts > 0) & (np.diag(table) == 0))
    if not len(missed):
        return []
    shown = ", ".join(f"{names[k]} 0/{counts[k]}" for k in missed[:SHOWN])
    shown += f" and {len(missed) - SHOWN} more" if len(missed) > SHOWN else ""
    text = f"{len(missed)} of {len(names)} classes are never recognized, recall 0: {shown}"
    return [Suspicion(kind="never_right", text=text,
                      values={"num": str(len(missed)), "classes": shown})]  # fmt: skip


def _exchanged(table: Counts, counts: Counts, names: Sequence[str]) -> list[Suspicion]:
    """Return the cycles of the best assignment that explain the answers much better."""
    from scipy.optimize import linear_sum_assignment  # here: to import it takes long

    size = len(names)
    _, best = linear_sum_assignment(table + KEEP * np.eye(size), maximize=True)
    found, seen = [], set()
    for start in range(size):
        cycle = []
        while start not in seen:
            seen.add(start)
            cycle.append(start)
            start = int(best[start])
        if len(cycle) < 2:
            continue
        would, now = (int(sum(table[k, to] for k, to in zip(cycle, ends, strict=True)))
                      for ends in (best[cycle], cycle))  # fmt: skip
        ways = math.lgamma(size + 1) - math.lgamma(size - len(cycle) + 1) - math.log(len(cycle))
        chance = fair_tail(would, would + now)
        surprise = (math.log(chance) if chance else -math.inf) + ways
        if would > now and surprise < math.log(SIGNIFICANT):
            found.append(_cycle(cycle, best, would, now, int(counts[cycle].sum()), names))
    return found


def _cycle(
    cycle: list[int], best: Counts, would: int, now: int, total: int, names: Sequence[str]
) -> Suspicion:
    pairs = ", ".join(f"{names[k]} → {names[best[k]]}" for k in cycle[:SHOWN])
    pairs += ", ..." if len(cycle) > SHOWN else ""
    if len(cycle) == 2:
        what = f"the outputs of {names[cycle[0]]!r} and {names[cycle[1]]!r} seem to be exchanged"
    else:
        what = f"{len(cycle)} outputs seem to stand in another order (class → answer: {pairs})"
    text = (
        f"{what}: {would} of {total} of their examples would be right, and {now} are. Check "
        "data.classes against the order of training"
    )
    values = {"pairs": pairs, "would": str(would), "now": str(now), "total": str(total)}
    return Suspicion(kind="exchanged", text=text, values=values)


def _guessing(table: Counts, counts: Counts) -> list[Suspicion]:
    """Compare with answers of the same frequencies that know nothing of the example."""
    total = counts.sum()
    right = np.trace(table) / total
    chance = float((counts / total) @ (table.sum(axis=0) / total))
    if chance >= 1 or (right - chance) / (1 - chance) > LITTLE:
        return []
    majority = counts.max() / total
    shares = [f"{100 * share:.1f} %" for share in (right, chance, majority)]
    text = (
        f"{shares[0]} are right, little better than guessing: {shares[1]} by chance, {shares[2]} "
        "by always answering the most frequent class. Check the weights, data.classes and "
        "data.preprocess"
    )
    keys = ("score", "chance", "majority")
    return [Suspicion(kind="guessing", text=text, values=dict(zip(keys, shares, strict=True)))]


def _one_answer(table: Counts, counts: Counts, names: Sequence[str]) -> list[Suspicion]:
    answers = table.sum(axis=0) / counts.sum()
    true = counts / counts.sum()
    top = int(answers.argmax())
    many = answers[top] >= MOST and answers[top] - true[top] >= 1 - MOST
    if not many and not (answers[top] >= 0.5 and answers[top] >= 3 * true[top]):
        return []
    shares = [f"{100 * share:.1f} %" for share in (answers[top], true[top])]
    text = (
        f"{shares[0]} of all answers are {names[top]!r}, which {shares[1]} of the examples are. "
        "Check data.preprocess (mean, std, scale) and the weights"
    )
    values = {"name": names[top], "answers": shares[0], "share": shares[1]}
    return [Suspicion(kind="one_answer", text=text, values=values)]
