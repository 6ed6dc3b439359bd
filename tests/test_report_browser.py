"""The page in a real browser: what it computes, that it asks for nothing, that all can use it."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import report_browser
from report_run import CLASSES, HOSTILE, with_all_gates, with_costs
from srinit.report import (
    ReportInput,
    RoiInputs,
    return_on_investment,
    write_report,
)
from srinit.report import formats as fmt
from srinit.report.layers import layers_view, plan_command
from srinit.report.roi import facts_of
from srinit.report.text import Language, Translator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        report_browser.chromium() is None,
        reason="no Chromium (apt-get install chromium fonts-noto-cjk)",
    ),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed"),
]
PHONE, LAPTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
CODES: tuple[Language, ...] = ("ja", "en")


@contextmanager
def opened(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """Yield the page; fail if it asked for anything, said anything on the console, or raised."""
    context = browser.new_context(viewport=options.pop("viewport", LAPTOP), **options)
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))

    def asked(request: Any) -> None:
        if request.url != url and not request.url.startswith("data:"):
            trouble.append(f"request: {request.url}")

    page.on("request", asked)
    try:
        page.goto(url)
        yield page
        assert trouble == []
    finally:
        context.close()


def speak(page: Any, code: Language) -> None:
    page.locator(f"label[for=lang-{code}]").click()


def test_slider_shows_at_every_step_what_python_computed(
    browser: Any, url: str, report_input: ReportInput
) -> None:
    plan = report_input.plan
    view = layers_view(report_input, Translator())
    with opened(browser, url) as page:
        slider = page.locator("#slider")
        assert int(slider.get_attribute("max")) == len(plan.ranking)
        for count, (step, prefix) in enumerate(zip(view.steps, plan.prefixes, strict=True)):
            slider.fill(str(count))
            shown = {
                name: page.locator(f'[data-out="{name}"]').inner_text().split()
                for name in ("num", "params", "flops")
            }
            assert shown["num"] == [str(count)]
            assert shown["params"][0] == f"{prefix.params:,}"
            assert shown["flops"][0] == f"{prefix.flops:,}"
            for index, size in enumerate(view.batches):
                text = page.locator(f'[data-out="latency{index}"]').inner_text()
                assert prefix.latency_ms is not None
                assert text.startswith(fmt.milliseconds(prefix.latency_ms[size]))
                assert step.latency[index].state == "measured"
            gone = page.locator(".unit.gone .name, .unit.would .name")
            names = gone.evaluate_all("nodes => nodes.map(n => n.firstChild.textContent)")
            assert set(names) == set(plan.ranking[:count])
            command = page.locator("#command").inner_text()
            assert command == plan_command(report_input.run, plan.ranking[:count])
        page.locator("#slider-back").click()
        assert slider.input_value() == str(len(plan.remove))


def test_slider_works_by_keyboard_and_says_its_value(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        slider = page.locator("#slider")
        slider.focus()
        page.keyboard.press("Home")
        assert slider.input_value() == "0"
        page.keyboard.press("ArrowRight")
        assert slider.input_value() == "1"
        assert slider.get_attribute("aria-valuetext").startswith("1; ")


@pytest.mark.parametrize("code", CODES)
def test_language_switch_shows_one_language_and_names_it(
    browser: Any, url: str, code: Language
) -> None:
    other = "en" if code == "ja" else "ja"
    with opened(browser, url) as page:
        speak(page, code)
        assert page.evaluate("document.documentElement.lang") == code
        assert page.locator(f"[lang={other}]:visible").count() == 0
        assert page.locator(f"[lang={code}]:visible").count() > 50
        assert page.title().startswith("モデル" if code == "ja" else "Model")
        text = page.locator("body").inner_text()
        kana = re.findall(r"[ぁ-んァ-ヶ]", text.replace("日本語", ""))
        assert (len(kana) > 500) if code == "ja" else kana == []


def test_page_without_scripts_shows_everything_and_still_switches_language(
    browser: Any, url: str
) -> None:
    with opened(browser, url, java_script_enabled=False) as page:
        text = page.locator("body").inner_text()
        assert "NO-GO" in text or "GO" in text
        assert page.locator("#slider").is_hidden()
        assert page.locator("#steps tbody tr").count() > 1
        speak(page, "en")
        assert page.locator("#h-layers").inner_text() == "Which layers were removed"
        page.locator("label[for=by-drop]").click()
        rows = page.locator(".units .unit[data-rank]")
        tops = {
            rows.nth(i).get_attribute("id"): rows.nth(i).bounding_box()["y"]
            for i in range(rows.count())
        }
        drops = {
            rows.nth(i).get_attribute("id"): float(rows.nth(i).locator(".bar b").first.inner_text())
            for i in range(rows.count())
        }
        by_place = [drops[key] for key in sorted(tops, key=lambda key: tops[key])]
        assert by_place == sorted(by_place)


MONEY = (
    "compute_saving", "takt_gain", "device_saving", "missed_cost", "reject_cost", "saving",
)  # fmt: skip


def money_inputs(count: int) -> list[dict[str, float | None]]:
    """Return inputs as people type them: some missing, some zero, some large."""
    chance = random.Random(0)
    ranges = {
        "pieces_per_year": (1e5, 1e8), "cost_per_compute_hour": (1, 5000),
        "device_price": (1e5, 5e6), "device_years": (1, 10), "device_hours_per_year": (500, 8760),
        "cheaper_device_price": (1e4, 5e5), "devices": (1, 20), "line_hour_value": (0, 1e5),
        "engineering_hours": (1, 500), "hourly_rate": (1000, 20000),
        "missed_defect_cost": (0, 1e6), "false_reject_cost": (0, 1e4), "defect_share": (0, 1),
    }  # fmt: skip

    above_zero = ("device_years", "device_hours_per_year", "defect_share")

    def pick(key: str) -> float | None:
        kind = chance.random()
        if kind < 0.2:
            return None
        zero = kind < 0.25 and key not in above_zero  # the config refuses those
        return 0.0 if zero else float(f"{chance.uniform(*ranges[key]):.4g}")

    return [{key: pick(key) for key in ranges} for _ in range(count)]


def amounts(page: Any, given: dict[str, float | None], *, by_hand: bool) -> dict[str, Any]:
    """Type inputs, by hand or (quicker) as the events of typing, and return what the page shows."""
    typed = {n: "" if value is None else f"{value:.10g}" for n, value in given.items()}
    if by_hand:
        for name, value in typed.items():
            page.locator(f"#roi-{name}").fill(value)
    return page.evaluate(
        """typed => {
            for (const [name, value] of Object.entries(typed)) {
                const field = document.getElementById("roi-" + name);
                field.value = value;
                field.dispatchEvent(new Event("input", {bubbles: true}));
            }
            const shown = kind => Object.fromEntries(
                [...document.querySelectorAll(`[${kind}]`)].map(
                    node => [node.getAttribute(kind), node.innerText]));
            return {value: shown("data-roi"), range: shown("data-roi-range")};
        }""",
        {} if by_hand else typed,
    )


@pytest.mark.parametrize("code", CODES)
def test_return_on_investment_by_a_cost_matrix_equals_python(
    browser: Any, report_input: ReportInput, code: Language, tmp_path: Path
) -> None:
    report = with_costs(report_input)
    facts = facts_of(report.comparison, report.roi)
    url = write_report(report, tmp_path).as_uri()
    with opened(browser, url) as page:
        speak(page, code)
        assert page.locator("#roi-missed_defect_cost").count() == 0
        for number, full in enumerate(money_inputs(12)):
            hidden = ("missed_defect_cost", "false_reject_cost", "defect_share")
            given = {name: value for name, value in full.items() if name not in hidden}
            shown = amounts(page, given, by_hand=number == 0)
            roi = return_on_investment(RoiInputs(**given), facts)  # type: ignore[arg-type]
            for key in ("compute_saving", "takt_gain", "device_saving", "error_cost", "saving"):
                value = getattr(roi, key)
                want = fmt.money(None if value is None else value.value, "JPY").of(code)
                assert shown["value"][key] == want, (key, given)
            even = roi.break_even_miss_rate
            want = fmt.rate(even.value if even else None)
            assert shown["value"]["break_even_miss_rate"] == want, given
            if even is not None:
                found = shown["range"]["break_even_miss_rate"]
                assert found == fmt.ends(fmt.rate(even.low), fmt.rate(even.high)).of(code), given


@pytest.mark.parametrize("code", CODES)
def test_return_on_investment_in_the_page_equals_python(
    browser: Any, url: str, report_input: ReportInput, code: Language
) -> None:
    facts = facts_of(report_input.comparison, report_input.roi)
    with opened(browser, url) as page:
        speak(page, code)
        for number, given in enumerate(money_inputs(25)):
            shown = amounts(page, given, by_hand=number == 0)
            roi = return_on_investment(RoiInputs(**given), facts)  # type: ignore[arg-type]
            for key in MONEY:
                value = getattr(roi, key)
                want = fmt.money(None if value is None else value.value, "JPY").of(code)
                assert shown["value"][key] == want, (key, given)
                if value is not None:
                    ends = [fmt.money(end, "JPY").of(code) for end in (value.low, value.high)]
                    found = shown["range"][key]
                    low, high = ends
                    assert found == fmt.ends(low, high).of(code)
            payback = roi.payback_years
            want = fmt.years(payback.value if payback else None).of(code)
            assert shown["value"]["payback_years"] == want, given
            want = fmt.money(roi.one_off, "JPY").of(code)
            assert shown["value"]["one_off"] == want
            even = roi.break_even_miss_rate
            want = fmt.rate(even.value if even else None)
            assert shown["value"]["break_even_miss_rate"] == want, given
            if even is not None:
                found = shown["range"]["break_even_miss_rate"]
                assert found == fmt.ends(fmt.rate(even.low), fmt.rate(even.high)).of(code), given


def test_amounts_do_not_change_when_the_page_computes_them_anew(browser: Any, url: str) -> None:
    read = "[...document.querySelectorAll('[data-roi],[data-roi-range]')].map(n => n.innerText)"
    with opened(browser, url, java_script_enabled=False) as page:
        written = page.locator("[data-roi],[data-roi-range]").all_inner_texts()
    with opened(browser, url, locale="ja-JP") as page:
        page.locator("#roi-pieces_per_year").dispatch_event("input")
        assert page.evaluate(read) == written


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("code", CODES)
def test_axe_finds_no_violation(browser: Any, url: str, code: Language, scheme: str) -> None:
    spec = find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-playwright-python is not installed")
    source = (Path(spec.origin).parent / "axe.min.js").read_text("utf-8")
    for viewport in (LAPTOP, PHONE):
        with opened(browser, url, viewport=viewport, color_scheme=scheme, bypass_csp=True) as page:
            speak(page, code)
            for summary in page.locator("summary").all():
                summary.click()
            page.evaluate(source)
            # All violations; of what passes, no list of nodes (most of the time).
            found = page.evaluate("axe.run({resultTypes: ['violations'], selectors: false})")
            assert [
                (v["id"], v["help"], [n["html"][:120] for n in v["nodes"][:3]])
                for v in found["violations"]
            ] == []


@pytest.mark.parametrize("code", CODES)
def test_phone_needs_no_sideways_scrolling(browser: Any, url: str, code: Language) -> None:
    with opened(browser, url, viewport={"width": 320, "height": 640}) as page:
        speak(page, code)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("code", CODES)
def test_print_has_the_first_page_on_one_sheet_and_all_text(
    browser: Any, report_input: ReportInput, code: Language, tmp_path: Path
) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext (apt-get install poppler-utils)")
    target = tmp_path / "report.pdf"
    found = replace(with_all_gates(with_costs(report_input)), seal="5e" * 32)  # all figures
    url = write_report(found, tmp_path / "report").as_uri()
    with opened(browser, url) as page:
        speak(page, code)
        page.pdf(path=str(target), prefer_css_page_size=True, print_background=True)
    text = subprocess.run(
        ["pdftotext", "-layout", str(target), "-"], capture_output=True, check=True, text=True
    ).stdout
    pages = text.split("\f")
    say = Translator()
    signature, layers = say("sign.approved").of(code), say("section.layers").of(code)
    assert signature in pages[0]
    assert say("figure.error_cost").of(code).split(maxsplit=1)[0] in pages[0]
    assert layers not in pages[0]
    assert layers in pages[1]
    for key in ("compare", "explanations", "money", "provenance"):
        assert any(say(f"section.{key}").of(code) in page for page in pages[1:]), key
    assert HOSTILE.split()[0] in text


def test_hostile_names_stay_text(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("main b:text-is('1')").count() == 0
        body = page.locator("body").inner_text()
        assert all(name in body for name in CLASSES.values())
        facts = page.locator("#roi-facts").text_content()
        assert json.loads(facts)["miss_rate"] is not None


def test_policy_refuses_scripts_styles_and_requests_that_are_not_the_page_s(
    browser: Any, url: str
) -> None:
    page = browser.new_page()
    page.goto(url)
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
        "document.body.append(s); }"
    )
    assert page.evaluate("window.bad === undefined")
    fetched = page.evaluate("fetch('data:text/plain,x').then(() => 'allowed', () => 'refused')")
    assert fetched == "refused"
    page.close()
