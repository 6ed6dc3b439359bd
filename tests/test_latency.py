"""Latency: fair between two networks, and said with what it was measured."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from srinit import latency

SIZES: set[int] = set()


class Sleeper(nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        SIZES.add(len(x))  # not in the network: what a forward changes of that is put back
        assert not self.training
        return x


def test_a_network_that_takes_twice_as_long_has_a_ratio_of_two() -> None:
    SIZES.clear()
    one, other = Sleeper(0.02), Sleeper(0.01)
    pair = latency.measure_latency_pair(one, other, torch.zeros(2, 3), batch_size=5, repeats=9)
    assert 0.4 < pair.ratio.known < 0.7
    assert pair.ratio.low <= pair.ratio.known <= pair.ratio.high
    assert {5} == SIZES
    assert pair.baseline.repeats == 9
    assert one.training


def test_slow_networks_are_called_less_often_but_often_enough() -> None:
    found = latency.measure_latency(Sleeper(0.4), torch.zeros(2, 3), repeats=100)
    assert found.repeats == latency.MIN_REPEATS
    assert found.low_ms <= found.median_ms <= found.high_ms


def test_a_batch_is_cut_or_repeated_to_size() -> None:
    tree = {"x": torch.arange(3), "scale": torch.tensor(2.0)}
    assert latency.resized(tree, 5)["x"].tolist() == [0, 1, 2, 0, 1]
    assert latency.resized(tree, 2)["x"].tolist() == [0, 1]
    assert latency.resized(tree, 2)["scale"].item() == 2.0
