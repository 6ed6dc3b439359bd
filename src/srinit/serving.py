"""Exported files, called as networks are and timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srinit.evaluate import inputs_of
from srinit.latency import resized, time_in_turn
from srinit.runtimes import ModelFile


class FileNetwork(nn.Module):
    """An exported file that is called as a network is, on the CPU.

    Args:
        path: ONNX or OpenVINO IR.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = ModelFile(path, threads=torch.get_num_threads())

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Return the first output."""
        return torch.from_numpy(np.asarray(self.file(feeds_of(self.file.names, named or inputs))))


def feeds_of(names: Sequence[str], inputs: Any) -> dict[str, Any]:
    """Return inputs as a network takes them as arrays by the names that a file has for them."""
    if isinstance(inputs, Mapping):
        return {name: inputs[name].cpu().numpy() for name in names}
    values = inputs if isinstance(inputs, tuple | list) else (inputs,)
    return {name: value.cpu().numpy() for name, value in zip(names, values, strict=True)}


def run_file(path: Path, inputs: Any) -> Tensor:
    """Return the first output of an exported file for one batch, on the CPU."""
    network = FileNetwork(path)
    return torch.from_numpy(np.asarray(network.file(feeds_of(network.file.names, inputs))))


def time_files(
    paths: Sequence[Path], inputs: object, batch_size: int, repeats: int
) -> list[list[float]]:
    """Return the times in seconds of each file's calls on the CPU, taken in turn."""
    return time_in_turn([caller(path, inputs, batch_size) for path in paths], repeats)


def caller(path: Path, inputs: object, batch_size: int) -> Callable[[], None]:
    """Return a call of a file on some examples, repeated or cut to `batch_size`."""
    file = FileNetwork(path).file
    feeds = feeds_of(file.names, resized(inputs_of(inputs), batch_size))

    def call() -> None:
        file(feeds)

    return call
