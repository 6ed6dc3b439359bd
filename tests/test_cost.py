"""Costs on paper."""

import torch
from torch import Tensor, nn

from srinit.cost import count_cost


class ClassToken(nn.Module):
    """Gives a view of a parameter to a module, as CaiT and PiT do."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 3))
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.token.expand(len(x), -1)) + self.head(x)


def test_a_view_of_a_parameter_given_to_a_module_is_counted():
    cost = count_cost(ClassToken(), torch.zeros(4, 3))
    assert (cost.params, cost.flops, cost.size_bytes) == (11, 24, 44)


def test_a_shared_parameter_counts_once_and_each_use_of_it_is_work():
    layer = nn.Linear(3, 3, bias=False)
    cost = count_cost(nn.Sequential(layer, layer), torch.zeros(2, 3))
    assert (cost.params, cost.flops) == (9, 36)
