"""What is chosen after a cut: fitted on all examples in the end, not worse than nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit.compensation import compensated, realign
from srinit.compensation.answers import answers, divergence
from srinit.realignment import walk
from srinit.rng import generator, isolated_rng
from srinit.surgery import remove_with_origins
from srinit.units import find_units
from zoo_images import Inverted


class Rectified(Inverted):
    """An inverted residual with a ReLU behind the sum."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


def cut_network(examples: int) -> tuple[nn.Module, nn.Module, Any, Tensor]:
    """Return a network, the same without its second block, origins, and inputs."""
    with isolated_rng(11):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(*(Rectified(8) for _ in range(3))),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        )  # fmt: skip
        with torch.no_grad():
            model[4].weight *= 10  # type: ignore[operator,union-attr]
    x = torch.randn(examples, 3, 6, 6, generator=generator("choice"))
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(x)
    model.eval()
    units = find_units(model, x[:2])
    pruned, origins = remove_with_origins(model, [units["1.1"]], example_inputs=x[:2])
    return model, pruned, origins, x


def test_what_is_chosen_is_fitted_on_the_held_out_examples_as_well() -> None:
    model, pruned, origins, x = cut_network(264)
    found = compensated(model, pruned, origins, list(x.split(66)))
    assert found.choice.num_held_out == 66
    assert found.chosen.startswith("realigned")
    assert found.choice.num_fitted == 264


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_twenty_examples_fresh_answers_are_no_farther_than_without(seed: int) -> None:
    model, pruned, origins, _ = cut_network(20)
    noise = generator("few", seed)
    few = list(torch.randn(20, 3, 6, 6, generator=noise).split(10))
    fresh = [torch.randn(200, 3, 6, 6, generator=noise)]
    found = compensated(model, pruned, origins, few)

    def far(network: nn.Module) -> float:
        pairs = answers(model, fresh), answers(network, fresh)
        return float(divergence(*pairs, fresh, "probabilities").mean())

    assert far(found.model) <= far(pruned) + 1e-6


def test_solving_twice_lowers_what_bounds_the_distance_behind_a_relu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walk, "MEAN_STEPS", 0)
    far = []
    for twice in (False, True):
        model, pruned, origins, x = cut_network(96)
        realign(model, pruned, origins, list(x.split(48)), twice=twice, only=lambda m: m.bridges)
        with torch.no_grad():
            stream: Tensor = pruned.get_submodule("0")(x)
            own = stream + pruned.get_submodule("1.0.body")(stream)
            target = model.get_submodule("1.1")(
                model.get_submodule("1.0")(model.get_submodule("0")(x))
            )
        lacking = torch.where(target > 0, target - own, own.clamp(min=0))
        far.append(float(lacking.pow(2).mean()))
    assert far[1] < 0.97 * far[0]
