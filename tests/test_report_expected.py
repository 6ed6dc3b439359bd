"""The loss that a position of the slider is expected to cost: what was tried, and nothing else."""

from __future__ import annotations

import dataclasses
import re

import pytest

from report_run import RUN
from srinit.plan import TrialEvidence
from srinit.records import Interval
from srinit.report import ReportInput, load_report_input
from srinit.report.expected import expected_loss
from srinit.report.page import render
from srinit.report.text import Translator
from srinit.runs.records import RoundsOutcome


def tried(found: ReportInput, *costs: float | None) -> ReportInput:
    """Return the run with other joint costs of its removals."""
    plan = found.plan
    remove = []
    for removal, cost in zip(plan.remove, costs, strict=True):
        joint = None
        if cost is not None:
            interval = Interval(value=cost, low=cost - 0.02, high=cost + 0.03, confidence=0.95)
            joint = TrialEvidence(cost=interval, num_examples=200)
        evidence = dataclasses.replace(removal.evidence, joint=joint)
        remove.append(dataclasses.replace(removal, evidence=evidence))
    ranking = (*plan.names, *(name for name in plan.ranking if name not in plan.names))
    return dataclasses.replace(
        found, plan=dataclasses.replace(plan, remove=tuple(remove), ranking=ranking)
    )


@pytest.fixture(scope="module")
def found() -> ReportInput:
    return load_report_input(RUN)


def test_every_position_shows_what_was_tried_with_its_band_and_no_other_shows_a_number(
    found: ReportInput,
) -> None:
    report = tried(found, 0.01, None, 0.034)
    page = render(report, ("en",))
    rows = re.findall(r"<tr[^>]*><th scope=row>(\d+)</th>(.*?)</tr>", page, flags=re.S)
    cells = [re.findall(r"<td.*?>(.*?)</td>", row, flags=re.S)[2] for _, row in rows]
    said = [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in cells]
    assert said[:4] == [
        "0.0 points",
        "1.0 points [−1.0, 4.0]",
        "not measured",
        "3.4 points [1.4, 6.4]",
    ]
    assert set(said[4:]) == {"not measured"}
    assert "Beyond 3 nothing was tried" in page
    assert 'class="band c3"' in page


def test_positions_of_other_networks_or_orders_are_left_out(found: ReportInput) -> None:
    say = Translator()
    report = tried(found, 0.01, 0.02, 0.03)
    assert expected_loss(report, say) is not None
    assert expected_loss(tried(found, None, None, None), say) is None
    turned = dataclasses.replace(report.plan, ranking=report.plan.ranking[::-1])
    assert expected_loss(dataclasses.replace(report, plan=turned), say) is None
    outcome = RoundsOutcome(delivered=2, accepted=True, reason="")
    rounds = dataclasses.replace(report, outcome=outcome, rounds=2 * report.rounds)
    assert expected_loss(rounds, say) is None  # the second round tried another network
