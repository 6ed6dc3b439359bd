"""Puts the page together: one HTML file that asks nothing of anybody."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from srinit.report import formats as fmt
from srinit.report.acceptance import criteria_rows
from srinit.report.alternatives import alternatives_view
from srinit.report.data import ReportInput
from srinit.report.decision import decide
from srinit.report.differences import differences_view
from srinit.report.explanations import data_uri, explanations_view, small
from srinit.report.figures import headline
from srinit.report.int8 import int8_view
from srinit.report.justification import justification_view
from srinit.report.layers import cut_view, layers_view
from srinit.report.money import money_view
from srinit.report.network import network_view
from srinit.report.prose import prose
from srinit.report.provenance import provenance_view
from srinit.report.rounds import Rounds, rounds_view
from srinit.report.text import LANGUAGES, Language, LocalizedText, Translator
from srinit.report.times import times_view
from srinit.report.worse import worse_view

SECTIONS = ("decision", "layers", "compare", "explanations", "money", "provenance")
"""The sections of the page, in order: `templates/NAME.html.j2`, titled `section.NAME`."""


def render(report: ReportInput, languages: Sequence[Language] = LANGUAGES) -> str:
    """Return the page as HTML.

    Scripts and styles are inline and named by their hashes in the content security policy;
    nothing else may run, and nothing may be fetched.

    Args:
        report: What it is made from.
        languages: The first is shown when the page opens; with one only there is no switch.
    """
    say = Translator(languages, wording=report.wording)
    layers, rounds = layers_view(report, say), rounds_view(report, say)
    style = tight(asset("page.css") + _order_rules(layers.rows))
    script = asset("page.js")
    environment = Environment(
        loader=PackageLoader("srinit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: say.pick(value) if isinstance(value, LocalizedText) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        say=say,
        fmt=fmt,
        prose=prose,
        uri=data_uri,
        small=small,
        first=say.languages[0],
        languages=say.languages,
    )
    context: dict[str, Any] = {
        "report": report,
        "language_set": tuple(languages) != LANGUAGES,
        "style": Markup(style),
        "script": Markup(script),
        "style_hash": content_hash(style),
        "script_hash": content_hash(script),
        "decision": decide(report, say),
        "criteria": criteria_rows(report, say),
        "worse": worse_view(report, say),
        "figures": headline(report, say),
        "layers": layers,
        "network": network_view(report, say),
        "money": money_view(report, say),
        "sections": SECTIONS,
        "differences": differences_view(report, say),
        "justification": justification_view(report, say),
        "rounds": rounds,
        "times": times_view(report, say),
        "int8": int8_view(report, say),
        "alternatives": alternatives_view(report, say),
        "explanations": explanations_view(report, say),
        "provenance": provenance_view(report, say),
        "sources": _sources(report, rounds),
        "cut": cut_view(report, layers.rows, say),
    }
    return environment.get_template("page.html.j2").render(context)


def _sources(report: ReportInput, rounds: Rounds) -> list[str]:
    """Return the files behind the comparison, relative to the run folder."""
    last = f"rounds/{report.last.number:02d}" if report.last else "rounds/01"
    names = ("comparison", "gate", "tune", "metrics", "shift", "site", "ownership")
    found = [f"{last}/{name}.json" for name in names]
    found += [
        f"{last}/predictions.npz",
        "baseline/metrics.json",
        "export/export.json",
        "export/int8.json",
        "export/alternatives.json",
    ]
    found += ["rounds/outcome.json", *(path for row in rounds.rows for path in row.sources)]
    return list(dict.fromkeys(found))


def asset(name: str) -> str:
    """Return a file of the package, its lines without indentation: the page is to be small."""
    text = files("srinit.report").joinpath(name).read_text("utf-8")
    lines = (line.strip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))


def tight(style: str) -> str:
    """Return style rules without what no browser reads: line ends and last semicolons."""
    return re.sub(r"\s*([{};])\s*", r"\1", style).replace(";}", "}")


def content_hash(text: str) -> str:
    """Return the hash of a style or script as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _order_rules(rows: Sequence[Any]) -> str:
    """Return the style rules that put the units in the order of their drop, or of removal."""
    places = "".join(f"#u{row.depth}{{--d:{row.order};--p:{row.place}}}" for row in rows)
    chosen = (("by-drop", "d"), ("by-place", "p"))
    orders = (f":root:has(#{key}:checked) .unit[id]{{order:var(--{var})}}" for key, var in chosen)
    return "\n".join([places, *orders, ""])
