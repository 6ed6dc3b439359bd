"""Watches a run's network in operation: against its own baseline, with the way back at hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from srinit import artifact, sources
from srinit.class_names import ClassList
from srinit.custody.beside import beside
from srinit.display import command
from srinit.errors import ConfigError, DataError, PruneError
from srinit.evaluate import PartTask
from srinit.monitor import (
    DriftReport,
    Observations,
    PredictionLog,
    Reference,
    detect_drift,
    from_log,
    read_log,
)
from srinit.observer import Observer
from srinit.operations import observe
from srinit.operations.returning import RolledBack, rollback
from srinit.pipeline.runner import Runner
from srinit.records import record
from srinit.runs import artifacts
from srinit.runs.inputs import config_of
from srinit.store import RunFolder, audit, sha256_bytes, sha256_file, write_npz
from srinit.store.files import parse_npz
from srinit.store.seal import AUDIT, read_checked

BASELINE, OBSERVED = "baseline.npz", "baseline observed"


@record
class Monitored:
    """What `srinit monitor` found and did; a scheduler acts on `alarm`."""

    run: str
    watched: str  # the log or the data
    watched_sha256: str
    num_examples: int
    baseline_examples: int
    watch: DriftReport
    alarm: bool
    rollback: str  # the command that goes back
    rolled_back: RolledBack | None = None
    rollback_failed: str = ""


def monitor(
    path: Path,
    observer: Observer,
    overrides: list[str] | None = None,
    *,
    log: Path | None = None,
    data: str | None = None,
    auto_rollback: bool = False,
) -> Monitored:
    """Return what monitoring says about a log or about new data; an alarm goes on record.

    The baseline is what the run's network did on the run's test data. It is observed once and
    kept beside the run folder; if that data is gone, a log is compared with the kept predictions.

    Args:
        path: The run.
        observer: Told what happens.
        overrides: Of the run's config.
        log: A prediction log.
        data: A data source, to ask the network about now; the unpruned one answers a share.
        auto_rollback: Roll the registry back after an alarm, if the watched network is the
            champion, and once for the same alarm.

    Raises:
        ConfigError: Neither or both of `log` and `data`.
        DataError: Too few examples, or those of another model.
    """
    if (log is None) == (data is None):
        raise ConfigError("give one of --log preds.jsonl and --data folder:DIR.")
    folder = RunFolder.open(path)
    runner = Runner(config_of(folder, overrides or ()), folder, observer)
    recipe = runner.files.path(artifacts.TUNED)
    folder.check(recipe)
    weights = artifact.read_recipe(recipe.parent).weights_sha256
    observer.step("baseline")
    baseline = _baseline(runner, needed=data is not None)
    names = _class_names(runner)
    observer.step("watch")
    if log is not None:
        read = read_log(log)
        weights = _model_of(read, weights, runner)
        observed = from_log(read, weights, names)
        source, digest = str(log), sha256_file(log)
    else:
        observed, digest = _observed(runner, str(data), names)
        source = str(data)
    settings = runner.config.monitor
    reference = Reference(
        baseline, num_classes=len(names), most=settings.reference, seed=runner.config.seed
    )
    found = detect_drift(
        reference,
        observed,
        window=settings.window,
        false_alarm=settings.false_alarm,
        confirm=settings.confirm,
        min_effect=settings.min_effect,
        block=settings.block,
    )
    make = partial(
        Monitored,
        run=str(path),
        watched=source,
        watched_sha256=digest,
        num_examples=len(observed),
        baseline_examples=len(reference.sample),
        watch=found,
        alarm=found.alarm,
        rollback=command("rollback", path, "--reason", f"monitoring: {', '.join(found.causes)}")
        if found.alarm
        else "",
    )
    if not found.alarm:
        return make()
    reason = f"beyond their limits: {', '.join(found.causes)}"
    folder.audit("monitor", "alarm", reason=reason, inputs={source: digest, "model": weights})
    if not auto_rollback:
        return make()
    alarm = _identity(found, observed, weights)
    answered = _answered(folder, alarm)
    if answered:
        return make(rollback_failed=answered)
    try:
        gone_back = rollback(
            path,
            overrides,
            reason=f"monitoring: {reason}",
            watched=weights,
            more={"alarm": alarm},
        )
    except PruneError as error:  # an alarm is told of even if there is no way back
        return make(rollback_failed=str(error))
    return make(rolled_back=gone_back)


def _model_of(log: PredictionLog, weights: str, runner: Runner) -> str:
    """Return by which hash a log names the run's network: its weights, or its int8 file."""
    int8 = runner.files.get(artifacts.INT8)
    if int8 is not None and int8.file and not log.of_model(weights) and log.of_model(int8.sha256):
        return int8.sha256
    return weights


def _identity(found: DriftReport, observed: Observations, weights: str) -> str:
    """Return what tells alarms apart: all that was observed up to the end of the first one.

    A log that only grew gives the same alarm again.
    """
    window = found.windows[found.first_alarm or 0]
    end = window.first + window.num_examples
    seen = (observed.prediction[:end], observed.confidence[:end])
    content = b"".join(np.ascontiguousarray(values).tobytes() for values in seen)
    return sha256_bytes(weights.encode() + content)


def _answered(folder: RunFolder, alarm: str) -> str:
    """Return when an alarm was answered by a rollback before; empty: it was not."""
    for entry in audit.read(folder.path / AUDIT).entries:
        inputs = entry["inputs"]
        if entry["verb"] == "rollback" and inputs.get("alarm") == alarm and "move" in inputs:
            return (
                f"this alarm was answered already, on {entry['time'][:16]} ({entry['decision']}); "
                "what was made champion since was made so on purpose."
            )
    return ""


def _class_names(runner: Runner) -> tuple[str, ...]:
    recipe = artifact.read_recipe(runner.files.round_folder)
    names = tuple(str(name) for name in recipe.metadata.get("class_names", ()))
    if not names:
        raise DataError("monitoring needs a network with named classes, and this run has none.")
    return names


def _baseline(runner: Runner, *, needed: bool) -> Observations:
    """Return what the run's network did on its test data; observed once and kept."""
    path = beside(runner.path) / BASELINE
    digest = _recorded(runner.folder)
    if digest and path.is_file():
        content = read_checked(path.parent, path.name, digest)
        return observe.from_arrays(parse_npz(content, path))
    try:
        test = runner.resources.split("test")
        recorded = runner.files.read(artifacts.COMPARISON).data_hash
        if test.data_hash != recorded:
            raise DataError("the test data is another than at the comparison.")
    except PruneError as error:
        if needed:
            raise
        runner.observer.say(f"only the kept predictions serve as baseline: {error}")
        return _kept(runner)
    found = observe.observe(
        runner.get(artifacts.TUNED),
        test,
        batch_size=runner.config.data.batch_size,
        unpruned=runner.resources.model,
        task=_task(runner),
    )
    with runner.folder.lock():
        write_npz(path, observe.to_arrays(found))
        inputs = {"test": recorded, BASELINE: sha256_file(path)}
        runner.folder.audit("monitor", OBSERVED, inputs=inputs)
    return found


def _recorded(folder: RunFolder) -> str:
    """Return the hash of the kept baseline, as the audit log tells; empty for none."""
    entries = audit.read(folder.path / AUDIT).entries
    found = [e["inputs"].get(BASELINE, "") for e in entries if e["decision"] == OBSERVED]
    return str(found[-1]) if found else ""


def _kept(runner: Runner) -> Observations:
    kept = runner.files.read(artifacts.PREDICTIONS)
    if not len(kept.pruned.predictions):
        raise DataError("monitoring needs a network that chooses one class an example.")
    return Observations(
        prediction=kept.pruned.predictions.clip(min=0),
        confidence=kept.pruned.confidence,
        agrees=(kept.baseline.predictions == kept.pruned.predictions).astype(float),
        right=(kept.pruned.predictions == kept.pruned.targets).astype(float),
    )


def _task(runner: Runner) -> PartTask | None:
    """Return what reads the answers of a network that lie in images; None for classes."""
    scorer = runner.resources.scorer
    return scorer if isinstance(scorer, PartTask) else None


def _observed(runner: Runner, source: str, names: tuple[str, ...]) -> tuple[Observations, str]:
    config = runner.config
    data = sources.load_data(
        source,
        preprocess=sources.preprocess_from(config.data.preprocess),
        classes=ClassList(names, "the run") if names else None,
        root=Path(),
        marks=sources.marks_of(config.data),
    )
    found = observe.observe(
        runner.get(artifacts.TUNED),
        data,
        batch_size=config.data.batch_size,
        unpruned=runner.resources.model if config.monitor.shadow else None,
        shadow=config.monitor.shadow,
        seed=config.seed,
        task=_task(runner),
    )
    return found, data.data_hash
