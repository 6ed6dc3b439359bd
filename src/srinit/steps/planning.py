"""Makes the plan of a run: a ranking, the costs of its prefixes, and trials of what would go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from srinit.config.sections import PlanSection
from srinit.criteria import UnitScores
from srinit.curve import Clock, PrefixMeter
from srinit.edge import DeviceTimes, device, read_times
from srinit.errors import PlanError
from srinit.export import time_exported
from srinit.plan import PlanTimes, Prefix, PrunePlan, make_plan
from srinit.runs import artifacts, processes
from srinit.runs.records import ComputedPlan
from srinit.runtimes import version_of
from srinit.sensitivity import Sensitivity
from srinit.steps.table import step
from srinit.steps.task import Bench
from srinit.steps.trials import Trials
from srinit.units import UnitMap, covered, matching


@dataclass(frozen=True)
class Planner:
    """Makes plans for the targets of a config."""

    model: nn.Module  # the unpruned network
    settings: PlanSection
    keep: Sequence[str]  # protected units, names or globs
    bench: Bench
    trials: Trials
    root: Path  # that paths of the config are relative to

    def made(
        self,
        whole: nn.Module,
        sensitivity: Sensitivity,
        scores: UnitScores,
        *,
        gone: tuple[str, ...] = (),
    ) -> PrunePlan:
        """Return a plan made anew; prefixes of its ranking near the target are built and measured.

        All processes of a run must call it: rank 0 times networks alone, and trials are shared.

        Args:
            whole: The network that the round at work is cut from.
            sensitivity: The scan it rests on, in names of the unpruned network.
            scores: What ranks.
            gone: Units that earlier rounds removed; they come first.

        Raises:
            PlanError: The target cannot be met, or names unknown or locked units.
        """
        units = sensitivity.unit_map
        if not units.removable:
            hint = units.note or (
                "networks without shortcuts (VGG) have units with units.include_plain: true."
            )
            raise PlanError(f"the network has no unit that can be removed: {hint}")
        make = self._maker(sensitivity, self._options(units, scores, gone))
        if self.settings.trial_examples == 0:
            return make(())
        return self.trials.confirmed(whole, units, make, gone=gone)

    def _options(self, units: UnitMap, scores: UnitScores, gone: tuple[str, ...]) -> dict[str, Any]:
        options: dict[str, Any] = {
            **self.settings.targets(),
            "scores": scores,
            "keep": self._kept(units),
            "keep_first": self.settings.keep_first,
            "keep_last": self.settings.keep_last,
            "contiguous": self.settings.contiguous,
            "rule": self.settings.rule,
        }
        if gone:
            named = tuple(name for name in options.get("remove", ()) if name not in gone)
            options["remove"] = (*gone, *named)
        return options

    def _maker(
        self, sensitivity: Sensitivity, options: dict[str, Any]
    ) -> Callable[[tuple[str, ...]], PrunePlan]:
        """Return a function that makes the plan without some units; rank 0 measures for all."""
        meter, timed_on = self._meter(sensitivity.unit_map)

        def made(left_out: tuple[str, ...]) -> PrunePlan:
            given = {**options, "keep": (*options["keep"], *left_out)}
            free = {k: v for k, v in given.items() if k not in ("params", "flops", "latency")}

            def by(prefixes: tuple[Prefix, ...]) -> PrunePlan:
                batch = self.settings.latency_batch
                plan = make_plan(sensitivity, **given, latency_batch=batch, prefixes=prefixes)
                return replace(plan, timed_on=timed_on)

            return by(
                meter.prefixes(
                    make_plan(sensitivity, **free).ranking,
                    wanted=lambda prefixes: _near(by, prefixes),
                    on_progress=self.trials.compensator.execution.observer.progress,
                )
            )

        def shared(left_out: tuple[str, ...]) -> PrunePlan:
            if self.trials.compensator.execution.ranks.count == 1:
                return made(left_out)
            text = processes.text_of_first(lambda: made(left_out).to_json())
            return PrunePlan.from_json(text, where="the plan of rank 0")

        return shared

    def _meter(self, units: UnitMap) -> tuple[PrefixMeter, str]:
        """Return what measures the network after removals, and what its times are of."""
        times, timed_on = self._elsewhere()
        meter = PrefixMeter(
            self.model,
            units,
            self.bench.inputs,
            batch_sizes=self.bench.batch_sizes,
            clock=self._clock(),
            measured=None if times is None else times.milliseconds,
        )
        return meter, timed_on

    def timed(self, plan: PrunePlan, units: UnitMap) -> PlanTimes | None:
        """Return what a clock says about a plan that is there; None where no batch is timed."""
        if not self.bench.batch_sizes:
            return None
        found = self._meter(units)[0].prefixes(
            plan.ranking,
            wanted=lambda _: (len(plan.remove),),
            on_progress=self.trials.compensator.execution.observer.progress,
        )
        return replace(plan, prefixes=found).untimed()[1]

    def _elsewhere(self) -> tuple[DeviceTimes | None, str]:
        """Return the times of another device, if the config names some, and what takes times."""
        if self.settings.measured is not None:
            times = read_times(self.root / self.settings.measured, self.settings.runtime)
            return times, f"{times.device}, {times.runtime}"
        runtime = self.settings.runtime
        return None, "" if runtime == "torch" else f"{device.processor()}, {version_of(runtime)}"

    def _clock(self) -> Clock | None:
        if self.settings.runtime == "torch":
            return None
        return lambda network: time_exported(
            network, self.bench.inputs, self.settings.runtime, batch_sizes=self.bench.batch_sizes
        )

    def _kept(self, units: UnitMap) -> tuple[str, ...]:
        """Return the protected units, also those that are protected only since the scan."""
        protected = matching(self.keep, dict(self.model.named_modules()), argument="units.keep")
        return (
            *(unit.name for unit in units.locked if unit.reason == "kept"),
            *(
                unit.name
                for unit in units.removable
                if any(covered(part, protected) for part in (unit.name, *unit.also))
            ),
        )


@step(
    artifacts.COMPUTED,
    artifacts.PLAN,
    part="plan",
    says=("plan", lambda computed, _: f"remove {', '.join(computed.remove) or 'nothing'}"),
    together=True,
    but=("plan.beside", "plan.beside_examples"),
)
def plan(
    model: nn.Module,
    sensitivity: Sensitivity,
    scores: UnitScores,
    planner: Planner,
) -> tuple[ComputedPlan, PrunePlan]:
    """Return the plan for the targets of the config, and the names of its units.

    The network is built and measured after some removals of the ranking, those near the target
    among them, and the others lie between, so that the report's slider looks its costs up.

    Raises:
        PlanError: The target cannot be met, or names unknown or locked units.
    """
    made = planner.made(model, sensitivity, scores)
    return ComputedPlan(remove=made.names), made


@step(artifacts.PLAN_TIMES, part="plan times", keys={"planner": ("compare.latency_batches",)})
def plan_times(plan: PrunePlan, sensitivity: Sensitivity, planner: Planner) -> PlanTimes | None:
    """Return what a clock says about the plan, where other batch sizes are asked for since."""
    return planner.timed(plan, sensitivity.unit_map)


def _near(
    by: Callable[[tuple[Prefix, ...]], PrunePlan], prefixes: tuple[Prefix, ...]
) -> tuple[int, ...]:
    """Return the prefix that a plan would take, where latency decides also the one before it."""
    try:
        found = by(prefixes)
    except PlanError:
        return ()  # said again, and for good, once all is measured
    count = len(found.remove)
    return (count - 1, count) if "latency" in found.target and count else (count,)
