"""A network as torch.compile runs it, checked against PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from srinit import modules
from srinit.errors import ModelError, is_out_of_memory
from srinit.latency import call_of


class Compiled:
    """A network that torch.compile compiles for one batch size after another."""

    def __init__(self, network: nn.Module, inputs: Any, sizes: Any) -> None:
        self._network, self._inputs, self._sizes = network, inputs, sizes
        self._calls: dict[int, Callable[[], None]] = {}

    def check(self) -> None:
        """Compile for every batch size, and compare with PyTorch.

        Raises:
            ModelError: It cannot be compiled, or answers differently.
        """
        import torch._inductor.config

        try:
            with warnings.catch_warnings(), torch._inductor.config.patch(compile_threads=1):
                warnings.simplefilter("ignore")
                compiled = torch.compile(self._network, dynamic=False)
                for size in self._sizes:
                    self._calls[size] = call_of(compiled, self._inputs, size)  # type: ignore[arg-type]
                    self._calls[size]()
                with torch.inference_mode():
                    said = modules.logits_of(modules.call(compiled, self._inputs))  # type: ignore[arg-type]
        except Exception as error:  # the compiler raises errors of every kind
            if is_out_of_memory(error):
                raise
            lines = str(error).strip().splitlines() or [""]
            raise ModelError(f"{type(error).__name__}: {lines[0]}") from error
        with torch.inference_mode():
            expected = modules.logits_of(modules.call(self._network, self._inputs))
        if not torch.allclose(said, expected, rtol=1e-3, atol=1e-3):
            raise ModelError("it answers differently from PyTorch")

    def call(self, size: int) -> Callable[[], None]:
        """Return a call at a batch size."""
        return self._calls[size]
