"""The pruned network for deployment: ONNX, OpenVINO and torch.export, checked against PyTorch."""

from __future__ import annotations

import logging
import re
import statistics
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules, runtimes, store
from srinit.errors import ModelError, ResourceError, is_out_of_memory, require
from srinit.evaluate import inputs_of
from srinit.latency import LatencyPair, pair, resized
from srinit.networks import Detector, OneImage
from srinit.records import record
from srinit.serving import FileNetwork, run_file, time_files

TOLERANCES = {  # difference from PyTorch that is allowed, as a share of the largest output
    torch.float64: 1e-6,
    torch.float32: 1e-4,
    torch.float16: 8 * torch.finfo(torch.float16).eps,
    torch.bfloat16: 8 * torch.finfo(torch.bfloat16).eps,
}
LEAST_SCALE = 0.1  # smaller outputs are sums of larger numbers, whose rounding they carry
DETECTOR_OPSET = 17
EXPORT_BATCH = 2  # a batch of one would be taken for a constant
COLOR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # escape sequences of terminals
NOISY = ("torch.onnx", "onnxscript", "torch.export", "torch.fx", "onnx_ir")


@record
class Exported:
    """One exported file and how it was checked."""

    format: str  # "onnx", "openvino" or "torch.export"
    file: str
    sha256: str  # of an IR that of the .xml and the .bin, one after the other
    size_bytes: int
    num_examples: int  # real examples it was checked on
    max_difference: float  # largest absolute difference of an output from PyTorch's
    agreement: float  # share of equal predictions
    opset: int | None = None


def export_onnx(
    model: nn.Module, inputs: object, path: Path, *, opset: int | None = None
) -> Exported:
    """Write `model` as ONNX with a dynamic batch, and check it with onnxruntime.

    A `Detector` is written for one image, by the exporter that torchvision supports for detectors
    (https://docs.pytorch.org/vision/stable/models.html).

    Args:
        model: Exported in evaluation mode; not changed.
        inputs: Real examples: a tensor, a tuple of tensors (arguments) or a dict of them
            (keywords); of a dict the file takes inputs of these names, and gives the logits.
        path: The file.
        opset: ONNX operator set; None takes the exporter's default.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        ModelError: The network cannot be exported, or the file answers differently: by more than
            the rounding of the network's number format allows (`TOLERANCES`).
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, "onnx", "for ONNX export")
    inputs = _bare(inputs, model)
    if isinstance(model, Detector):
        return _detector(model, inputs, path, opset or DETECTOR_OPSET)
    arguments = _arguments(inputs)
    names = [f"input{i}" if i else "input" for i in range(len(arguments))]
    if isinstance(inputs, dict):
        names = list(inputs)
    options: dict[str, Any] = {} if opset is None else {"opset_version": opset}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")  # the ending names the runtime
    try:
        with modules.untouched(model), _quiet(), torch.no_grad():
            named = isinstance(inputs, dict)
            batch: object = torch.export.Dim.DYNAMIC if named else torch.export.Dim("batch")
            network, few, shapes = _traced(model, inputs, {0: batch})
            if named:  # a dict at the end of the arguments would be keywords
                options |= {"kwargs": {"inputs": few[0]}}
                few, shapes = (), {"inputs": shapes[0]}
            torch.onnx.export(
                network,
                few,
                str(temporary),
                input_names=names,
                output_names=["output"],
                dynamic_shapes=shapes,
                dynamo=True,
                external_data=False,
                verbose=False,
                **options,
            )
        found = run_file(temporary, arguments)
        import onnx

        opsets = onnx.load(temporary).opset_import
        content = temporary.read_bytes()
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}.") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"ONNX export failed: {_reason(error).rstrip('.')}.{_format_hint(model)}"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    version = max(o.version for o in opsets if o.domain in ("", "ai.onnx"))
    return _published(model, inputs, found, path, "onnx", content, opset=version)


def _detector(model: Detector, inputs: Any, path: Path, opset: int) -> Exported:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")  # the ending names the runtime
    images = inputs.cpu()
    try:
        with modules.untouched(model), _quiet(), torch.no_grad():
            torch.onnx.export(
                OneImage(model).eval(), (images[:1],), str(temporary), dynamo=False,
                input_names=["input"], output_names=["output"], opset_version=opset,
                dynamic_axes={"output": [0]},
            )  # fmt: skip
            written = FileNetwork(temporary)
            rows = [written(image[None]) for image in images]
        content = temporary.read_bytes()
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}.") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"ONNX export failed: {_reason(error).rstrip('.')}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    found = torch.stack([torch.nn.functional.pad(each[: model.most],
                                                 (0, 0, 0, max(0, model.most - len(each))))
                         for each in rows])  # fmt: skip
    return _published(model, images, found, path, "onnx", content, opset=opset)


def export_torch(model: nn.Module, inputs: object, path: Path) -> Exported:
    """Write `model` as a torch.export program with a dynamic batch, and check it.

    The example inputs are left out of the archive: they would be its only pickled part. The
    program of a network that takes keywords takes one dict of them, and gives the logits.

    Raises:
        ModelError: The network cannot be exported, or the file answers differently.
    """
    if isinstance(model, Detector):
        raise ModelError(
            "torch.export failed: how many objects a detector finds depends on the image, which "
            "torch.export cannot write; ONNX can."
        )
    inputs = _bare(inputs, model)
    arguments = _arguments(inputs)
    try:
        with modules.untouched(model), _quiet(), torch.no_grad():
            network, few, shapes = _traced(model, inputs, {0: torch.export.Dim.DYNAMIC})
            program = torch.export.export(network, few, dynamic_shapes=shapes, strict=False)
            program.example_inputs = None
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"torch.export failed: {_reason(error)}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")  # must end in .pt2
    try:
        torch.export.save(program, temporary)
        content = temporary.read_bytes()
        with torch.no_grad(), _quiet():
            given = (inputs,) if isinstance(inputs, dict) else arguments
            output = torch.export.load(temporary).module()(*given)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}.") from error
    except Exception as error:
        raise ModelError(f"torch.export failed: {_reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return _published(model, inputs, modules.logits_of(output), path, "torch.export", content)


class _Keywords(nn.Module):
    """Takes one dict of tensors for a network that takes keywords, and gives its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the logits."""
        return modules.logits_of(self.network(**inputs))


def _traced(
    model: nn.Module, inputs: object, dynamic: dict[int, Any]
) -> tuple[nn.Module, tuple[Any, ...], Any]:
    """Return the module to export, a small batch as its arguments, and their dynamic shapes."""
    if isinstance(inputs, dict):
        few = {key: resized(value, EXPORT_BATCH) for key, value in inputs.items()}
        return _Keywords(model).eval(), (few,), (dict.fromkeys(few, dynamic),)
    arguments = _arguments(inputs)
    return (
        model,
        tuple(resized(a, EXPORT_BATCH) for a in arguments),
        tuple(dynamic for _ in arguments),
    )


def export_openvino(model: nn.Module, inputs: object, source: Path, path: Path) -> Exported:
    """Write an ONNX file as OpenVINO IR in its own precision, and check it with OpenVINO.

    Args:
        model: What `source` was exported from.
        inputs: Real examples, as in `export_onnx`.
        source: The ONNX file.
        path: The `.xml`; its `.bin` is written beside it.

    Raises:
        MissingExtraError: openvino is not installed.
        ModelError: It cannot be converted, or answers differently.
    """
    require("openvino", "openvino", "for OpenVINO export")
    inputs = _bare(inputs, model)
    try:
        with tempfile.TemporaryDirectory(prefix="srinit-") as name:
            made = Path(name) / path.name
            openvino = runtimes.openvino()
            openvino.save_model(openvino.Core().read_model(source), made, compress_to_fp16=False)
            found = run_file(made, inputs)
            contents = [each.read_bytes() for each in runtimes.files_of(made)]
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"OpenVINO export failed: {_reason(error)}") from error
    return _published(model, inputs, found, path, "openvino", *contents)


def measure_file_pair(
    baseline: Path, pruned: Path, inputs: object, *, batch_size: int = 1, repeats: int = 30
) -> LatencyPair:
    """Return the latency of two files on the CPU in their runtime, timed in turn."""
    one, other = time_files([baseline, pruned], inputs, batch_size, repeats)
    runtime = runtimes.RUNTIMES[baseline.suffix]
    return pair(one, other, batch_size=batch_size, device="cpu", runtime=runtime)


def time_exported(
    model: nn.Module, inputs: object, runtime: str, *, batch_sizes: Sequence[int], repeats: int = 20
) -> dict[str, float]:
    """Return the median milliseconds of a network in a runtime on the CPU, by batch size.

    Args:
        model: Exported for it and thrown away; not changed.
        inputs: Real examples, as in `export_onnx`.
        runtime: "onnxruntime" or "openvino".
        batch_sizes: Examples a call.
        repeats: Timed calls at most.

    Raises:
        MissingExtraError: The runtime is not installed.
        ModelError: The network cannot be exported.
    """
    place = modules.device_of(model)
    inputs = modules.to_device(inputs, torch.device("cpu"))
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        path = Path(name) / "network.onnx"
        try:
            export_onnx(model.cpu(), inputs, path)
            if runtime == "openvino":
                export_openvino(model, inputs, path, path.with_suffix(".xml"))
                path = path.with_suffix(".xml")
        finally:
            model.to(place)
        return {
            str(size): 1e3 * statistics.median(time_files([path], inputs, size, repeats)[0])
            for size in batch_sizes
        }


def _bare(inputs: object, model: nn.Module | None = None) -> object:
    """Return inputs without a loader's labels; those with names as a dict."""
    inputs = inputs_of(inputs, model)
    return dict(inputs) if isinstance(inputs, Mapping) else inputs


def _arguments(inputs: Any) -> tuple[Tensor, ...]:
    if isinstance(inputs, dict):
        return tuple(inputs.values())
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def _published(
    model: nn.Module,
    inputs: Any,
    found: Tensor,
    path: Path,
    kind: str,
    *contents: bytes,
    opset: int | None = None,
) -> Exported:
    """Write the file, in all its parts, if its answers are PyTorch's, and return the record."""
    with modules.untouched(model), torch.no_grad():
        output = modules.logits_of(modules.call(model, inputs)).detach()
    coarsest = _number_format(model, output)
    expected, found = output.double().cpu(), found.detach().double().cpu()
    difference = _difference(expected, found)
    finite = expected[torch.isfinite(expected)].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    allowed = TOLERANCES[coarsest] * max(LEAST_SCALE, largest)
    if not difference <= allowed:
        raise ModelError(
            f"the {kind} of {path.name} answers differently from PyTorch: by {difference:.3g}, on "
            f"outputs up to {largest:.3g}; {allowed:.3g} is allowed for {_name(coarsest)}."
        )
    written = dict(zip(runtimes.files_of(path), contents, strict=True))
    for place, content in written.items():
        store.write_bytes(place, content)
    same = expected.argmax(-1) == found.argmax(-1) if expected.ndim > 1 else expected == found
    return Exported(
        format=kind,
        file=path.name,
        sha256=store.sha256_bytes(b"".join(contents)),
        size_bytes=sum(map(len, contents)),
        num_examples=modules.batch_size(inputs),
        max_difference=difference,
        agreement=float(same.float().mean()),
        opset=opset,
    )


def _difference(expected: Tensor, found: Tensor) -> float:
    """Return the largest absolute difference; equal infinities differ by nothing."""
    if found.shape != expected.shape:
        return float("inf")
    apart = torch.where(expected == found, 0.0, (expected - found).abs())
    return float(apart.max()) if apart.numel() else 0.0


def _number_format(model: nn.Module, output: Tensor) -> torch.dtype:
    """Return the coarsest number format that a network computes in."""
    there = {tensor.dtype for tensor in (output, *model.parameters(), *model.buffers())}
    known = [dtype for dtype in TOLERANCES if dtype in there]
    return max(known, key=TOLERANCES.__getitem__, default=torch.float32)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _format_hint(model: nn.Module) -> str:
    first = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if first == torch.float32:
        return ""
    return (
        f" The network is {_name(first)}, which onnxruntime does not know for every operator on "
        "a CPU; export model.float() instead."
    )


def _reason(error: BaseException) -> str:
    """Return the kind and the first line of what an error came from, without colors.

    Exporters wrap what went wrong in errors that speak of their own steps; all of them are kept
    as causes of the error that is raised.
    """
    said = ""
    cause: BaseException | None = error
    while cause is not None:
        lines = [line.strip() for line in COLOR.sub("", str(cause)).splitlines() if line.strip()]
        said = f"{type(cause).__name__}: {(lines or [''])[0]}" if lines or not said else said
        cause = cause.__cause__
    return said


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' own warnings and log lines for a while."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
