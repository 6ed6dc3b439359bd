"""Examines the environment: versions, devices, optional packages, known traps and their fixes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys

from srinit.records import record

OPTIONAL = {
    "torchvision": "vision",
    "timm": "vision",
    "transformers": "hf",
    "datasets": "hf",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "nncf": "openvino",
    "pyarrow": "parquet",
    "accelerate": "distributed",
    "captum": "explain",
    "sklearn": "demo",
    "mlflow": "mlflow",
}


@record
class Finding:
    """One fact about the environment; `fix` says what to do where it is a problem."""

    name: str
    text: str
    problem: bool = False
    fix: str = ""


def examine() -> list[Finding]:
    """Return what was found, problems included; nothing is changed."""
    findings = [
        Finding(name="python", text=f"{platform.python_version()} ({sys.executable})"),
        Finding(name="system", text=f"{platform.system()} {platform.machine()}"),
        Finding(name="cpu cores", text=str(os.cpu_count())),
        _torch(),
        _vision(),
    ]
    findings += [_optional(module, extra) for module, extra in OPTIONAL.items()]
    return findings


def _torch() -> Finding:
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    where = ", ".join(devices) if devices else "no CUDA device, the CPU is used"
    return Finding(name="torch", text=f"{torch.__version__}; {where}")


def _vision() -> Finding:
    """Find the commonest trap: a torchvision built for another torch."""
    if importlib.util.find_spec("torchvision") is None:
        return Finding(name="torch with torchvision", text="torchvision is not installed")
    try:
        import torchvision

        torchvision.ops.nms  # noqa: B018 - its absence is what tells
    except (RuntimeError, ImportError, AttributeError) as error:
        return Finding(
            name="torch with torchvision",
            text=f"broken: {str(error).splitlines()[0]}",
            problem=True,
            fix="torch and torchvision come from different builds (a CPU-only torch?): "
            "python3 -m pip install --force-reinstall torch torchvision",
        )
    return Finding(name="torch with torchvision", text="fit together")


def _optional(module: str, extra: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        text = f"not installed (python3 -m pip install 'srinit[{extra}]')"
        return Finding(name=module, text=text)
    distribution = {"sklearn": "scikit-learn"}.get(module, module)
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        version = "installed"
    return Finding(name=module, text=version)
