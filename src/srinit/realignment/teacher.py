"""The unpruned network of a walk: its recorded forward, and what it gives where maps end.

Walks through several cut networks on the same batches may share one. What it gives is the same
each time, so that it is kept, as far as there is room; a walk that needs no other values does not
run the unpruned network again.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from srinit import modules
from srinit.realignment.alignment import Side
from srinit.recording import TraceIndex, record

RECORDED = 4  # examples of the forwards that are recorded
ROOM = 1 << 30  # bytes of values that are kept where walks share a teacher


class Teacher:
    """The unpruned network on some batches.

    Args:
        model: Its forward is run, nothing of it changes.
        batches: Inputs without targets; every walk that shares this reads these.
        room: Bytes of values that may be kept.
    """

    def __init__(self, model: nn.Module, batches: list[Any], *, room: int = 0) -> None:
        self.model, self.batches = model, batches
        self.side = Side(TraceIndex(model, record(model, recorded(batches[0]))), keys_of(model))
        self._room = room
        self.is_plain = False  # forwards that waited ended as plain ones do, in an earlier walk
        self._kept: dict[tuple[int, int], Tensor] = {}

    def known(self, number: int, value: int) -> Tensor | None:
        """Return a value of a batch, where it was kept.

        Args:
            number: Of the batch.
            value: Number in the recorded forward.
        """
        return self._kept.get((number, value))

    def keep(self, number: int, value: int, found: Tensor) -> None:
        """Keep a value of a batch, where there is room; nobody writes to it."""
        size = found.numel() * found.element_size()
        if size <= self._room:
            self._room -= size
            self._kept[number, value] = found


def recorded(batch: Any) -> Any:
    """Return the examples of a batch whose forward is recorded."""
    return modules.rows_between(batch, 0, min(RECORDED, modules.batch_size(batch)))


def keys_of(model: nn.Module) -> dict[int, str]:
    """Return the keys of a network's parameters and buffers, by id."""
    found: dict[int, str] = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            found.setdefault(id(tensor), key)
    return found
