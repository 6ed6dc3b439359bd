"""Whether another usual normalization fits the network much better than the config's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from srinit import modules
from srinit.evaluate.soundness import Suspicion
from srinit.sources import DataSet, Preprocess, limited
from srinit.stats.paired import fair_tail
from srinit.steps.task import Execution

EXAMPLES = 128  # calibration images
FEWEST_ERRORS = 10  # fewer cannot tell one normalization from another
SIGNIFICANT = 0.01  # of the exact paired test, over all that are tried
GAIN = 0.05  # of accuracy, at least

Values = tuple[float, ...]
USUAL: dict[str, tuple[Values, Values, float]] = {
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255),
    "0.5 and 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 255),
    "none, 0 to 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 255),
    "none, 0 to 255": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1),
    "CLIP's": ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758), 255),
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616), 255),
    "Caffe's": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0), 1),
}
USUAL_GRAY: dict[str, tuple[Values, Values, float]] = {
    "ImageNet's in gray": ((0.449,), (0.226,), 255),
    "0.5 and 0.5": ((0.5,), (0.5,), 255),
    "none, 0 to 1": ((0.0,), (1.0,), 255),
    "none, 0 to 255": ((0.0,), (1.0,), 1),
    "MNIST's": ((0.1307,), (0.3081,), 255),
}


def better_normalization(
    model: nn.Module, data: DataSet, execution: Execution, *, above: float = 0.0
) -> tuple[Suspicion, ...]:
    """Return that another normalization makes many more calibration images right, if one does.

    Those of `USUAL`, the data's own mean and deviation, and colors in the order BGR are tried on
    `EXAMPLES` images; the best is held against the config's by an exact paired test.

    Args:
        model: The unpruned network, on the device.
        data: Calibration images.
        execution: Its seed draws them.
        above: Accuracy that something else explains already, such as exchanged classes.
    """
    if not data.pool.holds_images:
        return ()
    data = limited(data, EXAMPLES, seed=execution.seed)
    present = data.pool.preprocess
    now = _right(model, data, present, execution)
    if len(data) - now.sum() < FEWEST_ERRORS:
        return ()
    tried = [
        (name, other, bgr, _right(model, data, other, execution, bgr=bgr))
        for name, other, bgr in _others(data, present)
    ]
    name, other, bgr, right = max(tried, key=lambda each: each[3].sum())
    gained, lost = int((right & ~now).sum()), int((now & ~right).sum())
    surprise = fair_tail(gained, gained + lost) * len(tried)
    if surprise >= SIGNIFICANT or (gained - lost) / len(data) < GAIN or right.mean() <= above:
        return ()
    return (_suspicion(name, other, bgr, int(right.sum()), int(now.sum()), len(data)),)


def _others(data: DataSet, present: Preprocess) -> Iterator[tuple[str, Preprocess, bool]]:
    usual = USUAL if present.channels == 3 else USUAL_GRAY
    pixels = data.pool.pixels(data.indices).double().div_(255)
    own = (pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3)).clamp(min=1e-3).tolist())
    mean, std = (tuple(round(value, 4) for value in values) for values in own)
    found = {"the data's own": (mean, std, 255.0), **usual}
    for name, (mean, std, scale) in found.items():
        yield name, replace(present, mean=mean, std=std, scale=float(scale)), False
    if present.channels == 3:
        yield "that of the config", present, True
        for name, (mean, std, scale) in found.items():
            yield name, replace(present, mean=mean, std=std, scale=float(scale)), True


def _right(
    model: nn.Module,
    data: DataSet,
    preprocess: Preprocess,
    execution: Execution,
    *,
    bgr: bool = False,
) -> npt.NDArray[np.bool_]:
    """Return which examples the unpruned network has right with another preprocessing."""
    size = execution.batch_size
    answers = []
    with modules.eval_mode(model), torch.inference_mode():
        for begin in range(0, len(data), size):
            inputs = preprocess.normalized(data.pool.pixels(data.indices[begin : begin + size]))
            inputs = inputs.flip(1).contiguous() if bgr else inputs
            output = modules.call(model, modules.to_device(inputs, execution.device))
            answers.append(modules.logits_of(output).argmax(1).cpu().numpy())
    right: npt.NDArray[np.bool_] = np.concatenate(answers) == data.targets
    return right


def _suspicion(
    name: str, other: Preprocess, bgr: bool, right: int, now: int, total: int
) -> Suspicion:
    shown = f"mean {list(other.mean)}, std {list(other.std)}, scale {other.scale:g}"
    shown += ", colors in the order BGR" if bgr else ""
    advice = (
        "The network seems to want BGR: turn the channels in its forward"
        if bgr
        else "Check data.preprocess against training"
    )
    text = (
        f"another normalization fits much better ({name}: {shown}): {right} of {total} calibration "
        f"images are right with it, {now} with that of the config. {advice}"
    )
    values = {"name": name, "shown": shown, "right": str(right), "now": str(now)}
    return Suspicion(kind="normalization", text=text, values={**values, "total": str(total)})
