"""What was found in windows of production data, as records."""

from __future__ import annotations

from srinit.records import record

SCHEMA = "srinit.monitor/2"
MIN_WINDOW = 30
INPUT = ("brightness", "contrast", "sharpness")  # of the images
ANSWERS = ("confidence", "class_mix", "class_share", "class_trend", "features")
RATES = ("agreement", "accuracy", "agreement_trend", "accuracy_trend")  # against somebody else
LINES = ("lines_left_out", "lines_failed", "fields_missing")  # of the log itself
TRENDS = ("class_trend", "agreement_trend", "accuracy_trend")


@record
class Finding:
    """One quantity in one window.

    The effect of a trend is how much evidence there is, as a share of what an alarm needs (its
    limit is 1); that of lines is their share; all others are distances in [0, 1].
    """

    quantity: str
    effect: float
    limit: float  # good windows stay below it
    beyond: bool
    window_examples: int
    baseline_examples: int
    p_value: float | None = None  # share of good windows at least as far away
    permutation_p: float | None = None  # of the features, where they are beyond the limit
    about: str = ""  # the class, or the field
    before: float | None = None  # mean, share or rate in the baseline
    now: float | None = None  # and in the window; of a trend since it began


@record
class Window:
    """One window of production data."""

    first: int  # position of its first example, counted from 0
    num_examples: int
    findings: tuple[Finding, ...]
    failed: int = 0  # parts that got no answer, in the time of the window
    left_out: int = 0  # lines that say something that could not be used
    begins: float | None = None  # seconds since 1970
    ends: float | None = None

    @property
    def beyond(self) -> tuple[str, ...]:
        """The quantities beyond their limits."""
        return tuple(found.quantity for found in self.findings if found.beyond)

    def of(self, quantity: str) -> Finding | None:
        """Return what was found about a quantity."""
        return next((found for found in self.findings if found.quantity == quantity), None)


@record
class DriftReport:
    """What monitoring found."""

    alarm: bool
    causes: tuple[str, ...]  # quantities that were beyond in enough windows in a row
    first_alarm: int | None  # window that completed the first alarm, counted from 0
    false_alarm: float  # share of good windows that go beyond any limit
    confirm: int
    windows: tuple[Window, ...]
    examples_left: int  # behind the last whole window: not judged
    window: int = 0  # examples of one
    windows_before: int = 0  # judged too, and kept no more
    unconfirmed: tuple[str, ...] = ()  # beyond in the last window, not in enough of them yet
    not_watched: tuple[str, ...] = ()  # the baseline has it, what was watched does not
