"""A plan made anew, and what an edit by hand asks for: checked before anything moves."""

from __future__ import annotations

from pathlib import Path

from srinit.custody import overrides
from srinit.custody.overrides import Override
from srinit.display import command
from srinit.errors import ConfigError
from srinit.pipeline import start
from srinit.pipeline.runner import Runner
from srinit.plan import PrunePlan, make_plan
from srinit.runs import RunFiles
from srinit.runs.artifacts import COMPUTED, PLAN, REFERENCE_SCORES, SENSITIVITY
from srinit.runs.inputs import config_of
from srinit.store import RunFolder


def replan(runner: Runner) -> PrunePlan:
    """Return a plan made anew; what rests on the one before is set aside when it is there.

    Raises:
        PlanError: The target cannot be met, or names unknown or locked units; nothing has moved
            then.
    """
    runner.enter(1)
    with runner.without(PLAN) as make:
        make()
        start.settle(runner)
    runner.get(REFERENCE_SCORES)
    return runner.get(PLAN)


def check_names(runner: Runner) -> None:
    """Check that the units that `plan.remove` names can go, before anything is made or moved.

    Raises:
        PlanError: The scan knows no such unit, or it is locked.
    """
    sensitivity = runner.files.get(SENSITIVITY)
    if sensitivity is None:
        return
    freed = {unit.name for unit in sensitivity.unit_map.locked if unit.reason == "kept"}
    if runner.change is None or "units" not in runner.change.redone:
        freed = set()
    make_plan(sensitivity, remove=[n for n in runner.config.plan.remove if n not in freed])


def edited(run: Path, reason: str) -> Override:
    """Return the edit by hand that the plan.json of a run holds: which units go, in which order.

    Nothing else of the file is taken: what the plan says of its units is measured anew.

    Raises:
        ConfigError: There is no plan, no reason, it is no plan any more, or names what was
            computed.
    """
    folder = RunFolder.open(run)
    path, computed = run / PLAN.path, RunFiles(folder).get(COMPUTED)
    if computed is None or not path.is_file():
        raise ConfigError(f"{run} holds no plan.json yet; {command('plan', run)}.")
    if not reason.strip():
        raise ConfigError('an edited plan needs a reason, which goes on record: --reason "..."')
    names = list(PrunePlan.from_json(path.read_bytes(), where=str(path)).names)
    before = list(computed.remove)
    if names == before:
        raise ConfigError(
            f"{path} removes what was computed, in the same order; which units go is all that is "
            f"taken of an edit. {command('plan', run)} makes it anew."
        )
    last = overrides.edit_of(overrides.of_run(run), config_of(folder))
    return Override(
        key=overrides.EDIT,
        before=last.before if last is not None else before,
        after=names,
        verb="plan",
        judged=False,
        reason=" ".join(reason.split()),  # one line, wherever it is shown
    )
