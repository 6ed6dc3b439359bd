"""What 1,000 answers cost: the arithmetic, the memory, the untouched model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from srinit import inference_cost
from srinit.inference_cost import measure_inference_cost


def test_peak_memory_is_weights_and_what_lives_at_once() -> None:
    model = nn.Sequential(nn.Linear(8, 100), nn.ReLU(), nn.Linear(100, 4))
    found = measure_inference_cost(model, torch.zeros(1, 8), batch_size=10, seconds=0.0)
    weights = 4 * (8 * 100 + 100 + 100 * 4 + 4)
    hidden, answers = 4 * 10 * 100, 4 * 10 * 4
    # the ReLU's input and output live at once; nothing else of that size does
    assert found.peak_bytes in (weights + 2 * hidden, weights + 2 * hidden + answers)


def test_energy_is_processor_time_times_stated_watts_without_rapl(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(inference_cost, "RAPL", tmp_path / "nothing")
    model = nn.Conv2d(3, 8, 3).train()
    found = measure_inference_cost(
        model, torch.zeros(2, 3, 16, 16), batch_size=4, watts_per_core=36.0, seconds=0.05
    )
    assert found.energy_wh_per_1000 == pytest.approx(found.processor_seconds_per_1000 / 100)
    assert found.energy_method == "processor time x 36 W a core, stated"
    assert model.training
    counter = tmp_path / "energy_uj"
    counter.write_text("7000000\n")
    monkeypatch.setattr(inference_cost, "RAPL", counter)
    calls = 0
    forward = model.forward

    def counted(inputs: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        counter.write_text(str(7_000_000 + calls * 3_600_000))
        return forward(inputs)

    monkeypatch.setattr(model, "forward", counted)
    found = measure_inference_cost(model, torch.zeros(1, 3, 16, 16), batch_size=1, seconds=0.0)
    assert found.energy_wh_per_1000 == pytest.approx(1.0)  # 3.6 J a call
    assert found.energy_method.startswith("RAPL")
