"""The networks of the coverage table: how each is built, from what source, and its inputs."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import coverage_holdout
from srinit.networks import load_model
from srinit.rng import isolated_rng, seed_for

SMALL = ("test_", "atto", "femto", "pico", "nano", "xxs", "xx_small", "tiny", "_s0", "xs", "small")


def listing() -> Iterator[str]:
    """Yield every case as `library:name`; one for each model file or architecture."""
    import timm
    import torchvision

    by_file = defaultdict(list)
    for name in timm.list_models(exclude_filters=["test_*"]):
        by_file[timm.models.model_entrypoint(name).__module__].append(name)
    for names in by_file.values():
        yield f"timm:{min(names, key=rank)}"
    by_file = defaultdict(list)
    for name in torchvision.models.list_models():
        by_file[torchvision.models.get_model_builder(name).__module__].append(name)
    for module, names in by_file.items():
        if ".quantization." not in module:  # the same classes again, with observers
            yield f"torchvision:{min(names, key=rank)}"
    from coverage_configs import CONFIGS

    yield from (f"hf:{name}" for name in CONFIGS)


def rank(name: str) -> tuple[int, int, str]:
    """Order names by how small their network is likely to be, as far as names tell."""
    numbers = [int(n) for n in re.findall(r"\d+", name)]
    word = next((i for i, part in enumerate(SMALL) if part in name), len(SMALL))
    large = any(part in name for part in ("large", "huge", "giant", "base", "xl", "384", "512"))
    letters = {"s": -2, "t": -2, "m": 5, "b": 8, "l": 10, "h": 12}
    letter = sum(value for key, value in letters.items() if re.search(f"_{key}(_|$)", name))
    return (word + 20 * large + letter, sum(numbers), name)


def build(case: str) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Return a network, inputs for it, and the base that `save_pruned` records."""
    library, _, name = case.partition(":")
    base: dict[str, Any] = {"source": case, "args": {}}
    if library == "hf":
        return build_hugging_face(name)
    if case not in set(listing()):
        coverage_holdout.check_size(case)
    if library == "torchvision" and name.startswith(("fasterrcnn", "maskrcnn", "keypointrcnn")):
        base["args"] = {"box_detections_per_img": 5, "min_size": 160, "max_size": 256}
    if library == "torchvision" and name.startswith(("retinanet", "fcos")):
        base["args"] = {"min_size": 160, "max_size": 256}
    model = load_model(case, args=base["args"])
    if library == "timm":
        shape = model.default_cfg.get("input_size", (3, 224, 224))
        return model, noise(2, *shape), base
    return model, torchvision_inputs(name), base


def build_hugging_face(name: str) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Return a network of transformers with a tiny config; see `build`."""
    from coverage_configs import CONFIGS, inputs_for, make_config

    listed = name in CONFIGS
    config = make_config(name)[0] if listed else coverage_holdout.make_config(name)
    if not listed:
        coverage_holdout.check_config(config)
    folder = tempfile.mkdtemp()
    config.save_pretrained(folder)
    base: dict[str, Any] = {"source": f"hf:{folder}/config.json", "args": {"auto": "AutoModel"}}
    model = load_model(base["source"], args=base["args"])
    inputs = inputs_for(name, model) if listed else coverage_holdout.guessed_inputs(model)
    return model, inputs, base


def torchvision_inputs(name: str) -> Any:
    """Return inputs for a torchvision network."""
    import torchvision

    module = torchvision.models.get_model_builder(name).__module__
    if ".detection." in module:
        return ([*noise(2, 3, 160, 160).sigmoid()],)
    if ".video." in module:
        sizes = {"mvit": (16, 224, 224), "s3d": (16, 224, 224), "swin": (8, 64, 64)}
        size = next((size for part, size in sizes.items() if part in name), (8, 64, 64))
        return noise(2, 3, *size)
    if ".optical_flow." in module:
        return (noise(1, 3, 128, 128), noise(1, 3, 128, 128))
    fixed = name.startswith(("vit", "maxvit"))
    return noise(2, 3, 224, 224) if fixed else noise(2, 3, 96, 96)


def noise(*shape: int) -> Tensor:
    """Return normal noise, the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def settled(model: nn.Module) -> nn.Module:
    """Return the network with zero-initialized scales and weights made non-zero, in place.

    A network whose last layers are zero ignores its blocks, and then every check would pass.
    """
    with isolated_rng(seed_for("settled")), torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.numel() and not parameter.any():
                parameter.normal_(std=0.02)
    return model


def folder_of(base: dict[str, Any]) -> Path | None:
    """Return the temporary folder that a Hugging Face base lies in."""
    kind, _, path = str(base["source"]).partition(":")
    return Path(path).parent if kind == "hf" else None
