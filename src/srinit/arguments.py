"""Arguments of a call as they are before it: a call may fill, change or use up what it is given.

A cache of keys and values, a dict that layers write into, a tensor changed in place, a generator
of random numbers: whoever calls a module twice with the same ones gets another answer the second
time. So whatever is to be called again is called with copies.
"""

from __future__ import annotations

import copy
import types
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from srinit.errors import ModelError

_AS_THEY_ARE = (
    nn.Parameter, nn.Module, str, bytes, int, float, complex, type(None), torch.dtype,
    torch.device, torch.Size, types.FunctionType, types.BuiltinFunctionType, type,
)  # fmt: skip


def copied(tree: object, model: nn.Module | None = None, *, tensors: bool = True) -> Any:
    """Return arguments of a call that may be changed without changing `tree`.

    Tuples, lists and dicts are rebuilt, tensors are cloned and other objects copied deeply.
    What is the same object at two places is one in the copy, too. Modules, parameters and
    functions are handed on.

    Args:
        tree: Arguments or outputs, in any nesting.
        model: Its modules and tensors are handed on where other objects refer to them.
        tensors: False: tensors are handed on as well.

    Raises:
        ModelError: Something cannot be copied, a generator for instance.

    Example:
        >>> cache: dict[str, list[int]] = {"seen": []}
        >>> fresh = copied((cache, torch.zeros(1)))
        >>> fresh[0]["seen"].append(1)
        >>> cache
        {'seen': []}
    """
    return _Copier(model, tensors).copy(tree)


class _Copier:
    """One copy of a tree: what was copied already, by identity."""

    def __init__(self, model: nn.Module | None, tensors: bool) -> None:
        self._model, self._tensors = model, tensors
        self._memo: dict[int, Any] = {}
        self._knows_model = False

    def copy(self, value: Any) -> object:
        if isinstance(value, _AS_THEY_ARE):
            return value
        if id(value) in self._memo:
            return self._memo[id(value)]
        if isinstance(value, Tensor):
            fresh: Any = value.clone() if self._tensors else value
        elif type(value) in (dict, OrderedDict):
            fresh = self._memo[id(value)] = type(value)()
            fresh.update((key, self.copy(each)) for key, each in value.items())
        elif type(value) is list:
            fresh = self._memo[id(value)] = []
            fresh.extend(map(self.copy, value))
        elif type(value) is tuple:
            fresh = tuple(map(self.copy, value))
        else:
            fresh = self._deep(value)
        self._memo[id(value)] = fresh
        return fresh

    def _deep(self, value: object) -> object:
        if self._model is not None and not self._knows_model:
            self._knows_model = True
            own = (*self._model.modules(), *self._model.parameters(), *self._model.buffers())
            self._memo.update((id(each), each) for each in own)
        try:
            with torch.no_grad():
                return copy.deepcopy(value, self._memo)
        except Exception as error:  # a stranger's object may refuse in any way
            raise ModelError(
                f"a call is given {_article(type(value).__name__)} that cannot be copied "
                f"({type(error).__name__}: {error}), so the call cannot be made a second time; "
                "give a tensor, a list or a dict instead."
            ) from error


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
