"""Models by prefixed name; nothing is downloaded unless it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from srinit.errors import ConfigError, ModelError, PruneError
from srinit.networks.builders import BUILDERS
from srinit.networks.fit import load_weights
from srinit.networks.request import ModelRequest
from srinit.networks.weights import read_weights
from srinit.rng import isolated_rng, seed_for

KINDS = (
    "timm:NAME, torchvision:NAME, detector:NAME, hf:FOLDER, py:FILE.py:FACTORY (and run:RUN in a "
    "config)"
)


def load_model(
    source: str,
    *,
    args: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    weights_sha256: str | None = None,
    root: Path | None = None,
    allow_download: bool = False,
    bare: bool = False,
    on_note: Callable[[str], None] | None = None,
) -> nn.Module:
    """Return the model a source names, on the CPU, in evaluation mode.

    The initial weights of a model without a checkpoint are the same in every process; the global
    random state is left as it was.

    Args:
        source: `timm:NAME`, `torchvision:NAME`, `detector:NAME` (a detection network of torchvision
            as a `Detector`), `hf:FOLDER` (a local Hugging Face folder or
            config.json, or a name in the local cache) or `py:FILE.py:FACTORY` (runs the user's own
            code).
        args: Keyword arguments of the factory.
        weights: File with the trained weights, loaded strictly; those of an `hf:` folder are
            then not read. Without it the model keeps the weights its factory gave it; those of an
            `hf:` folder must be there, in safetensors, for every tensor of the network.
        weights_sha256: Hash that the weights file must have.
        root: Folder that relative paths start from.
        bare: The architecture is all that is asked for: weights of an `hf:` folder are not read.
        allow_download: Let timm, torchvision and transformers fetch what `args` ask for.
        on_note: Called with one sentence for everything that was changed while loading.

    Raises:
        ConfigError: The source has no known prefix, or would download.
        ModelError: The model cannot be built.
        CheckpointError: The weights are missing, or do not fit.
        UnsafeError: The weights are a pickle.

    Example:
        >>> load_model("torchvision:resnet18").fc.out_features
        1000
    """
    kind, _, name = source.partition(":")
    if kind not in BUILDERS or not name:
        raise ConfigError(f"model.source {source!r} is not one of {KINDS}.")
    base = root or Path()
    request = ModelRequest(
        name=name,
        args=dict(args or {}),
        root=base,
        download=allow_download,
        bare=bare or weights is not None,
        note=on_note or (lambda _: None),
    )
    try:
        with isolated_rng(seed_for("load_model", source)):
            model = BUILDERS[kind](request)
    except PruneError:
        raise
    except Exception as error:
        raise ModelError(
            f"{source} could not be built with {dict(args or {})}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{source} returned {type(model).__name__}, not an nn.Module.")
    if weights is not None:
        path = base / weights
        state = read_weights(path, sha256=weights_sha256, on_note=on_note)
        load_weights(model, state, where=str(path), on_note=on_note)
    return model.eval()
