"""Reads what a report is made from out of a run folder.

Read from the run folder (all but the scan and the plan may be missing)::

    run.json env.json config.yaml inputs.lock.json audit.jsonl SHA256SUMS
    baseline/metrics.json            the unpruned network, validation data
    scan/sensitivity.json plan.json
    rounds/NN/metrics.json           before, after the cut, compensated, tuned
    rounds/NN/tune.json comparison.json gate.json validation.json validation_gate.json
    rounds/NN/site.json site_gate.json shift.json where they were measured
    rounds/outcome.json rejected/NN/ where it was pruned in rounds
    scan/criterion.json              the scores that rank, where it is not the scan that does
    scan/beside.json                 scores that only stand beside them
    export/export.json
    report/pictures.json             what `make_pictures` returned

Written into `report/`: report.html, summary.md, model_card.md and csv/*.csv.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srinit.config import Config, RoiInputs
from srinit.config.sections import DataSection
from srinit.custody.overrides import edit_of, of_run
from srinit.errors import ConfigError, UnsafeError
from srinit.plan import PrunePlan
from srinit.report.confusion_pairs import confusion_pairs_of
from srinit.report.data import ReportInput, RoundInput
from srinit.report.fingerprint import data_files
from srinit.runs import RunFiles, artifacts
from srinit.runs.files import REJECTED, ROUNDS, round_numbers
from srinit.runs.inputs import config_of
from srinit.runs.records import BaselineMetrics, Exports, ReferenceScores
from srinit.store import RunFolder


def load_report_input(run: Path) -> ReportInput:
    """Return what a run folder holds for a report; every hash and schema is checked.

    Raises:
        UnsafeError: The folder is missing, or its scan or plan is.
        ConfigError: A file is not what it should be.
        IntegrityError: A file is not what was written.
    """
    if not (run / "run.json").is_file():
        raise _nothing(run, "run.json")
    folder = RunFolder.open(run)
    files = RunFiles(folder)
    for needed in (artifacts.SENSITIVITY, artifacts.PLAN):
        if not files.has(needed):
            raise _nothing(run, files.name(needed))
    config, head = config_of(folder), _json(run / "run.json")
    baseline = files.get(artifacts.BASELINE)
    exports = files.get(artifacts.EXPORTS) or Exports(files=(), failed={})
    beside = files.get(artifacts.REFERENCE_SCORES) or ReferenceScores(criteria=())
    rollback_target, taken = _way_back(run / "audit.jsonl")
    return ReportInput(
        name=str(head.get("name", run.name)),
        run=str(run),
        created=_created(run),
        sensitivity=files.read(artifacts.SENSITIVITY),
        plan=_plan(folder),
        rounds=_rounds(folder, ROUNDS),
        exports=exports.files,
        failed_exports=exports.failed,
        onnx_latency=exports.onnx_latency,
        int8=files.get(artifacts.INT8),
        alternatives=files.get(artifacts.ALTERNATIVES),
        hugging_face=files.get(artifacts.FOLDER),
        **_of_baseline(baseline),
        defect_class=", ".join(config.data.defect_classes) or None,
        seed=config.seed,
        device=(baseline.device if baseline else "") or config.device,
        model_source=config.model.source,
        data_sources=_data_sources(config.data),
        roi=roi_inputs(config),
        environment=_json(run / "env.json") or None,
        config_text=_text(run / "config.yaml"),
        on_production_device=config.compare.on_production_device,
        rollback_drilled=bool(rollback_target),
        rollback_drill_on=rollback_target,
        rolled_back=taken,
        files=data_files(run),
        pictures=files.get(artifacts.PICTURES),
        scores=files.get(artifacts.SCORES),
        beside=beside.criteria,
        rejected=_rounds(folder, REJECTED),
        outcome=files.get(artifacts.OUTCOME),
        overrides=of_run(run),
        edit=edit_of(of_run(run), config),
        readings=_last(folder).get(artifacts.READINGS),
        root=_seen_from_here(str(head.get("root") or ""), run),
        weights=config.model.weights or "",
        inputs={k: str(v) for k, v in _json(run / "inputs.lock.json").items() if k != "schema"},
    )


def _nothing(run: Path, name: str) -> UnsafeError:
    return UnsafeError(
        f"{run} has no {name}, so there is nothing to report; "
        f"run `srinit scan` and `srinit plan` first."
    )


def _last(folder: RunFolder) -> RunFiles:
    """Return the files of the last round that was not rejected."""
    return RunFiles(folder, max(round_numbers(folder.path), default=1))


def _plan(folder: RunFolder) -> PrunePlan:
    """Return the plan of the last round, where each has its own; else that of the run."""
    numbers = round_numbers(folder.path)
    own = [RunFiles(folder, number).get(artifacts.ROUND_PLAN) for number in reversed(numbers)]
    return next((plan for plan in own if plan), None) or RunFiles(folder).read(artifacts.PLAN)


def _of_baseline(metrics: BaselineMetrics | None) -> dict[str, Any]:
    if metrics is None:
        return {}
    return {
        "baseline_score": metrics.score,
        "baseline_examples": metrics.num_examples,
        "baseline_warnings": metrics.warnings,
        "class_names": tuple(row.name for row in metrics.classes),
    }


def roi_inputs(config: Config) -> RoiInputs:
    """Return what the config's section `roi` gives."""
    return config.roi


def _rounds(folder: RunFolder, rounds: str) -> tuple[RoundInput, ...]:
    """Return the rounds of pruning, in order; what was not measured in one is None."""
    found = []
    for number in round_numbers(folder.path, rounds):
        files = RunFiles(folder, number, rounds=rounds)
        cut = files.get(artifacts.CUT)
        predictions = files.get(artifacts.PREDICTIONS)
        found.append(
            RoundInput(
                number=number,
                cut=cut,
                tune=files.get(artifacts.TUNE_LOG),
                training=files.get(artifacts.TRAINING),
                comparison=files.get(artifacts.COMPARISON),
                gates=files.get(artifacts.GATES),
                precision=files.get(artifacts.PRECISION),
                shift=files.get(artifacts.SHIFT),
                site=files.get(artifacts.SITE),
                site_gates=files.get(artifacts.SITE_GATES),
                ownership=files.get(artifacts.OWNERSHIP),
                confusion_pairs=confusion_pairs_of(predictions)
                if predictions and not len(predictions.baseline.evidence)
                else (),
                removed=cut.removed if cut else (),
                validation=files.get(artifacts.VALIDATION),
                validation_gates=files.get(artifacts.VALIDATION_GATES),
            )
        )
    return tuple(found)


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


def _data_sources(data: DataSection) -> dict[str, str]:
    names = ("source", "train", "calibration", "validation", "test", "site")
    return {name: str(getattr(data, name)) for name in names if getattr(data, name)}


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


def _way_back(path: Path) -> tuple[str, bool]:
    """Return the date of the last way back or rehearsal of it, and whether it was really taken."""
    entries = [
        (str(entry.get("time", ""))[:10], str(entry.get("decision", "")).startswith("rolled back"))
        for entry in _audit(path)
        if entry.get("verb") == "rollback"
        and str(entry.get("decision", "")).startswith(("rehearsed", "rolled back"))
    ]
    taken = [entry for entry in entries if entry[1]]
    return next(reversed(taken or entries), ("", False))


def seal_of(run: Path) -> str:
    """Return the root of a run's seal; empty where it is not sealed."""
    seals = [entry for entry in _audit(run / "audit.jsonl") if entry.get("verb") == "seal"]
    inputs = seals[-1].get("inputs") if seals else None
    return str(inputs.get("root", "")) if isinstance(inputs, dict) else ""


def _seen_from_here(root: str, run: Path) -> str:
    """Return the folder of a config as its run is named: relative where the run is."""
    here = Path.cwd()
    if not root or run.is_absolute() or not Path(root).is_relative_to(here):
        return root
    return Path(root).relative_to(here).as_posix()
