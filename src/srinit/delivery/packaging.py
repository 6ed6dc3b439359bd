"""The edge package of a run: made if its gates passed, checked against the run's own answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from srinit import artifact, edge
from srinit.display import command
from srinit.edge import Candidate, Example, Facts, Package
from srinit.errors import ModelError
from srinit.gates import GateResult
from srinit.int8 import Int8
from srinit.observer import Observer
from srinit.plan import PrunePlan
from srinit.records import plain
from srinit.runs import RunFiles, artifacts
from srinit.runs.kinds import PairedOutcomes
from srinit.runs.records import Exports, RoundsOutcome
from srinit.runtimes import files_of
from srinit.sources import DataSet
from srinit.steps.table import step
from srinit.steps.task import Task
from srinit.store import sha256_bytes


@dataclass(frozen=True)
class Packer:
    """What a package is made with, beside the files of the run."""

    test: DataSet
    task: Task
    batch_sizes: Sequence[int]
    license: str | None
    observer: Observer


@dataclass(frozen=True)
class Made:
    """What the run left that a package is made of."""

    exports: Exports
    int8: Int8 | None
    gates: GateResult
    predictions: PairedOutcomes
    round_plan: PrunePlan


@step(
    artifacts.PACKAGE,
    part="package",
    says=("package", lambda found: "refused" if found.gate == "refused" else "written"),
    reason=lambda found: found.reason,
)
def package(
    exports: Exports,
    int8: Int8 | None,
    gates: GateResult,
    predictions: PairedOutcomes,
    round_plan: PrunePlan,
    outcome: RoundsOutcome,
    packer: Packer | None,
    files: RunFiles,
) -> Package | None:
    """Return the edge package, or why there is none; None where the config wants none."""
    if packer is None:
        return None
    if why := refusal(files.folder.path, gates, outcome):
        packer.observer.say(why)
        return edge.refused(why)
    made = Made(exports, int8, gates, predictions, round_plan)
    place = files.path(artifacts.PACKAGE).with_name("package")
    files.folder.refuse_links(place)
    found = packed(place, made, packer, files)
    for path in (place, place.with_suffix(".zip")):
        files.folder.record(path)
    return found


def refusal(run: Path, gates: GateResult, outcome: RoundsOutcome) -> str:
    """Return why a run's package does not go out; empty: it may."""
    if not gates.gates:
        said = "it has no gates, so nothing was judged"
    elif not gates.passed:
        said = "; ".join(gate.sentence for gate in gates.failed)
    elif not outcome.accepted:
        said = "its rounds ended because gates failed on validation data"
    else:
        return ""
    advice = command("export", run, "--package", "--override", "--reason", "...")
    return f"{run} is not packaged: {said}. If it must go out all the same: {advice}, on record."


def packed(
    folder: Path, made: Made, packer: Packer, files: RunFiles, *, override: str = ""
) -> Package:
    """Write the package into a folder, and return what is known of it.

    Raises:
        ModelError: The network does not choose one class an image, there is no ONNX file of it,
            or that file does not answer as the network does.
    """
    test, task, predictions = packer.test, packer.task, made.predictions
    _check(made.exports, predictions, test, task)
    export = files.path(artifacts.EXPORTS).parent
    digest = artifact.read_recipe(files.round_folder).weights_sha256
    facts = Facts(
        name=str(json.loads((files.folder.path / "run.json").read_text("utf-8"))["name"]),
        class_names=task.class_names,
        preprocess=plain(test.pool.preprocess),
        plan={
            "removed": list(made.round_plan.names),
            "target": plain(made.round_plan.target),
            "sha256": sha256_bytes(made.round_plan.untimed()[0].to_json().encode()),
        },
        gate="overridden" if override else "passed",
        reason=override,
        gates=made.gates,
        weights_sha256=digest,
        license=packer.license,
        batch_sizes=packer.batch_sizes,
    )
    served = [export / each.file for each in made.exports.files if each.format != "torch.export"]
    candidates = _float32(_checked(served, files), digest, predictions, test, task)
    if made.int8 is not None and made.int8.file:
        (path,) = _checked([export / made.int8.file], files)
        candidates.append(_int8(path, made.int8.sha256, predictions, test, task))
    return edge.write_package(folder, facts, candidates)


def _checked(paths: Sequence[Path], files: RunFiles) -> Sequence[Path]:
    """Return model files whose bytes are those that were written."""
    for path in paths:
        for part in files_of(path):
            files.folder.check(part)
    return paths


def _check(exports: Exports, predictions: PairedOutcomes, test: DataSet, task: Task) -> None:
    why = ""
    if not test.pool.holds_images:
        why = "its examples are no images"
    elif len(predictions.pruned.counts):
        why = "the network's answers lie in the image, and a package answers with one class"
    elif not len(predictions.pruned.predictions) or not task.class_names:
        why = "the network does not choose one of several named classes"
    elif "pruned.onnx" not in {each.file for each in exports.files}:
        why = f"there is no ONNX file of it ({exports.failed.get('onnx', 'export.onnx: false')})"
    if why:
        raise ModelError(f"the edge package cannot be made: {why}.")


def _float32(
    paths: Sequence[Path], digest: str, predictions: PairedOutcomes, test: DataSet, task: Task
) -> list[Candidate]:
    """Return the exported files, compared with what the run's network answered."""
    chosen = edge.chosen_positions(test)
    said = predictions.pruned.predictions[chosen]
    confidence = predictions.pruned.confidence[chosen]
    logits = {path: edge.file_logits(path, test.subset(chosen)) for path in paths}
    sure = np.ones(len(chosen), bool)
    for path, found in logits.items():
        apart = np.abs(edge.confidence_of(found) - confidence)
        sure &= (found.argmax(1) == said) & (apart <= edge.ANSWERS_WITHIN / 2)
        if not sure.any():
            raise ModelError(
                f"the edge package cannot be made: {path.name} gives none of {len(chosen)} test "
                f"images the answer of the network within {edge.ANSWERS_WITHIN:g}."
            )
    examples = _examples(test, chosen, edge.spread(said, sure), task, said, confidence)
    return [
        Candidate(
            file=f"model{path.suffix}",
            contents=[part.read_bytes() for part in files_of(path)],
            numbers="float32",
            log_as=digest,
            tolerance=edge.ANSWERS_WITHIN,
            examples=examples,
            answers=edge.compared(f"model{path.suffix}", found, said, confidence),
        )
        for path, found in logits.items()
    ]


def _int8(
    path: Path, digest: str, predictions: PairedOutcomes, test: DataSet, task: Task
) -> Candidate:
    """Return the int8 network with its own answers to examples; compared with the run's network."""
    chosen = edge.chosen_positions(test)
    against = predictions.pruned.predictions[chosen], predictions.pruned.confidence[chosen]
    logits = edge.file_logits(path, test.subset(chosen))
    said, confidence = logits.argmax(1), edge.confidence_of(logits)
    sure = confidence > 0.5 + edge.INT8_WITHIN  # the largest, also where kernels round otherwise
    rows = edge.spread(said, sure if sure.any() else confidence >= confidence.max())
    examples = _examples(test, chosen, rows, task, said, confidence)
    name = f"model-int8{path.suffix}"
    return Candidate(
        file=name,
        contents=[part.read_bytes() for part in files_of(path)],
        numbers="int8",
        log_as=digest,
        tolerance=edge.INT8_WITHIN,
        examples=[replace(e, name=e.name.replace("/", "/int8-")) for e in examples],
        answers=edge.compared(name, logits, *against),
    )


def _examples(
    test: DataSet,
    chosen: Sequence[int],
    rows: Sequence[int],
    task: Task,
    said: npt.NDArray[np.int64],
    confidence: npt.NDArray[np.float64],
) -> list[Example]:
    named = edge.named([edge.image_file(test, chosen[row]) for row in rows])
    return [
        Example(name, content, task.class_names[int(said[row])], float(confidence[row]))
        for (name, content), row in zip(named, rows, strict=True)
    ]
