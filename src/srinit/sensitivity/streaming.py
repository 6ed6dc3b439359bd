"""The scan with a fresh draw for every few examples: batch by batch, until enough is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from srinit import modules
from srinit.engine import Batch, BatchOutcomes, Perturbation
from srinit.sensitivity.design import FIRST_PER_DRAW, per_draw_for, suffix_flops
from srinit.sensitivity.drop_estimator import DropEstimator
from srinit.sensitivity.journal import Journal
from srinit.sensitivity.progress import OnProgress, Progress
from srinit.sensitivity.records import UnitSensitivity
from srinit.sensitivity.selection import Selection, select
from srinit.sensitivity.setup import Setup, rounds_of

WARM_UP = 1  # batches after which the number of examples that share a draw is chosen


class StreamingScan:
    """Observations of all units, from the journal and from new batches.

    Args:
        setup: What to work with.
        perturbation: How to draw.
        problems: Why units cannot be drawn, by unit.
        on_progress: Called after each round of batches.
    """

    def __init__(
        self,
        setup: Setup,
        perturbation: Perturbation,
        problems: Mapping[str, str],
        on_progress: OnProgress | None,
    ) -> None:
        self._setup, self._perturbation = setup, perturbation
        self.estimators = {
            target.name: DropEstimator(
                target.name,
                removable=target.removable,
                rule=setup.rule,
                problem=problems.get(target.name, ""),
                note=setup.bench.notes.get(target.name, ""),
            )
            for target in setup.targets
        }
        self._flops = suffix_flops(setup.units)
        weights = {name: max(self._flops.get(name, 0.0), 1.0) for name in self.estimators}
        self.progress = Progress(setup.rule, weights, len(setup.order), on_progress)
        self._per_draw = dict.fromkeys(self.estimators, FIRST_PER_DRAW)
        self.seen = 0
        self.score = 0.0

    def steps(self, journal: Journal) -> Iterator[None]:
        """Measure until all is known or the data ends; yield after every round of batches."""
        batches = self._setup.batches(self._setup.settings.batch_size)
        known = [line for line in journal.lines if "batch" in line]
        for entry in known:
            self._apply(entry)
        self.progress.start(list(self.estimators.values()))
        ranks = self._setup.ranks
        rounds = rounds_of(len(known), len(batches), ranks.count, warm_up=WARM_UP)
        reader = self._setup.read(batches, rounds)
        for numbers in rounds:
            if self._finished():
                return
            number = numbers.start + ranks.rank
            line = self._measure(next(reader), number) if number < numbers.stop else None
            for fresh in ranks.gather(line):
                if fresh is None or self._finished():
                    continue
                kept = self._apply(fresh)
                if ranks.rank == 0:
                    journal.append([kept])
            self.progress.tell(list(self.estimators.values()))
            yield

    def _measure(self, batch: Batch, number: int) -> dict[str, Any]:
        active = {
            name: self._per_draw[name]
            for name, estimator in self.estimators.items()
            if not estimator.is_done
        }
        found = self._setup.bench.measure(batch, number, active, self._perturbation)
        return {
            "batch": number,
            "classes": found.classes,
            "baseline": found.baseline.to_line(),
            "units": {
                name: {"per_draw": active[name], **rows.to_line()}
                for name, (rows,) in found.units.items()
            },
        }

    def _apply(self, line: dict[str, Any]) -> dict[str, Any]:
        """Take in one batch; return the line without units that were finished before it."""
        baseline = BatchOutcomes.from_line(line["baseline"])
        left = len(self._setup.order) - self.seen
        self.seen += len(baseline.scores)
        self.score += sum(baseline.scores)
        used = {
            name: entry
            for name, entry in line["units"].items()
            if not self.estimators[name].is_done
        }
        for name, entry in used.items():
            rows = BatchOutcomes.from_line(entry)
            self.estimators[name].add(baseline, rows, line["classes"], entry["per_draw"], left)
        self._settle()
        if line["batch"] + 1 == WARM_UP:
            self._choose_per_draw()
        return {**line, "units": used}

    @property
    def selection(self) -> Selection | None:
        """Which units are among those with the smallest drops; None where it was not asked."""
        count = self._setup.rule.num_remove
        measured = [
            t for t in self.estimators.values() if t.removable and t.drops and not t.problem
        ]
        if count is None or not measured:
            return None
        return select(
            {estimator.name: estimator.mean for estimator in measured},
            {estimator.name: estimator.joint for estimator in measured},
            count,
        )

    def _settle(self) -> None:
        """Tell every unit on which side it is, after a batch."""
        selection = self.selection
        if selection is not None:
            for name, side in selection.sides.items():
                self.estimators[name].side, self.estimators[name].line = side, selection.line

    def _choose_per_draw(self) -> None:
        for name, estimator in self.estimators.items():
            if estimator.problem:
                continue
            self._per_draw[name] = per_draw_for(
                estimator.variances(),
                flops=self._flops.get(name, 0.0),
                params=modules.count_params(self._setup.model.get_submodule(name)),
                half_width=self._setup.rule.target_half_width,
                confidence=self._setup.rule.confidence,
                costs=self._setup.bench.costs(name, self._perturbation),
            )

    def _finished(self) -> bool:
        return (
            all(estimator.is_done for estimator in self.estimators.values()) or self._best_known()
        )

    def _best_known(self) -> bool:
        """Return whether it is certain which units have the smallest drops."""
        count = self._setup.settings.best
        measured = [estimator for estimator in self.estimators.values() if not estimator.problem]
        if count is None or any(not estimator.drops for estimator in measured):
            return False
        ranked = sorted(measured, key=lambda estimator: estimator.mean)
        if len(ranked) <= count:
            return True
        return max(t.joint[1] for t in ranked[:count]) <= min(t.joint[0] for t in ranked[count:])

    def result(self) -> tuple[tuple[UnitSensitivity, ...], str]:
        """Return the record of every unit, and what ended the scan."""
        by_best = self._best_known()
        estimators = self.estimators.values()
        open_ones = (
            [] if by_best else [estimator for estimator in estimators if not estimator.is_done]
        )
        decide = self._setup.rule.decide
        decided = by_best or any(
            (t.is_settled if decide else t.is_decided) and not t.is_precise for t in estimators
        )
        stopped = "data" if open_ones else "decision" if decided else "precision"
        return tuple(t.result(ended="data" if t in open_ones else "") for t in estimators), stopped
