"""Proof that cached decoding still is the full forward: prefill, then one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import SurgeryError
from srinit.rng import isolated_rng

TOLERANCE = 1e-4  # of the largest logit; another order of additions, not another function
TOKENS = ("decoder_input_ids", "input_ids")


def check_cache(model: nn.Module, pruned: nn.Module, inputs: object, names: str) -> None:
    """Raise if the unpruned network decodes with a cache as without, and the pruned one does not.

    Args:
        model: The unpruned network.
        pruned: The network after the cut.
        inputs: Example inputs; networks that take no tokens are left alone.
        names: What was removed, for the error.

    Raises:
        SurgeryError: Cached decoding of the pruned network gives other logits.
    """
    if not hasattr(model, "generate") or not isinstance(_keywords(inputs), Mapping):
        return
    if cache_error(model, inputs) is not False:
        return
    found = cache_error(pruned, inputs)
    if found is not False:
        raise SurgeryError(
            f"after removing {names} decoding with a cache differs from the full forward"
            f"{f' ({found})' if found else ''}; this network keeps its caches in a way that is "
            "not known here. Renumber them in on_removed, or keep these layers."
        )


def cache_error(model: nn.Module, inputs: object) -> str | bool:
    """Return False if prefill and one cached step give the full forward's last logits.

    Otherwise True, or the error that decoding raised as text.
    """
    given = dict(_keywords(inputs))
    key = next((key for key in TOKENS if isinstance(given.get(key), Tensor)), None)
    if key is None or given[key].ndim != 2 or given[key].shape[1] < 3:
        return "no tokens"
    tokens = given[key]
    rest = {k: v for k, v in given.items() if k not in (key, "attention_mask", "labels")}
    if key == "decoder_input_ids" and "attention_mask" in given:
        rest["attention_mask"] = given["attention_mask"]
    try:
        with modules.untouched(model, hooks=True), isolated_rng(0), torch.no_grad():
            full = modules.logits_of(model(**{**rest, key: tokens}, use_cache=False))
            first = model(**{**rest, key: tokens[:, :-1]}, use_cache=True)
            cache = first.past_key_values
            if cache is None:
                return "no cache"
            step = model(**{**rest, key: tokens[:, -1:]}, past_key_values=cache, use_cache=True)
    except Exception as error:  # not every network decodes this way
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    one, other = full[:, -1].double(), modules.logits_of(step)[:, -1].double()
    return not bool((one - other).abs().max() <= TOLERANCE * one.abs().max())


def _keywords(inputs: object) -> Any:
    if isinstance(inputs, Tensor) and not inputs.dtype.is_floating_point:
        return {"input_ids": inputs}
    return inputs
