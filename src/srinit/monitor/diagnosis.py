"""What is probably behind an alarm, and whether the way back would help.

Images that changed are no fault of the network: light, focus, or another product (where the mix
of the answers moved farther than the images did, their looks may follow from it). Where they did
not change, the unpruned network on the shadow tells the product from the pruned network: if both
still say the same, other parts come; if not, it is the network.
"""

from __future__ import annotations

import math
from typing import Literal

from scipy import stats

from srinit.monitor.drift import ANSWERS, INPUT, LINES, DriftReport
from srinit.records import record

Cause = Literal[
    "light", "focus", "images", "product", "model", "product_or_model", "log", "unknown"
]
FEWEST = 30  # answers of the unpruned network that say something
ALPHA = 0.01
QUANTILE = 1.645
AT_MOST = 0.03  # "as before": the agreement fell by less, by the end of its 95 % interval
MIX = ("class_mix", "class_share", "class_trend", "features")


@record
class Diagnosis:
    """What is probably behind an alarm."""

    cause: Cause
    rollback: Literal["helps", "may_help", "does_not_help"]
    images: Literal["moved", "still", "not_watched"]
    answers: Literal["moved", "still"]
    agreement: Literal["fell", "as_before", "unknown"]  # with the unpruned network
    agreement_before: float | None
    agreement_now: float | None  # over all windows since the first that was beyond
    agreement_examples: int
    log: bool  # lines failed, were left out or lack fields

    @property
    def goes_back_by_itself(self) -> bool:
        """Whether to go back before anybody has looked."""
        return self.rollback == "helps" or self.agreement == "fell" or self.cause == "unknown"


def diagnose(found: DriftReport) -> Diagnosis | None:
    """Return what is probably behind an alarm; None where there is none.

    Example:
        >>> diagnose(DriftReport(alarm=False, causes=(), first_alarm=None, false_alarm=0.01,
        ...     confirm=2, windows=(), examples_left=0)) is None
        True
    """
    if not found.alarm:
        return None
    causes = set(found.causes)
    agreement, before, now, count = _agreement(found)
    watched = {each.quantity for window in found.windows for each in window.findings}
    images: Literal["moved", "still", "not_watched"] = "not_watched"
    if watched & set(INPUT):
        images = "moved" if causes & set(INPUT) else "still"
    answers = causes & {*ANSWERS, "accuracy", "accuracy_trend"}
    mix = _reach(found, ("class_mix", "class_share")) > _reach(found, INPUT)
    cause, rollback = _judged(causes, images, bool(answers), agreement, mix=mix)
    return Diagnosis(
        cause=cause,
        rollback=rollback,
        images=images,
        answers="moved" if answers else "still",
        agreement=agreement,
        agreement_before=before,
        agreement_now=now,
        agreement_examples=count,
        log=bool(causes & set(LINES)),
    )


def _judged(
    causes: set[str], images: str, answers: bool, agreement: str, *, mix: bool
) -> tuple[Cause, Literal["helps", "may_help", "does_not_help"]]:
    if images == "moved":
        kind: Cause = "images"
        if not mix and "brightness" in causes:
            kind = "light"
        elif not mix and "sharpness" in causes:
            kind = "focus"
        return kind, "may_help" if agreement == "fell" else "does_not_help"
    if agreement == "fell":
        return "model", "helps"
    if not answers:
        return "log", "does_not_help"
    only_mix = causes <= {*MIX, *LINES}
    if agreement == "as_before":
        if images == "not_watched":
            return "images", "does_not_help"
        # The answers are as before and the confidence is not: that is the network's own.
        return ("model", "may_help") if "confidence" in causes else ("product", "does_not_help")
    if images == "not_watched":
        return "unknown", "may_help"
    if only_mix:
        return "product_or_model", "may_help"
    return "model", "helps"


def _reach(found: DriftReport, names: tuple[str, ...]) -> float:
    """Return how far beyond its limit the farthest of some quantities of the alarm was."""
    reach = [
        each.effect / max(each.limit, 1e-9)
        for window in found.windows
        for each in window.findings
        if each.quantity in names and each.quantity in found.causes
    ]
    return max(reach, default=0.0)


def _agreement(
    found: DriftReport,
) -> tuple[Literal["fell", "as_before", "unknown"], float | None, float | None, int]:
    """Return how the agreement went in the windows of the alarm, all of them together."""
    first = max((found.first_alarm or 0) - found.windows_before - found.confirm + 1, 0)
    rows = [each for window in found.windows[first:] if (each := window.of("agreement"))]
    count = sum(row.window_examples for row in rows)
    if not rows or rows[0].before is None:
        return "unknown", None, None, 0
    hits = round(sum((row.now or 0.0) * row.window_examples for row in rows))
    before, size = rows[0].before, rows[0].baseline_examples
    now = hits / count
    if {"agreement", "agreement_trend"} & set(found.causes):
        return "fell", before, now, count
    if count < FEWEST:
        return "unknown", before, now, count
    past = round(before * size)
    p_value = float(stats.hypergeom.cdf(hits, size + count, past + hits, count))
    if p_value < ALPHA:
        return "fell", before, now, count
    share = (hits + 0.5) / (count + 1)
    spread = math.sqrt(share * (1 - share) / count + before * (1 - before) / size)
    surely = before - now + QUANTILE * spread < AT_MOST
    return ("as_before" if surely else "unknown"), before, now, count
