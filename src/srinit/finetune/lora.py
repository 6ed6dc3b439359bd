"""Low-rank adapters in place of all weights: put in by `peft`, merged when training ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

from torch import nn

from srinit.config import LoraSettings
from srinit.errors import ConfigError, require
from srinit.rng import isolated_rng, seed_for

AUTO = "auto"


@contextmanager
def adapted(model: nn.Module, settings: LoraSettings, seed: int) -> Iterator[None]:
    """Hold low-rank adapters in a network; afterwards they are merged into its weights.

    What is trained of a linear map W is a product B A of rank r, and the map is
    W + alpha / r B A (Hu et al., https://arxiv.org/abs/2106.09685). All other weights are frozen
    meanwhile. Where the block raises, the network comes back as it was.

    Args:
        model: Changed in place; with rank 0 nothing is done.
        settings: Of the recipe.
        seed: Of the first weights of A; B begins at zero.

    Raises:
        ConfigError: The targets name no linear map.
        MissingExtraError: `peft` is not installed.
    """
    if settings.r == 0:
        yield
        return
    targets = targets_of(model, settings.targets)
    require("peft", "lora", "for finetune.lora")
    import peft

    flags = [(p, p.requires_grad) for p in model.parameters()]
    attributes = set(vars(model))
    config = peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha or 2 * settings.r,
        lora_dropout=settings.dropout,
        target_modules=targets,
        fan_in_fan_out=all(type(model.get_submodule(name)) is not nn.Linear for name in targets),
    )
    with isolated_rng(seed_for("lora", seed)):
        adapters = peft.LoraModel(model, config, "default")
    merges = False
    try:
        yield
        merges = True
    finally:
        (adapters.merge_and_unload if merges else adapters.unload)()
        for name in set(vars(model)) - attributes:
            delattr(model, name)
        for parameter, is_trained in flags:
            parameter.requires_grad_(is_trained)


def targets_of(model: nn.Module, targets: str | tuple[str, ...]) -> list[str]:
    """Return the names of the linear maps that get adapters.

    Args:
        model: The network.
        targets: "auto": all linear maps but those that put out the answers (the output embedding
            of a language model, else the last linear map); or names, ends of names, or globs.

    Raises:
        ConfigError: There are none.
    """
    linear = [name for name, module in model.named_modules() if _is_linear(module)]
    if targets == AUTO:
        find = getattr(model, "get_output_embeddings", None)
        head = find() if callable(find) else None
        kept = [name for name in linear if model.get_submodule(name) is not head]
        found = kept if head is not None else linear[:-1]
    else:
        wanted = (targets,) if isinstance(targets, str) else targets
        found = [name for name in linear if any(_fits(name, each) for each in wanted)]
    if not found:
        some = f", such as {linear[0]}" if linear else ", of which there is none"
        raise ConfigError(
            f"finetune.lora.targets ({targets}) names no linear map of {type(model).__name__}; "
            f"give names of modules{some}."
        )
    return found


def _fits(name: str, wanted: str) -> bool:
    return fnmatchcase(name, wanted) or name.endswith(f".{wanted}")


def _is_linear(module: nn.Module) -> bool:
    """Return whether a module is a linear map by itself, also that of GPT-2 in transformers."""
    kind = type(module)
    return kind is nn.Linear or (kind.__name__, kind.__module__.split(".")[0]) == (
        "Conv1D",
        "transformers",
    )
