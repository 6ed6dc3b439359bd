"""One thing has one word: the glossary of the report holds in every text and on the page."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest

from report_run import CLASSES, RUN
from srinit.config.yaml import parse_yaml
from srinit.reinit import SCHEMES
from srinit.report import formats as fmt
from srinit.report import load_report_input
from srinit.report.decision import decide
from srinit.report.page import render
from srinit.report.prose import device_words, prose, scheme_text
from srinit.report.summary import summary_markdown
from srinit.report.text import Language, LocalizedText, Translator, catalog

SOURCE = files("srinit.report").joinpath("locale").joinpath("glossary.yaml")
GLOSSARY: dict[str, dict[str, Any]] = parse_yaml(SOURCE.read_bytes(), where="the glossary")
CODES: tuple[Language, ...] = ("ja", "en")


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("concept", GLOSSARY)
def test_a_word_that_another_has_replaced_is_in_no_text(concept: str, code: Language) -> None:
    for word in GLOSSARY[concept][f"not_{code}"]:
        found = {key: text for key, text in catalog(code).items() if re.search(word, text)}
        assert found == {}, word


@pytest.mark.parametrize("code", CODES)
def test_no_replaced_word_is_on_the_page_or_in_the_summary(code: Language) -> None:
    report = load_report_input(RUN)
    page = re.sub(r"<(style|script|pre)\b.*?</\1>", "", render(report, (code,)), flags=re.DOTALL)
    for text in (page, summary_markdown(report, (code,))):
        for name in (*CLASSES.values(), "torch 2"):
            text = text.replace(name, "")
        for entry in GLOSSARY.values():
            for word in entry[f"not_{code}"]:
                if not word.startswith("^") and word not in (" %", "\\d s\\b", "\\.\\.(?!\\.)"):
                    assert not re.search(word, text), word


def test_every_word_of_the_glossary_is_used() -> None:
    for concept, entry in GLOSSARY.items():
        if concept in ("seconds", "programs", "signatures", "before and after"):
            continue  # put together from parts
        for code in CODES:
            texts = " ".join(catalog(code).values()).lower()
            assert str(entry[code]).lower() in texts, (concept, code)


def test_sentences_follow_one_another_as_each_language_writes_them() -> None:
    one, two = LocalizedText(ja="ある。", en="One."), LocalizedText(ja="いる。", en="Two.")
    assert prose(one, None, two) == LocalizedText(ja="ある。いる。", en="One. Two.")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_has_a_name_in_both_languages(scheme: str) -> None:
    text = scheme_text(scheme, 1.0, Translator())
    assert text.ja.endswith("・倍率1")
    assert text.en.endswith(", scale 1")
    assert scheme_text("of_mine", 0.5, Translator()).ja == "of_mine・倍率0.5"


def test_devices_and_programs_are_written_as_people_write_them() -> None:
    assert device_words("cpu", "torch") == LocalizedText(ja="CPU・PyTorch", en="CPU, PyTorch")
    assert device_words("cuda:0", "onnxruntime").en == "cuda:0, ONNX Runtime"


def test_batch_sizes_and_ranges_read_as_words() -> None:
    tested = " ".join(text.ja for text in decide(load_report_input(RUN), Translator()).tested)
    assert "1枚・8枚ずつ処理" in tested
    assert fmt.ends("never", "never").en == "never"
