"""The stages that change the network: plan, prune, fine-tune."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from srinit import artifact, networks, records
from srinit.cost import Cost, count_cost
from srinit.display import command
from srinit.engine import faster_copy
from srinit.errors import ConfigError, PlanError
from srinit.finetune import (
    Recipe,
    TuneLog,
    fine_tune,
    run_command,
    run_function,
)
from srinit.functions import load_function
from srinit.pipeline import (
    compensating,
    look,
    planning,
    plans,
    processes,
    recovery,
    shared,
    start,
)
from srinit.pipeline.compensating import Compensated
from srinit.pipeline.network import load_network
from srinit.pipeline.recovery import Rehearsal
from srinit.pipeline.session import Session
from srinit.plan import PrunePlan, make_plan
from srinit.records import record
from srinit.store import RunFolder, sha256_bytes
from srinit.surgery import carry_back, kept_names, remove_with_origins

STAGE_SCHEMA = "srinit.stage/2"
TUNE_SCHEMA = "srinit.tune/1"
REHEARSAL_SCHEMA = "srinit.rehearsal/2"


@record
class StageMetrics:
    """What one stage of pruning did, on validation data; scores are fractions."""

    removed: tuple[str, ...]
    num_examples: int
    score_before: float  # the unpruned network
    score_cut: float  # right after the cut
    score_compensated: float | None  # after what was done without training
    cost_before: Cost
    cost_after: Cost
    rehearsal: Rehearsal | None = None  # the recovery tried on a copy beforehand
    compensation: Compensated | None = None  # what was done without training, among what


def plan(session: Session) -> PrunePlan:
    """Return the plan for the targets of the config.

    The network is built and measured after some removals of the ranking, those near the target
    among them, and the others lie between, so that the report's slider looks its costs up. All
    processes of a run must call it.

    Raises:
        PlanError: The target cannot be met, or names unknown or locked units.
    """
    path = session.path / "plan.json"
    if path.is_file():
        return plans.read(session.folder, path)
    return replan(session)


def replan(session: Session) -> PrunePlan:
    """Return a plan made anew; what rests on the one before is set aside when it is there.

    Raises:
        PlanError: As `plan`; nothing has moved then.
    """
    session.stage = 1
    made = planning.make(session, uncut, look.scan(session), look.scores(session))
    look.beside(session)
    start.settle(session)
    inputs = {
        "target": made.target,
        "plan.json": plans.digest(made),
        **session.folder.digests(session.path / "scan" / "sensitivity.json"),
    }
    session.folder.audit("plan", f"remove {len(made.names)} units", inputs=inputs)
    plans.write(session.folder, session.path / plans.PLAN, made)
    return made


def check_names(session: Session) -> None:
    """Check that the units that `plan.remove` names can go, before anything is made or moved.

    Raises:
        PlanError: The scan knows no such unit, or it is locked.
    """
    if session.config.plan.remove and (session.path / "scan" / "sensitivity.json").is_file():
        make_plan(look.scan(session), remove=tuple(session.config.plan.remove))


def check_edited(session: Session, reason: str) -> PrunePlan:
    """Return the plan as it was edited by hand, if it is one that can be carried out.

    Raises:
        ConfigError: There is no plan, no reason, or it is no plan any more.
        PlanError: It names units that the scan did not measure or that are locked.
    """
    path = session.path / "plan.json"
    if not path.is_file():
        raise ConfigError(
            f"{session.path} holds no plan.json yet; {command('plan', session.path)}."
        )
    if not reason.strip():
        raise ConfigError('an edited plan needs a reason, which goes on record: --reason "..."')
    content = path.read_bytes()
    edited = PrunePlan.from_json(content, where=str(path))
    known = {unit.name for unit in look.scan(session).unit_map.removable}
    foreign = [name for name in (*edited.names, *edited.ranking) if name not in known]
    if foreign:
        raise PlanError(f"{path} names units that cannot go: {', '.join(foreign[:5])}.")
    return edited


def take_edited(session: Session, reason: str) -> PrunePlan:
    """Return the plan as it was edited by hand; results of the one before are set aside.

    Raises:
        ConfigError: As `check_edited`.
        PlanError: As `check_edited`.
    """
    source = session.came_from or session.path
    edited = check_edited(Session(session.config, RunFolder.open(source)), reason)
    content = (source / plans.PLAN).read_bytes()
    before = RunFolder.open(source).digests(source / plans.PLAN)
    start.settle(session)
    session.folder.audit(
        "plan",
        f"edited by hand: remove {', '.join(edited.names) or 'nothing'}",
        reason=reason,
        inputs={"plan.json": sha256_bytes(content), "before": before["plan.json"]},
    )
    session.folder.write_bytes(session.path / plans.PLAN, content)
    return edited


def stage_folder(session: Session, number: int | None = None) -> Path:
    """Return the folder of a pruning stage, counted from 1; by default of the one at work."""
    return session.path / "stages" / f"{session.stage if number is None else number:02d}"


def stage_plan(session: Session) -> PrunePlan:
    """Return the plan of the stage at work: its own, or the run's where there is one stage."""
    path = stage_folder(session) / "plan.json"
    if path.is_file():
        return plans.read(session.folder, path)
    return plan(session)


def uncut(session: Session) -> nn.Module:
    """Return the network that the stage at work is cut from, whole: with what was learned."""
    if session.stage == 1:
        return session.model
    last = stage_folder(session, session.stage - 1)
    before = plans.read(session.folder, last / "plan.json")
    found, _ = carry_back(
        session.model,
        load(session, last),
        [removal.unit for removal in before.remove],
        example_inputs=session.example_inputs,
    )
    return found


def save(session: Session, folder: Path, model: nn.Module) -> None:
    """Save a pruned network of this run: safetensors and recipe."""
    artifact.save_pruned(
        folder,
        model,
        stage_plan(session).untimed()[0],
        base=base_of(session),
        preprocessing=session.config.data.preprocess.model_dump(mode="json"),
        metadata={"class_names": list(session.class_names), "seed": session.config.seed},
    )


def base_of(session: Session) -> dict[str, Any]:
    """Return where the unpruned network comes from, without need of a Hugging Face folder."""
    settings = session.config.model
    kind, _, name = settings.source.partition(":")
    args = dict(settings.args)
    if kind == "hf":
        args = networks.self_contained(args, name, session.config.root)
    return {"source": settings.source, "args": args}


def load(session: Session, folder: Path) -> nn.Module:
    """Return a saved network of this run, on the device; the run's config names its code."""
    base = partial(load_network, session.config, bare=True)
    return artifact.load_pruned(folder, base=base).to(session.device)


def prune(session: Session) -> nn.Module:
    """Return the network after the cut, compensated without training; kept in the stage.

    All processes of a run must call it; they share the work, but for the rehearsal.
    """
    folder = stage_folder(session)
    metrics_file = folder / "metrics.json"
    if metrics_file.is_file():
        return load(session, folder / "cut")
    the_plan = stage_plan(session)
    whole = uncut(session)
    session.observer.say(recovery.expected_dip(session, the_plan))
    score_before = look.baseline(session).score
    cut, origins = remove_with_origins(
        whole,
        [removal.unit for removal in the_plan.remove],
        example_inputs=session.example_inputs,
    )
    score_cut = _validated(session, cut)
    pruned, compensation, score_compensated = cut, None, None
    if the_plan.remove:
        pruned, compensation = compensating.compensate_cut(session, cut, origins)
        score_compensated = score_cut if pruned is cut else _validated(session, pruned)
    rehearsal = None
    if set(the_plan.names) > set(_gone_before(session)):
        rehearsal = _rehearsed(session, pruned)
        log = _log_before(session)
        session.observer.say(recovery.expected_recovery(session, log, rehearsal))
    save(session, folder / "cut", pruned)
    metrics = StageMetrics(
        removed=the_plan.names,
        num_examples=len(session.split("validation")),
        score_before=score_before,
        score_cut=score_cut,
        score_compensated=score_compensated,
        cost_before=count_cost(session.model, session.example_inputs),
        cost_after=count_cost(pruned, session.example_inputs),
        rehearsal=rehearsal,
        compensation=compensation,
    )
    session.folder.audit(
        "prune",
        f"removed {', '.join(the_plan.names) or 'nothing'}",
        inputs=session.folder.digests(session.path / "plan.json", folder / "plan.json"),
    )
    session.folder.write_record(metrics_file, metrics, schema=STAGE_SCHEMA)
    return pruned


def _rehearsed(session: Session, pruned: nn.Module) -> Rehearsal | None:
    """Return what a short recovery on a copy brought, which rank 0 tries."""

    def tried() -> str:
        found = recovery.rehearse(session, pruned)
        return "" if found is None else records.to_json(found, schema=REHEARSAL_SCHEMA)

    text = processes.text_of_first(tried)
    return records.from_json(Rehearsal, text, schema=REHEARSAL_SCHEMA) if text else None


def _gone_before(session: Session) -> tuple[str, ...]:
    """Return what the stages before the one at work removed."""
    if session.stage == 1:
        return ()
    return plans.read(session.folder, stage_folder(session, session.stage - 1) / "plan.json").names


def _log_before(session: Session) -> TuneLog | None:
    path = stage_folder(session, session.stage - 1) / "tune.json"
    if session.stage == 1 or not path.is_file():
        return None
    return session.folder.read_record(TuneLog, path, schema=TUNE_SCHEMA)


def stage_metrics(session: Session) -> StageMetrics:
    """Return what `prune` measured."""
    path = stage_folder(session) / "metrics.json"
    return session.folder.read_record(StageMetrics, path, schema=STAGE_SCHEMA)


def tune_log(session: Session) -> TuneLog:
    """Return the log that `tune` kept."""
    path = stage_folder(session) / "tune.json"
    return session.folder.read_record(TuneLog, path, schema=TUNE_SCHEMA)


def _validated(session: Session, model: nn.Module) -> float:
    model = faster_copy(model, session.example_inputs)
    return shared.outcomes(session, model, session.split("validation")).score


def tune(session: Session) -> nn.Module:
    """Return the fine-tuned network; its weights, recipe and log are kept in the stage.

    Several processes train together; a training of the user's own runs in rank 0.
    """
    if (stage_folder(session) / "tune.json").is_file():
        return load(session, stage_folder(session))
    settings = session.config.finetune
    pruned = prune(session)
    if settings.command is None and settings.fn is None:
        return _tuned(session, pruned)
    return processes.on_rank_zero(session, _tuned)


def _tuned(session: Session, model: nn.Module | None = None) -> nn.Module:
    folder = stage_folder(session)
    log_file = folder / "tune.json"
    if log_file.is_file():
        return load(session, folder)
    model = prune(session) if model is None else model
    log = _train(session, model, folder)
    save(session, folder, model.eval())
    session.folder.audit(
        "finetune",
        f"{log.stopped} after {log.steps} steps",
        inputs=session.folder.digests(folder / "cut" / artifact.WEIGHTS),
    )
    session.folder.write_record(log_file, log, schema=TUNE_SCHEMA)
    return model


def _cut_points(session: Session) -> dict[str, str]:
    """Return the unit that follows every cut: its name in the pruned and the unpruned network."""
    removed = [removal.unit for removal in stage_plan(session).remove]
    names = {unit.name for unit in removed}
    order = [unit.name for unit in look.inspect(session)]
    after = {
        next((name for name in order[place:] if name not in names), "")
        for place, unit in enumerate(order)
        if unit in names
    }
    kept = kept_names(session.model, removed, example_inputs=session.example_inputs)
    return {new: old for new, old in kept.items() if old in after}


def _train(session: Session, model: nn.Module, folder: Path) -> TuneLog:
    settings = session.config.finetune
    recipe = recovery.recipe(session)
    if settings.command is not None and settings.fn is not None:
        raise ConfigError("finetune.command and finetune.fn are both given; keep one.")
    if settings.command is not None or settings.fn is not None:
        before = _validated(session, model)
        if settings.command is not None:
            run_command(settings.command, model, folder, cwd=session.config.root)
            for path in folder.glob("t*.safetensors"):  # an earlier attempt may have left others
                session.folder.record(path)
        else:
            name = str(settings.fn).removeprefix("py:")
            function = load_function(name, session.config.root)
            run_function(
                function,
                model,
                session.batches("train"),
                session.batches("validation"),
                seed=session.config.seed,
            )
        return TuneLog(
            recipe=recipe,
            points=(),
            steps=0,
            best_step=0,
            score_before=before,
            score_after=_validated(session, model),
            stopped="user",
            note=settings.command or str(settings.fn),
        )
    if not stage_metrics(session).removed or recipe.epochs == 0:
        recipe = Recipe(epochs=0)
    return fine_tune(
        model,
        session.split("train") if recipe.epochs else [],
        session.batches("validation"),
        teacher=session.model,
        features=_cut_points(session) if recipe.feature_weight else None,
        recipe=recipe,
        loss=session.loss,
        scorer=session.scorer,
        augment=recovery.augment(session),
        seed=session.config.seed,
        state=folder / "training.safetensors",
        on_progress=session.observer.progress,
    )
