"""Model files that answer on arrays, by the runtime of their ending. Shipped with edge packages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}
PROVIDER = "CPUExecutionProvider"  # of onnxruntime
Answer = Callable[[Mapping[str, Any]], Any]
Opened = tuple[list[str], Answer]  # names of the inputs, and what answers


class ModelFile:
    """A model file that answers on arrays.

    Args:
        path: ONNX, or the `.xml` of an OpenVINO IR with its `.bin` beside it.
        threads: Of one call; 0 leaves it to the runtime.
        provider: Of onnxruntime.
        contents: The bytes of its files (`files_of`), where they were read and checked already.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        provider: str = PROVIDER,
        contents: Sequence[bytes] | None = None,
    ) -> None:
        self.path, self.runtime = path, RUNTIMES[path.suffix]
        self.version = version_of(self.runtime)
        given = [each.read_bytes() for each in files_of(path)] if contents is None else contents
        if self.runtime == "openvino":
            self.names, self._answer = _openvino(given, threads)
        else:
            self.names, self._answer = _onnxruntime(given, threads, provider)

    def __call__(self, feeds: Mapping[str, Any]) -> Any:
        """Return the first output for inputs by name."""
        return self._answer(feeds)


def files_of(path: Path) -> list[Path]:
    """Return the files that a model is kept in.

    Example:
        >>> [each.name for each in files_of(Path("model.xml"))]
        ['model.xml', 'model.bin']
    """
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def installed(runtime: str) -> bool:
    """Return whether a runtime can be imported."""
    return find_spec(runtime) is not None


def version_of(runtime: str) -> str:
    """Return a runtime with its version."""
    try:
        return f"{runtime} {version(runtime)}"
    except PackageNotFoundError:
        return f"{runtime} (not installed)"


def openvino() -> Any:
    """Return the module; its import would send a message home, and finds a stub instead."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino as module

    return module


def _onnxruntime(contents: Sequence[bytes], threads: int, provider: str) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    # Else the threads of one session go on spinning while another is timed in turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(contents[0], options, providers=[provider])
    names = [node.name for node in session.get_inputs()]
    return names, lambda feeds: session.run(None, dict(feeds))[0]


def _openvino(contents: Sequence[bytes], threads: int) -> Opened:
    """Return input names and answers; every shape is compiled for itself when it first comes."""
    core = openvino().Core()
    model = core.read_model(contents[0], contents[1])
    how = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16, where there is hardware for it
        "ENABLE_CPU_PINNING": "NO",  # else it waits for its core while others work there
    }
    if threads:
        how["INFERENCE_NUM_THREADS"] = str(threads)
    compiled: dict[tuple[Any, ...], Any] = {}

    def answer(feeds: Mapping[str, Any]) -> Any:
        key = tuple(value.shape for value in feeds.values())
        if key not in compiled:
            fixed = model.clone()
            fixed.reshape({name: list(value.shape) for name, value in feeds.items()})
            compiled[key] = core.compile_model(fixed, "CPU", how).create_infer_request()
        return compiled[key].infer(dict(feeds), share_inputs=True)[0].copy()

    return [node.any_name for node in model.inputs], answer
