"""The return on investment as the page shows it."""

from __future__ import annotations

import re
from typing import Any

from srinit import records
from srinit.config import RoiInputs
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.prose import device_words
from srinit.report.roi import Range, Roi, RoiFacts, facts_of, return_on_investment
from srinit.report.text import LocalizedText, Translator, join, untranslated

PAYS_WITHIN = 20  # years; no device lasts longer
EXAMPLE_PRICES = {"JPY": (1_000, 30_000), "USD": (10, 300), "EUR": (10, 300)}
"""Made up: an hour of computing, and of a line."""
GAINS = ("compute", "hour", "takt", "device")  # formulas
METHODS = {  # of srinit.inference_cost
    "core": r"processor time x (?P<watts>\S+) W a core, stated",
    "device": r"time x (?P<watts>\S+) W, stated",
    "rapl": r"RAPL, whole processor package",
}


@record
class Field:
    """One input of the calculation."""

    name: str
    label: LocalizedText
    value: str  # with grouped thousands; "" where nothing was given


@record
class Money:
    """What the section shows."""

    fields: tuple[Field, ...]
    # Key, label, value and range of each.
    results: tuple[tuple[str, LocalizedText, LocalizedText, LocalizedText], ...]
    facts: dict[str, Any]  # for page.js
    given: bool
    has_defects: bool
    currency: str
    headline: LocalizedText | None
    measured: LocalizedText | None
    formulas: tuple[str, ...]
    # What, before, after.
    ownership: tuple[tuple[LocalizedText, LocalizedText, LocalizedText], ...] = ()
    ownership_note: LocalizedText | None = None
    example: LocalizedText | None = None  # made-up inputs, where none were given
    does_not_pay: LocalizedText | None = None  # a condition: the cost is not recovered


def money_view(report: ReportInput, say: Translator) -> Money:
    """Return inputs and results; what was not given stays open."""
    inputs, facts = report.roi, facts_of(report.comparison, report.roi)
    roi = return_on_investment(inputs, facts)
    currency = inputs.currency
    amounts: list[tuple[str, Range | None]] = [
        ("compute_saving", roi.compute_saving),
        ("takt_gain", roi.takt_gain),
        ("device_saving", roi.device_saving),
    ]
    if facts.cost_increase is not None:
        amounts.append(("error_cost", roi.error_cost))
    elif facts.miss_increase is not None:
        amounts += [("missed_cost", roi.missed_cost), ("reject_cost", roi.reject_cost)]
    amounts.append(("saving", roi.saving))
    results = [(key, say(f"roi.{key}"), *_amount(value, currency)) for key, value in amounts]
    results.append(
        ("one_off", say("roi.one_off"), fmt.money(roi.one_off, currency), untranslated(""))
    )
    payback = roi.payback_years
    results.append(
        (
            "payback_years",
            say("roi.payback_years"),
            fmt.years(payback.value if payback else None),
            _spread(fmt.years(payback.low), fmt.years(payback.high))
            if payback
            else untranslated(""),
        )
    )
    if facts.miss_increase is not None:
        even = roi.break_even_miss_rate
        results.append(
            (
                "break_even_miss_rate",
                say("roi.break_even_miss_rate"),
                untranslated(fmt.rate(even.value if even else None)),
                fmt.ends(fmt.rate(even.low), fmt.rate(even.high)) if even else untranslated(""),
            )
        )
    return Money(
        fields=_fields(report, facts, say),
        results=tuple(results),
        facts=records.plain(facts),
        given=roi.saving is not None,
        has_defects=facts.miss_increase is not None,
        currency=currency,
        headline=_headline(report, roi, currency, say),
        does_not_pay=_does_not_pay(roi, say),
        measured=_measured(facts, say),
        example=None if roi.saving is not None else _example(currency, facts, say),
        formulas=_formulas(facts),
        ownership=_ownership(report, say),
        ownership_note=_ownership_note(report, say),
    )


def _ownership(
    report: ReportInput, say: Translator
) -> tuple[tuple[LocalizedText, LocalizedText, LocalizedText], ...]:
    """Return what 1,000 answers cost in both networks, at every batch size."""
    found = report.last.ownership if report.last else None
    rows: list[tuple[LocalizedText, LocalizedText, LocalizedText]] = []
    for pair in found.pairs if found else ():
        both, batch = (pair.baseline, pair.pruned), str(pair.baseline.batch_size)
        for key, values in (
            ("time", [_seconds(side.seconds_per_1000, say) for side in both]),
            (
                "memory",
                [untranslated(t) for t in fmt.alike([side.peak_bytes for side in both], "B")],
            ),
            (
                "energy",
                [untranslated(t) for t in fmt.alike([s.energy_wh_per_1000 for s in both], "Wh")],
            ),
        ):
            rows.append((say(f"own.{key}", batch=batch), values[0], values[1]))
    return tuple(rows)


def _seconds(value: float, say: Translator) -> LocalizedText:
    return say("own.seconds", value=fmt.significant(value))


def _ownership_note(report: ReportInput, say: Translator) -> LocalizedText | None:
    found = report.last.ownership if report.last else None
    if not found or not found.pairs:
        return None
    side = found.pairs[0].pruned
    return say(
        "own.note", device=device_words(side.device), method=_energy_method(side.energy_method, say)
    )


def _energy_method(method: str, say: Translator) -> LocalizedText:
    """Return how the energy was come by in words; what is not known stays as it is."""
    for key, pattern in METHODS.items():
        if found := re.fullmatch(pattern, method):
            return say(f"own.method.{key}", **found.groupdict())
    return untranslated(method)


def _headline(
    report: ReportInput, roi: Roi, currency: str, say: Translator
) -> LocalizedText | None:
    """Return what was shown first: one example's difference must not lead."""
    if roi.saving is None:
        return None
    saving = {
        name: fmt.money(amount, currency) for name, amount in records.plain(roi.saving).items()
    }
    if roi.saving.low > 0:
        return join([say("roi.shown_gain", **saving), *_payback(roi, say)], ja="", en=" ")
    if roi.saving.high < 0:
        loss = {"low": -roi.saving.high, "value": -roi.saving.value, "high": -roi.saving.low}
        shown = {name: fmt.money(amount, currency) for name, amount in loss.items()}
        return join([say("roi.shown_loss", **shown), *_payback(roi, say)], ja="", en=" ")
    parts = [say("roi.unclear", **saving)]
    compute, found = roi.compute_saving, report.comparison
    if compute is not None and compute.low > 0:
        low, high = (fmt.money(end, currency) for end in (compute.low, compute.high))
        parts.append(say("roi.shown_compute", low=low, high=high))
    if compute != roi.saving and found is not None and found.p_value is not None:
        parts.append(say("roi.of_errors", num=fmt.fixed(found.lost + found.gained)))
    if roi.payback_years is not None:
        parts.append(say("roi.no_payback"))
    return join(parts, ja="", en=" ")


def _example(currency: str, facts: RoiFacts, say: Translator) -> LocalizedText | None:
    """Return what made-up inputs would give with what was measured here, said to be made up."""
    much = EXAMPLE_PRICES.get(currency, EXAMPLE_PRICES["USD"])
    pieces, (hour, line) = 10_000_000, much
    inputs = RoiInputs(pieces_per_year=pieces, cost_per_compute_hour=hour, line_hour_value=line)
    roi = return_on_investment(inputs, facts)
    if roi.compute_saving is None or roi.takt_gain is None:
        return None
    shown = {}
    for key, found in (("compute", roi.compute_saving), ("takt", roi.takt_gain)):
        shown[key] = fmt.money(found.value, currency)
        shown[f"{key}_range"] = _spread(
            fmt.money(found.low, currency), fmt.money(found.high, currency)
        )
    return say(
        "roi.example",
        pieces=fmt.fixed(pieces),
        hour=fmt.money(hour, currency),
        line=fmt.money(line, currency),
        **shown,
    )


def _payback(roi: Roi, say: Translator) -> list[LocalizedText]:
    payback = roi.payback_years
    if payback is None:
        return []
    if payback.value > PAYS_WITHIN:
        return [say("roi.never_pays")]
    return [say("roi.pays", worst=fmt.years(payback.high), value=fmt.years(payback.value))]


def _does_not_pay(roi: Roi, say: Translator) -> LocalizedText | None:
    """Return a condition where it is shown that the one-off cost is not recovered in time."""
    payback, saving = roi.payback_years, roi.saving
    if payback is None or saving is None or not roi.one_off:
        return None
    shown = payback.low > PAYS_WITHIN or (saving.low > 0 and payback.value > PAYS_WITHIN)
    return say("condition.does_not_pay", years=str(PAYS_WITHIN)) if shown else None


def _measured(facts: RoiFacts, say: Translator) -> LocalizedText | None:
    if facts.ratio is None:
        return None
    return say(
        "roi.measured",
        ms=fmt.milliseconds(facts.ms_per_piece),
        ratio=fmt.fixed(facts.ratio.value, 3),
        range=fmt.ends(fmt.fixed(facts.ratio.low, 3), fmt.fixed(facts.ratio.high, 3)),
    )


def _formulas(facts: RoiFacts) -> tuple[str, ...]:
    if facts.miss_increase is None:
        return (*GAINS, "saving", "payback")
    if facts.cost_increase is not None:
        return (*GAINS, "errors", "saving_matrix", "payback", "even_matrix")
    return (*GAINS, "missed", "reject", "saving", "payback", "even")


def _spread(low: LocalizedText, high: LocalizedText) -> LocalizedText:
    """Return a range; where both ends read the same, that once."""
    if low == high:
        return low
    return LocalizedText(ja=f"{low.ja}〜{high.ja}", en=f"{low.en} to {high.en}")


def _amount(value: Range | None, currency: str) -> tuple[LocalizedText, LocalizedText]:
    if value is None:
        return untranslated(fmt.NOTHING), untranslated("")
    low, high = fmt.money(value.low, currency), fmt.money(value.high, currency)
    return fmt.money(value.value, currency), _spread(low, high)


def _fields(report: ReportInput, facts: RoiFacts, say: Translator) -> tuple[Field, ...]:
    names = [
        "pieces_per_year",
        "cost_per_compute_hour",
        "line_hour_value",
        "device_price",
        "device_years",
        "device_hours_per_year",
        "cheaper_device_price",
        "devices",
        "engineering_hours",
        "hourly_rate",
    ]
    if facts.miss_increase is not None and facts.cost_increase is None:
        names += ["missed_defect_cost", "false_reject_cost", "defect_share"]
    fields = []
    for name in names:
        value = getattr(report.roi, name)
        if name == "defect_share" and value is None:
            value = facts.defect_share
        text = "" if value is None else f"{value:,.10g}"
        fields.append(Field(name=name, label=say(f"roi.input.{name}"), value=text))
    return tuple(fields)
