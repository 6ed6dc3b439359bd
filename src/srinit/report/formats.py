"""Numbers, dates and amounts as people read them, in both languages.

page.js formats what can change in the page the same way; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from srinit.report.text import LocalizedText, untranslated

MINUS = "−"
NOTHING = "–"
LEAST_RATE = 0.00005  # that two decimals of a percentage show
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def fixed(value: float | None, digits: int = 0, *, signed: bool = False) -> str:
    """Return a number with grouped thousands, a true minus, ties rounded away from zero.

    Example:
        >>> fixed(1234.5), fixed(-0.004, 2), fixed(0.5, 1, signed=True), fixed(None)
        ('1,235', '0.00', '+0.5', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    step = Decimal(1).scaleb(-digits)
    rounded = Decimal(abs(value)).quantize(step, rounding=ROUND_HALF_UP)
    sign = "" if rounded == 0 else MINUS if value < 0 else "+" if signed else ""
    return f"{sign}{rounded:,}"


def percent(fraction: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """Return a fraction in percent: 0.64 -> "64.0%"."""
    text = fixed(None if fraction is None else 100 * fraction, digits, signed=signed)
    return text if text == NOTHING else text + "%"


def rate(fraction: float | None) -> str:
    """Return a rate in percent; what no rate can reach, or would round to 0, says where it lies.

    Example:
        >>> rate(0.0198), rate(1.7), rate(0.00001), rate(0.0), rate(None)
        ('1.98%', '> 100%', '< 0.01%', '0.00%', '–')
    """
    if fraction is None or fraction <= 0:
        return percent(fraction, 2)
    if fraction < LEAST_RATE:
        return "< 0.01%"
    return "> 100%" if fraction > 1 else percent(fraction, 2)


def p_value(value: float | None) -> str:
    """Return a p-value; one that would round to zero says what it is below.

    Example:
        >>> p_value(0.0421), p_value(0.00002), p_value(None)
        ('0.042', '< 0.001', '–')
    """
    return "< 0.001" if value is not None and value < 0.0005 else fixed(value, 3)


def points(fraction: float | None, digits: int = 2, *, signed: bool = True) -> str:
    """Return a difference of fractions in percentage points, without the unit."""
    return fixed(None if fraction is None else 100 * fraction, digits, signed=signed)


def ends(low: str, high: str) -> LocalizedText:
    """Return a range of two numbers that are already text; two that read the same, once."""
    if low == high:
        return untranslated(low)
    return LocalizedText(ja=f"{low}〜{high}", en=f"{low} to {high}")


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, not in exponent form.

    Example:
        >>> significant(12.345), significant(0.01234), significant(98765)
        ('12.3', '0.0123', '98,765')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    before = math.floor(math.log10(abs(value))) + 1
    return fixed(value, max(0, digits - before))


def scaled(value: float, unit: str) -> str:
    """Return a count with a decimal prefix: 250971392 -> "251 M" + unit.

    Example:
        >>> scaled(250_971_392, "FLOPs"), scaled(3_412_072, "B"), scaled(0, "B")
        ('251 MFLOPs', '3.41 MB', '0 B')
        >>> scaled(0.0061, "Wh")
        '6.10 mWh'
    """
    size, prefix = _prefix(value)
    return f"{_of_size(value / size, whole=not prefix)} {prefix}{unit}"


def alike(values: Sequence[float], unit: str) -> list[str]:
    """Return counts that are compared, all with the prefix of the largest.

    Example:
        >>> alike([0.00123, 0.000831], "Wh")
        ['1.23 mWh', '0.831 mWh']
    """
    size, prefix = _prefix(max(values, key=abs, default=0.0))
    return [f"{_of_size(value / size, whole=not prefix)} {prefix}{unit}" for value in values]


def _of_size(count: float, *, whole: bool) -> str:
    return fixed(count) if whole else significant(count)


def _prefix(value: float) -> tuple[float, str]:
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return size, prefix
    for size, prefix in ((1e-3, "m"), (1e-6, "µ")):
        if size <= abs(value) < 1:
            return size, prefix
    return 1.0, ""


def milliseconds(value: float | None) -> str:
    """Return a time in milliseconds."""
    return NOTHING if value is None else f"{significant(value)} ms"


CURRENCIES = {"JPY": ("円", "¥"), "USD": ("ドル", "$"), "EUR": ("ユーロ", "€")}
LARGE_JA = ((1e12, "兆"), (1e8, "億"), (1e4, "万"))
LARGE_EN = ((1e12, " trillion"), (1e9, " billion"), (1e6, " million"))


def money(value: float | None, currency: str) -> LocalizedText:
    """Return an amount, large ones to three digits, as each language counts and writes it.

    Example:
        >>> money(-1234567, "JPY").ja, money(-1234567, "JPY").en, money(4200, "USD").en
        ('−123万円', '−¥1.23 million', '$4,200')
    """
    if value is None or not math.isfinite(value):
        return untranslated(NOTHING)
    ja_unit, en_unit = CURRENCIES[currency]
    sign = MINUS if value <= -0.5 else ""
    return LocalizedText(
        ja=f"{sign}{_rounded(abs(value), LARGE_JA)}{ja_unit}",
        en=f"{sign}{en_unit}{_rounded(abs(value), LARGE_EN)}",
    )


def unit_cost(value: float | None, currency: str, *, signed: bool = False) -> LocalizedText:
    """Return an amount of one piece, small ones to three digits.

    Example:
        >>> unit_cost(0.01234, "JPY").ja, unit_cost(-12345.6, "USD").en
        ('0.0123円', '−$12,346')
    """
    if value is None or not math.isfinite(value):
        return untranslated(NOTHING)
    ja_unit, en_unit = CURRENCIES[currency]
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    size = significant(abs(value))
    return LocalizedText(ja=f"{sign}{size}{ja_unit}", en=f"{sign}{en_unit}{size}")


def _rounded(size: float, names: tuple[tuple[float, str], ...]) -> str:
    for unit, name in names:
        if size >= unit:
            count = size / unit
            return fixed(count, 2 if count < 10 else 1 if count < 100 else 0) + name
    return fixed(size)


LONG = 50  # years; longer than anything that is bought


def years(value: float | None) -> LocalizedText:
    """Return a time span in years, below two years in months; infinite: never.

    Example:
        >>> years(0.5).en, years(3.24).ja, years(float("inf")).en
        ('6.0 months', '3.2年', 'never')
    """
    if value is None:
        return untranslated(NOTHING)
    if math.isinf(value):
        return LocalizedText(ja="回収できません", en="never")
    if value > LONG:
        return LocalizedText(ja=f"{LONG}年超", en=f"over {LONG} years")
    if value < 2:
        months = fixed(12 * value, 1)
        return LocalizedText(ja=f"{months}か月", en=f"{months} months")
    shown = fixed(value, 1)
    return LocalizedText(ja=f"{shown}年", en=f"{shown} years")


def date(iso: str) -> LocalizedText:
    """Return an ISO 8601 time as a date; what is no such time stays as it is.

    Example:
        >>> date("2026-03-05T07:08:09+00:00").ja, date("2026-03-05T07:08:09+00:00").en
        ('2026年3月5日', '5 Mar 2026')
    """
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return untranslated(iso or NOTHING)
    return LocalizedText(
        ja=f"{when.year}年{when.month}月{when.day}日",
        en=f"{when.day} {MONTHS[when.month - 1]} {when.year}",
    )
