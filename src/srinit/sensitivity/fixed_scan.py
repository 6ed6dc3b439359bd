"""The scan with draws that stay the same over the whole data set: the published procedure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from srinit.engine import Batch, Perturbation
from srinit.sensitivity.fixed_draws import FixedDraws, summary
from srinit.sensitivity.journal import Journal
from srinit.sensitivity.progress import OnProgress
from srinit.sensitivity.records import UnitSensitivity
from srinit.sensitivity.setup import Setup, rounds_of

BATCH = 256  # examples a batch, at least


class FixedDrawsScan:
    """Observations of all units under whole-set draws.

    Args:
        setup: What to work with.
        perturbation: How to draw.
        problems: Why units cannot be drawn, by unit.
        draws: Number of draws.
    """

    def __init__(
        self, setup: Setup, perturbation: Perturbation, problems: Mapping[str, str], draws: int
    ) -> None:
        self._setup, self._perturbation, self._draws = setup, perturbation, draws
        self._found = {
            target.name: FixedDraws(
                target.name,
                removable=target.removable,
                rule=setup.rule,
                draws=draws,
                problem=problems.get(target.name, ""),
                note=setup.bench.notes.get(target.name, ""),
            )
            for target in setup.targets
        }
        self.seen = 0
        self.score = 0.0

    def run(self, journal: Journal, on_progress: OnProgress | None) -> None:
        """Measure all batches that the journal does not hold."""
        batches = self._setup.batches(max(self._setup.settings.batch_size, BATCH))
        known = [line for line in journal.lines if "part" in line]
        for entry in known:
            self._apply(entry)
        ranks = self._setup.ranks
        rounds = rounds_of(len(known), len(batches), ranks.count)
        reader = self._setup.read(batches, rounds)
        began = time.perf_counter()
        for numbers in rounds:
            number = numbers.start + ranks.rank
            line = self._measure(next(reader), number) if number < numbers.stop else None
            fresh = [each for each in ranks.gather(line) if each is not None]
            for part in fresh:
                self._apply(part)
            if ranks.rank == 0:
                journal.append(fresh)
            if on_progress is not None:
                rate = (time.perf_counter() - began) / (numbers.stop - len(known))
                left = rate * (len(batches) - numbers.stop)
                on_progress(numbers.stop, len(batches), f"about {left:.0f} s left")

    def _measure(self, batch: Batch, number: int) -> dict[str, Any]:
        names = [name for name, whole in self._found.items() if not whole.problem]
        measured = self._setup.bench.measure_whole(
            batch, number, names, self._perturbation, self._draws
        )
        baseline = measured.baseline
        return {
            "part": number,
            "score": sum(baseline.scores),
            "count": len(baseline.scores),
            "units": {
                name: [summary(baseline, rows, measured.classes) for rows in draws]
                for name, draws in measured.units.items()
            },
        }

    def _apply(self, line: dict[str, Any]) -> None:
        self.seen += line["count"]
        self.score += line["score"]
        for name, lines in line["units"].items():
            self._found[name].add(lines)

    def result(self) -> tuple[tuple[UnitSensitivity, ...], str]:
        """Return the record of every unit, and what ended the scan."""
        return tuple(whole.result() for whole in self._found.values()), "data"
