"""Whether shares are still those of a sample seen before: evidence that adds up over time.

The sample (K of N) tells the share p only roughly, and everything that follows is compared with
the same sample. So p is not taken as known: for every p there is a martingale that starts at 1,

    W_p(K) * sum_s w_s * sum_d v_d * exp(d k_s - n_s log(1 - p + p exp(d))),

and the evidence is its least value over p. k_s of n_s are what was seen since window s: the change
may have begun in any of them (weights w_s). d are changes of the log odds, small and large
(weights v_d). W_p(K) is the likelihood ratio of a beta-binomial around p with a tenth of the
sample's weight to the binomial at p: it is large where p does not fit the sample, and has mean 1
under p. If the share never changed, the evidence reaches 1 / a with probability at most a, however
long and often one looks (Ville; the least over all p is at most its value at the true one).

Sources: e-processes for composite hypotheses, Ramdas, Gruenwald, Vovk and Shafer, Statistical
Science 38, 2023, https://arxiv.org/abs/2210.01948; weights over the time of a change, Shin, Ramdas
and Rinaldo, https://arxiv.org/abs/2203.03532.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, expit, logit, logsumexp

# C shares (classes), S starts, D changes of the log odds, P values that a share could have

Floats = npt.NDArray[np.float64]
CHANGES = (0.2, 0.45, 1.0)
SPREAD = 10.0  # weight of the sample over that of the beta-binomial around a share
POINTS = 25
HALVINGS = 14
MOST_SHARES = 40  # looked at closely; the others count nothing, which errs on the safe side
LIFE = 8  # windows that every start lives at least


class ShareTrend:
    """Evidence that shares are no longer those of a sample; an e-process.

    Args:
        counts: How often each was seen in the sample, (C,).
        total: Examples of the sample.
        falls: Look for falls.
        rises: Look for rises.
        one_window: Logarithm of the evidence that no window reaches by itself: counts further out
            than that takes are cut. None: as they are.

    Example:
        >>> trend = ShareTrend([200, 1800], 2000)
        >>> for _ in range(6):
        ...     trend.add([50, 450], 500)
        >>> trend.log_evidence() < 0
        True
        >>> for _ in range(6):
        ...     trend.add([90, 410], 500)
        >>> trend.log_evidence() > math.log(1 / 0.01)
        True
    """

    def __init__(
        self,
        counts: Sequence[float] | Floats,
        total: float,
        *,
        falls: bool = True,
        rises: bool = True,
        one_window: float | None = None,
    ) -> None:
        self._sample_C, self._total = np.asarray(counts, dtype=float), float(total)
        self._one_window, self._cut = one_window, dict[float, tuple[Floats, Floats]]()
        signs = [sign for sign, used in ((-1, falls), (1, rises)) if used]
        self._changes_D = np.array([sign * size for sign in signs for size in CHANGES])
        self._seen_C, self._seen, self.windows = np.zeros(len(self._sample_C)), 0.0, 0
        self._starts: list[tuple[int, Floats, float]] = [(0, self._seen_C.copy(), 0.0)]
        self._log_C: Floats = np.zeros(len(self._sample_C))
        self._since: dict[int, tuple[float, float]] = {}

    def add(self, counts: Sequence[float] | Floats, total: float) -> None:
        """Take in a window: how often each was seen in it, and its examples."""
        if total <= 0:
            return
        counts_C = np.asarray(counts, dtype=float)
        if self._one_window is not None:
            counts_C = np.clip(counts_C, *self._ends(float(total), self._one_window))
        self._seen_C = self._seen_C + counts_C
        self._seen += float(total)
        self.windows += 1
        self._log_C = self._evidence()
        now = self.windows
        self._starts.append((now, self._seen_C.copy(), self._seen))
        self._starts = [s for s in self._starts if s[0] == 0 or now - s[0] <= _life(s[0])]

    def log_evidence(self) -> float:
        """Return the natural logarithm of the evidence, over all shares together."""
        return float(logsumexp(self._log_C) - math.log(len(self._log_C)))

    def strongest(self) -> tuple[int, float, float]:
        """Return which share the evidence is most about, what it was, and what it is since then."""
        c = int(self._log_C.argmax())
        hits, total = self._since.get(c, (0.0, 1.0))
        return c, float(self._sample_C[c] / self._total), hits / total

    def state(self) -> dict[str, Any]:
        """Return what `resume` goes on from, as plain numbers."""
        starts = [[first, counts.tolist(), total] for first, counts, total in self._starts]
        return {"seen": self._seen_C.tolist(), "total": self._seen, "windows": self.windows,
                "starts": starts, "log": self._log_C.tolist()}  # fmt: skip

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._seen_C, self._seen = np.array(state["seen"], dtype=float), float(state["total"])
        self.windows, self._log_C = int(state["windows"]), np.array(state["log"], dtype=float)
        self._starts = [(int(s), np.array(c, dtype=float), float(t)) for s, c, t in state["starts"]]

    def _evidence(self) -> Floats:
        weights_S = np.log([_weight(start) for start, _, _ in self._starts])
        later = math.log(0.5 / self.windows)  # of all starts that are to come
        hits_SC = np.array([self._seen_C - counts for _, counts, _ in self._starts])
        count_S = np.array([self._seen - total for _, _, total in self._starts])
        edge = 0.2 / max(self._total, 1.0)
        shares = np.clip(hits_SC / count_S[:, None], edge, 1 - edge)
        own = np.clip(self._sample_C / self._total, edge, 1 - edge)
        low, high = np.minimum(shares.min(0), own), np.maximum(shares.max(0), own)
        found = np.full(len(own), -np.inf)
        chosen = np.argsort(-np.abs(shares[0] - own) / np.sqrt(own * (1 - own)))[:MOST_SHARES]
        steps_P = np.linspace(0, 1, POINTS)
        for c in chosen:
            p_P = expit(logit(low[c]) + steps_P * (logit(high[c]) - logit(low[c])))
            unit_PD = np.log1p(p_P[:, None] * np.expm1(self._changes_D))
            ratio_SPD = (
                hits_SC[:, c, None, None] * self._changes_D
                - count_S[:, None, None] * unit_PD
                + weights_S[:, None, None]
            )
            largest = ratio_SPD.max()
            with np.errstate(divide="ignore"):  # far from it no start and no change counts
                mixed_P = largest + np.log(np.exp(ratio_SPD - largest).sum((0, 2)))
            mixed_P = np.logaddexp(mixed_P - math.log(len(self._changes_D)), later)
            total_P = mixed_P + self._misfit(c, p_P)
            best = int(total_P.argmin())
            found[c] = float(total_P[best])
            start = int(ratio_SPD[:, best].max(1).argmax())
            self._since[int(c)] = float(hits_SC[start, c]), float(count_S[start])
        return found

    def _ends(self, total: float, most: float) -> tuple[Floats, Floats]:
        """Return the fewest and the most counts of one window whose evidence stays below `most`."""
        if total not in self._cut:
            self._cut = {total: (self._end(total, most, 0.0), self._end(total, most, total))}
        return self._cut[total]

    def _end(self, total: float, most: float, far: float) -> Floats:
        near_C, far_C = total * self._sample_C / self._total, np.full(len(self._sample_C), far)
        for _ in range(HALVINGS):
            middle_C = (near_C + far_C) / 2
            beyond_C = self._of_one(middle_C, total) >= most
            near_C = np.where(beyond_C, near_C, middle_C)
            far_C = np.where(beyond_C, middle_C, far_C)
        return np.where(self._of_one(np.full(len(near_C), far), total) >= most, near_C, far)

    def _of_one(self, hits: Floats, total: float) -> Floats:
        """Return at least the evidence of one window, (C,)."""
        edge = 0.2 / max(self._total, 1.0)
        ends = (np.clip(hits / total, edge, 1 - edge),
                np.clip(self._sample_C / self._total, edge, 1 - edge))  # fmt: skip
        low_C, high_C = logit(np.minimum(*ends)), logit(np.maximum(*ends))
        p_CP = expit(low_C[:, None] + np.linspace(0, 1, POINTS) * (high_C - low_C)[:, None])
        unit_CPD = np.log1p(p_CP[..., None] * np.expm1(self._changes_D))
        ratio_CPD = hits[:, None, None] * self._changes_D - total * unit_CPD
        mixed_CP = logsumexp(ratio_CPD, axis=-1) - math.log(len(self._changes_D))
        # Starts that are to come, or that saw more than this window, are no change: 1.
        found: Floats = (np.maximum(mixed_CP, 0.0) + self._misfit(slice(None), p_CP)).min(1)
        return found

    def _misfit(self, chosen: np.intp | slice, shares: Floats) -> Floats:
        """Return how badly values of the shares fit the sample; `shares` ends in P."""
        hits = self._sample_C[chosen, None] if isinstance(chosen, slice) else self._sample_C[chosen]
        misses = self._total - hits
        a, b = shares * self._total / SPREAD, (1 - shares) * self._total / SPREAD
        plain = hits * np.log(shares) + misses * np.log1p(-shares)
        found: Floats = betaln(hits + a, misses + b) - betaln(a, b) - plain
        return found


def _weight(start: int) -> float:
    """Return the weight of a change that begins at a window; all of them sum to 1."""
    return 0.5 if start == 0 else 0.5 / (start * (start + 1))


def _life(start: int) -> int:
    """Return for how many windows a start is followed: the rounder its number, the longer."""
    return LIFE * (start & -start)
