"""The network that a config names: of a source, or of another run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from srinit import networks
from srinit.config import Config
from srinit.custody.networks import load_run


def load_network(
    config: Config, *, bare: bool = False, on_note: Callable[[str], None] | None = None
) -> nn.Module:
    """Return the unpruned network of a run, on the CPU, in evaluation mode.

    Args:
        config: Of the run.
        bare: The architecture is all that is asked for: weights are not read.
        on_note: Called with one sentence for everything that was changed while loading.
    """
    settings = config.model
    weights = None if bare else settings.weights
    kind, _, name = settings.source.partition(":")
    if kind != "run":
        return networks.load_model(
            settings.source,
            args=settings.args,
            weights=weights,
            weights_sha256=settings.weights_sha256,
            root=config.root,
            allow_download=settings.allow_download and not bare,
            bare=bare,
            on_note=on_note,
        )
    model = load_run(config.root / name, root=config.root)
    if weights is not None:
        path = config.root / weights
        state = networks.read_weights(path, sha256=settings.weights_sha256, on_note=on_note)
        networks.load_weights(model, state, where=str(path), on_note=on_note)
    return model


def base_of(config: Config) -> dict[str, Any]:
    """Return where the unpruned network comes from, without need of a Hugging Face folder."""
    settings = config.model
    kind, _, name = settings.source.partition(":")
    args = dict(settings.args)
    if kind == "hf":
        args = networks.self_contained(args, name, config.root)
    return {"source": settings.source, "args": args}
