"""Proof that `save_pretrained` and `from_pretrained` would give the pruned network back."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from srinit import modules
from srinit.rng import isolated_rng
from srinit.surgery.compact import same
from srinit.surgery.config import Refusal
from srinit.surgery.config_twin import read_from_disk
from srinit.units.verify import run

MAX_BYTES = 8 << 30  # of parameters: above it the proof would take too much time
LARGE = 1 << 16  # numbers of a tensor
DRAWS = (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default)


def prove_reload(pruned: nn.Module, inputs: object) -> None:
    """Let `save_pretrained` refuse where the network read again would answer differently.

    The network is built from its config, written and read, shares the pruned one's tensors and
    computes for itself what no file holds, such as rotary frequencies.

    Args:
        pruned: The network after the cut; its forward is run, nothing else changes.
        inputs: Example inputs.
    """
    refused = "save_pretrained" in vars(pruned)
    size = sum(p.numel() * p.element_size() for p in pruned.parameters())
    config = vars(pruned).get("config")
    if refused or size > MAX_BYTES or modules.device_of(pruned).type == "meta":
        return
    if not hasattr(type(config), "from_pretrained") or not hasattr(pruned, "save_pretrained"):
        return
    try:
        with isolated_rng(0), _Unwritten():  # type: ignore[no-untyped-call]
            again: Any = type(pruned)(read_from_disk(config))
        again.load_state_dict(pruned.state_dict(), strict=False, assign=True)
        _like(again, pruned)
        equal = same(run(pruned, inputs), run(again, inputs))
    except Exception as error:  # the model's own code may fail in any way
        reason = f"read again it does not run ({type(error).__name__}: {str(error)[:200]})"
        pruned.__dict__["save_pretrained"] = Refusal(reason)
        return
    if not equal:
        reason = "read again it answers the example inputs differently"
        pruned.__dict__["save_pretrained"] = Refusal(reason)


class _Unwritten(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Leaves large tensors as they are allocated, where a network would draw its first weights.

    What is never written takes no memory; the pruned network's tensors take its place.
    """

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> object:
        if func in DRAWS and args[0].numel() >= LARGE:
            return args[0]
        return func(*args, **(kwargs or {}))


def _like(again: nn.Module, pruned: nn.Module) -> None:
    """Give buffers that no file holds the device and number format of the pruned network's."""
    kept = dict(pruned.named_buffers())
    for name, buffer in list(again.named_buffers()):
        mine = kept.get(name)
        if mine is not None and (buffer.dtype, buffer.device) != (mine.dtype, mine.device):
            path, _, last = name.rpartition(".")
            with torch.no_grad():
                again.get_submodule(path)._buffers[last] = buffer.to(mine.device, mine.dtype)
