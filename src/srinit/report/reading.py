"""Reads what a report is made from out of a run folder.

Read from the run folder (all but the scan and the plan may be missing)::

    run.json env.json config.yaml inputs.lock.json audit.jsonl SHA256SUMS
    baseline/metrics.json            the unpruned network, validation data
    scan/sensitivity.json plan.json
    stages/NN/metrics.json           before, after the cut, compensated, tuned
    stages/NN/tune.json comparison.json gate.json validation.json validation_gate.json
    stages/NN/site.json site_gate.json shift.json where they were measured
    stages/outcome.json rejected/NN/ where it was pruned in stages
    scan/criterion.json              the scores that rank, where it is not the scan that does
    scan/beside/*.json               scores that only stand beside them
    export/export.json
    report/pictures.json             what `make_pictures` returned; written by `write_pictures`

Written into `report/`: report.html, summary.md, model_card.md and csv/*.csv.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from srinit import records
from srinit.comparison.records import Comparison
from srinit.comparison.shift import Shift
from srinit.comparison.site import Site
from srinit.config import RoiInputs, parse_yaml
from srinit.criteria.records import UnitScores
from srinit.custody.overrides import of_run
from srinit.custody.readings import FILE, Readings
from srinit.errors import ConfigError, UnsafeError
from srinit.export import Exported
from srinit.finetune.records import TuneLog
from srinit.gates import GateResult
from srinit.latency import LatencyPair
from srinit.ownership import Ownership
from srinit.plan import PlanTimes, PrunePlan
from srinit.report.data import (
    BaselineFacts,
    DataFile,
    NamedClass,
    ReportInput,
    StageFacts,
    StageInput,
    StageScores,
    StagesOutcome,
)
from srinit.report.mistakes import read_mistakes
from srinit.report.picture_records import PICTURES_SCHEMA, Pictures
from srinit.sensitivity.records import Sensitivity
from srinit.store import sha256_file

T = TypeVar("T")


def _plan(path: Path) -> PrunePlan:
    found = PrunePlan.from_json(path.read_bytes(), where=str(path))
    times = _record(PlanTimes, path.with_name("plan_latency.json"))
    return found if times is None else found.timed(times)


def load_report_input(run: Path) -> ReportInput:
    """Return what a run folder holds for a report.

    Raises:
        UnsafeError: The folder is missing, or its scan or plan is.
        ConfigError: A file is not what it should be.
    """
    for needed in ("run.json", "scan/sensitivity.json", "plan.json"):
        if not (run / needed).is_file():
            raise UnsafeError(
                f"{run} has no {needed}, so there is nothing to report; "
                f"run `srinit scan` and `srinit plan` first."
            )
    head, config = _json(run / "run.json"), _config(run / "config.yaml")
    baseline = _checked(BaselineFacts, run / "baseline" / "metrics.json")
    data = config.get("data") or {}
    sensitivity = _record(Sensitivity, run / "scan" / "sensitivity.json")
    plan = max(run.glob("stages/[0-9]*/plan.json"), default=run / "plan.json")
    assert sensitivity is not None
    return ReportInput(
        name=str(head.get("name", run.name)),
        run=str(run),
        created=_created(run),
        sensitivity=sensitivity,
        plan=_plan(plan),
        stages=_stages(run / "stages"),
        **_exports(run / "export" / "export.json"),
        baseline_score=baseline.score,
        baseline_examples=baseline.num_examples,
        baseline_warnings=baseline.warnings,
        class_names=tuple(row.name for row in baseline.classes),
        defect_class=_defect_classes(data.get("defect_class")),
        seed=config.get("seed"),
        device=baseline.device or str(config.get("device") or ""),
        model_source=str((config.get("model") or {}).get("source") or ""),
        data_sources=_data_sources(data),
        roi=roi_inputs(config.get("roi") or {}, where=str(run / "config.yaml")),
        environment=_json(run / "env.json") or None,
        config_text=_text(run / "config.yaml"),
        on_production_device=(config.get("compare") or {}).get("on_production_device") is True,
        rollback_rehearsed=bool(_rehearsed(run / "audit.jsonl")),
        rollback_rehearsed_on=_rehearsed(run / "audit.jsonl"),
        files=_files(run),
        pictures=_record(Pictures, run / "report" / "pictures.json", schema=PICTURES_SCHEMA),
        scores=_record(UnitScores, run / "scan" / "criterion.json"),
        beside=_beside(run / "scan" / "beside"),
        rejected=_stages(run / "rejected"),
        outcome=_outcome(run / "stages" / "outcome.json"),
        overrides=of_run(run),
        readings=_readings(run),
        root=str(head.get("root") or ""),
        weights=str((config.get("model") or {}).get("weights") or ""),
        inputs={k: str(v) for k, v in _json(run / "inputs.lock.json").items() if k != "schema"},
    )


def _readings(run: Path) -> Readings | None:
    path = max(run.glob(f"stages/[0-9]*/{FILE}"), default=None)
    return None if path is None else _record(Readings, path)


def _defect_classes(found: Any) -> str | None:
    return ", ".join(map(str, found)) if isinstance(found, list) else found


def _beside(folder: Path) -> tuple[UnitScores, ...]:
    found = (_record(UnitScores, path) for path in sorted(folder.glob("*.json")))
    return tuple(scores for scores in found if scores is not None)


def _outcome(path: Path) -> StagesOutcome | None:
    return _checked(StagesOutcome, path) if path.is_file() else None


def roi_inputs(settings: Mapping[str, Any], *, where: str = "the config") -> RoiInputs:
    """Return the record for the config's `roi` section; keys it does not know are left out.

    Raises:
        ConfigError: A value is not what it should be.
    """
    given = {key: value for key, value in settings.items() if key in RoiInputs.model_fields}
    return _validated(RoiInputs, given, where=where)


def _stages(folder: Path) -> tuple[StageInput, ...]:
    numbers = sorted(int(p.name) for p in folder.glob("[0-9]*") if p.is_dir() and p.name.isdigit())
    found = []
    for number in numbers:
        stage = next(p for p in folder.iterdir() if p.name.isdigit() and int(p.name) == number)
        found.append(
            StageInput(
                number=number,
                scores=_scores(stage / "metrics.json"),
                tune=_record(TuneLog, stage / "tune.json"),
                comparison=_record(Comparison, stage / "comparison.json"),
                gates=_record(GateResult, stage / "gate.json"),
                shift=_record(Shift, stage / "shift.json"),
                site=_record(Site, stage / "site.json"),
                site_gates=_record(GateResult, stage / "site_gate.json"),
                ownership=_record(Ownership, stage / "ownership.json"),
                mistakes=read_mistakes(stage / "predictions.npz"),
                removed=_checked(StageFacts, stage / "metrics.json").removed,
                validation=_record(Comparison, stage / "validation.json"),
                validation_gates=_record(GateResult, stage / "validation_gate.json"),
            )
        )
    return tuple(found)


def _scores(path: Path) -> StageScores | None:
    if not path.is_file():
        return None
    facts = _checked(StageFacts, path)
    return StageScores(
        num_examples=facts.num_examples,
        before=facts.score_before,
        cut=facts.score_cut,
        compensated=facts.score_compensated,
        tuned=facts.score_tuned,
    )


def _exports(path: Path) -> dict[str, Any]:
    body, where = _json(path), str(path)
    pairs, files = tuple[LatencyPair, ...], tuple[Exported, ...]
    return {
        "exports": _validated(files, body.get("files", ()), where=where),
        "failed_exports": _validated(dict[str, str], body.get("failed", {}), where=where),
        "onnx_latency": _validated(pairs, body.get("onnx_latency", ()), where=where),
    }


def _checked(cls: type[T], path: Path) -> T:
    """Return the part of a file that a record speaks of; other keys are left out."""
    return _validated(cls, _picked(cls, _json(path)), where=str(path))


def _picked(cls: type[Any], body: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(cls)}
    found = {key: value for key, value in body.items() if key in names}
    if isinstance(found.get("classes"), list):
        rows = found["classes"]
        found["classes"] = [_picked(NamedClass, r) if isinstance(r, dict) else r for r in rows]
    return found


def _validated(cls: type[T], values: Any, *, where: str) -> T:
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        raise ConfigError(f"{where} is not what it should be: {error}") from None


def _record(cls: type[T], path: Path, *, schema: str | None = None) -> T | None:
    if not path.is_file():
        return None
    found = str(_json(path).get("schema", ""))
    return records.from_json(cls, path.read_bytes(), schema=schema or found, where=str(path))


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        body = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ConfigError(f"{path} should hold an object, found {type(body).__name__}.")
    return body


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def _config(path: Path) -> dict[str, Any]:
    return parse_yaml(path.read_bytes(), where=str(path)) if path.is_file() else {}


def _data_sources(data: Mapping[str, Any]) -> dict[str, str]:
    names = ("source", "train", "calibration", "validation", "test", "site")
    return {name: str(data[name]) for name in names if data.get(name)}


def _audit(path: Path) -> list[dict[str, Any]]:
    entries = []
    for line in _text(path).splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue  # a torn last line
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _created(run: Path) -> str:
    entries = _audit(run / "audit.jsonl")
    return str(entries[0].get("time", "")) if entries else ""


def _rehearsed(path: Path) -> str:
    """Return the date of the last rehearsal of the way back, or of the way back itself."""
    times = [
        str(entry.get("time", ""))[:10]
        for entry in _audit(path)
        if entry.get("verb") == "rollback"
        and str(entry.get("decision", "")).startswith(("rehearsed", "rolled back"))
    ]
    return times[-1] if times else ""


def _files(run: Path) -> tuple[DataFile, ...]:
    """Return the data files of the run with their hashes; what is made from them is left out."""
    kept = (".json", ".yaml", ".csv", ".npz", ".safetensors", ".onnx", ".pt2")
    found = []
    for path in sorted(run.rglob("*")):
        relative = path.relative_to(run)
        derived = relative.parts[0] == "report" or relative.as_posix() == "result.json"
        hidden = derived or any(part.startswith(".") for part in relative.parts)
        if path.is_file() and not hidden and path.suffix in kept:
            size = path.stat().st_size
            found.append(
                DataFile(path=relative.as_posix(), sha256=sha256_file(path), size_bytes=size)
            )
    return tuple(found)
