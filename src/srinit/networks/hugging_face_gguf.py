"""Networks in GGUF files: read by transformers, and turned into plain floating-point weights.

What transformers can convert is listed at https://huggingface.co/docs/transformers/gguf.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srinit.errors import CheckpointError, require
from srinit.networks.hugging_face_class import model_class

SUFFIX = ".gguf"
CAUSAL = "AutoModelForCausalLM"  # GGUF files name no class
OTHERS = ("*.safetensors", "*.safetensors.index.json")


def gguf_file(place: Path) -> Path | None:
    """Return the GGUF file that a path names, or that a folder holds in place of safetensors.

    Raises:
        CheckpointError: A folder holds several.

    Example:
        >>> gguf_file(Path("nowhere")) is None
        True
    """
    if place.suffix.lower() == SUFFIX:
        return place if place.is_file() else None
    if not place.is_dir() or any(any(place.glob(pattern)) for pattern in OTHERS):
        return None
    found = sorted(path for path in place.iterdir() if path.suffix.lower() == SUFFIX)
    if len(found) > 1:
        raise CheckpointError(
            f"{place} holds {len(found)} GGUF files ({', '.join(p.name for p in found[:3])}); "
            f"name one: hf:{place.name}/{found[0].name}"
        )
    return found[0] if found else None


def check_readable(file: Path, where: str) -> None:
    """Raise where nothing that is installed reads GGUF files.

    Raises:
        MissingExtraError: The package gguf is missing.
    """
    require("gguf", "gguf", f"to read {file.name} of {where}")


def gguf_class(config: Any, auto: str | None, where: str) -> Any:
    """Return the class of a GGUF file's network: the one asked for, by default a decoder."""
    named = getattr(config, "architectures", None)
    return model_class(config, auto if auto is not None or named else CAUSAL, where)


def plain_weights(model: Any) -> None:
    """Forget, in place, that weights were quantized once: they are floating-point numbers now."""
    for owner in (model, model.config):
        for name in ("hf_quantizer", "quantization_method", "quantization_config"):
            vars(owner).pop(name, None)
    model.is_quantized = False
