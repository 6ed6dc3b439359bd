"""Whether a network runs on the data, and puts out what the score needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.errors import DataError, ModelError, is_out_of_memory
from srinit.evaluate import SCORERS, PartTask, Scorer, scored


def check_fit(
    model: nn.Module,
    inputs: Any,
    *,
    score: str,
    scorer: Scorer,
    class_names: Sequence[str],
    holds_images: bool,
) -> None:
    """Check that the model runs on the data, and that its output is what the score needs.

    Args:
        model: The network; not changed.
        inputs: A few examples on its device.
        score: As the config names it.
        scorer: What it names.
        class_names: Of the data.
        holds_images: The inputs are images, so that another number of channels can be tried.

    Raises:
        ModelError: It does not run, or has no head; where it would run with another number of
            channels, that is said.
        DataError: The number of classes differs.
    """
    try:
        with modules.untouched(model), torch.inference_mode():
            output = modules.call(model, inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        shapes = [tuple(t.shape) for t in modules.tensors(inputs)]
        other = _other_channels(model, inputs) if holds_images else ""
        raise ModelError(
            f"the model does not run on the data (inputs {shapes}): {other or _reason(error)}"
        ) from error
    if isinstance(scorer, PartTask):
        scorer.check(output)
        return
    logits = scored(output, score) if score in SCORERS else modules.logits_of(output)
    if score != "top1":
        return
    if logits.ndim > 2:
        raise DataError(
            f"score: top1 needs class scores (B, C), and the model returns "
            f"{tuple(logits.shape)}. Set score: to one of {', '.join(SCORERS)} or py:FILE.py:"
            "FUNCTION, or name a network with one output an example (hf: model.args.auto)."
        )
    if logits.ndim == 2 and class_names and logits.shape[1] != len(class_names):
        raise DataError(
            f"the data has {len(class_names)} classes ({', '.join(class_names[:12])}), but the "
            f"model has {logits.shape[1]} outputs. Name the right data, or the classes in "
            "data.classes."
        )


def _reason(error: Exception) -> str:
    first = (str(error) or type(error).__name__).splitlines()[0]
    return f"{first}. Check data.preprocess: size, crop and channels."


def _other_channels(model: nn.Module, inputs: Any) -> str:
    """Return what to do where the model runs on images with another number of channels."""
    given = inputs.shape[1]
    other = 1 if given == 3 else 3
    probe = inputs[:, :1].expand(-1, other, -1, -1)
    try:
        with modules.eval_mode(model), torch.inference_mode():
            modules.call(model, probe)
    except (RuntimeError, TypeError, ValueError):
        return ""
    return (
        f"it takes images of {other} channel{'s' if other > 1 else ''} and gets {given}. Write "
        f"data.preprocess.channels: {other} ({'gray' if other == 1 else 'RGB'}), with "
        f"{other} value{'s' if other > 1 else ''} of mean and std."
    )
