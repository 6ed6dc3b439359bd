"""Long runs: memory stays flat over thousands of rounds and steps."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from planted import Planted, batches_of, planted_data, units_of
from srinit.finetune import Recipe, fine_tune
from srinit.sensitivity import measure_sensitivity

ALLOWED = 12 << 20  # bytes that allocators may keep for themselves


def resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Notes the memory in use after a number of calls, and at the end."""

    def __init__(self, *at: int) -> None:
        self.at, self.calls, self.found = at, 0, {}

    def __call__(self, *_: object) -> None:
        self.calls += 1
        if self.calls in self.at:
            self.found[self.calls] = resident()

    @property
    def growth(self) -> int:
        return self.found[self.at[-1]] - self.found[self.at[0]]


@pytest.mark.slow
def test_two_thousand_rounds_of_a_scan_take_no_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk has no part in this
    x, target = planted_data(1000)
    data = batches_of(x.repeat(9, 1), target.repeat(9), size=4)[:2100]
    watch = Watch(400, 1200, 2000)
    model = Planted()
    measure_sensitivity(
        model, units_of(model, "blocks.0", "head"), data, scheme="default", half_width=1e-4,
        batch_size=4, journal=tmp_path / "observations.jsonl", on_progress=watch,
    )  # fmt: skip
    assert watch.calls >= 2000
    assert watch.growth < ALLOWED, watch.found


@pytest.mark.slow
def test_five_hundred_steps_of_training_take_no_more_memory(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))
    teacher = Planted()
    train = batches_of(*planted_data(1000), size=20)
    watch = Watch(100, 300, 500)
    fine_tune(
        model, train, train[:2], teacher=teacher, recipe=Recipe(epochs=10, ema=0.9),
        state=tmp_path / "state", on_progress=watch,
    )  # fmt: skip
    assert watch.calls == 500
    assert watch.growth < ALLOWED, watch.found


def test_the_watch_would_notice() -> None:
    watch, kept = Watch(1, 2), []
    watch()
    kept.append(torch.ones(32 << 20))  # too large for room that others left in the heap
    watch()
    assert watch.growth > ALLOWED
    assert kept
