"""What a number of removals is expected to cost, from the trials that were made; never invented."""

from __future__ import annotations

from markupsafe import Markup

from srinit.records import Interval, record
from srinit.report import formats as fmt
from srinit.report.charts import Axis, Line, line_chart
from srinit.report.data import ReportInput
from srinit.report.removals import treated
from srinit.report.text import LocalizedText, Translator


@record
class ExpectedLoss:
    """The losses of the first removals together, as they were tried on copies."""

    losses: tuple[Interval | None, ...]  # by number of removals, fractions; None: not tried
    drawing: Markup
    note: LocalizedText
    basis: LocalizedText  # what was done to the copies
    label: LocalizedText

    def text(self, number: int, say: Translator) -> tuple[LocalizedText, str]:
        """Return a loss and its range as the table shows them."""
        found = self.losses[number]
        if found is None:
            return say("expected.unknown"), ""
        value = say("figure.points", points=fmt.points(found.value, 1, signed=False))
        low, high = (fmt.points(end, 1, signed=False) for end in (found.low, found.high))
        return value, f"[{low}, {high}]" if number else ""


def expected_loss(report: ReportInput, say: Translator) -> ExpectedLoss | None:
    """Return the joint costs of the trials; None where no trial says what a position costs.

    A round tries its removals on the network that the round before left, so its costs are not
    those of a position, and are left out.
    """
    plan = report.plan
    in_rounds = report.outcome is not None and len(report.rounds) > 1
    if in_rounds or plan.names != plan.ranking[: len(plan.names)]:
        return None
    trials = [removal.evidence.joint for removal in plan.remove]
    known = [trial for trial in trials if trial is not None and trial.cost.value is not None]
    if not known:
        return None
    nothing = Interval(value=0.0, low=0.0, high=0.0, confidence=known[0].cost.confidence)
    costs = [None if t is None or t.cost.value is None else t.cost for t in trials]
    beyond = [None] * (len(plan.prefixes) - 1 - len(trials))
    losses = (nothing, *costs, *beyond)
    last = max(number for number, loss in enumerate(losses) if loss is not None)
    read = max(trial.num_examples for trial in known)
    return ExpectedLoss(
        losses=losses,
        drawing=_drawing(losses, len(plan.remove), say),
        note=say("expected.note", num=fmt.fixed(read), last=str(last)),
        basis=treated(report, say),
        label=say("expected.label"),
    )


def _drawing(losses: tuple[Interval | None, ...], chosen: int, say: Translator) -> Markup:
    def of(end: str) -> tuple[float | None, ...]:
        return tuple(None if loss is None else 100 * getattr(loss, end) for loss in losses)

    known = [loss for loss in losses if loss is not None]
    low = min(0.0, *(100 * loss.low for loss in known))
    high = max(1.0, *(100 * loss.high for loss in known))
    line = Line(
        label=say("expected.label"),
        x=tuple(map(float, range(len(losses)))),
        y=of("value"),
        color=3,
        marks=len(losses) <= 40,
        low=of("low"),
        high=of("high"),
    )
    return line_chart(
        [line],
        Axis(label=say("axis.removed"), low=0, high=max(len(losses) - 1, 1)),
        Axis(label=say("layers.drop"), low=1.05 * low, high=1.05 * high),
        marker=chosen,
    )
