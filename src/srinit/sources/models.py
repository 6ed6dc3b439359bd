"""Models by prefixed name; nothing is downloaded."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from srinit.errors import ConfigError, ModelError, PruneError, require
from srinit.rng import isolated_rng, seed_for
from srinit.sources.weights import load_weights, read_weights

KINDS = "timm:NAME, torchvision:NAME, hf:FOLDER, py:FILE.py:FACTORY"


def load_model(
    source: str,
    *,
    args: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    root: Path | None = None,
) -> nn.Module:
    """Return the model a source names, on the CPU, in evaluation mode.

    Args:
        source: `timm:NAME`, `torchvision:NAME`, `hf:FOLDER` (a local Hugging Face folder),
            `py:FILE.py:FACTORY` (runs the user's own code) or `run:RUN` (a run's pruned model).
        args: Keyword arguments of the factory.
        weights: File with the trained weights, loaded strictly; without it `timm:`,
            `torchvision:` and `py:` models keep the weights their factory gave them.
        root: Folder that relative paths start from.

    Raises:
        ConfigError: The source has no known prefix.
        ModelError: The model cannot be built.
        CheckpointError: The weights do not fit.

    Example:
        >>> load_model("torchvision:resnet18").fc.out_features
        1000
    """
    kind, _, name = source.partition(":")
    if kind not in BUILDERS or not name:
        raise ConfigError(f"model.source {source!r} is not one of {KINDS}.")
    base = root or Path()
    try:
        # Initial weights of a model without a checkpoint are the same in every process.
        with isolated_rng(seed_for("load_model", source)):
            model = BUILDERS[kind](name, dict(args or {}), base)
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
        load_weights(model, read_weights(path), where=str(path))
    return model.eval()


def _timm(name: str, args: dict[str, Any], _root: Path) -> nn.Module:
    require("timm", "vision", f"for timm:{name}")
    import timm

    if args.get("pretrained"):
        raise ConfigError("model.args.pretrained would download; give the file as model.weights.")
    model: nn.Module = timm.create_model(name, **args)
    return model


def _torchvision(name: str, args: dict[str, Any], _root: Path) -> nn.Module:
    require("torchvision", "vision", f"for torchvision:{name}")
    import torchvision

    builder = torchvision.models.get_model_builder(name)
    offline = {"weights": None}
    if "weights_backbone" in builder.__annotations__:
        offline["weights_backbone"] = None
    for key in offline:
        if args.get(key) is not None:
            raise ConfigError(f"model.args.{key} would download; give the file as model.weights.")
    model: nn.Module = torchvision.models.get_model(name, **{**args, **offline})
    return model


def _hugging_face(name: str, args: dict[str, Any], root: Path) -> nn.Module:
    require("transformers", "hf", f"for hf:{name}")
    import transformers

    folder = root / name
    if not folder.is_dir():
        raise ModelError(
            f"hf:{name} is not a local folder ({folder}); download it first, nothing is fetched."
        )
    head = args.pop("auto", "AutoModel")
    auto = getattr(transformers, head, None)
    if auto is None or not head.startswith("AutoModel"):
        raise ConfigError(
            f"model.args.auto {head!r} is not one of transformers' AutoModel classes."
        )
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, **args)
    if not list(folder.glob("*.safetensors")):
        return auto.from_config(config)  # type: ignore[no-any-return]
    return auto.from_pretrained(  # type: ignore[no-any-return]
        folder, config=config, local_files_only=True, use_safetensors=True
    )


def _python(name: str, args: dict[str, Any], root: Path) -> nn.Module:
    model: nn.Module = load_function(name, root)(**args)
    return model


def _run(name: str, _args: dict[str, Any], root: Path) -> nn.Module:
    # The artifact is built on this module, so it is looked up only when a run is asked for.
    artifact = importlib.import_module("srinit.artifact")
    stages = sorted((root / name / "stages").glob("*/recipe.json"))
    if not stages:
        raise ModelError(f"run:{name} holds no pruned model yet; run it first.")
    model: nn.Module = artifact.load_pruned(stages[-1].parent, trust_code=True)
    return model


BUILDERS: dict[str, Callable[[str, dict[str, Any], Path], nn.Module]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "hf": _hugging_face,
    "py": _python,
    "run": _run,
}


def load_function(name: str, root: Path) -> Callable[..., Any]:
    """Return the function that `FILE.py:FUNCTION` names; the file is run.

    Raises:
        ConfigError: The name has another form.
        ModelError: No such file or function, or the file fails when it is run.
    """
    file, _, function = name.rpartition(":")
    if not file.endswith(".py") or not function:
        raise ConfigError(f"py:{name} should look like py:path/file.py:function.")
    path = (root / file).absolute()
    if not path.is_file():
        raise ModelError(f"py:{name}: there is no file {path}.")
    module_name = f"_srinit_user_{seed_for(str(path))}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickling of workers look it up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"{path} fails when it is run: {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise ModelError(f"{path} has no function {function!r}.")
    return found  # type: ignore[no-any-return]
