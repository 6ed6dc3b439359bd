"""What a run hands over: exported files, the report, the result, the seal."""

from __future__ import annotations

import json

from srinit import export as exporting
from srinit.custody import overrides, readings
from srinit.custody.readings import Readings
from srinit.errors import MissingExtraError, ModelError
from srinit.latency import LatencyPair
from srinit.pipeline import cut, judge, look, staged
from srinit.pipeline.result import SCHEMA as RESULT_SCHEMA
from srinit.pipeline.result import RunResult
from srinit.pipeline.session import Session
from srinit.records import record
from srinit.report import load_report_input, make_pictures, write_pictures, write_report

EXPORT_SCHEMA = "srinit.export/2"
PICTURES = "report/pictures.json"
CHECKED_EXAMPLES = 64


@record
class Exports:
    """The exported files, and the formats that could not be written, with the reason."""

    files: tuple[exporting.Exported, ...]
    failed: dict[str, str]
    onnx_latency: tuple[LatencyPair, ...] = ()


def export(session: Session) -> Exports:
    """Return the exported files of the tuned network, checked on real test examples.

    The unpruned network is exported too, so that a failure that is not the cut's is told apart
    and both latencies are measured in the same runtime.
    """
    folder = session.path / "export"
    path = folder / "export.json"
    if path.is_file():
        return session.folder.read_record(Exports, path, schema=EXPORT_SCHEMA)
    settings, pruned = session.config.export, cut.tune(session).cpu()
    inputs, _ = next(iter(session.split("test").batches(CHECKED_EXAMPLES)))
    files, failed, latency = [], {}, []
    if settings.onnx:
        try:
            files.append(
                exporting.export_onnx(pruned, inputs, folder / "pruned.onnx", opset=settings.opset)
            )
            latency = _onnx_latency(session, inputs)
        except (ModelError, MissingExtraError) as error:
            failed["onnx"] = str(error)
    session.observer.progress(1, 2)
    if settings.torch_export:
        try:
            files.append(exporting.export_torch(pruned, inputs, folder / "pruned.pt2"))
        except ModelError as error:
            failed["torch.export"] = str(error)
    found = Exports(files=tuple(files), failed=failed, onnx_latency=tuple(latency))
    session.folder.audit(
        "export",
        f"{[f.file for f in files]}",
        reason=json.dumps(failed),
        inputs=session.folder.digests(cut.stage_folder(session) / "model.safetensors"),
    )
    session.folder.write_record(path, found, schema=EXPORT_SCHEMA)
    return found


def _onnx_latency(session: Session, inputs: object) -> list[LatencyPair]:
    folder = session.path / "export"
    baseline = folder / "baseline.onnx"
    try:
        exporting.export_onnx(session.model.cpu(), inputs, baseline)
        return [
            exporting.measure_onnx_pair(baseline, folder / "pruned.onnx", inputs, batch_size=size)
            for size in session.config.compare.latency_batches
        ]
    finally:
        session.model.to(session.device)
        baseline.unlink(missing_ok=True)


def report(session: Session) -> str:
    """Write the report, with its pictures if the config wants them, and return its path."""
    if session.config.report.pictures and not (session.path / PICTURES).is_file():
        try:
            pictures = make_pictures(
                session.model,
                cut.tune(session).to(session.device),
                sensitivity=look.scan(session),
                plan=cut.stage_plan(session),
                data=session.split("test"),
                comparison=judge.compare(session),
                num_examples=session.config.report.pictures,
                seed=session.config.seed,
            )
            write_pictures(pictures, session.path)
        except MissingExtraError as error:
            session.observer.say(f"no pictures: {error}")
    path = write_report(
        load_report_input(session.path),
        session.path / "report",
        languages=tuple(session.config.report.languages),
    )
    session.folder.record(session.path / "report")  # also when a finished run's is made again
    session.folder.audit("report", "written")
    return str(path)


def result(session: Session) -> RunResult:
    """Return the result of a finished run; written to `result.json`, and the run is sealed."""
    comparison, gates = judge.compare(session), judge.gate(session)
    metrics, score = cut.stage_metrics(session), comparison.score
    onnx = session.path / "export" / "pruned.onnx"
    outcome = staged.outcome(session)
    found = RunResult(
        run=str(session.path),
        passed=gates.passed and outcome.accepted,
        stage=outcome.delivered,
        stopped_because=outcome.reason,
        removed=metrics.removed,
        score=score,
        score_cut=metrics.score_cut,
        params=(metrics.cost_before.params, metrics.cost_after.params),
        flops=(metrics.cost_before.flops, metrics.cost_after.flops),
        latency_ms={
            str(pair.baseline.batch_size): (pair.baseline.median_ms, pair.pruned.median_ms)
            for pair in comparison.latency
        },
        latency_ratio={str(pair.baseline.batch_size): pair.ratio for pair in comparison.latency},
        failed_gates=tuple(gate.sentence for gate in gates.failed),
        report=str(session.path / "report" / "report.html"),
        onnx=str(onnx) if onnx.is_file() else "",
        test_readings=len(_readings(session).earlier),
        overrides=tuple(each.words() for each in overrides.of_run(session.path)),
        warnings=tuple(each.text for each in look.baseline(session).warnings),
    )
    session.folder.audit(
        "finish",
        "passed" if found.passed else "failed",
        reason="; ".join(found.overrides),
        inputs={"test_readings": found.test_readings},
    )
    session.folder.write_record(session.path / "result.json", found, schema=RESULT_SCHEMA)
    session.folder.seal()
    return found


def _readings(session: Session) -> Readings:
    path = cut.stage_folder(session) / readings.FILE
    return session.folder.read_record(Readings, path, schema=readings.SCHEMA)
