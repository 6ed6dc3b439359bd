"""What a reader types and chooses: amounts as people write them, and a page that can be sent."""

from __future__ import annotations

from typing import Any

import pytest

from srinit.report import ReportInput, write_report
from test_report_browser import opened, pytestmark, speak

__all__ = ["pytestmark"]


AMOUNTS = {
    "10万": "¥100,000", "１０万": "¥100,000", "1億2000万": "¥120 million", "1.5億": "¥150 million",
    "150,000": "¥150,000", "150000": "¥150,000", "1,5": "¥2", "1.234,5": "¥1,235",
    "¥3,000": "¥3,000", "9000円": "¥9,000", "1.5 million": "¥1.50 million", "１，５００": "¥1,500",
    "2k": "¥2,000", "0": "¥0",
}  # fmt: skip
NONE = ("ten", "1,50,000", "-5", "10万円a", "1..5", "5 6", "<b>")


def test_amounts_are_read_as_people_write_them_and_others_are_named(browser: Any, url: str) -> None:
    with opened(browser, f"{url}", locale="en-US") as page:
        speak(page, "en")
        page.locator("#roi-hourly_rate").fill("1")
        field, message = (
            page.locator("#roi-engineering_hours"),
            page.locator("#bad-engineering_hours"),
        )
        shown = page.locator('[data-roi="one_off"]')
        for text, wanted in AMOUNTS.items():
            field.fill(text)
            assert shown.inner_text() == wanted, text
            assert not message.is_visible(), text
        for text in NONE:
            field.fill(text)
            assert shown.inner_text() == "–", text
            assert "This is not an amount" in message.inner_text(), text
            assert field.get_attribute("aria-invalid") == "true"
        field.fill("")
        assert not message.is_visible()


def test_a_share_may_be_written_in_percent_and_not_above_one(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        field, message = page.locator("#roi-defect_share"), page.locator("#bad-defect_share")
        for text, good in (("0.02", True), ("2%", True), ("２％", True), ("2", False)):
            field.fill(text)
            assert message.is_visible() is not good, text


def test_the_address_holds_what_was_chosen_and_a_copy_of_it_shows_the_same(
    browser: Any, url: str, report_input: ReportInput
) -> None:
    with opened(browser, url, locale="en-US") as page:
        speak(page, "ja")
        page.locator("#slider").fill("1")
        page.locator("#roi-hourly_rate").fill("1万")
        address = page.evaluate("location.href")
        saving = page.locator('[data-roi="one_off"]').inner_text()
    assert "lang=ja" in address
    assert "n=1" in address
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    page.goto(address)
    assert page.evaluate("document.documentElement.lang") == "ja"
    assert page.locator("#slider").input_value() == "1"
    assert page.locator("#roi-hourly_rate").input_value() == "1万"
    assert page.locator('[data-roi="one_off"]').inner_text() == saving
    context.close()


@pytest.mark.parametrize(("locale", "code"), [("en-US", "en"), ("ja-JP", "ja"), ("fr-FR", "ja")])
def test_the_language_is_that_of_the_browser(
    browser: Any, url: str, locale: str, code: str
) -> None:
    with opened(browser, url, locale=locale) as page:
        assert page.evaluate("document.documentElement.lang") == code
        assert page.locator(f"#lang-{code}").is_checked()


def test_a_language_that_was_asked_for_stays(
    browser: Any, report_input: ReportInput, tmp_path: Any
) -> None:
    page_url = write_report(report_input, tmp_path, languages=("en", "ja")).as_uri()
    with opened(browser, page_url, locale="ja-JP") as page:
        assert page.evaluate("document.documentElement.lang") == "en"


def test_an_address_that_makes_no_sense_changes_nothing(
    browser: Any, url: str, report_input: ReportInput
) -> None:
    context = browser.new_context(locale="ja-JP")
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{url}#lang=fr&n=9999&x=<img>&=&hourly_rate=<img src=x>")
    assert errors == []
    assert page.locator("#slider").input_value() == str(len(report_input.plan.remove))
    assert page.locator("#bad-hourly_rate").is_visible()
    context.close()


def test_without_javascript_dead_fields_say_so(browser: Any, url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    notes = page.locator("noscript p:visible")
    assert notes.count() == 2
    assert "JavaScript" in notes.first.inner_text()
    field = page.locator("#roi-hourly_rate")
    assert field.get_attribute("readonly") is not None
    context.close()
