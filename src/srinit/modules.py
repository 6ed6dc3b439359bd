"""How a model is called, addressed and changed: the few things every step needs of `nn.Module`.

Inputs may be a tensor (one positional argument), a tuple or list (positional arguments) or a
dict (keyword arguments); the batch is the first dimension of every tensor in them.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from srinit.arguments import copied
from srinit.errors import ModelError
from srinit.state import preserved

Inputs = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]


def call(model: nn.Module, inputs: Inputs) -> object:
    """Return `model` applied to `inputs`: a dict as keywords, a tuple or list as arguments.

    The model gets a copy of them, so that the same inputs may be given again, to this model or to
    another one: a forward may change a tensor in place or fill a cache.

    Raises:
        ModelError: They hold something that cannot be copied, such as a generator.

    Example:
        >>> x = torch.tensor([-1.0, 1.0])
        >>> call(nn.ReLU(inplace=True), x), x
        (tensor([0., 1.]), tensor([-1.,  1.]))
    """
    if isinstance(inputs, Mapping):
        inputs = dict(inputs)
    return call_once(model, copied(inputs, model))


def call_once(model: nn.Module, inputs: Inputs) -> object:
    """Return `model` applied to `inputs` themselves, which it may change."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple | list):
        return model(*inputs)
    return model(inputs)


def tree_map(function: Callable[[Tensor], Tensor], tree: object) -> Any:
    """Return `tree` with `function` applied to every tensor in tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: tree_map(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [tree_map(function, value) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def tensors(tree: object) -> Iterator[Tensor]:
    """Yield the tensors of nested tuples, lists and dicts (model outputs too), in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from tensors(value)
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from tensors(value)


def to_device(tree: object, device: torch.device | str, **kwargs: Any) -> Any:
    """Return `tree` with every tensor moved to `device`."""
    return tree_map(lambda tensor: tensor.to(device, **kwargs), tree)


def batch_size(inputs: Inputs) -> int:
    """Return the first dimension of the first tensor in `inputs`."""
    for tensor in tensors(inputs):
        if tensor.ndim:
            return int(tensor.shape[0])
    raise ModelError("the inputs hold no tensor with a batch dimension.")


def rows_between(tree: Any, start: int, stop: int, size: int | None = None) -> Any:
    """Return examples `start` to `stop` of every tensor that has the batch first.

    Args:
        tree: Tensors in any nesting; those without the batch stay whole.
        start: The first.
        stop: The one behind the last.
        size: Of the batch, where the first tensor does not tell it.
    """
    whole = batch_size(tree) if size is None else size
    if start == 0 and stop == whole:
        return tree

    def some(tensor: Tensor) -> Tensor:
        return tensor[start:stop] if tensor.ndim and tensor.shape[0] == whole else tensor

    return tree_map(some, tree)


def logits_of(output: object) -> Tensor:
    """Return the tensor that holds the predictions in a model's output.

    A tensor is itself; objects and dicts are asked for `logits`, then `out`; else the first
    tensor is taken.
    """
    if isinstance(output, Tensor):
        return output
    for key in ("logits", "out"):
        value = output.get(key) if isinstance(output, Mapping) else getattr(output, key, None)
        if isinstance(value, Tensor):
            return value
    found = next(tensors(output), None)
    if found is None:
        raise ModelError(f"the model returned {type(output).__name__}, which holds no tensor.")
    return found


def device_of(model: nn.Module) -> torch.device:
    """Return where the first parameter or buffer of `model` lies; the CPU if it has none."""
    first = next(itertools.chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode for a while; every train flag is restored afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    if any(flag for _, flag in flags):
        model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def untouched(model: nn.Module, *, hooks: bool = False) -> Iterator[None]:
    """Put `model` into evaluation mode for a while; afterwards nothing of it has changed.

    Train flags are restored, and what forwards change: see `srinit.state.preserved`.

    Args:
        model: Any module.
        hooks: Also put back what only its hooks hold, for forwards that nobody asked for.

    Raises:
        ModelError: The model has lazy parts that saw no input yet.
    """
    with preserved(model, hooks=hooks), eval_mode(model):
        yield


def parent_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that holds `name` and the last part of the name.

    Raises:
        ModelError: There is no such submodule.
    """
    path, _, last = name.rpartition(".")
    try:
        parent = model.get_submodule(path)
    except AttributeError:
        parent = None
    if not name or parent is None or last not in parent._modules:
        raise ModelError(f"the model has no submodule {name!r}.")
    return parent, last


@contextmanager
def swapped(
    model: nn.Module, name: str, replacement: nn.Module, *, shared: Collection[int] | None = None
) -> Iterator[nn.Module]:
    """Put `replacement` at every place where the submodule `name` is registered, for a while.

    A module that is registered under several names is replaced under all of them. The train
    flag of the original is given to the replacement. Nothing else of the model changes, and
    child order stays as it was.

    Args:
        model: The network.
        name: Of the submodule.
        replacement: What takes its place.
        shared: What `repeated` returns for the model, for callers that swap many modules.

    Yields:
        The original submodule.

    Raises:
        ModelError: There is no such submodule.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> with swapped(model, "0", nn.Identity()) as original:
        ...     type(model[0]).__name__, type(original).__name__
        ('Identity', 'Linear')
        >>> type(model[0]).__name__
        'Linear'
    """
    parent, last = parent_of(model, name)
    original = parent._modules[last]
    if original is None:
        raise ModelError(f"the submodule {name!r} is None.")
    if any(module.training != original.training for module in replacement.modules()):
        replacement.train(original.training)
    places = [(parent, last)]
    if id(original) in (repeated(model) if shared is None else shared):
        places = [
            (module, key)
            for module in model.modules()
            for key, child in module._modules.items()
            if child is original
        ]
    for module, key in places:
        module._modules[key] = replacement
    try:
        yield original
    finally:
        for module, key in places:
            module._modules[key] = original


def repeated(model: nn.Module) -> frozenset[int]:
    """Return the ids of the modules that are registered at several places."""
    once: set[int] = set()
    again: set[int] = set()
    waiting = [model]
    while waiting:
        for child in waiting.pop()._modules.values():
            if child is None:
                continue
            if id(child) in once:
                again.add(id(child))
            else:
                once.add(id(child))
                waiting.append(child)
    return frozenset(again)


def load_state(model: nn.Module, state: Mapping[str, Any], *, strict: bool = True) -> None:
    """Load `state` into `model`, with the versions that the model's own state dict states.

    A module may read an entry by the version in which it was written (torchvision's MNASNet
    refuses one without). Files of plain tensors keep no versions; the entries are those of the
    model as it is.

    Raises:
        RuntimeError: Entries do not fit.
    """
    versioned = OrderedDict(state)
    versioned._metadata = getattr(model.state_dict(), "_metadata", {})  # type: ignore[attr-defined]
    model.load_state_dict(versioned, strict=strict)


def copies_of_computed(model: nn.Module) -> dict[int, Any]:
    """Return copies of the tensors that modules keep beside parameters and have a gradient.

    As a memo for `copy.deepcopy`, which refuses them: weights that a hook computed in training.
    """
    return {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }


def count_params(model: nn.Module) -> int:
    """Return the number of parameters; a shared one counts once."""
    return sum(parameter.numel() for parameter in model.parameters())
