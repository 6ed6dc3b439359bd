"""A plan made anew, or edited by hand: checked before anything moves."""

from __future__ import annotations

from srinit.display import command
from srinit.errors import ConfigError, PlanError
from srinit.pipeline import start
from srinit.pipeline.runner import Runner
from srinit.plan import PrunePlan, make_plan
from srinit.runs.artifacts import PLAN, REFERENCE_SCORES, SENSITIVITY
from srinit.store import RunFolder, sha256_bytes


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
    if runner.config.plan.remove and sensitivity is not None:
        make_plan(sensitivity, remove=tuple(runner.config.plan.remove))


def check_edited(runner: Runner, reason: str) -> PrunePlan:
    """Return the plan as it was edited by hand, if it is one that can be carried out.

    Raises:
        ConfigError: There is no plan, no reason, or it is no plan any more.
        PlanError: It names units that the scan did not measure or that are locked.
    """
    path = runner.files.path(PLAN)
    if not path.is_file():
        raise ConfigError(f"{runner.path} holds no plan.json yet; {command('plan', runner.path)}.")
    if not reason.strip():
        raise ConfigError('an edited plan needs a reason, which goes on record: --reason "..."')
    edited = PrunePlan.from_json(path.read_bytes(), where=str(path))
    known = {unit.name for unit in runner.files.read(SENSITIVITY).unit_map.removable}
    foreign = [name for name in (*edited.names, *edited.ranking) if name not in known]
    if foreign:
        raise PlanError(f"{path} names units that cannot go: {', '.join(foreign[:5])}.")
    return edited


def take_edited(runner: Runner, reason: str) -> PrunePlan:
    """Return the plan as it was edited by hand; results of the one before are set aside.

    Raises:
        ConfigError: As `check_edited`.
        PlanError: As `check_edited`.
    """
    source = RunFolder.open(runner.came_from or runner.path)
    edited = check_edited(Runner(runner.config, source), reason)
    path = source.path / PLAN.path
    content, before = path.read_bytes(), source.digests(path)
    start.settle(runner)
    runner.folder.audit(
        "plan",
        f"edited by hand: remove {', '.join(edited.names) or 'nothing'}",
        reason=reason,
        inputs={"plan.json": sha256_bytes(content), "before": before["plan.json"]},
    )
    runner.folder.write_bytes(runner.files.path(PLAN), content)
    return edited
