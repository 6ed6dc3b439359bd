"""What loaders serve, in one form: the inputs of a network, and the target they are scored with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from srinit.errors import DataError

LABELS = ("labels", "label", "label_ids")
"""Keys of a batch's target in a dict; the loaders of Hugging Face write the first."""

DECODER = ("decoder_input_ids", "decoder_inputs_embeds")
"""What an encoder and decoder of transformers makes from the labels, where it is not given."""


def inputs_and_target(batch: Any, model: nn.Module | None = None) -> tuple[Any, Any]:
    """Return the inputs and the target of a batch.

    A pair is just that. Of a dict, as loaders of Hugging Face serve it, `labels` (or `label`, or
    `label_ids`) is the target and everything else an argument of the network; without such a key
    the target is None, which will do where nothing is scored.

    Args:
        batch: What a loader serves.
        model: What takes the inputs. One with encoder and decoder makes the decoder's inputs from
            the labels, as it does when it is given both.

    Raises:
        DataError: The batch is something else, so that it cannot be said what is the target.

    Example:
        >>> inputs_and_target({"pixel_values": 1, "labels": 2})
        ({'pixel_values': 1}, 2)
    """
    if isinstance(batch, Mapping):
        keys = [key for key in LABELS if key in batch]
        if len(keys) > 1:
            raise DataError(f"a batch holds {' and '.join(keys)}; keep the one that is the target.")
        inputs = {key: value for key, value in batch.items() if key not in keys}
        if not inputs:
            raise DataError("a batch holds labels alone, and no inputs.")
        target = batch[keys[0]] if keys else None
        shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
        if shift is not None and isinstance(target, Tensor) and not inputs.keys() & set(DECODER):
            inputs["decoder_input_ids"] = shift(labels=target)
        return inputs, target
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    several = isinstance(batch, tuple | list)
    found = type(batch).__name__ + (f" of {len(batch)} entries" if several else "")
    raise DataError(
        f"every batch must be (inputs, target) or a dict with labels, found {found}. "
        "Several inputs are written ((x, y), target) for arguments, or ({'name': x}, target) for "
        "keywords; without targets (inputs, None)."
    )


def batches_of(data: Any, model: nn.Module | None = None) -> Iterator[tuple[Any, Any]]:
    """Return an iterator over the inputs and the target of every batch; see `inputs_and_target`.

    Args:
        data: An iterable of batches.
        model: What takes the inputs.

    Raises:
        DataError: `data` cannot be iterated, or holds other things than batches.
    """
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise DataError(
            f"data should be batches (inputs, target), such as a list or a DataLoader, found "
            f"{type(data).__name__}."
        )
    return map(partial(inputs_and_target, model=model), data)


def check_rereadable(data: object, purpose: str) -> None:
    """Raise `DataError` for an iterator, which would be empty when it is read again.

    Args:
        data: The batches.
        purpose: What reads them more than once, as the beginning of a sentence.
    """
    if isinstance(data, Iterator):
        raise DataError(
            f"{purpose} reads the data more than once, and {type(data).__name__} can be read only "
            "once: give a list of batches, a DataLoader or a DataSet."
        )


def inputs_of(example_inputs: object, model: nn.Module | None = None) -> Any:
    """Return example inputs without the labels that a loader's dict holds beside them.

    Args:
        example_inputs: A tensor, a tuple, or a dict; only a dict is looked at.
        model: What takes them.

    Example:
        >>> inputs_of({"pixel_values": 1, "labels": 2})
        {'pixel_values': 1}
    """
    if isinstance(example_inputs, Mapping) and any(key in example_inputs for key in LABELS):
        return inputs_and_target(example_inputs, model)[0]
    return example_inputs
