"""The decision in words: go, go with conditions, or no-go, and what it rests on.

Nothing is judged here that the gates have not judged: a failed gate is a no-go. A run that
passed is a go only as far as what was tested reaches; everything else becomes a condition.
"""

from __future__ import annotations

from typing import Literal

from srinit.comparison.records import Drop
from srinit.comparison.worse import worse_classes
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.acceptance import gate_text
from srinit.report.cause import Cause, cause_words, causes_of
from srinit.report.data import ReportInput
from srinit.report.field_data import tested_text
from srinit.report.figures import unsteady
from srinit.report.money import Money, money_view
from srinit.report.prose import edit_text
from srinit.report.text import LocalizedText, Translator, join
from srinit.report.worse import worse_class_text

Verdict = Literal["go", "conditions", "no", "open"]


@record
class Decision:
    """What the first page says."""

    verdict: Verdict
    word: LocalizedText
    meaning: LocalizedText
    reason: LocalizedText
    talking_points: tuple[LocalizedText, ...]  # three sentences for a meeting
    tested: tuple[LocalizedText, ...]
    untested: tuple[LocalizedText, ...]
    conditions: tuple[LocalizedText, ...]
    rollback: tuple[LocalizedText, ...]


def decide(report: ReportInput, say: Translator) -> Decision:
    """Return the decision about the last round of a run."""
    evidence = _evidence(report, say)
    verdict = _verdict(report, bool(evidence.conditions))
    causes = causes_of(report, say) if verdict == "no" else ()
    conditions = (*(cause.todo for cause in causes), *evidence.conditions)
    return Decision(
        verdict=verdict,
        word=say(f"verdict.{_word(verdict, len(conditions))}.word", num=str(len(conditions))),
        meaning=say(f"verdict.{verdict}.meaning"),
        reason=_reason(report, verdict, len(conditions), causes, say),
        talking_points=_talking_points(report, verdict, len(conditions), say),
        tested=tuple(evidence.tested),
        untested=tuple(evidence.untested),
        conditions=conditions,
        rollback=(
            say("back.how"),
            say(f"back.rehearsed.{_way_back(report)}", date=report.rollback_drill_on),
        ),
    )


def _word(verdict: Verdict, num_conditions: int) -> str:
    return "one" if verdict == "conditions" and num_conditions == 1 else verdict


def _way_back(report: ReportInput) -> Literal["no", "rehearsed", "done"]:
    """Return how far the way back was taken: a rehearsal moves nothing."""
    if report.rolled_back:
        return "done"
    return "rehearsed" if report.rollback_drilled else "no"


def _verdict(report: ReportInput, has_conditions: bool) -> Verdict:
    if report.gates is None:
        return "open"
    if not report.gates.passed or not report.plan.remove:
        return "no"
    return "conditions" if has_conditions else "go"


def device_text(report: ReportInput) -> str:
    """Return what latency was measured on: the processor or the graphics device, by name."""
    found = report.comparison
    kind = found.latency[0].baseline.device if found and found.latency else report.device
    environment = report.environment or {}
    if kind.startswith("cuda"):
        names = environment.get("cuda_devices") or [kind]
        return str(names[0])
    processor = environment.get("processor")
    return f"{kind.upper()}, {processor}" if processor else kind.upper()


def _reason(
    report: ReportInput,
    verdict: Verdict,
    num_conditions: int,
    causes: tuple[Cause, ...],
    say: Translator,
) -> LocalizedText:
    gates = report.gates
    if gates is None:
        return say("reason.open")
    if gates.passed and not report.plan.remove:
        return say("reason.nothing")
    if verdict == "no":
        failed = join(
            [gate_text(gate, say, report.roi.currency) for gate in gates.failed], ja="。", en="; "
        )
        counts = {"num": str(len(gates.failed)), "all": str(len(gates.gates))}
        return say("reason.no", **counts, failed=failed, cause=cause_words(causes, say))
    if not gates.gates:
        return say("reason.no_gates")
    key = "reason.go" if verdict == "go" else "reason.conditions"
    return say(key, all=str(len(gates.gates)), num=str(num_conditions))


def _talking_points(
    report: ReportInput, verdict: Verdict, num_conditions: int, say: Translator
) -> tuple[LocalizedText, ...]:
    removed, units = len(report.plan.remove), report.sensitivity.unit_map
    close = say(
        f"talking_points.close.{verdict if removed or verdict == 'open' else 'nothing'}",
        num=str(num_conditions),
    )
    total = len(units.removable) + len(units.locked)
    found = report.comparison
    if found is None or found.score.baseline is None or found.score.pruned is None:
        return (
            say("talking_points.cut_only", removed=str(removed), total=str(total)),
            say("talking_points.not_compared"),
            close,
        )
    saving = _saving(report, say)
    loss = say(
        "talking_points.accuracy" if found.p_value is not None else "talking_points.score",
        before=fmt.percent(found.score.baseline, 2),
        after=fmt.percent(found.score.pruned, 2),
        range=_range(found.score, say),
        num=fmt.fixed(found.num_examples),
    )
    if found.defects is not None:
        loss = join([loss, _missed(report, say)], ja="", en=" ")
    return (
        say("talking_points.cut", removed=str(removed), total=str(total), saving=saving),
        loss,
        close,
    )


def _range(loss: Drop, say: Translator) -> LocalizedText:
    """Return the interval of a loss in words that can be read out, without signs."""
    low, high = (fmt.points(abs(end), signed=False) for end in (loss.low, loss.high))
    if loss.low >= 0:
        return say("talking_points.loss_range", low=low, high=high)
    if loss.high <= 0:
        return say("talking_points.gain_range", low=high, high=low)
    return say("talking_points.both_range", low=low, high=high)


def _saving(report: ReportInput, say: Translator) -> LocalizedText:
    found = report.comparison
    parts = []
    if found is not None and found.cost is not None:
        parts.append(_changed("params", found.cost.params_pruned / found.cost.params_baseline, say))
    if found is not None and found.latency:
        pair = min(found.latency, key=lambda pair: pair.baseline.batch_size)
        if pair.ratio.low < 1 < pair.ratio.high:
            parts.append(say("talking_points.latency_unclear"))
        else:
            low, high = sorted(abs(end - 1) for end in (pair.ratio.low, pair.ratio.high))
            ends = fmt.ends(fmt.percent(low, 0), fmt.percent(high, 0))
            parts.append(_changed("latency", pair.ratio.known, say, range=ends))
    else:
        parts.append(say("talking_points.unmeasured"))
    return join(parts, ja="、", en=" and ")


def _changed(key: str, ratio: float, say: Translator, **values: LocalizedText) -> LocalizedText:
    direction = "less" if ratio < 1 else "more"
    return say(f"talking_points.{key}_{direction}", change=fmt.percent(abs(ratio - 1), 0), **values)


def _missed(report: ReportInput, say: Translator) -> LocalizedText:
    assert report.comparison is not None
    assert report.comparison.defects is not None
    defects = report.comparison.defects
    return say(
        "talking_points.missed",
        num=fmt.fixed(defects.missed_pruned.total),
        before=fmt.fixed(defects.missed_baseline.hits),
        after=fmt.fixed(defects.missed_pruned.hits),
    )


class _Evidence:
    """What was tested, what was not, and the conditions that follow from it."""

    def __init__(self, say: Translator) -> None:
        self.say = say
        self.tested: list[LocalizedText] = []
        self.untested: list[LocalizedText] = []
        self.conditions: list[LocalizedText] = []

    def seen(self, key: str, **values: str | LocalizedText) -> None:
        self.tested.append(self.say(f"tested.{key}", **values))

    def condition(self, key: str, **values: str | LocalizedText) -> None:
        self.conditions.append(self.say(f"condition.{key}", **values))

    def missing(self, key: str) -> None:
        self.untested.append(self.say(f"untested.{key}"))
        self.condition(key)


def _evidence(report: ReportInput, say: Translator) -> _Evidence:
    evidence = _Evidence(say)
    for found in report.baseline_warnings:
        evidence.conditions.append(say(f"condition.baseline.{found.kind}", **found.values))
    _of_custody(report, evidence)
    _of_answers(report, evidence)
    _of_latency(report, evidence)
    _of_exports(report, evidence)
    _of_surroundings(report, evidence)
    _of_way_back(report, evidence)
    _of_money(money_view(report, say), evidence)
    return evidence


def _of_way_back(report: ReportInput, evidence: _Evidence) -> None:
    """Say whether the way back was taken; one that was only rehearsed is not called done."""
    taken = _way_back(report)
    if taken == "no":
        evidence.missing("rollback")
        return
    evidence.seen(f"rollback_{taken}", date=report.rollback_drill_on)
    if taken == "rehearsed":
        evidence.untested.append(evidence.say("untested.rollback_rehearsed"))


def _of_money(money: Money, evidence: _Evidence) -> None:
    """Make a condition of a cost that no saving pays back in the time of a machine's life."""
    if money.does_not_pay is not None:
        evidence.conditions.append(money.does_not_pay)


def _of_custody(report: ReportInput, evidence: _Evidence) -> None:
    """Say what was changed after the run began, and that its test data were read before."""
    moved = [each.words() for each in report.overrides if each.moves_judgement]
    if moved:
        evidence.condition("overrides", changes="; ".join(moved))
    if report.edit is not None:
        what, reason = edit_text(report.edit, evidence.say), report.edit.reason
        evidence.condition("edit", what=what, reason=reason)
    if report.readings is not None and report.readings.earlier:
        earlier = report.readings.earlier
        runs = ", ".join(dict.fromkeys(reading.run for reading in earlier))
        evidence.condition("readings", num=str(len(earlier)), runs=runs)


def _of_answers(report: ReportInput, evidence: _Evidence) -> None:
    found = report.comparison
    if found is None:
        evidence.missing("comparison")
        return
    evidence.seen("comparison", num=fmt.fixed(found.num_examples))
    limited = {gate.name for gate in report.gates.gates} if report.gates else set()
    for row in worse_classes(found):
        # Who set a limit to this very class has said what is acceptable.
        if f"max_class_recall_drop.{row.name}" not in limited:
            evidence.condition("worse", what=worse_class_text(row, evidence.say))
    if found.nonfinite_pruned > 0:
        evidence.condition("nonfinite", share=fmt.percent(found.nonfinite_pruned, 2))
    if found.perplexity is not None:
        evidence.untested.append(evidence.say("untested.generation"))
    if found.defects is None:
        if not report.is_text:
            evidence.untested.append(evidence.say("untested.defects"))
        return
    missed = found.defects.missed_pruned
    evidence.seen("defects", num=fmt.fixed(missed.total))
    gates = report.gates.gates if report.gates else ()
    # Who set a limit to the miss rate itself has said what is acceptable.
    if not any(gate.name == "max_missed_defect_rate" for gate in gates):
        evidence.condition("miss_bound", high=fmt.percent(missed.high, 2))


def _of_latency(report: ReportInput, evidence: _Evidence) -> None:
    found = report.comparison
    if found is None or not found.latency:
        evidence.missing("latency")
        return
    batches = [str(pair.baseline.batch_size) for pair in found.latency]
    sizes = join([evidence.say("times.images", num=size) for size in batches], ja="・", en=", ")
    device = device_text(report)
    evidence.seen("latency", sizes=sizes, device=device)
    if any(unsteady(pair) for pair in found.latency):
        evidence.condition("device_busy", device=device)
    elif not report.on_production_device:
        evidence.condition("device", device=device)


def _of_exports(report: ReportInput, evidence: _Evidence) -> None:
    for export in report.exports:
        evidence.seen(
            "export",
            format={"onnx": "ONNX"}.get(export.format, export.format),
            num=fmt.fixed(export.num_examples),
            difference=f"{export.max_difference:.1e}" if export.max_difference else "0",
        )
    written = report.hugging_face
    if written is not None and written.folder:
        evidence.seen(
            "folder",
            network=written.network,
            num=fmt.fixed(written.num_examples),
            difference=f"{written.max_difference:.1e}" if written.max_difference else "0",
        )
    elif not report.exports:
        evidence.missing("export")
    for name, why in report.failed_exports.items():
        text = evidence.say("untested.failed_export", format=name, why=why)
        evidence.untested.append(text)


def _of_surroundings(report: ReportInput, evidence: _Evidence) -> None:
    last = report.last
    if last is not None and last.site is not None:
        evidence.tested.append(tested_text(last.site, evidence.say))
    else:
        evidence.missing("site")
    if last is None or last.shift is None:
        if not report.is_text:
            evidence.untested.append(evidence.say("untested.shift"))
        return
    every = fmt.fixed(len(last.shift.points))
    evidence.seen("shift", num=fmt.fixed(last.shift.num_examples), all=every)
    if worse := last.shift.significant:
        evidence.condition("shift", count=fmt.fixed(len(worse)), all=every)
