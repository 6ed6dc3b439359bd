"""Texts and numbers: both languages complete, correct words, and formats by hand."""

from __future__ import annotations

import math
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srinit import report
from srinit.errors import ConfigError
from srinit.report import formats as fmt
from srinit.report.money import _energy_method
from srinit.report.provenance import _target
from srinit.report.text import (
    LANGUAGES,
    Language,
    LocalizedText,
    Translator,
    catalog,
    join,
    untranslated,
)

ROOT = Path(report.__file__).parent


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_keys_and_the_same_values_to_fill_in() -> None:
    ja, en = catalog("ja"), catalog("en")
    assert list(ja) == list(en)
    for key in ja:
        assert fields(ja[key]) == fields(en[key]), key
        assert ja[key], key
        assert en[key], key


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_use_the_words_of_inspection(language: Language) -> None:
    everything = "\n".join(catalog(language).values())
    for word in ("偽陽性", "偽陰性", "false positive", "false negative"):
        assert word not in everything.lower()
    wanted = {
        "ja": ("見逃し", "過検出", "良品", "不良", "判定", "稼働", "投資回収期間", "切り戻し"),
        "en": ("missed", "rejected", "Payback", "go back"),
    }
    for word in wanted[language]:
        assert word in everything


def test_japanese_sentences_are_polite_throughout() -> None:
    polite = re.compile(r"(です|ます|ました|ません|でした|ください|こと|\})(（[^）]*）)?$")
    for key, text in catalog("ja").items():
        for sentence in text.split("。")[:-1]:
            assert polite.search(sentence), (key, sentence)


def test_english_texts_hold_no_japanese() -> None:
    for key, text in catalog("en").items():
        assert not re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", text), key


def test_every_text_is_used_and_every_used_text_exists() -> None:
    sources = [*ROOT.glob("*.py"), *(ROOT / "templates").glob("*.j2")]
    code = "\n".join(path.read_text("utf-8") for path in sources)
    written = set(re.findall(r'say\(\s*f?"([a-z_.]+)"', code))
    for key in written:
        assert key in catalog("ja") or key.endswith("."), key
    stems = re.findall(r'"([a-z_]+(?:\.[a-z_]+)*\.)(?:"|\{)', code)
    unused = [
        key
        for key in catalog("ja")
        if f'"{key}"' not in code and not any(key.startswith(stem) for stem in stems)
    ]
    assert unused == []


def test_text_is_escaped_and_marked_by_language() -> None:
    html = str(LocalizedText(ja="<あ>", en="a&b").__html__())
    assert html == "<span lang=ja>&lt;あ&gt;</span><span lang=en>a&amp;b</span>"
    assert str(untranslated("<x>").__html__()) == "&lt;x&gt;"


def test_text_without_a_language_is_refused() -> None:
    with pytest.raises(TypeError, match="no single language"):
        f"{untranslated('x')}"


def test_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'fr'"):
        Translator(("fr",))  # type: ignore[arg-type]


def test_values_that_look_like_fields_are_not_filled_in_again() -> None:
    text = Translator()("cut.names", names="{0.__class__} {secret}")
    assert text.en == "Removed blocks: {0.__class__} {secret}"


def test_join_uses_the_list_marks_of_each_language() -> None:
    assert join([untranslated("a"), untranslated("b")]) == LocalizedText(ja="a、b", en="a, b")


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.5, 0, "1"), (1.5, 0, "2"), (2.5, 0, "3"), (-2.5, 0, "−3"), (1.005, 2, "1.00"),
        (1234567.891, 1, "1,234,567.9"), (-0.0001, 2, "0.00"), (math.nan, 0, "–"),
    ],
)  # fmt: skip
def test_numbers_are_rounded_half_away_with_groups_and_a_true_minus(
    value: float, digits: int, expected: str
) -> None:
    assert fmt.fixed(value, digits) == expected


@given(st.floats(-1e12, 1e12), st.integers(0, 4))
def test_number_reads_back_within_half_a_unit_of_its_last_digit(value: float, digits: int) -> None:
    text = fmt.fixed(value, digits).replace(",", "").replace("−", "-")
    assert abs(float(text) - value) <= 0.5 * 10**-digits + abs(value) * 1e-15


@pytest.mark.parametrize(
    ("value", "ja", "en"),
    [
        (0, "0円", "¥0"), (9_999, "9,999円", "¥9,999"), (12_345, "1.23万円", "¥12,345"),
        (-123_456_789, "−1.23億円", "−¥123 million"), (2.5e12, "2.50兆円", "¥2.50 trillion"),
    ],
)  # fmt: skip
def test_yen_is_counted_as_each_language_counts(value: float, ja: str, en: str) -> None:
    assert fmt.money(value, "JPY") == LocalizedText(ja=ja, en=en)


def test_dates_are_written_as_each_language_writes_them() -> None:
    found = fmt.date("2026-11-03T00:00:00+00:00")
    assert found == LocalizedText(ja="2026年11月3日", en="3 Nov 2026")
    assert fmt.date("<soon>") == untranslated("<soon>")


def test_payback_is_months_below_two_years_and_never_when_infinite() -> None:
    assert fmt.years(1.0).ja == "12.0か月"
    assert fmt.years(2.0).en == "2.0 years"
    assert fmt.years(math.inf).ja == "回収できません"


def test_small_quantities_get_small_units() -> None:
    assert fmt.scaled(0.0061, "Wh") == "6.10 mWh"
    assert fmt.scaled(3.2e-7, "Wh") == "0 Wh"
    assert fmt.scaled(4.5e-5, "Wh") == "45.0 µWh"


def test_numbers_that_are_compared_have_one_unit() -> None:
    assert fmt.alike([2_500_000, 900_000], "B") == ["2.50 MB", "0.900 MB"]
    assert fmt.alike([0.0, 0.0], "B") == ["0 B", "0 B"]


def test_way_of_measuring_energy_is_said_in_both_languages() -> None:
    texts = {
        "processor time x 15 W a core, stated": ("1コアあたり15 W", "15 W a core"),
        "time x 300 W, stated": ("300 W", "300 W"),
        "RAPL, whole processor package": ("実測値", "measured by the processor"),
    }
    for method, (ja, en) in texts.items():
        found = _energy_method(method, Translator())
        assert ja in found.ja
        assert en in found.en
    assert _energy_method("a meter", Translator()) == untranslated("a meter")


def test_target_is_said_in_words() -> None:
    found = _target({"flops": 0.6, "latency": 3.2, "max_drop": 0.02}, Translator())
    assert found.en == (
        "at most 60.0% of the compute, at most 3.20 ms, a loss of at most 2.00 points a block"
    )
    assert _target({}, Translator()) == untranslated("–")
