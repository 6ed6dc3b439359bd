"""Which places of a batch are real: texts are padded to one length, and padding says nothing.

What is averaged over tokens has to leave padded ones out, or the amount of padding decides.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit.errors import DataError

# B batch, T tokens, P positions

IGNORED = -100  # target of a token that is not scored
LENGTHS = ("length", "lengths", "input_lengths", "seq_len", "seq_lens", "seq_lengths")
LEAST_RUN = 2  # equal tokens at an end of one row alone that may be chance


@dataclass(frozen=True)
class Places:
    """Masks of a batch, True where a place is real, by the name under which each was found."""

    masks: Mapping[str, Tensor]  # each (B, T), or (B, H, W) for images

    def among(self, shape: tuple[int, ...], unit: str = "") -> Tensor | None:
        """Return the mask for features of this shape, flattened to (B, P); None: no places.

        Args:
            shape: (B, P, C), (P, B, C), (B * P, C) or (B, H, W, C).
            unit: Where they come from: of two masks that fit, a decoder's is for decoders.

        Raises:
            DataError: There is padding, but no mask of this length.
        """
        if len(shape) < 2 or (len(shape) == 2 and not self._flat(shape[0])):
            return None
        inside = "decoder" in unit
        order = sorted(self.masks, key=lambda name: ("decoder" in name) is not inside)
        for name in order:
            mask = self.masks[name]
            if mask.ndim == 3 and len(shape) == 4:
                small = F.interpolate(mask[:, None].float(), size=shape[1:3])
                return small[:, 0].bool().flatten(1)
            if mask.ndim == 2 and len(shape) == 2 and shape[0] == mask.numel():
                return mask.reshape(-1, 1)
            if mask.ndim == 2 and shape[:2] == mask.shape:
                return mask
            if mask.ndim == 2 and shape[:2] == mask.T.shape:
                return mask.T
            if mask.ndim == 2 and len(shape) == 3 and _is_multiple(mask.shape, shape):
                return mask.reshape(len(mask), shape[1], -1).any(2)
        if len(shape) == 3 and shape[1] == 1:
            return None
        known = ", ".join(f"{name} {tuple(mask.shape)}" for name, mask in self.masks.items())
        raise DataError(
            f"{unit or 'the output'} has places {tuple(shape[:-1])}, but the batch says which are "
            f"padded for others ({known}), so padding cannot be left out; choose a criterion that "
            "averages nothing (removal_drop), or data without padding."
        )

    def _flat(self, count: int) -> bool:
        return any(mask.numel() == count for mask in self.masks.values())


def _is_multiple(places: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return places[0] == shape[0] and shape[1] > 1 and places[1] % shape[1] == 0


def places_of(model: nn.Module, inputs: object, target: object = None) -> Places | None:
    """Return which places of a batch are real; None where none is padded.

    Read are masks among the inputs (`attention_mask`, `key_padding_mask`, lengths and the like, by
    the names of the arguments of `forward`), then tokens that the model knows as padding
    (`pad_token_id`, `padding_idx`), then targets of -100.

    Raises:
        DataError: Rows end, or begin, in runs of one token that look like padding, and nothing
            says which places are real.

    Example:
        >>> mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
        >>> found = places_of(nn.Identity(), {"input_ids": mask + 4, "attention_mask": mask})
        >>> found.among((2, 3, 8)).tolist()
        [[False, True, True], [True, True, True]]
    """
    named = dict(_named(model, inputs))
    tokens = _tokens(named)
    masks = {name: mask for name, value in named.items() for mask in _read(name, value, named)}
    if not masks and tokens is not None:
        masks = dict(_by_token(model, tokens))
    labels = _labels(target if target is not None else named.get("labels"))
    if labels is not None and all(labels.shape != mask.shape for mask in masks.values()):
        masks["decoder targets" if masks else "targets"] = labels.ne(IGNORED)
    if not masks and tokens is not None and _looks_padded(tokens):
        raise DataError(
            "rows of the inputs end or begin in runs of one token, of different lengths, which "
            "looks like padding, and nothing says which places are real; give an attention_mask "
            "among the inputs, or targets of -100 there."
        )
    found = {name: mask for name, mask in masks.items() if not bool(mask.all())}
    return Places(found or masks) if found else None


def _named(model: nn.Module, inputs: object) -> Iterator[tuple[str, Any]]:
    """Yield the inputs by the names of the arguments of `forward`."""
    if isinstance(inputs, Mapping):
        yield from inputs.items()
        return
    values = inputs if isinstance(inputs, tuple | list) else (inputs,)
    try:
        names = list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        names = []
    for number, value in enumerate(values):
        yield (names[number] if number < len(names) else str(number)), value


def _tokens(named: Mapping[str, Any]) -> Tensor | None:
    """Return the token ids (B, T) among the inputs."""
    known = [named.get("input_ids"), *named.values()]
    for value in known:
        if isinstance(value, Tensor) and value.ndim == 2 and _is_integer(value):
            return value
    return None


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)


def _labels(labels: object) -> Tensor | None:
    """Return targets of tokens, where some are left out."""
    if not isinstance(labels, Tensor) or labels.ndim != 2 or not _is_integer(labels):
        return None
    return labels if bool(labels.eq(IGNORED).any()) else None


def _read(name: str, value: object, named: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield what an argument says of places, True where real."""
    if not isinstance(value, Tensor):
        return
    if name in LENGTHS and value.ndim == 1:
        longest = next((v for v in named.values() if isinstance(v, Tensor) and v.ndim > 1), None)
        if longest is not None:
            yield torch.arange(longest.shape[1], device=value.device) < value[:, None]
    elif name.endswith("padding_mask") and value.ndim == 2:
        yield value == 0 if value.dtype is torch.bool or _is_integer(value) else value > -1
    elif name == "pixel_mask" and value.ndim == 3:
        yield value != 0
    elif "global" not in name and name.endswith(
        ("attention_mask", "input_mask", "valid_mask", "token_mask")
    ):
        if value.ndim == 2:
            yield value != 0
        elif value.ndim == 4:  # (B, heads, queries, keys): real is what some query reads
            reads = value > -1 if value.is_floating_point() else value != 0
            yield reads.any(2).any(1)
    elif name == "mask" and value.ndim == 2:
        yield _oriented(value, _tokens({k: v for k, v in named.items() if k != name}))


def _oriented(mask: Tensor, tokens: Tensor | None) -> Tensor:
    """Return a mask that may be True for real or for padded places, True for real ones.

    Raises:
        DataError: Nothing tells which.
    """
    here = mask != 0
    if bool(here.all()) or not bool(here.any()):
        return torch.ones_like(here)
    if tokens is not None and tokens.shape == here.shape:
        sides = [bool((tokens[side] == tokens[side][0]).all()) for side in (here, ~here)]
        if sides[0] != sides[1]:
            return ~here if sides[0] else here
    raise DataError(
        "the argument 'mask' may be True for real places or for padded ones, and the tokens do not "
        "tell; call it attention_mask (True: real) or key_padding_mask (True: padded)."
    )


def _by_token(model: nn.Module, tokens: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the mask of tokens that the model knows as padding, at either end of a row."""
    pad = getattr(getattr(model, "config", None), "pad_token_id", None)
    if pad is None:
        tables = (each for each in model.modules() if isinstance(each, nn.Embedding))
        pad = next((each.padding_idx for each in tables if each.padding_idx is not None), None)
    if pad is None:
        return
    padded = _runs(tokens == pad) | _runs((tokens == pad).flip(1)).flip(1)
    if bool(padded.any()):
        yield "padding token", ~padded


def _runs(equal: Tensor) -> Tensor:
    """Return which places belong to the run of True with which a row begins."""
    return equal.long().cumprod(1).bool()


def _looks_padded(tokens: Tensor) -> bool:
    """Return whether one token fills ends of rows, and stands nowhere else."""
    size, length = tokens.shape
    if size < 2 or length <= LEAST_RUN + 1:
        return False
    for ids in (tokens, tokens.flip(1)):
        for pad in sorted(set(ids[:, 0].tolist())):
            run = _runs(ids == pad)
            counts = run.sum(1)
            alone = int(run.sum()) == int((ids == pad).sum())
            several = int((counts > 1).sum()) > 1 or int(counts.max()) > LEAST_RUN
            often = 8 * int((counts > 0).sum()) >= size
            if alone and several and often and int(counts.min()) < int(counts.max()):
                return True
    return False
