"""The steps that change the network: the cut with its compensation, and the recovery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from srinit import records
from srinit.config import Config
from srinit.cost import count_cost
from srinit.custody.depends import INPUTS
from srinit.errors import ConfigError
from srinit.finetune import Recipe, TuneLog, fine_tune, run_command, run_function
from srinit.functions import load_function
from srinit.plan import PrunePlan
from srinit.runs import RunFiles, artifacts, processes
from srinit.runs.records import BaselineMetrics, Compensated, CutMetrics, TrialFineTuning
from srinit.sources import DataSet
from srinit.steps.compensating import Compensator
from srinit.steps.recovery import Recovery, expected_dip, is_own
from srinit.steps.table import step
from srinit.steps.task import Bench
from srinit.steps.trials import Trials
from srinit.surgery import kept_names, remove_with_origins
from srinit.units import UnitMap

TRIAL_FINE_TUNING_SCHEMA = "srinit.rehearsal/2"
SHARED_FROM = 256 << 20  # bytes of weights
LARGE = 64 << 20  # bytes of weights from which the memory of a training is said


@dataclass(frozen=True)
class Before:
    """What the round at work begins with."""

    whole: nn.Module  # the network that it cuts from, whole: with what was learned
    plan: PrunePlan | None = None  # of the round before; None in the first
    log: TuneLog | None = None  # its recovery

    @property
    def gone(self) -> tuple[str, ...]:
        """The units that earlier rounds removed."""
        return () if self.plan is None else self.plan.names


@step(
    artifacts.PRUNED,
    artifacts.CUT,
    part="cut",
    says=("prune", lambda _, cut: f"removed {', '.join(cut.removed) or 'nothing'}"),
    together=True,
    keys={"trials": (), "recovery": (), "bench": (), "baseline": INPUTS},
)
def cut(
    before: Before,
    round_plan: PrunePlan,
    baseline: BaselineMetrics,
    validated: Any,
    compensator: Compensator,
    recovery: Recovery,
    trials: Trials,
    bench: Bench,
) -> tuple[nn.Module, CutMetrics]:
    """Return the network after the cut, compensated without training, and what it scores.

    All processes of a run take the step; they share the work, but for the trial fine-tuning.
    """
    say = compensator.execution.observer.say
    say(expected_dip(round_plan, compensator.task.confidence))
    pruned, origins = remove_with_origins(
        before.whole,
        [removal.unit for removal in round_plan.remove],
        example_inputs=bench.inputs,
        # It is written, and what is trained is read again.
        share=sum(each.nbytes for each in before.whole.parameters()) >= SHARED_FROM,
    )
    score_cut = validated(pruned)
    compensation: Compensated | None = None
    score_compensated = None
    if round_plan.remove:
        as_cut = pruned
        pruned, compensation = compensator.compensated(as_cut, origins)
        score_compensated = score_cut if pruned is as_cut else validated(pruned)
    trial = None
    if set(round_plan.names) > set(before.gone):
        trial = _tried(pruned, recovery, trials)
        say(recovery.expected(before.log, trial))
        is_large = sum(each.nbytes for each in pruned.parameters()) >= LARGE
        needed = recovery.memory(pruned) if is_large else None
        if needed is not None:
            say(needed.words())
    metrics = CutMetrics(
        removed=round_plan.names,
        num_examples=baseline.num_examples,
        score_before=baseline.score,
        score_cut=score_cut,
        score_compensated=score_compensated,
        cost_before=count_cost(recovery.teacher, bench.inputs),
        cost_after=count_cost(pruned, bench.inputs),
        rehearsal=trial,
        compensation=compensation,
    )
    return pruned, metrics


def _tried(pruned: nn.Module, recovery: Recovery, trials: Trials) -> TrialFineTuning | None:
    """Return what a short recovery on a copy brought, which rank 0 tries."""
    if trials.settings.trial_examples == 0:
        return None

    def tried() -> str:
        found = recovery.trial_fine_tuning(pruned, trials.data[0], trials.example_inputs)
        return "" if found is None else records.to_json(found, schema=TRIAL_FINE_TUNING_SCHEMA)

    text = processes.text_of_first(tried)
    return (
        records.from_json(TrialFineTuning, text, schema=TRIAL_FINE_TUNING_SCHEMA) if text else None
    )


def _trains_together(config: Config) -> bool:
    """Return whether several processes train together; a training of the user's own does not."""
    return not is_own(config)


@step(
    artifacts.TUNED,
    artifacts.TUNE_LOG,
    part="recovery",
    says=("finetune", lambda _, log: f"{log.stopped} after {log.steps} steps"),
    together=_trains_together,
    keys={"bench": ()},
    but=("finetune.rehearsal",),
)
def tune(
    pruned: nn.Module,
    round_plan: PrunePlan,
    units: UnitMap,
    recovery: Recovery,
    validation: DataSet,
    validated: Any,
    files: RunFiles,
    bench: Bench,
) -> tuple[nn.Module, TuneLog]:
    """Return the fine-tuned network and how it was trained.

    Several processes train together; a training of the user's own runs in rank 0.
    """
    if is_own(recovery.config):
        log = _own_training(pruned, recovery, validation, validated, files)
        return pruned.eval(), log
    recipe, execution = recovery.recipe, recovery.execution
    if not round_plan.remove or recipe.epochs == 0:
        recipe = Recipe(epochs=0)
    points = None
    if recipe.feature_weight:
        points = _cut_points(recovery.teacher, round_plan, units, bench.inputs)
    state = files.round_folder / "training.safetensors"
    files.folder.refuse_links(state)
    log = fine_tune(
        pruned,
        recovery.train if recipe.epochs and recovery.train is not None else [],
        execution.batches(validation),
        teacher=recovery.teacher,
        features=points,
        recipe=recipe,
        loss=recovery.task.loss,
        scorer=recovery.task.scorer,
        augment=recovery.augment,
        seed=execution.seed,
        state=state,
        on_progress=execution.observer.progress,
    )
    for line in harm_of(log):
        execution.observer.say(line)
    return pruned.eval(), log


def harm_of(log: TuneLog) -> list[str]:
    """Return what should be known of a training that did harm, or no good."""
    lines = [
        f"WARNING: after step {fall.step} validation was at {100 * fall.score:.1f} %, down from "
        f"{100 * fall.best:.1f} %: training went on from the weights before it, at "
        f"{fall.factor:g} of the rate."
        for fall in log.fall_backs
    ]
    if log.gained_nothing:
        rate = log.recipe.peak_lr * (log.fall_backs[-1].factor if log.fall_backs else 1.0)
        lines.append(
            "WARNING: the training did not improve the network (best step 0); the weights before "
            f"it are delivered. Try a smaller rate (finetune.lr: {rate / 4:g}), more data, or "
            "finetune.epochs: 0."
        )
    return lines


def _own_training(
    model: nn.Module,
    recovery: Recovery,
    validation: DataSet,
    validated: Any,
    files: RunFiles,
) -> TuneLog:
    """Let the user's own command or function train the network in place."""
    settings, root = recovery.config.finetune, recovery.config.root
    if settings.command is not None and settings.fn is not None:
        raise ConfigError("finetune.command and finetune.fn are both given; keep one.")
    before = validated(model)
    if settings.command is not None:
        files.folder.refuse_links(files.round_folder)
        run_command(settings.command, model, files.round_folder, cwd=root)
        for path in files.round_folder.glob("t*.safetensors"):  # of an earlier attempt, too
            files.folder.record(path)
    else:
        if recovery.train is None:
            raise ConfigError(
                "this needs train data, which the config does not name: "
                "write data.train, or give it a share in data.split."
            )
        run_function(
            load_function(str(settings.fn).removeprefix("py:"), root),
            model,
            recovery.execution.batches(recovery.train),
            recovery.execution.batches(validation),
            seed=recovery.execution.seed,
        )
    return TuneLog(
        recipe=recovery.recipe,
        points=(),
        steps=0,
        best_step=0,
        score_before=before,
        score_after=validated(model),
        stopped="user",
        note=settings.command or str(settings.fn),
    )


def _cut_points(
    model: nn.Module, plan: PrunePlan, units: UnitMap, example_inputs: Any
) -> dict[str, str]:
    """Return the unit that follows every cut: its name in the pruned and the unpruned network."""
    removed = [removal.unit for removal in plan.remove]
    names = {unit.name for unit in removed}
    order = [unit.name for unit in units]
    after = {
        next((name for name in order[place:] if name not in names), "")
        for place, unit in enumerate(order)
        if unit in names
    }
    kept = kept_names(model, removed, example_inputs=example_inputs)
    return {new: old for new, old in kept.items() if old in after}
