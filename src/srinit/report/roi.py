"""Return on investment: what a cut saves in a year, what its errors cost, when it pays back.

The page computes the same in page.js; a test compares the two.
"""

from __future__ import annotations

from srinit.comparison.records import Comparison
from srinit.config import RoiInputs
from srinit.records import Interval, record

MS_PER_HOUR = 3.6e6
SMALLEST = 1e-9  # amounts below this are zero


@record
class Range:
    """A figure in its best and its worst case; no interval, it has no confidence."""

    value: float
    low: float
    high: float


@record
class RoiFacts:
    """What was measured."""

    ms_per_piece: float | None = None  # unpruned, smallest batch
    ratio: Range | None = None  # pruned / baseline latency
    miss_rate: float | None = None  # of the pruned network; share of defective pieces missed
    miss_increase: Range | None = None  # pruned - baseline
    reject_increase: Range | None = None
    defect_share: float | None = None  # in the test data, to four digits as the page shows it
    cost_increase: Range | None = None  # of the errors of one piece, where a cost matrix is given
    cost_of_miss: float | None = None  # of one, by that matrix


@record
class Roi:
    """The result, per year; None: not enough was given."""

    hour_cost: float | None
    compute_saving: Range | None
    takt_gain: Range | None  # line time that is no longer waited for
    device_saving: Range | None  # a cheaper device in place of the one that was bought
    missed_cost: Range | None  # positive: the cut costs money here
    reject_cost: Range | None
    error_cost: Range | None  # in place of both, where a cost matrix is given
    saving: Range | None
    one_off: float | None
    payback_years: Range | None  # value; low: best case; high: worst case; inf: never
    break_even_miss_rate: Range | None  # where the yearly saving is zero; 0: nowhere


def facts_of(comparison: Comparison | None, inputs: RoiInputs | None = None) -> RoiFacts:
    """Return the measured side of the calculation.

    Args:
        comparison: What was measured.
        inputs: What is known; where it prices errors, the prices of the comparison are those.
    """
    if comparison is None:
        return RoiFacts()
    matrix = comparison.error_cost
    if inputs and (inputs.missed_defect_cost, inputs.false_reject_cost) != (None, None):
        matrix = None
    pair = min(comparison.latency, key=lambda pair: pair.baseline.batch_size, default=None)
    defects = comparison.defects
    share = None
    if defects is not None:
        share = round(defects.missed_pruned.total / max(comparison.num_examples, 1), 4)
    if matrix is not None:
        share = matrix.defect_share
    return RoiFacts(
        ms_per_piece=None if pair is None else pair.baseline.median_ms / pair.baseline.batch_size,
        ratio=None if pair is None else _range(pair.ratio),
        miss_rate=None if defects is None else defects.missed_pruned.rate,
        miss_increase=None if defects is None else _range(defects.missed_increase),
        reject_increase=None if defects is None else _range(defects.rejected_increase),
        defect_share=share,
        cost_increase=None if matrix is None else _range(matrix.increase),
        cost_of_miss=None if matrix is None else matrix.cost_of_miss,
    )


def _range(measured: Interval) -> Range | None:
    if measured.value is None:
        return None
    return Range(value=measured.value, low=measured.low, high=measured.high)


def return_on_investment(inputs: RoiInputs, facts: RoiFacts) -> Roi:
    """Return yearly saving, one-off cost and payback.

    Best and worst case take every interval at its better or worse end at once; they are bounds,
    not an interval of their own.

    Example:
        >>> inputs = RoiInputs(pieces_per_year=3.6e6, cost_per_compute_hour=100,
        ...                    engineering_hours=1, hourly_rate=150)
        >>> facts = RoiFacts(ms_per_piece=10, ratio=Range(value=0.5, low=0.4, high=0.6))
        >>> roi = return_on_investment(inputs, facts)
        >>> roi.compute_saving.value, roi.one_off, round(roi.payback_years.value, 2)
        (500.0, 150.0, 0.3)
    """
    hour_cost = _hour_cost(inputs)
    compute = _compute(inputs.pieces_per_year, hour_cost, facts)
    takt = _compute(inputs.pieces_per_year, inputs.line_hour_value, facts)
    device = _device(inputs)
    gain = _sum(compute, takt, device)
    share = inputs.defect_share if inputs.defect_share is not None else facts.defect_share
    by_matrix = facts.cost_increase is not None
    errors = _errors(inputs.pieces_per_year, 1.0, 1.0, facts.cost_increase)
    if by_matrix:  # the matrix holds the prices, and the comparison the share
        inputs = inputs.changed(missed_defect_cost=None, false_reject_cost=None)
        share = facts.defect_share
    missed = _errors(inputs.pieces_per_year, share, inputs.missed_defect_cost, facts.miss_increase)
    good = None if share is None else 1 - share
    reject = _errors(inputs.pieces_per_year, good, inputs.false_reject_cost, facts.reject_increase)
    saving = _saving(gain, missed, reject, errors)
    one_off = None
    if inputs.engineering_hours is not None and inputs.hourly_rate is not None:
        one_off = inputs.engineering_hours * inputs.hourly_rate
    return Roi(
        hour_cost=hour_cost,
        compute_saving=compute,
        takt_gain=takt,
        device_saving=device,
        missed_cost=missed,
        reject_cost=reject,
        error_cost=errors,
        saving=saving,
        one_off=one_off,
        payback_years=_payback(saving, one_off),
        break_even_miss_rate=_break_even(inputs, facts, share, saving, gain, reject),
    )


def _hour_cost(inputs: RoiInputs) -> float | None:
    if inputs.cost_per_compute_hour is not None:
        return inputs.cost_per_compute_hour
    if inputs.cheaper_device_price is not None:
        return None  # its price is counted once, as the difference
    price, years, hours = inputs.device_price, inputs.device_years, inputs.device_hours_per_year
    if price is None or not years or not hours:
        return None
    return price / (years * hours)


def _device(inputs: RoiInputs) -> Range | None:
    price, cheaper, years = inputs.device_price, inputs.cheaper_device_price, inputs.device_years
    if price is None or cheaper is None or not years:
        return None
    yearly = (1.0 if inputs.devices is None else inputs.devices) * (price - cheaper) / years
    return Range(value=yearly, low=yearly, high=yearly)


def _sum(*parts: Range | None) -> Range | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    return Range(
        value=sum(part.value for part in known),
        low=sum(part.low for part in known),
        high=sum(part.high for part in known),
    )


def _compute(pieces: float | None, hour_cost: float | None, facts: RoiFacts) -> Range | None:
    if pieces is None or hour_cost is None or facts.ms_per_piece is None or facts.ratio is None:
        return None
    year = pieces * facts.ms_per_piece / MS_PER_HOUR * hour_cost
    ratio = facts.ratio
    return Range(
        value=year * (1 - ratio.value), low=year * (1 - ratio.high), high=year * (1 - ratio.low)
    )


def _errors(
    pieces: float | None, share: float | None, cost: float | None, rise: Range | None
) -> Range | None:
    if pieces is None or share is None or cost is None or rise is None:
        return None
    year = pieces * share * cost
    return Range(value=year * rise.value, low=year * rise.low, high=year * rise.high)


def _saving(gain: Range | None, *errors: Range | None) -> Range | None:
    costs = [cost for cost in errors if cost is not None]
    if gain is None and not costs:
        return None
    base = gain or Range(value=0.0, low=0.0, high=0.0)
    return Range(
        value=base.value - sum(cost.value for cost in costs),
        low=base.low - sum(cost.high for cost in costs),
        high=base.high - sum(cost.low for cost in costs),
    )


def _payback(saving: Range | None, one_off: float | None) -> Range | None:
    if saving is None or one_off is None:
        return None

    def years(yearly: float) -> float:
        return one_off / yearly if yearly >= SMALLEST else float("inf")

    return Range(value=years(saving.value), low=years(saving.high), high=years(saving.low))


def _break_even(
    inputs: RoiInputs,
    facts: RoiFacts,
    share: float | None,
    saving: Range | None,
    gain: Range | None,
    reject: Range | None,
) -> Range | None:
    """Return the miss rate at which the yearly saving is zero, all else as measured.

    Its ends take all else (gains, and good parts rejected where they have a price of their own)
    at its worse and its better end.
    """
    if saving is None or facts.miss_rate is None or facts.miss_increase is None:
        return None
    price = inputs.missed_defect_cost if facts.cost_increase is None else facts.cost_of_miss
    per_rate = (inputs.pieces_per_year or 0) * (share or 0) * (price or 0)
    if per_rate < SMALLEST:
        return None
    none = Range(value=0.0, low=0.0, high=0.0)
    more_gain, loss = gain or none, reject or none
    worse = (more_gain.low - more_gain.value) - (loss.high - loss.value)
    better = (more_gain.high - more_gain.value) - (loss.low - loss.value)
    value, low, high = (
        max(facts.miss_rate + (saving.value + more) / per_rate, 0.0)
        for more in (0.0, worse, better)
    )
    return Range(value=value, low=low, high=high)
