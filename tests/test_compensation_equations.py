"""Equations of realignment: positions that are gathered, products in strips, biases alone."""

from __future__ import annotations

import math

import pytest
import torch

from srinit.distributed import ProcessGroup
from srinit.realignment.equations import Equations, Geometry
from srinit.realignment.products import sums_of
from srinit.rng import generator

PAIRS = ((3, 3), (1, 1), (1, 1), (1, 1))  # kernel, stride, padding, dilation


@pytest.mark.parametrize(("groups", "features"), [(1, 9), (1, 130), (6, 9), (3, 100)])
def test_products_in_strips_are_those_of_all_features(groups: int, features: int) -> None:
    columns = torch.randn(groups, 40, features, generator=generator("strips"))
    rows = torch.randn(groups, 40, 5, generator=generator("rows"))
    for has_bias in (False, True):
        ones = [columns.new_ones(groups, 40, 1)] if has_bias else []
        whole = torch.cat([columns, *ones], 2)
        gram, right = sums_of(columns, rows, has_bias=has_bias, gram=True)
        torch.testing.assert_close(gram, whole.mT @ whole, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(right, whole.mT @ rows, rtol=1e-4, atol=1e-4)
        empty, again = sums_of(columns, rows, has_bias=has_bias, gram=False)
        assert (empty.numel(), torch.equal(again, right)) == (0, True)


@pytest.mark.parametrize("groups", [1, 4])
def test_sums_for_the_bias_alone_give_what_all_sums_give(groups: int) -> None:
    noise = generator("bias")
    u, lacking = torch.randn(3, 4, 5, 5, generator=noise), torch.randn(3, 8, 5, 5, generator=noise)
    found = []
    for bias_only in (False, True):
        equations = Equations(Geometry(groups, *PAIRS), bias_only=bias_only)
        equations.add(u, lacking)
        found.append(equations.solve(math.inf))
    assert found[0] is not None
    assert found[1] is not None
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_a_share_of_the_positions_reads_each_of_them_at_most_once() -> None:
    u = torch.arange(32.0).reshape(2, 1, 4, 4)
    equations = Equations(Geometry(1, (1, 1), has_bias=True), share=0.5)
    equations.add(u, torch.ones(2, 1, 4, 4))
    equations.total(ProcessGroup(alone=True), u)
    assert equations.rows == 16
    assert equations.gram is not None
    assert float(equations.gram[0, 1, 1]) == 16
    assert 0 < float(equations.gram[0, 0, 1]) < float(u.sum())


def test_padded_rows_are_left_out_before_a_share_is_taken() -> None:
    u, keep = torch.ones(1, 8, 2), torch.tensor([True] * 4 + [False] * 4)
    u[:, 4:] = 1e6
    equations = Equations(Geometry(), share=0.5)
    equations.add(u, torch.ones(1, 8, 3), keep)
    equations.total(ProcessGroup(alone=True), u)
    assert equations.rows == 2
    assert equations.gram is not None
    assert float(equations.gram[0, 0, 0]) == 2


def test_a_second_solution_is_that_of_the_whole_change() -> None:
    noise = generator("twice")
    u, first, later = (torch.randn(60, size, generator=noise) for size in (5, 3, 3))
    equations = Equations(Geometry())
    equations.add(u, first)
    change = equations.solve(0.3)
    assert change is not None
    again = equations.again()
    again.add(u, later)
    more = equations.renewed(again, change, 0.3).solve(0.3)
    whole = Equations(Geometry())
    wide = torch.cat([u, torch.ones(60, 1)], 1)
    whole.add(u, later + wide @ change[0].T.float())
    expected = whole.solve(0.3)
    assert more is not None
    assert expected is not None
    torch.testing.assert_close(change + more, expected, rtol=1e-4, atol=1e-5)
