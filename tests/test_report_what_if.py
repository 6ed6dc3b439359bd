"""The slider in a real browser: what was only tried is never called removed, nor printed."""

from __future__ import annotations

from typing import Any

from srinit.report import ReportInput
from test_report_browser import opened, pytestmark, speak

__all__ = ["pytestmark"]


def names(page: Any, kind: str) -> set[str]:
    found = page.locator(f".unit.{kind} .name")
    return set(found.evaluate_all("nodes => nodes.map(n => n.firstChild.textContent)"))


def marks(page: Any, kind: str) -> set[str]:
    found = page.locator(f".unit.{kind} .name")
    read = "nodes => nodes.map(n => getComputedStyle(n, '::after').content)"
    return set(found.evaluate_all(read))


def test_a_row_that_stays_is_never_called_removed(
    browser: Any, url: str, report_input: ReportInput
) -> None:
    plan = report_input.plan
    with opened(browser, url) as page:
        speak(page, "en")
        assert not page.locator("#what-if").is_visible()
        page.locator("#slider").fill(str(len(plan.ranking)))
        assert names(page, "gone") == set(plan.names)
        assert names(page, "would") == set(plan.ranking) - set(plan.names)
        assert marks(page, "would") == {'"what if: would go"'}
        assert page.locator("#what-if").is_visible()
        page.locator("#slider").fill("0")
        assert names(page, "stays") == set(plan.names)
        assert marks(page, "stays") == {'"what if: would stay"'}
        page.locator("#slider-back").click()
        assert names(page, "gone") == set(plan.names)
        assert not page.locator("#what-if").is_visible()


def test_paper_shows_the_plan_that_was_carried_out(
    browser: Any, url: str, report_input: ReportInput
) -> None:
    with opened(browser, url) as page:
        page.locator("#slider").fill(str(len(report_input.plan.ranking)))
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert names(page, "gone") == set(report_input.plan.names)
        assert names(page, "would") == set()
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert page.locator("#slider").input_value() == str(len(report_input.plan.ranking))
