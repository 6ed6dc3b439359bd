"""What a draw and a forward cost on a device, roughly."""

from __future__ import annotations

import torch

from srinit.records import record


@record
class Costs:
    """A rough model of one device's time; it steers efficiency, never a result's validity."""

    flops_per_second: float
    per_draw: float  # seconds
    per_param: float  # seconds to draw and to store one


# One core with AVX-512 BF16; a draw as grouped convolutions have it, others cost more.
CPU = Costs(flops_per_second=1.9e11, per_draw=6e-5, per_param=4.5e-9)
# One core with AVX2, in 32 bits: a convolution a draw.
CPU_32 = Costs(flops_per_second=6e10, per_draw=2e-4, per_param=6e-9)
# A large GPU; drawn one at a time, or all of a batch together: then a draw costs no more than the
# bets on what it showed, which the CPU makes.
GPU = Costs(flops_per_second=5e13, per_draw=5e-4, per_param=1e-11)
GPU_TOGETHER = Costs(flops_per_second=5e13, per_draw=2e-5, per_param=1e-11)
# Other accelerators: their noise comes from the CPU.
OTHER = Costs(flops_per_second=5e13, per_draw=5e-4, per_param=8e-9)


def costs_of(
    device: torch.device | str, dtype: torch.dtype | None = None, *, together: bool = False
) -> Costs:
    """Return the cost model of a device.

    Args:
        device: The device.
        dtype: In which it calculates; None: in 32 bits.
        together: Whether the draws of a batch are made at once.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return GPU_TOGETHER if together else GPU
    if kind != "cpu":
        return OTHER
    return CPU if dtype is torch.bfloat16 else CPU_32
