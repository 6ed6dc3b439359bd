"""Writes the folder: weights in shards, configs, tokenizer and card; whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srinit import modules, store
from srinit.errors import ModelError, ResourceError
from srinit.evaluate import inputs_of
from srinit.hugging_face.base import CARD, BaseFolder
from srinit.hugging_face.outlook import why_no_folder
from srinit.records import record

IMPLEMENTATION = "_attn_implementation"
ALLOWED = 1e-6  # of the largest logit: the same weights in the same arithmetic


@record
class FolderFiles:
    """A folder that was written and read again, or why there is none."""

    folder: str  # relative to the run; empty: none
    network: str  # class of transformers
    files: dict[str, str]  # SHA-256 by name, relative to the folder
    copied: tuple[str, ...] = ()  # of them those of the base, byte for byte
    num_examples: int = 0  # that both networks answered
    max_difference: float | None = None  # of their outputs
    reason: str = ""  # why there is no folder
    notes: tuple[str, ...] = ()

    def words(self) -> str:
        """Return what was written, or why nothing was."""
        if not self.folder:
            return f"not written: {self.reason}"
        return (
            f"{self.network}, {len(self.files)} files, {len(self.copied)} of them the base's; read "
            f"again by from_pretrained within {self.max_difference or 0:.1e} on "
            f"{self.num_examples} examples"
        )


def write_folder(
    model: nn.Module,
    folder: Path,
    *,
    inputs: object,
    card: str,
    base: BaseFolder | None = None,
    shard_size: str = "5GB",
) -> FolderFiles:
    """Write a pruned network of transformers as a folder, read it again, and compare the two.

    Args:
        model: The network, its config in line with its layers.
        folder: Replaced as a whole.
        inputs: One batch; the network that is read again must answer it equally.
        card: Text of the model card.
        base: The folder whose tokenizer, templates and licenses go on unchanged.
        shard_size: Largest size of a file of weights.

    Raises:
        ModelError: The config does not describe the network, or what is read again answers
            otherwise; nothing is left of the folder then.
        ResourceError: The disk is full.
    """
    reason = why_no_folder(model)
    if reason:
        raise ModelError(f"no folder of transformers can be written: {reason}.")
    work = folder.with_name(f".tmp-{folder.name}")
    shutil.rmtree(work, ignore_errors=True)
    try:
        copied, notes = _fill(model, work, card, base, shard_size)
        difference = _difference(model, work, inputs)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    except OSError as error:
        raise ResourceError(f"cannot write {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    return FolderFiles(
        folder=folder.name,
        network=type(model).__name__,
        files={p.relative_to(folder).as_posix(): store.sha256_file(p) for p in names},
        copied=tuple(copied),
        num_examples=modules.batch_size(inputs_of(inputs, model)),
        max_difference=difference,
        notes=tuple(notes),
    )


def _fill(
    model: Any, work: Path, card: str, base: BaseFolder | None, shard_size: str
) -> tuple[list[str], list[str]]:
    work.mkdir(parents=True)
    model.save_pretrained(work, max_shard_size=shard_size)
    copied: list[str] = []
    notes: list[str] = []
    if base is None:
        notes.append("the network's source is no folder, so that there was no tokenizer to copy")
    else:
        copied = base.files()
        for name in copied:
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes((base.path / name).read_bytes())
        if others := base.left_out():
            notes.append(
                f"code, and files above 256 MiB, were not copied ({', '.join(others[:3])})"
            )
        if base.gguf is not None:
            notes += _tokenizer_of(base.gguf, work)
        if text := base.card():
            (work / "README.base.md").write_text(text, "utf-8")
    (work / CARD).write_text(card, "utf-8")
    return copied, notes


def _tokenizer_of(gguf: Path, work: Path) -> list[str]:
    """Write the tokenizer that a GGUF file holds; return a sentence where it cannot be read."""
    import transformers

    try:
        found = transformers.AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True
        )
        found.save_pretrained(work)
    except Exception as error:  # converters of many formats, with errors of their own
        return [f"the tokenizer in {gguf.name} could not be converted: {error}"[:300]]
    return [f"the tokenizer was converted from {gguf.name}"]


def _difference(model: Any, folder: Path, inputs: object) -> float:
    """Return by how much the outputs of the network that is read again are off.

    Raises:
        ModelError: By too much, or it cannot be read.
    """
    told: dict[str, Any] = {}
    if getattr(model.config, IMPLEMENTATION, None):
        told["attn_implementation"] = getattr(model.config, IMPLEMENTATION)
    again, info = type(model).from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **told
    )
    lost = [name for kind in ("missing_keys", "unexpected_keys") for name in sorted(info[kind])]
    if lost:
        raise ModelError(f"the folder does not hold what {type(model).__name__} needs: {lost[0]}.")
    device = modules.device_of(model)
    again = again.to(device).eval()
    batch = modules.to_device(inputs_of(inputs, model), device)
    with modules.untouched(model), torch.inference_mode():
        one, other = (modules.logits_of(modules.call(net, batch)) for net in (model, again))
    if one.shape != other.shape:
        raise ModelError(f"read again, the folder gives {tuple(other.shape)}, not {one.shape}.")
    apart = (one.double() - other.double()).abs()
    off = float(torch.where(one == other, 0.0, apart).max()) if one.numel() else 0.0
    largest = float(one.double().abs().max()) if one.numel() else 0.0
    if not off <= ALLOWED * max(1.0, largest):
        raise ModelError(
            f"read again by {type(model).__name__}.from_pretrained, the folder answers otherwise: "
            f"by {off:.3g} on outputs up to {largest:.3g}."
        )
    return off
