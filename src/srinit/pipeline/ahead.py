"""What would stop a run later, looked for before anything is measured."""

from __future__ import annotations

import copy

from srinit.errors import ConfigError
from srinit.evaluate import NEXT_TOKEN, SCORERS, Detection, PartTask, unwrapped
from srinit.finetune.checks import check_trainable, task_loss
from srinit.finetune.memory import check_means
from srinit.gates import check_feasible
from srinit.pipeline.resources import Resources
from srinit.pipeline.runner import Runner
from srinit.steps.field_data import limits
from srinit.steps.judging import round_limits
from srinit.steps.recovery import is_own


def check(runner: Runner) -> None:
    """Check what would stop the run later: data that is missing, gates that cannot pass.

    Raises:
        ConfigError: A data set is missing, a gate cannot pass on so few test examples, or nothing
            of the network can be trained.
        DataError: The data does not fit the model.
    """
    config, resources = runner.config, runner.resources
    if config.plan.contiguous and config.prune.in_rounds:
        raise ConfigError(
            "plan.contiguous chooses all units at once, and prune.rounds or prune.step would cut "
            "them in parts, scanned again in between: keep one of them."
        )
    resources.split("test")
    resources.split("validation")
    recovery = resources.recovery
    if config.finetune.fn is not None and recovery.train is None:
        resources.split("train")
    if recovery.fits:
        if is_own(config):
            raise ConfigError(
                "finetune.command and finetune.fn: with score: anomaly the network's own fit_good "
                "learns anew from good parts; leave them out."
            )
        defects = set(config.data.defect_classes)
        if (not isinstance(config.data.classes, list) and not defects) or (
            defects and defects != set(resources.class_names[1:])
        ):
            raise ConfigError(
                f"score: anomaly takes the first class for the good one, here "
                f"{resources.class_names[0]!r}; write data.classes: the list, the good one first."
            )
        recovery.fit(copy.deepcopy(resources.model))
        runner.observer.say("after the cut the network learns anew from good parts what is normal.")
    elif not recovery.trains:
        runner.observer.say(
            "nothing will be trained: the network as it is compensated after the cut is the result."
        )
    elif not is_own(config):
        if not recovery.copies and config.finetune.distill_weight:
            runner.observer.say(
                "finetune.distill_weight counts as 0: what a detector answers cannot be copied; it "
                "is trained by its own losses."
            )
        check_trainable(resources.model)
        task_loss(resources.loss, resources.scorer, recovery.recipe, resources.model)
        check_means(resources.model, recovery.recipe)
    if config.gates.max_perplexity_ratio is not None:
        _check_language(resources)
    runner.value("told_data")
    resources.check_fit()
    check_feasible(
        config.gates.limits(),
        resources.counts("test"),
        **resources.error_terms,
        confidence=config.compare.confidence,
        shift_examples=config.shift.examples,
        shift_points=len(config.shift.corruptions) * len(config.shift.severities),
    )
    if config.export.package and isinstance(resources.scorer, PartTask):
        raise ConfigError(
            f"export.package: a package answers with one class an image, and score: {config.score} "
            "reads other answers; take export/pruned.onnx, and write "
            "export.package: false."
        )
    if config.export.int8 and isinstance(resources.scorer, Detection):
        raise ConfigError(
            "export.int8: a detector's ONNX file is not quantized here; write export.int8: false."
        )
    for outlook in resources.outlooks:
        runner.observer.say(outlook.sentence)
    _check_site(resources)
    if config.prune.in_rounds:
        _check_rounds(resources)


def _check_language(resources: Resources) -> None:
    """Raise `ConfigError` where no perplexity will be measured that a gate could judge."""
    if unwrapped(resources.scorer) not in NEXT_TOKEN:
        names = ", ".join(name for name, scorer in SCORERS.items() if scorer in NEXT_TOKEN)
        raise ConfigError(
            "gates.max_perplexity_ratio needs the loss of next tokens, which score: "
            f"{resources.config.score} does not look at; write score: one of {names}."
        )


def _check_site(resources: Resources) -> None:
    """Raise `ConfigError` where a gate that counts can never pass on so few site examples."""
    settings = resources.config.gates
    if not settings.site:
        return
    data, wanted = resources.split("site"), limits(settings)
    counts = resources.counts("site")
    if data.targets.ndim == 1 and not (data.targets >= 0).any():
        counts = {"": len(data)}
        wanted = {name: limit for name, limit in wanted.items() if name == "min_agreement"}
    terms = resources.error_terms if "" not in counts else {}
    check_feasible(
        wanted,
        counts,
        confidence=resources.config.compare.confidence,
        where="on data.site, gates",
        **terms,
    )


def _check_rounds(resources: Resources) -> None:
    """Raise `ConfigError` where a gate can never pass on so few validation examples."""
    check_feasible(
        round_limits(resources.config.gates),
        resources.counts("validation"),
        **resources.error_terms,
        confidence=resources.config.compare.confidence,
    )
