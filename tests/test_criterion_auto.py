"""What ranks by default: block influence, or where much goes each unit's cost when compensated."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from srinit.observer import Silent
from srinit.pipeline import estimate, start
from srinit.pipeline.sizes import criterion_of
from srinit.runs.artifacts import PLAN
from test_estimate import config
from test_run_without_training import project  # noqa: F401


@pytest.mark.parametrize(
    ("plan", "more", "expected"),
    [
        ({"flops": 0.63}, {}, "block_influence"),  # 10 of 27
        ({"flops": 0.45}, {}, "compensated_distance"),  # 15 of 27
        ({"latency": 0.4}, {}, "compensated_distance"),
        ({"latency": 4.0}, {}, "block_influence"),  # milliseconds: how much that is, is unknown
        ({"max_drop": 0.1}, {}, "block_influence"),
        ({"flops": 0.3, "trial_examples": 0}, {}, "block_influence"),
        ({"flops": 0.3}, {"compensate": {"method": "none"}}, "block_influence"),
        ({"flops": 0.3, "criterion": "taylor"}, {}, "taylor"),
    ],
)
def test_deep_cuts_are_ranked_by_trials_unless_told_otherwise(
    plan: dict[str, Any], more: dict[str, Any], expected: str
) -> None:
    assert criterion_of(config(plan=plan, **more), 27) == expected


def test_trials_that_rank_are_counted_without_steps_of_training() -> None:
    tried = config(plan={"flops": 0.4, "trial_examples": 100, "trial_steps": 3})
    read, trained = estimate.trial_examples(tried, 2, calibration=1000)
    more, same = estimate.trial_examples(tried, 2, calibration=1000, ranked=4)
    assert more > read
    assert same == trained


def test_a_plan_for_a_deep_cut_says_that_trials_ranked(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    shutil.copytree(request.getfixturevalue("project"), tmp_path / "p")
    changed = ["plan.remove=[]", "plan.flops=0.4", f"out={tmp_path / 'runs'}"]
    with start.create_run(tmp_path / "p" / "srinit.yaml", changed, Silent()) as runner:
        assert runner.get(PLAN).criterion == "compensated_distance"
