"""The training loop: deterministic on the CPU, resumable at any step, best weights kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules
from srinit.distributed import process_group
from srinit.errors import CheckpointError, DataError
from srinit.evaluate import BatchSplitter, Loss, Scorer, top1
from srinit.evaluate.losses import places_of
from srinit.finetune import checkpoint
from srinit.finetune.arithmetic import (
    checkpointed,
    inputs_as,
    laid_out,
    precision_of,
)
from srinit.finetune.average import averaged
from srinit.finetune.checks import check_trainable, check_validation, frozen, task_loss
from srinit.finetune.features import watched
from srinit.finetune.gradient_sync import GradientSync
from srinit.finetune.lora import adapted
from srinit.finetune.optimizer import optimizer_of
from srinit.finetune.records import FallBack, Recipe, TuneLog, TunePoint, nothing_to_do
from srinit.finetune.schedule import fall_back, learning_rate
from srinit.finetune.step import Gradients
from srinit.finetune.stream import num_batches, stream
from srinit.finetune.teacher import KeptPredictions, Teacher, keeps_predictions
from srinit.records import plain
from srinit.rng import seed_for
from srinit.state import check_initialized

Progress = Callable[[int, int, str], None]  # steps done, steps in all, a note
CHECKPOINT_STEPS = 50


def fine_tune(
    model: nn.Module,
    train: object,
    validation: Iterable[tuple[Any, Any]] | None,
    *,
    teacher: nn.Module | None = None,
    features: Mapping[str, str] | None = None,
    recipe: Recipe | None = None,
    augment: object = None,
    loss: Loss | None = None,
    scorer: Scorer = top1,
    seed: int = 0,
    state: Path | None = None,
    on_progress: Progress | None = None,
) -> TuneLog:
    """Train `model` in place and leave the weights in it that did best on `validation`.

    This is the one function that changes the model it is given: pass the pruned copy. Everything
    random derives from `seed` and the number of the step, so that an interrupted run that goes
    on from `state` ends with the same weights as an uninterrupted one (on the CPU, bit for bit).

    Under `torchrun` or `accelerate launch` every process takes its share of each batch, so that
    `recipe.batch_size` is that of all of them together; gradients and running statistics are
    averaged, all decide alike and end with the same weights. Only rank 0 writes `state`. Batch
    normalization sees the share of its process, as usual in data-parallel training.

    Where half of the steps leave validation below the start (two points at least, and three
    standard errors) and none was better, training goes on from the first weights again, at a
    quarter of the rate; `TuneLog.fall_backs` tells of it.

    A batch that does not fit into memory is worked through in halves (quarters, and so on) whose
    gradients are added up, so that the steps and their learning rates stay those of
    `recipe.batch_size`; the size that fits is remembered, in `state` and in the record.

    Args:
        model: The network after the cut, on its device. Its train flags are restored.
        train: A `DataSet` (shuffled and augmented anew every epoch), or an iterable of
            batches that is read once an epoch: `(inputs, target)`, or dicts with `labels`.
        validation: Batches that choose the best weights and stop early; None keeps the last.
        teacher: The unpruned network, to copy its soft predictions; not changed.
        features: Modules whose outputs `recipe.feature_weight` pulls together: name in the model
            to name in `teacher`. Where the shapes differ they are left out.
        recipe: How to train.
        augment: Random changes of training images, for a `DataSet`.
        loss: Own loss `(output, target) -> scalar`; by default the one that belongs to `scorer`
            (`srinit.evaluate.loss_for`): cross entropy, of the next tokens where those are scored.
        scorer: Score on validation, and what is trained where no loss is given.
        seed: Of shuffling, augmentation and dropout.
        state: File that the state is kept in while training; deleted at the end.
        on_progress: Called after every step.

    Raises:
        ConfigError: Early stopping was asked for without validation data; every parameter is
            frozen; or the scorer is your own, and no loss is given.
        DataError: Batches are none, or targets do not fit the output.
        CheckpointError: `state` is damaged, or of a training with another recipe, seed or
            length.
        ResourceError: Not even two examples fit into memory.
    """
    recipe = recipe or Recipe()
    check_initialized(model)
    check_validation(recipe, validation)
    per_epoch = num_batches(train, recipe)
    total = math.ceil(recipe.epochs * per_epoch)
    if total == 0:
        return nothing_to_do(recipe)
    check_trainable(model)
    chosen = task_loss(loss, scorer, recipe, teacher)
    with (
        process_group() as ranks,
        laid_out(model),
        adapted(model, recipe.lora, seed),
        checkpointed(model, recipe),
    ):
        run = _Run(model, recipe, total, seed, validation, scorer, GradientSync(ranks))
        run.begin(state)
        stopped = _trained(
            run, train, teacher, features, augment, chosen, per_epoch, state, on_progress,
        )  # fmt: skip
        run.keep_best()
    if state is not None and run.together.rank == 0:
        state.unlink(missing_ok=True)
    return run.log(stopped)


def _trained(
    run: _Run,
    train: object,
    teacher: nn.Module | None,
    features: Mapping[str, str] | None,
    augment: object,
    loss: Loss | None,
    per_epoch: int,
    state: Path | None,
    on_progress: Progress | None,
) -> object:
    """Take all steps, with the hooks on features that the recipe asks for."""
    model, recipe = run.model, run.recipe
    pairs = dict(features or {}) if recipe.feature_weight and teacher is not None else {}
    precision = precision_of(recipe, model)
    asked = None if teacher is None else Teacher(teacher, precision, hooked=bool(pairs))
    guide = nn.Module() if asked is None else asked.model
    with (
        modules.eval_mode(model),
        modules.untouched(guide),  # train flags are restored
        watched(model, pairs) as ours,
        watched(guide, pairs.values()) as theirs,
    ):
        gradients = Gradients(
            model=model,
            recipe=recipe,
            precision=precision,
            loss=loss,
            places=places_of(run.scorer),
            teacher=asked,
            features=(ours, theirs, pairs) if pairs else None,
            scaler=run.scaler,
            together=run.together,
            parts=run.parts,
        )
        kept = None
        alone = run.together.count == 1
        if alone and keeps_predictions(asked, train, recipe, augment, run.total, per_epoch):
            assert asked is not None
            kept = KeptPredictions(asked, train, recipe, augment, run.seed)
        return run.train(
            stream(model, train, recipe, augment, run.seed, run.step, run.together, kept),
            gradients,
            per_epoch=per_epoch,
            state=state,
            on_progress=on_progress,
        )


class _Run:
    """The state of one fine-tuning."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        total: int,
        seed: int,
        validation: Iterable[tuple[Any, Any]] | None,
        scorer: Scorer,
        together: GradientSync,
    ) -> None:
        self.together = together
        self.model, self.recipe, self.total, self.seed = model, recipe, total, seed
        self.validation, self.scorer = validation, scorer
        self.device = modules.device_of(model)
        self.optimizer = optimizer_of(model, recipe)
        half = recipe.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        least = 2 if recipe.micro_batch is None else min(2, recipe.micro_batch)
        self.parts = BatchSplitter(self.device, least=least, limit=recipe.micro_batch)
        self.average = averaged(model, recipe.ema) if recipe.ema else None
        self.points: list[TunePoint] = []
        self.best: dict[str, Tensor] = {}
        self.best_score, self.best_step = -1.0, 0
        self.step, self.stale = 0, 0
        self.losses: list[float] = []
        self.why = ""  # it ended
        self.fall_backs: list[FallBack] = []
        normed = any(isinstance(module, _BatchNorm) for module in model.modules())
        self.fewest = 2 if normed else 1  # examples of a step: batch normalization needs two
        self.parts.least = max(self.parts.least, self.fewest)
        self.skipped = 0

    def begin(self, state: Path | None) -> None:
        """Go on from a state, or measure the network before the first step."""
        found = "" if state is None or not state.is_file() else str(state.absolute())
        found = self.together.ranks.broadcast(found)
        if found:
            self._restore(Path(found))
        self.together.start_equal(self.model)
        if found:
            return
        self.measure(epoch=0.0)

    def train(
        self,
        batches: Iterator[tuple[Any, Any, int, Tensor | None]],
        gradients: Gradients,
        *,
        per_epoch: int,
        state: Path | None,
        on_progress: Progress | None,
    ) -> object:
        """Take steps until the end; return why it ended."""
        while self.step < self.total:
            inputs, target, whole, kept = next(batches)
            fitted = self.parts.limit
            value = self._one_step(inputs, target, whole, kept, gradients)
            self.step += 1
            if not math.isfinite(value):
                self.why = self._diverged(value)
                return "diverged"
            if self.skipped == per_epoch == self.step:
                raise DataError(
                    f"nothing can be trained: no batch holds {self.fewest} examples for each "
                    "process, as batch normalization needs them. Give larger batches."
                )
            self.losses.append(value)
            if self.step % per_epoch == 0 or self.step == self.total:
                self.measure(epoch=self.step / per_epoch)
                self._fall_back()
                if self.recipe.patience is not None and self.stale >= self.recipe.patience:
                    return "patience"
            shrunk = self.parts.limit != fitted  # not to be found out again
            if state is not None and (shrunk or self.step % CHECKPOINT_STEPS == 0):
                self._keep(state)
            if on_progress is not None:
                on_progress(self.step, self.total, self._note())
        return "finished"

    def _one_step(
        self,
        inputs: object,
        target: object,
        whole: int,
        kept: Tensor | None,
        gradients: Gradients,
    ) -> float:
        if whole < self.fewest * self.together.count:
            self.skipped += 1
            return self.losses[-1] if self.losses else 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr(self.step)
        inputs, target, kept = modules.to_device((inputs, target, kept), self.device)
        inputs = inputs_as(self.model, inputs)
        self.model.train()
        rank = [self.together.rank] if self.together.rank else []
        seed = seed_for("step", self.seed, self.step, *rank)
        found = gradients.of(inputs, target, whole, kept=kept, seed=seed)
        if not math.isfinite(found):
            return found
        self.together.average_gradients(self.model)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        overflows = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if not math.isfinite(float(norm)) and not overflows:  # clipped by it every weight is NaN
            return math.inf
        self.scaler.step(self.optimizer)  # in float16 an overflow skips it and lowers the scale
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return found

    def _lr(self, step: int) -> float:
        return learning_rate(self.recipe, step, self.total, self.fall_backs)

    def _fall_back(self) -> None:
        """Take up the first weights again, at a smaller rate, where training only destroyed."""
        if self.best_step or self.step == self.total:
            return
        found = fall_back(
            self.recipe, self.points[-1], self.total, self.best_score, self.fall_backs
        )
        if found is None:
            return
        self.fall_backs.append(found)
        self.keep_best()
        self.optimizer = optimizer_of(self.model, self.recipe)
        self.average = averaged(self.model, self.recipe.ema) if self.recipe.ema else None
        self.stale = 0

    def measure(self, *, epoch: float) -> None:
        """Score the present weights on validation, and keep them if they are the best."""
        self.together.average_buffers(self.model, self.average)
        candidate = self.average.module if self.average is not None and self.step else self.model
        score, count = None, 0
        if self.validation is not None:
            score, count = self.together.score(candidate, self.validation, self.scorer)
        self.points.append(
            TunePoint(
                step=self.step,
                epoch=epoch,
                loss=sum(self.losses) / len(self.losses) if self.losses else None,
                lr=self._lr(self.step) if self.step < self.total else 0.0,
                validation_score=score,
                num_examples=count,
            )
        )
        self.losses = []
        if score is None or score > self.best_score:
            self.best_score = -1.0 if score is None else score
            self.best_step, self.stale = self.step, 0
            same = frozen(self.model)
            entries = [e for e in candidate.state_dict().items() if e[0] not in same]
            self.best = {name: copy.deepcopy(value) for name, value in entries}
        else:
            self.stale += 1

    def keep_best(self) -> None:
        """Load the best weights into the model; what is frozen is as it was."""
        modules.load_state(self.model, {**self.model.state_dict(), **self.best})

    def log(self, stopped: Any) -> TuneLog:
        """Return the record."""
        return TuneLog(
            recipe=self.recipe,
            points=tuple(self.points),
            steps=self.step,
            best_step=self.best_step,
            score_before=self.points[0].validation_score if self.points else None,
            score_after=self.best_score if self.best_score >= 0 else None,
            stopped=stopped,
            note=self.why,
            part_size=None if self.parts.limit == self.recipe.micro_batch else self.parts.limit,
            fall_backs=tuple(self.fall_backs),
        )

    def _diverged(self, value: float) -> str:
        what = "a gradient was not finite" if value == math.inf else f"the loss was {value}"
        hint = (
            "before anything was trained: look for NaN or infinity in the examples"
            if self.step == 1
            else "a smaller learning rate (lr) may help"
        )
        return f"{what} at step {self.step}; {hint}. The best weights before it were kept."

    def _note(self) -> str:
        last = next((p for p in reversed(self.points) if p.validation_score is not None), None)
        said = [f"validation {100 * (last.validation_score or 0):.2f} %"] if last else []
        if self.parts.limit != self.recipe.micro_batch:
            said.append(f"memory is short: {self.parts.limit} examples at a time")
        return ", ".join(said)

    def _about(self) -> dict[str, Any]:
        """Return what must be equal for a state to be gone on with, as JSON."""
        return {"recipe": plain(self.recipe), "seed": self.seed, "total": self.total}

    def _keep(self, path: Path) -> None:
        self.together.average_buffers(self.model, self.average)
        if self.together.rank:
            return
        extra = {"best": self.best}
        if self.average is not None:
            extra["average"] = self.average.state_dict()
        points = [vars(point) for point in self.points]
        checkpoint.write(
            path,
            model=self.model,
            optimizer=self.optimizer,
            extra=extra,
            counters={
                "about": self._about(),
                "step": self.step,
                "stale": self.stale,
                "best_score": self.best_score,
                "best_step": self.best_step,
                "losses": self.losses,
                "points": points,
                "scaler": self.scaler.state_dict(),
                "part_size": self.parts.limit,
                "fall_backs": [vars(each) for each in self.fall_backs],
            },
        )

    def _restore(self, path: Path) -> None:
        groups, counters = checkpoint.read(path)
        if counters.get("about") != self._about():
            raise CheckpointError(
                f"{path} is of a fine-tuning with another recipe, seed or number of steps; "
                "delete it to begin again, or restore the settings to go on."
            )
        modules.load_state(self.model, groups["model"])
        checkpoint.restore_optimizer(self.optimizer, groups.get("optimizer", {}))
        self.best = {name: value.to(self.device) for name, value in groups["best"].items()}
        if self.average is not None:
            modules.load_state(self.average, groups["average"])
        self.step, self.stale = counters["step"], counters["stale"]
        self.best_score, self.best_step = counters["best_score"], counters["best_step"]
        self.losses = counters["losses"]
        self.scaler.load_state_dict(counters["scaler"])
        self.parts.limit = counters.get("part_size")
        self.points = [TunePoint(**point) for point in counters["points"]]
        self.fall_backs = [FallBack(**each) for each in counters.get("fall_backs", [])]
