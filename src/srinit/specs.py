"""Example inputs as a readable description, and inputs made from it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from srinit.errors import ConfigError
from srinit.rng import generator


def describe(inputs: object) -> object:
    """Return the structure of inputs as JSON: shapes, dtypes, and the range of whole numbers.

    A tensor becomes {"shape", "dtype"} (with "low" and "high" for integers), tuples, lists and
    dicts become {"tuple"}, {"list"}, {"dict"}, and any other plain value {"value"}.

    Raises:
        ConfigError: The inputs hold something that has no JSON form.

    Example:
        >>> describe((torch.zeros(2, 3), None))
        {'tuple': [{'shape': [2, 3], 'dtype': 'float32'}, {'value': None}]}
    """
    if isinstance(inputs, Tensor):
        spec: dict[str, Any] = {
            "shape": list(inputs.shape),
            "dtype": str(inputs.dtype).removeprefix("torch."),
        }
        whole = not inputs.dtype.is_floating_point and not inputs.dtype.is_complex
        if whole and inputs.numel() and not inputs.is_meta:
            spec |= {"low": int(inputs.min()), "high": int(inputs.max())}
        return spec
    if isinstance(inputs, Mapping):
        return {"dict": {str(key): describe(value) for key, value in inputs.items()}}
    if isinstance(inputs, tuple | list):
        kind = "tuple" if isinstance(inputs, tuple) else "list"
        return {kind: [describe(value) for value in inputs]}
    if inputs is None or isinstance(inputs, bool | int | float | str):
        return {"value": inputs}
    raise ConfigError(
        f"example inputs may hold tensors, tuples, lists, dicts and plain values, "
        f"not {type(inputs).__name__}."
    )


def example_from(
    spec: object,
    *,
    batch_size: int = 2,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> object:
    """Return inputs of a described structure: normal noise, whole numbers from their range.

    Tensors that are arguments themselves get `batch_size` as first dimension; those inside
    nested lists (the images of a detector) keep their shape. Attention masks that were all
    ones stay so, since their range is 1 to 1. The same seed gives the same inputs.

    Raises:
        ConfigError: Not what `describe` returns.

    Example:
        >>> example_from(describe(torch.zeros(8, 3))).shape
        torch.Size([2, 3])
    """
    make = _Maker(batch_size, torch.device(device), seed)
    if isinstance(spec, Mapping) and isinstance(spec.get("dict"), Mapping):
        return {key: make(value, str(key), outer=True) for key, value in spec["dict"].items()}
    for kind, build in (("tuple", tuple), ("list", list)):
        if isinstance(spec, Mapping) and isinstance(spec.get(kind), list):
            return build(make(part, str(i), outer=True) for i, part in enumerate(spec[kind]))
    return make(spec, "", outer=True)


class _Maker:
    """Makes one tensor after another, each from a seed of its own place."""

    def __init__(self, batch_size: int, device: torch.device, seed: int) -> None:
        self.batch_size, self.device, self.seed = batch_size, device, seed

    def __call__(self, spec: object, place: str, *, outer: bool) -> object:
        if not isinstance(spec, Mapping):
            raise _wrong(spec)
        if "value" in spec:
            return spec["value"]
        if "shape" in spec:
            return self._tensor(spec, place, outer=outer)
        if isinstance(spec.get("dict"), Mapping):
            items = spec["dict"].items()
            return {key: self(value, f"{place}.{key}", outer=False) for key, value in items}
        for kind, build in (("tuple", tuple), ("list", list)):
            if isinstance(spec.get(kind), list):
                parts = enumerate(spec[kind])
                return build(self(part, f"{place}.{i}", outer=False) for i, part in parts)
        raise _wrong(spec)

    def _tensor(self, spec: Mapping[str, Any], place: str, *, outer: bool) -> Tensor:
        dtype = getattr(torch, str(spec.get("dtype")), None)
        shape = spec["shape"]
        fits = isinstance(shape, list) and all(isinstance(size, int) for size in shape)
        if not isinstance(dtype, torch.dtype) or not fits:
            raise _wrong(spec)
        if outer and shape:
            shape = [self.batch_size, *shape[1:]]
        draw = generator("example_from", self.seed, place)
        if dtype.is_floating_point or dtype.is_complex:
            return torch.randn(shape, generator=draw).to(self.device, dtype)
        low, high = int(spec.get("low", 0)), int(spec.get("high", 1))
        return torch.randint(low, high + 1, shape, generator=draw).to(self.device, dtype)


def _wrong(spec: object) -> ConfigError:
    return ConfigError(f"{spec!r} does not describe inputs; srinit.specs.describe makes such.")
