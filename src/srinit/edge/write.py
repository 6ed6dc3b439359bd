"""Writes an edge package: model files, how inputs are made, the program that answers, a zip."""

from __future__ import annotations

import io
import json
import platform
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from srinit import display, runtimes, store
from srinit.edge import check, device, serve
from srinit.edge.records import Answers, Package
from srinit.errors import ModelError, require
from srinit.monitor import properties
from srinit.pixels import deep, images, pixels
from srinit.records import plain

SCHEMA = "srinit.edge/1"
FILES = Path(__file__).parent / "files"
SHIPPED = (check, deep, device, display, images, pixels, properties, runtimes, serve)
"""Modules of the product that the package runs as they are, in its folder `edge`."""
NEEDED = ("numpy", "Pillow")
REQUIREMENTS = {"onnxruntime": "requirements.txt", "openvino": "requirements-openvino.txt"}
BUILT_WITH = ("srinit", "torch", "onnx", "onnxruntime", *NEEDED)
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in the zip, so that equal files make equal zips


@dataclass(frozen=True)
class Example:
    """An image file and the answer that must come out."""

    name: str
    content: bytes
    prediction: str
    confidence: float


@dataclass(frozen=True)
class Candidate:
    """One model file that can answer."""

    file: str  # its name in the package
    contents: Sequence[bytes]  # of it, and of an IR's .bin
    numbers: str  # "float32" or "int8"
    log_as: str  # by which prediction logs name it; empty: by its own hash
    tolerance: float  # of the examples' confidence
    examples: Sequence[Example]
    answers: Answers


@dataclass(frozen=True)
class Facts:
    """What a package says of itself."""

    name: str
    class_names: tuple[str, ...]
    preprocess: Mapping[str, Any]
    plan: Mapping[str, Any]
    gate: str  # "passed" or "overridden"
    reason: str
    gates: Any  # the judgement
    weights_sha256: str
    license: str | None
    batch_sizes: Sequence[int]


def write_package(folder: Path, facts: Facts, candidates: Sequence[Candidate]) -> Package:
    """Write the package into `folder`, and `folder.zip` beside it; what was there is replaced.

    Args:
        folder: The package.
        facts: What it says of itself.
        candidates: Its model files, the one that answers by default first.

    Raises:
        ModelError: A class name holds a line break, or the network takes several inputs.
        ResourceError: The disk is full.
    """
    broken = [name for name in facts.class_names if "\n" in name or "\r" in name]
    if broken:
        raise ModelError(f"the class {broken[0]!r} holds a line break; labels.txt has one a line.")
    contents = _contents(facts, candidates)
    if folder.exists():
        shutil.rmtree(folder)
    for name, content in contents.items():
        store.write_bytes(folder / name, content)
    packed = _zip(facts.name, contents)
    store.write_bytes(folder.with_name(f"{folder.name}.zip"), packed)
    return Package(
        gate=facts.gate,
        reason=facts.reason,
        files={name: store.sha256_bytes(content) for name, content in contents.items()},
        size_bytes=sum(map(len, contents.values())),
        zip_sha256=store.sha256_bytes(packed),
        answers=tuple(each.answers for each in candidates),
    )


def _contents(facts: Facts, candidates: Sequence[Candidate]) -> dict[str, bytes]:
    """Return every file of a package by its name, `model.json` with the hashes of the others."""
    found = program([each.file for each in candidates])
    found["README.md"] = (FILES / "README.md").read_bytes()
    found["preprocess.json"] = written_json(dict(facts.preprocess))
    found["labels.txt"] = "".join(f"{name}\n" for name in facts.class_names).encode()
    told = _told(facts)
    models = []
    for each in candidates:
        contents = each.contents
        if runtime_of(each.file) == "onnxruntime":
            contents = [with_metadata(contents[0], {**told, "numbers": each.numbers})]
        parts = [path.name for path in runtimes.files_of(Path(each.file))]
        found |= dict(zip(parts, contents, strict=True))
        found |= {example.name: example.content for example in each.examples}
        models.append(_entry(each, store.sha256_bytes(b"".join(contents))))
    hashes = {name: store.sha256_bytes(content) for name, content in sorted(found.items())}
    shapes = signature(found[candidates[0].file])
    body = {"schema": SCHEMA, **told, **shapes, "models": models, "files": hashes}
    found["model.json"] = written_json(body)
    return found


def program(files: Sequence[str]) -> dict[str, bytes]:
    """Return the program that answers with model files, and what it needs, by name."""
    found = {"predict.py": (FILES / "predict.py").read_bytes()}
    found["edge/__init__.py"] = b'"""What predict.py shares with srinit, as srinit has it."""\n'
    for module in SHIPPED:
        path = Path(str(module.__file__))
        found[f"edge/{path.name}"] = path.read_bytes()
    for name in sorted({runtime_of(file) for file in files}):
        lines = [f"{package}=={version(package)}\n" for package in (name, *NEEDED)]
        found[REQUIREMENTS[name]] = "".join(lines).encode()
    return found


def runtime_of(file: str) -> str:
    """Return what answers with a file of this name."""
    return runtimes.RUNTIMES[Path(file).suffix]


def _told(facts: Facts) -> dict[str, Any]:
    """Return the facts that model.json and every ONNX file carry."""
    packages = {name: version(name) for name in BUILT_WITH}
    return {
        "name": facts.name,
        "task": "one class an image",
        "labels": list(facts.class_names),
        "preprocess": dict(facts.preprocess),
        "plan": dict(facts.plan),
        "gates": {"state": facts.gate, "reason": facts.reason, "judged": plain(facts.gates)},
        "weights_sha256": facts.weights_sha256,
        "license": facts.license,
        "batch_sizes": list(facts.batch_sizes),
        "versions": {"python": platform.python_version(), **packages},
    }


def _entry(candidate: Candidate, digest: str) -> dict[str, Any]:
    return {
        "file": candidate.file,
        "runtime": runtime_of(candidate.file),
        "sha256": digest,  # of an IR that of the .xml and the .bin, one after the other
        "sha256_of_run": store.sha256_bytes(b"".join(candidate.contents)),  # without the metadata
        "numbers": candidate.numbers,
        "log_as": candidate.log_as or digest,
        "tolerance": candidate.tolerance,
        "answers": plain(candidate.answers),
        "examples": [
            {"file": e.name, "prediction": e.prediction, "confidence": e.confidence}
            for e in candidate.examples
        ],
    }


def with_metadata(content: bytes, facts: Mapping[str, Any]) -> bytes:
    """Return an ONNX file whose `metadata_props` carry facts: texts as they are, others as JSON.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    require("onnx", "onnx", "for the edge package")
    import onnx

    model = onnx.load_model_from_string(content)
    texts = {
        f"srinit.{key}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in facts.items()
        if value is not None
    }
    kept = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, **texts})
    made: bytes = model.SerializeToString(deterministic=True)
    return made


def signature(content: bytes) -> dict[str, Any]:
    """Return name, type and shape of the input and the output of an ONNX file.

    Raises:
        ModelError: It takes several inputs.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs)
        raise ModelError(f"the network takes several inputs ({names}); a package feeds one image.")
    return {
        key: {"name": node.name, "type": node.type, "shape": list(node.shape)}
        for key, node in (("input", inputs[0]), ("output", outputs[0]))
    }


def written_json(body: Mapping[str, Any]) -> bytes:
    """Return a body as the JSON of a package."""
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()


def _zip(name: str, contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in sorted(contents.items()):
            archive.writestr(zipfile.ZipInfo(f"{name}/{file}", EPOCH), content,
                             zipfile.ZIP_DEFLATED)  # fmt: skip
    return buffer.getvalue()
