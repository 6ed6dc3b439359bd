"""What steps begin with that no file keeps: put together from files, config and rounds."""

from __future__ import annotations

from typing import Any

from srinit.criteria import Criterion
from srinit.display import command
from srinit.errors import ConfigError
from srinit.functions import load_function
from srinit.pipeline import rounds
from srinit.pipeline.runner import Runner, view
from srinit.pipeline.sizes import criterion_of, num_to_decide
from srinit.plan import PrunePlan
from srinit.runs import artifacts
from srinit.runs.records import DataFacts, RoundsOutcome
from srinit.steps.pruning import Before
from srinit.surgery import expand_back


@view
def told_data(runner: Runner) -> DataFacts:
    """Return what the data are; said once."""
    found = runner.get(artifacts.DATA_FACTS)
    if not runner.resources.data_told:
        runner.resources.data_told = True
        for line in found.notes:
            runner.observer.say(line)
    return found


@view
def scan_goal(runner: Runner) -> dict[str, Any]:
    """Return what the scan's precision follows: the largest drop, and how many units go."""
    return {
        "max_drop": runner.config.plan.max_drop,
        "num_remove": num_to_decide(runner.config, lambda: len(runner.get(artifacts.UNITS))),
    }


@view
def criterion(runner: Runner) -> str | Criterion:
    """Return what ranks: its name, or the user's own function."""
    name = criterion_of(runner.config, len(runner.get(artifacts.UNITS)))
    if not name.startswith("py:"):
        return name
    found: Criterion = load_function(name, runner.config.root)
    return found


@view
def round_plan(runner: Runner) -> PrunePlan:
    """Return the plan of the round at work: its own, or the run's where there is one round.

    Raises:
        ConfigError: The run prunes in rounds, and this one was not planned yet.
    """
    own = runner.files.get(artifacts.ROUND_PLAN)
    if own is not None:
        return own
    if runner.config.prune.in_rounds:
        raise ConfigError(
            f"{runner.path} prunes in rounds, and round {runner.files.round_number} has no plan "
            f"yet; {command('prune', runner.path)}."
        )
    return runner.get(artifacts.PLAN)


@view
def carried_out(runner: Runner) -> RoundsOutcome:
    """Carry the rounds out before something of a round is asked for; return how they ended."""
    return rounds.carry_out(runner)


@view
def before(runner: Runner) -> Before:
    """Return what the round at work begins with."""
    if runner.files.round_number == 1:
        return Before(runner.resources.model)
    last = runner.in_round(runner.files.round_number - 1)
    plan = last.files.read(artifacts.ROUND_PLAN)
    whole, _ = expand_back(
        runner.resources.model,
        last.get(artifacts.TUNED),
        [removal.unit for removal in plan.remove],
        example_inputs=runner.resources.example_inputs,
    )
    return Before(whole, plan, last.files.get(artifacts.TUNE_LOG))


@view
def outcome(runner: Runner) -> RoundsOutcome:
    """Return how the rounds ended; with one round there is nothing to choose."""
    if not runner.config.prune.in_rounds:
        return RoundsOutcome(delivered=1, accepted=True, reason="")
    return runner.files.read(artifacts.OUTCOME)
