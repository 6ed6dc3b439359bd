"""Watches a run's network in operation: against its own baseline, with the way back at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from srinit import artifact, sources
from srinit.class_names import ClassList
from srinit.custody import readings
from srinit.display import command
from srinit.errors import ConfigError, DataError, PruneError
from srinit.monitor import (
    DriftReport,
    LineCount,
    LogReader,
    Observations,
    Reference,
    Watch,
    WatchSettings,
    observe_log,
)
from srinit.monitor.diagnosis import Diagnosis, diagnose
from srinit.monitor.drift import MIN_WINDOW
from srinit.monitor.log import read_models
from srinit.monitor.rows import later_labels
from srinit.observer import Observer
from srinit.operations import observe
from srinit.operations.baseline import baseline, class_names, part_task
from srinit.operations.returning import RolledBack, rollback
from srinit.pipeline.runner import Runner
from srinit.records import record
from srinit.runs import artifacts
from srinit.runs.inputs import config_of
from srinit.store import RunFolder, audit, sha256_bytes, sha256_file
from srinit.store.seal import AUDIT

LEAST_SHADOW = 200  # examples that the unpruned network answers too, where there are so many


@record
class Monitored:
    """What `srinit monitor` found and did; a scheduler acts on `alarm`."""

    run: str
    watched: str  # the log or the data
    watched_sha256: str
    num_examples: int
    baseline_examples: int
    order: str  # of the examples: "time", or "content" where no time is known
    lines: dict[str, Any] | None  # of a log: what became of every line
    doubled: int  # images or lines that were there twice; counted once
    watch: DriftReport
    alarm: bool
    diagnosis: Diagnosis | None
    rollback: str  # the command that goes back, where it may help
    rolled_back: RolledBack | None = None
    rollback_failed: str = ""


@dataclass
class Watched:
    """A run, and what watches its network."""

    folder: RunFolder
    runner: Runner
    weights: str  # SHA-256
    names: tuple[str, ...]
    watch: Watch


def watched(
    path: Path, observer: Observer, overrides: list[str] | None = None, *, asked: bool = False
) -> Watched:
    """Return what watches a run's network, its baseline at hand.

    Args:
        path: The run.
        observer: Told what happens.
        overrides: Of the run's config.
        asked: The network is to be asked: the kept predictions are no baseline then.
    """
    folder = RunFolder.open(path)
    runner = Runner(config_of(folder, overrides or ()), folder, observer)
    recipe = runner.files.path(artifacts.TUNED)
    folder.check(recipe)
    observer.step("baseline")
    found = baseline(runner, needed=asked)
    names = class_names(runner)
    settings = runner.config.monitor
    reference = Reference(
        found, num_classes=len(names), most=settings.reference, seed=runner.config.seed
    )
    watch = Watch(
        reference,
        WatchSettings(
            window=settings.window,
            false_alarm=settings.false_alarm,
            confirm=settings.confirm,
            min_effect=settings.min_effect,
            block=settings.block,
            max_left_out=settings.max_left_out,
        ),
        names,
    )
    weights = artifact.read_recipe(recipe.parent).weights_sha256
    return Watched(folder=folder, runner=runner, weights=weights, names=names, watch=watch)


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
        auto_rollback: Roll the registry back after an alarm, if that may help, if the watched
            network is the champion, and once for the same alarm.

    Raises:
        ConfigError: Neither or both of `log` and `data`.
        DataError: Too few examples, or those of another model.
    """
    if (log is None) == (data is None):
        raise ConfigError("give one of --log preds.jsonl and --data folder:DIR.")
    here = watched(path, observer, overrides, asked=data is not None)
    observer.step("watch")
    if log is not None:
        source, digest = str(log), sha256_file(log)
        found, count, model = _of_log(here, log)
        order, doubled = "time", count.doubled
    else:
        source, model, count = str(data), here.weights, None
        observed, digest, order, doubled = _of_data(here.runner, source, here.names)
        if len(observed) < MIN_WINDOW:
            raise DataError(_too_few(len(observed)))
        here.watch.add(observed)
        found = here.watch.finish()
    lines = count.plain() if count is not None else None
    result = Monitored(
        run=str(path),
        watched=source,
        watched_sha256=digest,
        num_examples=here.watch.examples + found.examples_left,
        baseline_examples=len(here.watch.reference.sample),
        order=order,
        lines=lines,
        doubled=doubled,
        watch=found,
        alarm=found.alarm,
        diagnosis=diagnose(found),
        rollback="",
    )
    return answered(here, result, model, path, overrides, auto_rollback=auto_rollback)


def answered(
    here: Watched,
    result: Monitored,
    model: str,
    path: Path,
    overrides: list[str] | None,
    *,
    auto_rollback: bool,
) -> Monitored:
    """Return a result with its alarm on record, and rolled back where that was asked and helps."""
    diagnosis = result.diagnosis
    if not result.alarm or diagnosis is None:
        return result
    causes = ", ".join(result.watch.causes)
    reason = f"beyond their limits: {causes}; probable cause: {diagnosis.cause}"
    here.folder.audit(
        "monitor",
        "alarm",
        reason=reason,
        inputs={result.watched: result.watched_sha256, "model": model},
    )
    if diagnosis.rollback == "does_not_help":
        cause = diagnosis.cause
        why = f"the probable cause is {cause}: the version before would see the same."
        return replace(result, rollback_failed=why if auto_rollback else "")
    way_back = command("rollback", path, "--reason", f"monitoring: {causes}")
    result = replace(result, rollback=way_back)
    if not auto_rollback:
        return result
    if not diagnosis.goes_back_by_itself:
        cause = diagnosis.cause
        why = f"the probable cause is {cause}: look at it first; the command to go back is below."
        return replace(result, rollback_failed=why)
    alarm = sha256_bytes(f"{model} {here.watch.alarm_digest}".encode())
    if before := _answered(here.folder, alarm):
        return replace(result, rollback_failed=before)
    try:
        gone_back = rollback(
            path,
            overrides,
            reason=f"monitoring: {reason}",
            watched=model,
            more={"alarm": alarm},
        )
    except PruneError as error:  # an alarm is told of even if there is no way back
        return replace(result, rollback_failed=str(error))
    return replace(result, rolled_back=gone_back)


def _of_log(here: Watched, log: Path) -> tuple[DriftReport, LineCount, str]:
    """Return what was found in a log, what became of its lines, and by which hash it was read."""
    model = model_of(read_models(log), here.weights, here.runner)
    reader = LogReader(model, here.names, labels=later_labels(log))
    for observed in observe_log(log, reader):
        here.watch.add(observed)
    count = reader.count
    if not count.used and count.other_models:
        others = ", ".join(name[:12] for name in sorted(count.other_models))
        raise DataError(
            f"the log holds no prediction of the model {model[:12]}... of this run (found: "
            f"{others}). `model` is the SHA-256 of its weights."
        )
    if count.answers < MIN_WINDOW:
        raise DataError(_too_few(count.answers))
    return with_lines(here.watch.finish(), count, here.watch.settings.max_left_out), count, model


def with_lines(found: DriftReport, count: LineCount, most: float) -> DriftReport:
    """Return a report that is an alarm too if too many lines of the whole log say nothing."""
    shares = {"lines_failed": count.failed, "lines_left_out": count.left_out}
    beyond = [
        name
        for name, lines in shares.items()
        if lines > most * max(count.answers, 1) and name not in found.causes
    ]
    if not beyond:
        return found
    return replace(found, alarm=True, causes=(*found.causes, *beyond))


def _too_few(count: int) -> str:
    return f"{count} examples are too few to watch; wait for {MIN_WINDOW} at least."


def model_of(models: frozenset[str], weights: str, runner: Runner) -> str:
    """Return by which hash a log names the run's network: its weights, or its int8 file."""
    int8 = runner.files.get(artifacts.INT8)
    if int8 is not None and int8.file and weights not in models and int8.sha256 in models:
        return int8.sha256
    return weights


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


def _of_data(
    runner: Runner, source: str, names: tuple[str, ...]
) -> tuple[Observations, str, str, int]:
    """Return what is seen on data, its hash, by what it is ordered, and images there twice."""
    config = runner.config
    data = sources.load_data(
        source,
        preprocess=sources.preprocess_from(config.data.preprocess),
        classes=ClassList(names, "the run") if names else None,
        root=Path(),
        marks=sources.marks_of(config.data),
    )
    readings.note_read(runner.folder, data.ids, data.data_hash, "monitor --data")
    positions, order = observe.order_of(data, config.seed)
    chosen = data.subset(positions)
    shadow = config.monitor.shadow
    found = observe.observe(
        runner.get(artifacts.TUNED),
        chosen,
        batch_size=config.data.batch_size,
        unpruned=runner.resources.model if shadow else None,
        shadow=max(shadow, min(1.0, LEAST_SHADOW / max(len(chosen), 1))),
        seed=config.seed,
        task=part_task(runner),
    )
    return found, data.data_hash, order, len(data) - len(chosen)
