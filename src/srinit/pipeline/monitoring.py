"""Watches a run's network in operation: against its own baseline, with the way back at hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from srinit import artifact, sources
from srinit.class_names import ClassList
from srinit.display import command
from srinit.errors import ConfigError, DataError, PruneError
from srinit.monitor import Observations, Reference, Watch, from_log, read_log, watch
from srinit.pipeline import cut, judge, observe, operate, start
from srinit.pipeline.observer import Observer
from srinit.pipeline.session import Session
from srinit.records import record
from srinit.store import RunFolder, sha256_file

BASELINE = "monitor/baseline.npz"


@record
class Monitored:
    """What `srinit monitor` found and did; a scheduler acts on `alarm`."""

    run: str
    watched: str  # the log or the data
    watched_sha256: str
    num_examples: int
    baseline_examples: int
    watch: Watch
    alarm: bool
    rollback: str  # the command that goes back
    rolled_back: operate.RolledBack | None = None
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
    kept in the run folder; if that data is gone, a log is compared with the kept predictions.

    Args:
        path: The run.
        observer: Told what happens.
        overrides: Of the run's config.
        log: A prediction log.
        data: A data source, to ask the network about now; the unpruned one answers a share.
        auto_rollback: Roll the registry back after an alarm.

    Raises:
        ConfigError: Neither or both of `log` and `data`.
        DataError: Too few examples, or those of another model.
    """
    if (log is None) == (data is None):
        raise ConfigError("give one of --log preds.jsonl and --data folder:DIR.")
    folder = RunFolder.open(path)
    session = Session(start.config_of(folder, overrides or ()), folder, observer)
    recipe = cut.stage_folder(session) / artifact.RECIPE
    folder.check(recipe)
    weights = artifact.read_recipe(recipe.parent).weights_sha256
    observer.stage("baseline")
    baseline = _baseline(session, needed=data is not None)
    names = _class_names(session)
    observer.stage("watch")
    if log is not None:
        observed = from_log(read_log(log), weights, names)
        source, digest = str(log), sha256_file(log)
    else:
        observed, digest = _observed(session, str(data), names)
        source = str(data)
    settings = session.config.monitor
    reference = Reference(
        baseline, num_classes=len(names), most=settings.reference, seed=session.config.seed
    )
    found = watch(
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
    return make(**(_way_back(path, overrides, reason) if auto_rollback else {}))


def _way_back(path: Path, overrides: list[str] | None, reason: str) -> dict[str, Any]:
    """Return what going back came to; an alarm is told of even if there is no way back."""
    try:
        return {"rolled_back": operate.rollback(path, overrides, reason=f"monitoring: {reason}")}
    except PruneError as error:
        return {"rollback_failed": str(error)}


def _class_names(session: Session) -> tuple[str, ...]:
    recipe = artifact.read_recipe(cut.stage_folder(session))
    names = tuple(str(name) for name in recipe.metadata.get("class_names", ()))
    if not names:
        raise DataError("monitoring needs a network with named classes, and this run has none.")
    return names


def _baseline(session: Session, *, needed: bool) -> Observations:
    """Return what the run's network did on its test data; observed once and kept."""
    path = session.path / BASELINE
    if path.is_file():
        return observe.from_arrays(session.folder.read_npz(path))
    try:
        test = session.split("test")
        recorded = judge.compare(session).data_hash
        if test.data_hash != recorded:
            raise DataError("the test data is another than at the comparison.")
    except PruneError as error:
        if needed:
            raise
        session.observer.say(f"only the kept predictions serve as baseline: {error}")
        return _kept(session)
    found = observe.observe(
        cut.load(session, cut.stage_folder(session)),
        test,
        batch_size=session.config.data.batch_size,
        unpruned=session.model,
    )
    with session.folder.lock():
        session.folder.audit("monitor", "baseline observed", inputs={"test": recorded})
        session.folder.write_npz(path, observe.to_arrays(found))
    return found


def _kept(session: Session) -> Observations:
    arrays = session.folder.read_npz(cut.stage_folder(session) / "predictions.npz")
    if not len(arrays["pruned_predictions"]):
        raise DataError("monitoring needs a network that chooses one class an example.")
    return Observations(
        prediction=arrays["pruned_predictions"].clip(min=0),
        confidence=arrays["pruned_confidence"],
        agrees=(arrays["baseline_predictions"] == arrays["pruned_predictions"]).astype(float),
        right=arrays["pruned_scores"].astype(float),
    )


def _observed(session: Session, source: str, names: tuple[str, ...]) -> tuple[Observations, str]:
    config = session.config
    data = sources.load_data(
        source,
        preprocess=sources.preprocess_from(config.data.preprocess),
        classes=ClassList(names, "the run") if names else None,
        root=Path(),
    )
    found = observe.observe(
        cut.load(session, cut.stage_folder(session)),
        data,
        batch_size=config.data.batch_size,
        unpruned=session.model if config.monitor.shadow else None,
        shadow=config.monitor.shadow,
        seed=config.seed,
    )
    return found, data.data_hash
