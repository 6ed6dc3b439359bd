"""Pictures of the report: enlarged by mouse and keyboard, and said what they are and how near."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import pytest

import report_browser
from report_run import RUN
from srinit.report import load_report_input
from srinit.report.explanations import explanations_view
from srinit.report.text import Translator


@pytest.mark.skipif(report_browser.chromium() is None, reason="no Chromium")
@pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed")
@pytest.mark.slow
def test_a_picture_is_enlarged_by_enter_named_and_put_back_by_escape(
    browser: Any, url: str
) -> None:
    page = browser.new_page()
    page.goto(f"{url}#lang=en")
    picture, dialog = page.locator("#explanations .view img").first, page.locator("#enlarged")
    assert page.locator("#can-enlarge").is_visible()
    assert dialog.is_hidden()
    picture.focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    assert dialog.locator("img").get_attribute("src") == picture.get_attribute("src")
    assert dialog.locator("img").bounding_box()["width"] > 2 * picture.bounding_box()["width"]
    assert "Original" in page.locator("#enlarged-title").inner_text()
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    names = page.locator("#explanations [role=button]").evaluate_all("all => all.map(n => n.alt)")
    assert len(names) > 4
    assert all(names)
    page.close()


def test_what_remains_between_aligned_maps_is_their_distance() -> None:
    report = load_report_input(RUN)
    assert report.pictures is not None
    found = report.pictures.projection
    assert found is not None
    said = explanations_view(report, Translator(("en",))).remains
    assert said is not None
    pairs = list(zip(found.baseline, found.pruned, strict=True))
    apart = sum(math.dist(one, other) ** 2 for one, other in pairs)
    radius = sum(math.hypot(*one) ** 2 for one, _ in pairs)
    assert f"lies {100 * math.sqrt(apart / radius):.0f}% of" in said.en
