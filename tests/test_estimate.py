"""What `--dry-run` counts before a run: trials, rounds, and the units that will go."""

from typing import Any

import pytest

from srinit.config import Config
from srinit.pipeline import estimate


def config(**sections: Any) -> Config:
    return Config.model_validate(
        {
            "model": {"source": "timm:resnet18"},
            "data": {"source": "folder:data", "split": {"calibration": 0.5, "test": 0.5}},
            **sections,
        }
    )


@pytest.mark.parametrize(
    ("plan", "removed"),
    [
        ({"flops": 0.7}, 6),
        ({"flops": 0.7, "params": 0.4}, 12),
        ({"latency": 0.9, "remove": ["a", "b", "c"]}, 3),
        ({"remove": ["a", "b"]}, 2),
        ({"max_drop": 0.1}, 20),
        ({"flops": 0.01}, 20),
    ],
)
def test_a_target_says_about_how_many_units_will_go(plan: dict[str, Any], removed: int) -> None:
    assert estimate.num_removed(config(plan=plan), 20) == removed


@pytest.mark.parametrize(
    ("prune", "rounds"),
    [
        ({}, 1),
        ({"rounds": 3}, 3),
        ({"step": {"units": 4}}, 3),
        ({"step": {"flops": 0.2}}, 3),
        ({"step": {"units": 50}}, 1),
    ],
)
def test_rounds_are_counted(prune: dict[str, Any], rounds: int) -> None:
    assert estimate.num_rounds(config(plan={"flops": 0.5}, prune=prune), 10, 20) == rounds


def test_every_trial_is_counted_with_its_reference_and_its_steps() -> None:
    tried = config(
        plan={"flops": 0.5, "trial_examples": 100, "trial_steps": 3},
    )
    # alone: two units; together: the pair; each as it was cut and compensated; two references
    fits = 3 * 12
    found = estimate.trial_examples(tried, 2, calibration=1000, batch=8)
    assert found == (8 * 100 + fits * 32, 3 * 3 * 8)
    assert estimate.trial_examples(tried, 2, calibration=10)[0] == 8 * 10 + fits * 3
    plain = tried.model_copy(
        update={"compensate": tried.compensate.model_copy(update={"method": "none"})}
    )
    assert estimate.trial_examples(plain, 2, calibration=1000)[0] == 5 * 100


def test_without_trials_nothing_is_counted() -> None:
    none = config(plan={"flops": 0.5, "trial_examples": 0})
    assert estimate.trial_examples(none, 10, calibration=1000) == (0, 0)
