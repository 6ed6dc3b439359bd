"""`matched` with channels that never vary: in the trained unit, in a draw, or nearly so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srinit.reinit import reinitialized
from zoo_images import Behind


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moments(output: Tensor) -> tuple[Tensor, Tensor]:
    return output.mean((0, 2, 3)), output.std((0, 2, 3), correction=0)


@pytest.mark.parametrize("seed", range(8))
def test_a_channel_that_is_dead_in_the_trained_unit_stays_at_its_value(seed: int) -> None:
    unit, x = Behind([0.5, -1e4, 0.2]).eval(), noise(16, 3, 8, 8)
    fresh = reinitialized(unit, seed=seed, scheme="matched", reference=x)
    with torch.no_grad():
        wanted, found = unit(x), fresh(x)
        assert wanted[:, 1].unique().tolist() == [0.0]
        assert found[:, 1].unique().tolist() == [0.0]
        assert torch.isfinite(fresh(100 * x)).all()
    for one, other in zip(moments(wanted), moments(found), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("seed", range(8))
def test_a_channel_that_is_all_but_dead_in_a_draw_is_not_blown_up(seed: int) -> None:
    unit, x = Behind([-2.5, -3.5, 0.2]).eval(), noise(4, 3, 8, 8)
    fresh = reinitialized(unit, seed=seed, scheme="matched", reference=x)
    other = noise(64, 3, 8, 8, seed=7)
    with torch.no_grad():
        usual, found = unit(other), fresh(other)
        wanted, matched = moments(unit(x)), moments(fresh(x))
    assert torch.isfinite(found).all()
    assert float(found.abs().max()) < 10 * float(usual.abs().max())
    torch.testing.assert_close(matched[0], wanted[0], atol=1e-4, rtol=1e-3)
    living = matched[1] > 0
    assert bool(living[2])
