"""What taking a unit out costs, beside what drawing its weights again costs: two quantities."""

from __future__ import annotations

from collections.abc import Mapping

from srinit.criteria.records import UnitScores
from srinit.records import Interval, record
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.text import LocalizedText, Translator

CRITERION = "removal_drop"


@record
class Taken:
    """What one unit costs when it is taken out, nothing trained; fractions."""

    value: float
    interval: Interval | None


@record
class Removals:
    """What is known of all units."""

    units: Mapping[str, Taken]
    label: LocalizedText | None = None  # None where nothing was measured
    note: LocalizedText | None = None


def removals_of(report: ReportInput, say: Translator) -> Removals:
    """Return the removal drop of every unit; without it the trials of those that go."""
    found = next((s for s in _all_scores(report) if s.criterion == CRITERION), None)
    if found is not None:
        units = {
            unit.unit: Taken(value=unit.score, interval=unit.interval)
            for unit in found.units
            if unit.score is not None
        }
        note = say("layers.removal_note", num=fmt.fixed(found.num_examples))
        return Removals(units=units, label=say("layers.removal"), note=note)
    tried = {
        removal.unit.name: Taken(value=trial.cost.value, interval=trial.cost)
        for removal in report.plan.remove
        if (trial := removal.evidence.alone) is not None and trial.cost.value is not None
    }
    if not tried:
        return Removals(units={})
    note = say("layers.trial_note", treated=treated(report, say))
    return Removals(units=tried, label=say("layers.trial"), note=note)


def treated(report: ReportInput, say: Translator) -> LocalizedText:
    """Return what was done to a network after a trial removal, before it was measured."""
    trials = [r.evidence.alone for r in report.plan.remove if r.evidence.alone is not None]
    steps = max((trial.steps for trial in trials), default=0)
    if steps == 0:
        return say("proof.untrained")
    return say("proof.few_steps", steps=fmt.fixed(steps))


def _all_scores(report: ReportInput) -> list[UnitScores]:
    return [*([report.scores] if report.scores else []), *report.beside]
