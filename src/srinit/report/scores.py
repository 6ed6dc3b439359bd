"""The criterion that ranks, beside the scan: its scores, and how far the two orders agree."""

from __future__ import annotations

from markupsafe import Markup
from scipy.stats import spearmanr

from srinit.criteria.records import UnitScores
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.charts import track
from srinit.report.data import ReportInput
from srinit.report.text import LocalizedText, Translator, untranslated

MANY = 100  # units from which the page has no room for strips
FEWEST = 3  # units whose orders can be compared


@record
class ScoreCell:
    """One unit's score as it is drawn."""

    text: str
    strip: Markup


def other_scores(report: ReportInput) -> UnitScores | None:
    """Return the scores that rank, where it is not the scan that does."""
    criterion = report.plan.criterion
    if report.scores is None or criterion.startswith("reinit_drop"):
        return None
    return report.scores if report.scores.criterion == criterion else None


def criterion_name(criterion: str, say: Translator) -> LocalizedText:
    """Return what a criterion measures, in words; an unknown one is named as it is."""
    key = f"criterion.{criterion.split(' ')[0]}"
    return say(key) if say.has(key) else untranslated(criterion)


def shown(score: float | None, scores: UnitScores) -> str:
    """Return a score as a number: losses in points, all others to three digits."""
    if score is None:
        return fmt.NOTHING
    if scores.is_drop:
        return fmt.points(score, 1, signed=False)
    if score and abs(score) < 1e-3:
        return f"{score:.1e}".replace("-", fmt.MINUS)
    return fmt.MINUS * (score < 0) + fmt.significant(abs(score))


def score_label(report: ReportInput, say: Translator) -> LocalizedText | None:
    """Return the heading of the criterion's column; None where the scan ranks."""
    scores = other_scores(report)
    return None if scores is None else criterion_name(scores.criterion, say)


def score_cells(report: ReportInput) -> dict[str, ScoreCell]:
    """Return what every unit scores; empty where the scan ranks."""
    scores = other_scores(report)
    if scores is None:
        return {}
    ends = [0.0]
    for unit in scores.units:
        ends += [end for end in (unit.score, unit.low, unit.high) if end is not None]
    low_end, high_end = min(ends), max([*ends, min(ends) + 1e-12])
    strips = len(scores.units) <= MANY
    return {
        unit.unit: ScoreCell(
            text=shown(unit.score, scores),
            strip=track(low_end, high_end, value=unit.score, within=unit.interval)
            if strips
            else Markup(""),
        )
        for unit in scores.units
    }


def agreement(report: ReportInput, say: Translator) -> LocalizedText | None:
    """Return how far the criterion and the scan order the units alike (Spearman's correlation)."""
    scores = other_scores(report)
    if scores is None:
        return None
    drops = {unit.unit: unit.reinit_drop for unit in report.sensitivity.units}
    pairs = [
        (unit.score, drops[unit.unit])
        for unit in scores.units
        if unit.score is not None and drops.get(unit.unit) is not None
    ]
    if len(pairs) < FEWEST or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    found = float(spearmanr(*zip(*pairs, strict=True)).statistic)
    return say(
        "layers.alike",
        criterion=criterion_name(scores.criterion, say),
        rank=fmt.fixed(found, 2),
        num=str(len(pairs)),
    )
