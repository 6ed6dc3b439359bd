"""The network as a graph: every block is drawn as what became of it, with its share."""

from __future__ import annotations

import dataclasses
import html
import re

import pytest

from report_run import RUN
from srinit.report import ReportInput, load_report_input
from srinit.report.network import network_view
from srinit.report.text import Translator


@pytest.fixture(scope="module")
def found() -> ReportInput:
    return load_report_input(RUN)


def blocks(drawing: str) -> dict[str, tuple[str, str]]:
    """Return what became of each block, and its share as it is written."""
    named = re.findall(r"<path class=(\w+) [^>]*><title>([^<]*): ([^<]*)</title>", drawing)
    return {html.unescape(name): (kind, share) for kind, name, share in named}


def test_every_block_is_drawn_as_what_became_of_it(found: ReportInput) -> None:
    view = network_view(found, Translator())
    assert view is not None
    units = found.sensitivity.unit_map
    drawn = blocks(str(view.drawing))
    gone = {name for name, (kind, _) in drawn.items() if kind == "gone"}
    assert gone == set(found.plan.names) != set()
    assert len(drawn) == len(units.removable) + len(units.locked)
    for name, (_, share) in drawn.items():
        if name in units.names:
            assert share == f"{100 * units[name].params / units.params:.1f}%"
    assert "<b>" not in view.drawing  # a name is text


def test_shares_of_all_stages_and_the_rest_make_the_network(found: ReportInput) -> None:
    view = network_view(found, Translator(("en",)))
    assert view is not None
    assert view.rest is not None
    stages = re.findall(r'<text class=dim [^>]*y="[\d.]+">([\d.]+)%', str(view.drawing))
    rest = float(re.match(r"([\d.]+)%", view.rest.en)[1])  # type: ignore[index]
    assert sum(map(float, stages)) + rest == pytest.approx(100, abs=0.1 * (len(stages) + 1))


def test_blocks_inside_blocks_are_counted_not_drawn(found: ReportInput) -> None:
    units = found.sensitivity.unit_map
    outer = units.removable[0]
    inner = dataclasses.replace(outer, name=f"{outer.name}.conv")
    more = dataclasses.replace(units, removable=(*units.removable, inner))
    changed = dataclasses.replace(
        found, sensitivity=dataclasses.replace(found.sensitivity, unit_map=more)
    )
    view, before = (network_view(report, Translator(("en",))) for report in (changed, found))
    assert view is not None
    assert before is not None
    assert view.drawing == before.drawing
    assert before.inside is None
    assert view.inside is not None
    assert "1 parts" in view.inside.en


def test_a_network_without_units_has_no_drawing(found: ReportInput) -> None:
    units = dataclasses.replace(found.sensitivity.unit_map, removable=(), locked=())
    none = dataclasses.replace(
        found, sensitivity=dataclasses.replace(found.sensitivity, unit_map=units)
    )
    assert network_view(none, Translator()) is None
