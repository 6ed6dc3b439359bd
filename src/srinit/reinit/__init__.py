"""The perturbations: a copy of a unit with its weights drawn again."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from srinit.reinit.matching import Call
from srinit.reinit.reinitializer import SCHEMES, Reinitializer, RuleScheme, Scheme, find_scheme

__all__ = [
    "SCHEMES",
    "Call",
    "Reinitializer",
    "RuleScheme",
    "Scheme",
    "find_scheme",
    "reinitialized",
]


def reinitialized(
    unit: nn.Module,
    *,
    seed: int,
    scheme: str | Scheme = "default",
    scale: float = 1.0,
    parts: Sequence[str] = (),
    reference: object = None,
) -> nn.Module:
    """Return a copy of `unit` with newly drawn weights; `unit` is not touched.

    Source of the idea: SR-init, https://arxiv.org/abs/2303.07677. The schemes are in `SCHEMES`:

    - `paper`: Kaiming normal weights, normalization at its start, as published.
    - `default`: each module's own initial distribution, normalization at its start.
    - `keep_norm`: Kaiming normal weights, normalization as trained.
    - `matched`: as `keep_norm`, then mean and variance of every output channel, on `reference`,
      set to the trained ones.
    - `permuted`: the trained weights of each tensor in random order, normalization as trained.

    A parameter of a module without a known initialization is drawn from a normal with its
    trained mean and spread.

    Args:
        unit: Module to copy.
        seed: Seed of the draw. Global random states are the same before and after.
        scheme: A name above, or a callable `(module, generator) -> None` that draws a private
            copy again in place.
        scale: Factor on the drawn weights; normalization is not scaled.
        parts: Submodules to draw, by their names in `unit`; empty: all of it.
        reference: Inputs of the unit, only for `matched`: a tensor, a tuple of positional
            arguments, a dict of keyword arguments, or a `Call`.

    Returns:
        A copy on the device of `unit`, in its train mode. The same seed gives the same weights
        on every device.

    Raises:
        ReinitError: Nothing can be drawn: no parameters, quantized or lazy ones, only
            normalization where the scheme keeps it, or a draw that changed nothing.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> first, again = reinitialized(layer, seed=0), reinitialized(layer, seed=0)
        >>> bool((first.weight == again.weight).all()), bool((first.weight == layer.weight).all())
        (True, False)
    """
    return Reinitializer(unit, scheme=scheme, scale=scale, parts=parts, reference=reference).draw(
        seed
    )
