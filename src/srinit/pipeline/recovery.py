"""How a run recovers: the recipe its config asks for, and what is to be expected beforehand."""

from __future__ import annotations

from srinit.finetune import Recipe, TuneLog, auto_recipe
from srinit.pipeline.session import Session
from srinit.plan import PrunePlan

FIELDS = (
    "epochs", "optimizer", "lr", "weight_decay", "warmup", "label_smoothing",
    "distill_weight", "temperature", "feature_weight", "schedule", "batch_size", "patience", "ema",
    "precision",
)  # fmt: skip


def recipe(session: Session) -> Recipe:
    """Return the recipe of the config; `finetune: auto` looks at the size of the data."""
    settings = session.config.finetune
    given = Recipe(**{name: getattr(settings, name) for name in FIELDS})
    if settings.recipe != "auto" or given.epochs == 0 or "train" not in session.data:
        return given
    return auto_recipe(
        len(session.split("train")), validated="validation" in session.data, given=given
    )


def forecast(session: Session, plan: PrunePlan, before: TuneLog | None = None) -> str:
    """Return what is known of dip and recovery before anything is cut, and what is not.

    Args:
        session: The run.
        plan: What is removed, with the evidence of its trials.
        before: The recovery of the stage before, where there is one.
    """
    if not plan.remove:
        return "Nothing is removed."
    evidence = plan.remove[-1].evidence
    if "joint_cost" in evidence:
        cost, low, high = (100 * (evidence[f"joint_{n}"] or 0.0) for n in ("cost", "low", "high"))
        examples = min(session.config.plan.trial_examples, len(session.split("calibration")))
        dip = (
            f"Expected dip: {cost:.1f} points, "
            f"{100 * session.config.compare.confidence:.0f} % interval {low:.1f} to {high:.1f}, "
            f"measured by removing the units on a copy ({examples} calibration examples, "
            "recalibrated, not trained)."
        )
    else:
        dip = "Expected dip: unknown; the removals were not tried (plan.trial_examples: 0)."
    return f"{dip} {_recovery(session, before)}"


def _recovery(session: Session, before: TuneLog | None) -> str:
    settings = session.config.finetune
    if settings.command is not None or settings.fn is not None:
        return "Recovery: unknown; a training of your own follows."
    chosen = recipe(session)
    if chosen.epochs == 0:
        return "Recovery: none is asked for (finetune.epochs: 0)."
    what = f"{chosen.epochs:g} epochs of fine-tuning at batch {chosen.batch_size}"
    if before is None or before.score_before is None or before.score_after is None:
        return f"Recovery by {what}: unknown until it is measured."
    return (
        f"Recovery by {what}: unknown; the stage before went from {100 * before.score_before:.1f} "
        f"to {100 * before.score_after:.1f} % on validation data."
    )
