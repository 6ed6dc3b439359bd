"""Copies the teacher's features: what named modules of both networks put out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import ConfigError


@contextmanager
def watched(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that every forward pass fills with the first output tensor of named modules.

    No hook is left behind, also when something raises.

    Raises:
        ConfigError: `model` has no module of such a name.

    Example:
        >>> model = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> with watched(model, ["1"]) as found:
        ...     _ = model(torch.tensor([-1.0, 2.0]))
        >>> found["1"], len(model[1]._forward_hooks)
        (tensor([0., 2.]), 0)
    """
    found: dict[str, Tensor] = {}
    parts = dict(model.named_modules(remove_duplicate=False))
    with ExitStack() as hooks:
        for name in names:
            if name not in parts:
                raise ConfigError(
                    f"features cannot be compared at {name!r}: {type(model).__name__} has no such "
                    "module; give names as in named_modules()."
                )

            def keep(_module: nn.Module, _inputs: object, output: object, name: str = name) -> None:
                first = next(modules.tensors(output), None)
                if first is not None:
                    found[name] = first.clone()  # what follows may write over it

            hooks.enter_context(_removed_after(parts[name].register_forward_hook(keep)))
        yield found


@contextmanager
def _removed_after(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def feature_loss(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], pairs: Mapping[str, str]
) -> Tensor | None:
    """Return the mean over `pairs` of the squared distance, each relative to the teacher's size.

    Pairs (student's name to teacher's name) whose shapes differ are left out; None where none is
    left. Source of the idea: Romero et al., FitNets, https://arxiv.org/abs/1412.6550

    Example:
        >>> one, two = {"a": torch.tensor([1.0])}, {"b": torch.tensor([2.0])}
        >>> feature_loss(one, two, {"a": "b"})
        tensor(0.2500)
    """
    terms = []
    for mine, other in pairs.items():
        if mine in ours and other in theirs and ours[mine].shape == theirs[other].shape:
            student, guide = ours[mine].float(), theirs[other].detach().float()
            size = guide.square().mean().clamp_min(1e-12)
            terms.append((student - guide).square().mean() / size)
    return torch.stack(terms).mean() if terms else None
