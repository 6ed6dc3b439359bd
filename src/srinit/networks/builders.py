"""How each prefix of a model source builds its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from srinit.errors import ConfigError, require
from srinit.functions import load_function
from srinit.networks.detector import Detector
from srinit.networks.hugging_face import hugging_face_model
from srinit.networks.request import ModelRequest
from srinit.networks.unknown import unknown

Builder = Callable[[ModelRequest], nn.Module]


def timm_model(request: ModelRequest) -> nn.Module:
    """Return a model of timm's registry, https://huggingface.co/docs/timm."""
    name, args, download = request.name, dict(request.args), request.download
    require("timm", "vision", f"for timm:{name}")
    import timm

    if "checkpoint_path" in args:
        raise ConfigError("model.args.checkpoint_path: give the file as model.weights.")
    if not download:
        _refuse_download("pretrained", args.get("pretrained"))
        if ":" in name or "/" in name:
            raise ConfigError(f"timm:{name} would download; write model.allow_download: true.")
    if ":" not in name and not timm.is_model(name):
        raise unknown(f"timm:{name}", name, timm.list_models())
    model: nn.Module = timm.create_model(name, **args)
    return model


def torchvision_model(request: ModelRequest) -> nn.Module:
    """Return a model of torchvision's registry, https://docs.pytorch.org/vision."""
    name, args, download = request.name, dict(request.args), request.download
    require("torchvision", "vision", f"for torchvision:{name}")
    import torchvision

    known = torchvision.models.list_models()
    if name.lower() not in known:
        raise unknown(f"torchvision:{name}", name, known)
    if not download:
        builder = torchvision.models.get_model_builder(name)
        for key in ("weights", "weights_backbone"):
            _refuse_download(key, args.get(key))
            if key in builder.__annotations__:
                args = {**args, key: None}  # the default of some backbones is to download
    model: nn.Module = torchvision.models.get_model(name, **args)
    return model


def detector(request: ModelRequest) -> nn.Module:
    """Return a detection network of torchvision that takes and gives tensors."""
    args = dict(request.args)
    most = args.pop("most", 100)
    return Detector(torchvision_model(replace(request, args=args)), most)


def python_model(request: ModelRequest) -> nn.Module:
    """Return what the user's own factory makes."""
    model: nn.Module = load_function(request.name, request.root)(**request.args)
    return model


BUILDERS: dict[str, Builder] = {
    "timm": timm_model,
    "torchvision": torchvision_model,
    "detector": detector,
    "hf": hugging_face_model,
    "py": python_model,
}


def _refuse_download(key: str, value: object) -> None:
    if value:
        raise ConfigError(
            f"model.args.{key} would download; give the file as model.weights, "
            "or write model.allow_download: true."
        )
