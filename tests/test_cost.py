"""Costs on paper."""

import torch
from torch import nn

from srinit.cost import count_cost
from zoo_weights import ClassToken


def test_a_view_of_a_parameter_given_to_a_module_is_counted():
    cost = count_cost(ClassToken(), torch.zeros(4, 3))
    assert (cost.params, cost.flops, cost.size_bytes) == (11, 24, 44)


def test_a_shared_parameter_counts_once_and_each_use_of_it_is_work():
    layer = nn.Linear(3, 3, bias=False)
    cost = count_cost(nn.Sequential(layer, layer), torch.zeros(2, 3))
    assert (cost.params, cost.flops) == (9, 36)
