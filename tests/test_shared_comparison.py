"""Outcomes and shift that several processes share are those of one; played one after another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srinit.comparison import compare, measure_robustness, shared_outcomes
from srinit.comparison.together import every
from srinit.errors import DataError
from srinit.evaluate import Outcomes, evaluate
from srinit.rng import generator, isolated_rng
from srinit.sources import load_data


class SaidError(Exception):
    """What one process hands to the others."""


class Played:
    """One of several processes: first each says what it has, then each hears all of them."""

    def __init__(self, rank: int, count: int, said: list[Any] | None = None) -> None:
        self.rank, self.count, self._said = rank, count, list(said or [])

    def gather(self, value: Any) -> list[Any]:
        if not self._said:
            raise SaidError(value)
        told: list[Any] = self._said.pop(0)
        assert told[self.rank] == value
        return told

    gather_bytes = gather

    def together(self, work: Callable[[], Any]) -> Any:
        return work()

    def mine(self, items: Sequence[Any]) -> list[tuple[int, Any]]:
        return [(i, items[i]) for i in range(self.rank, len(items), self.count)]


def played(work: Callable[[Any], Any], count: int) -> list[Any]:
    """Return what every process comes to."""
    said: list[Any] = []
    while True:
        told, found = [], []
        for rank in range(count):
            try:
                found.append(work(Played(rank, count, said)))
            except SaidError as error:
                told.append(error.args[0])
        if found:
            return found
        said.append(told)


def network() -> nn.Module:
    with isolated_rng(2):
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()


def batches(sizes: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    random = generator("shared")
    return [
        (torch.randn(n, 12, generator=random), torch.randint(3, (n,), generator=random))
        for n in sizes
    ]


def same(one: Outcomes, other: Outcomes) -> bool:
    return all(
        np.array_equal(value, getattr(other, key)) and value.dtype == getattr(other, key).dtype
        for key, value in vars(one).items()
    )


@pytest.mark.parametrize("sizes", [[4, 4, 4, 4, 1], [3, 5], [7]])
def test_outcomes_stand_in_the_order_of_the_data_whoever_measured_them(sizes: list[int]) -> None:
    model, data = network(), batches(sizes)
    wanted = evaluate(model, data)
    for found in played(lambda r: shared_outcomes(model, every(data), ranks=r), 3):
        assert same(found, wanted)


def test_scores_without_classes_are_shared_too() -> None:
    model, data = network(), [(x, torch.stack([y, y], 1).float()) for x, y in batches([4, 4, 2])]

    def near(output: Any, target: Any) -> Tensor:
        return 1 / (1 + (output[:, :2] - target).pow(2).sum(1))

    wanted = evaluate(model, data, scorer=near)
    assert len(wanted.predictions) == 0
    for found in played(lambda r: shared_outcomes(model, every(data), scorer=near, ranks=r), 2):
        assert same(found, wanted)


def test_no_example_in_any_process_is_said() -> None:
    with pytest.raises(DataError, match="no example"):
        played(lambda r: shared_outcomes(network(), every([]), ranks=r), 2)


def test_a_comparison_and_its_shift_are_the_same_in_all_processes() -> None:
    one, data = network(), batches([5, 5, 3])
    other = copy.deepcopy(one)
    with torch.no_grad():
        other[1].weight[0] = 0.0
    wanted = compare(one, other, data)
    assert wanted.lost
    assert played(lambda r: compare(one, other, data, ranks=r), 2) == [wanted] * 2
    images = torch.randint(0, 256, (8, 3, 2, 2), dtype=torch.uint8, generator=generator("shift"))
    options: dict[str, Any] = {
        "to_inputs": lambda x: x.float() / 255, "corruptions": ["brightness", "noise", "contrast"],
        "severities": [1, 5],
    }  # fmt: skip
    targets = torch.arange(8) % 3
    alone = measure_robustness(one, other, images, targets, **options)
    for found in played(
        lambda r: measure_robustness(one, other, images, targets, ranks=r, **options), 4
    ):
        assert found == alone


def test_a_data_set_serves_every_nth_batch(tmp_path: Path) -> None:
    images = np.arange(23, dtype=np.uint8).repeat(4).reshape(23, 2, 2, 1)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(23) % 2)
    data = load_data(f"npz:{tmp_path / 'data.npz'}")
    whole = [x for x, _ in data.batches(4)]
    for _ in range(2):  # decoded, then from memory
        for first in range(3):
            served = data.batches(4, start=first, every=3)
            assert len(served) == len(whole[first::3])
            for (x, _), wanted in zip(served, whole[first::3], strict=True):
                assert torch.equal(x, wanted)
    assert len(data.batches(4, start=9, every=3)) == 0
