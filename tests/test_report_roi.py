"""Return on investment, against sums done by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_run import RUN, with_costs
from srinit.report import RoiFacts, RoiInputs, load_report_input, return_on_investment
from srinit.report.money import money_view
from srinit.report.roi import Range, facts_of
from srinit.report.text import Translator

FACTS = RoiFacts(
    ms_per_piece=20.0,
    ratio=Range(value=0.5, low=0.4, high=0.75),
    miss_rate=0.03,
    miss_increase=Range(value=0.001, low=-0.002, high=0.004),
    reject_increase=Range(value=-0.01, low=-0.02, high=0.0),
    defect_share=0.1,
)
INPUTS = RoiInputs(
    pieces_per_year=1_800_000,  # 10 hours of computing at 20 ms
    cost_per_compute_hour=1000,
    engineering_hours=10,
    hourly_rate=500,
    missed_defect_cost=50,
    false_reject_cost=1,
    defect_share=0.1,
)


def test_saving_is_compute_saved_less_the_cost_of_additional_errors() -> None:
    roi = return_on_investment(INPUTS, FACTS)
    assert roi.compute_saving == Range(value=5000.0, low=2500.0, high=6000.0)
    assert roi.missed_cost is not None
    assert roi.missed_cost.value == pytest.approx(1_800_000 * 0.1 * 0.001 * 50)
    assert roi.reject_cost is not None
    assert roi.reject_cost.value == pytest.approx(-1_800_000 * 0.9 * 0.01)
    assert roi.saving is not None
    assert roi.saving.value == pytest.approx(5000 - 9000 + 16200)
    assert roi.saving.low == pytest.approx(2500 - 36000 + 0)
    assert roi.saving.high == pytest.approx(6000 + 18000 + 32400)


def test_payback_is_one_off_cost_over_saving_and_never_when_nothing_is_saved() -> None:
    roi = return_on_investment(INPUTS, FACTS)
    assert roi.one_off == 5000
    assert roi.payback_years is not None
    assert roi.payback_years.value == pytest.approx(5000 / 12200)
    assert roi.payback_years.low == pytest.approx(5000 / 56400)
    assert math.isinf(roi.payback_years.high)


def test_at_the_break_even_miss_rate_the_saving_is_zero() -> None:
    roi = return_on_investment(INPUTS, FACTS)
    assert roi.break_even_miss_rate is not None
    rise = roi.break_even_miss_rate.value - (FACTS.miss_rate or 0)
    there = return_on_investment(
        INPUTS,
        RoiFacts(
            ms_per_piece=FACTS.ms_per_piece,
            ratio=FACTS.ratio,
            miss_rate=roi.break_even_miss_rate.value,
            miss_increase=Range(value=0.001 + rise, low=0, high=0),
            reject_increase=FACTS.reject_increase,
        ),
    )
    assert there.saving is not None
    assert there.saving.value == pytest.approx(0, abs=1e-6)


def test_range_of_the_break_even_takes_all_but_the_misses_at_their_ends() -> None:
    even = return_on_investment(INPUTS, FACTS).break_even_miss_rate
    assert even is not None
    assert FACTS.ratio is not None
    assert FACTS.reject_increase is not None
    ratio, reject = FACTS.ratio, FACTS.reject_increase
    for end, ratio_end, reject_end in (
        (even.low, ratio.high, reject.high),
        (even.high, ratio.low, reject.low),
    ):
        there = dataclasses.replace(
            FACTS,
            ratio=Range(value=ratio_end, low=ratio_end, high=ratio_end),
            reject_increase=Range(value=reject_end, low=reject_end, high=reject_end),
        )
        found = return_on_investment(INPUTS, there).break_even_miss_rate
        assert found is not None
        assert end == pytest.approx(found.value) == pytest.approx(found.low)
    assert even.low <= even.value <= even.high


def test_device_price_becomes_an_hourly_cost_over_its_hours_of_use() -> None:
    given_price = RoiInputs(
        pieces_per_year=1, device_price=600_000, device_years=5, device_hours_per_year=2000
    )
    assert return_on_investment(given_price, FACTS).hour_cost == 60
    assert return_on_investment(RoiInputs(device_price=600_000), FACTS).hour_cost is None


MATRIX = dataclasses.replace(
    FACTS, cost_increase=Range(value=0.002, low=-0.001, high=0.005), cost_of_miss=80.0
)


def test_a_cost_matrix_takes_the_place_of_the_two_prices() -> None:
    roi = return_on_investment(INPUTS, MATRIX)
    assert (roi.missed_cost, roi.reject_cost) == (None, None)
    assert roi.error_cost is not None
    assert roi.error_cost.value == pytest.approx(1_800_000 * 0.002)
    assert roi.saving is not None
    assert roi.saving.value == pytest.approx(5000 - 3600)
    assert roi.saving.low == pytest.approx(2500 - 9000)
    assert roi.saving.high == pytest.approx(6000 + 1800)
    assert roi.break_even_miss_rate is not None
    assert roi.break_even_miss_rate.value == pytest.approx(0.03 + 1400 / (1_800_000 * 0.1 * 80))


def test_prices_in_the_roi_section_are_no_matrix() -> None:
    report = with_costs(load_report_input(RUN))
    assert facts_of(report.comparison, report.roi).cost_increase == Range(
        value=0.5, low=-0.75, high=2.25
    )
    priced = report.roi.changed(missed_defect_cost=1.0)
    assert facts_of(report.comparison, priced).cost_increase is None


def test_nothing_given_gives_nothing() -> None:
    roi = return_on_investment(RoiInputs(), RoiFacts())
    assert [value for value in vars(roi).values() if value is not None] == []


amounts = st.none() | st.floats(0, 1e9)


@given(
    amounts,
    amounts,
    amounts,
    amounts,
    st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_value_lies_between_its_ends(
    pieces: float | None,
    hour: float | None,
    miss: float | None,
    reject: float | None,
    share: float | None,
) -> None:
    roi = return_on_investment(
        RoiInputs(
            pieces_per_year=pieces,
            cost_per_compute_hour=hour,
            missed_defect_cost=miss,
            false_reject_cost=reject,
            defect_share=share,
        ),
        FACTS,
    )
    for found in (roi.compute_saving, roi.missed_cost, roi.reject_cost, roi.saving):
        if found is not None:
            slack = 1e-9 * max(abs(found.low), abs(found.high), 1)
            assert found.low - slack <= found.value <= found.high + slack


def test_measured_side_is_that_of_the_comparison() -> None:
    comparison = load_report_input(RUN).comparison
    assert comparison is not None
    assert comparison.defects is not None
    facts = facts_of(comparison)
    first = min(comparison.latency, key=lambda pair: pair.baseline.batch_size)
    assert facts.ms_per_piece == first.baseline.median_ms / first.baseline.batch_size
    assert facts.miss_rate == comparison.defects.missed_pruned.rate
    share = comparison.defects.missed_pruned.total / comparison.num_examples
    assert facts.defect_share == pytest.approx(share, abs=5e-5)
    assert facts_of(None) == RoiFacts()


def test_gain_that_was_not_shown_is_not_called_one() -> None:
    report = load_report_input(RUN)
    round_ = report.rounds[-1]
    assert round_.comparison is not None
    assert round_.comparison.defects is not None

    def headline(low: float, high: float) -> str:
        assert round_.comparison is not None
        assert round_.comparison.defects is not None
        rise = dataclasses.replace(
            round_.comparison.defects.missed_increase, value=-0.02, low=low, high=high
        )
        defects = dataclasses.replace(round_.comparison.defects, missed_increase=rise)
        comparison = dataclasses.replace(round_.comparison, defects=defects)
        rounds = (dataclasses.replace(round_, comparison=comparison),)
        found = money_view(dataclasses.replace(report, rounds=rounds), Translator()).headline
        assert found is not None
        return found.en

    unclear = headline(-0.04, 0.01)
    assert unclear.startswith("Neither a gain nor a loss is shown")
    assert unclear.endswith("A payback time cannot be named.")
    shown = headline(-0.03, -0.01)
    assert shown.startswith("A yearly effect of at least ")
    assert "It pays back within" in shown


def test_time_of_the_line_and_a_cheaper_device_are_gains_and_a_price_counts_once() -> None:
    more = INPUTS.changed(
        line_hour_value=30_000,
        device_price=900,
        cheaper_device_price=300,
        device_years=3,
        devices=5,
    )
    roi = return_on_investment(more, FACTS)
    assert roi.takt_gain == Range(value=150_000, low=75_000, high=180_000)  # 5 of 10 hours
    assert roi.device_saving == Range(value=1000, low=1000, high=1000)
    plain = return_on_investment(INPUTS, FACTS)
    assert plain.saving is not None
    assert roi.saving is not None
    assert roi.saving.value == pytest.approx(plain.saving.value + 151_000)
    assert roi.saving.low == pytest.approx(plain.saving.low + 76_000)
    hours = more.changed(cost_per_compute_hour=None, device_hours_per_year=1000)
    assert return_on_investment(hours, FACTS).compute_saving is None  # in the difference already
    without = hours.changed(cheaper_device_price=None)
    assert return_on_investment(without, FACTS).compute_saving is not None


def test_an_example_is_marked_as_made_up_and_goes_when_something_is_given() -> None:
    report = load_report_input(RUN)
    say = Translator()
    bare = dataclasses.replace(report, roi=RoiInputs())
    example = money_view(bare, say).example
    assert example is not None
    assert "10,000,000 pieces" in example.en
    assert "made-up" in say("roi.example_title").en
    assert money_view(dataclasses.replace(report, roi=INPUTS), say).example is None
    unmeasured = dataclasses.replace(bare, rounds=())
    assert money_view(unmeasured, say).example is None
