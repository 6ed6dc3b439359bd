"""`measure_sensitivity`: what every unit is worth, with an interval, and no longer than needed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.evaluate import Scorer, top1
from srinit.records import record
from srinit.reinit import RuleScheme, Scheme, find_scheme
from srinit.sensitivity.design import (
    FIRST_PER_DRAW,
    costs_of,
    per_draw_for,
    suffix_flops,
)
from srinit.sensitivity.examples import Batch, Examples, open_examples, order_of
from srinit.sensitivity.journal import Journal
from srinit.sensitivity.outcomes import Rows
from srinit.sensitivity.pilot import (
    CANDIDATES,
    EXAMPLES,
    PER_DRAW,
    Trial,
    choose,
    judge,
    records_of,
)
from srinit.sensitivity.progress import OnProgress, Progress
from srinit.sensitivity.ranks import Ranks, process_group
from srinit.sensitivity.records import SchemeTrial, Sensitivity
from srinit.sensitivity.settings import Settings, identity, targets_of
from srinit.sensitivity.tally import Goal, Tally
from srinit.sensitivity.wholeset import WholeSet, summary
from srinit.sensitivity.workbench import Perturbation, Workbench, eager
from srinit.sensitivity.working import Precision
from srinit.units.records import UnitMap

WARM_UP = 1  # batches after which the number of examples that share a draw is chosen
WHOLE_BATCH = 256  # examples a batch of whole-set draws


def measure_sensitivity(
    model: nn.Module,
    units: UnitMap,
    data: Iterable[Batch],
    *,
    scheme: str | Scheme = "auto",
    scale: float = 1.0,
    draws: int | None = None,
    half_width: float | None = 0.02,
    confidence: float = 0.95,
    max_drop: float | None = None,
    best: int | None = None,
    seed: int = 0,
    scorer: Scorer = top1,
    device: torch.device | str | None = None,
    journal: Path | None = None,
    on_progress: OnProgress | None = None,
    precision: Precision = "auto",
    batch_size: int | None = None,
    max_examples: int | None = None,
) -> Sensitivity:
    """Return the score that each unit is worth: what is lost when it is re-initialized.

    For each unit the mean drop over random draws and examples, with an interval that stays valid
    although the scan looks at it after every batch. Examples are read in a random order, each
    once; every few of them meet a fresh draw of the unit, and the unperturbed network on the same
    examples is what they are compared with. A unit is finished when its interval is narrower than
    `half_width`, or lies on one side of `max_drop`; the scan ends when all are, or with the data.

    The intervals are betting confidence sequences (https://arxiv.org/abs/2010.09686); the method
    is SR-init (https://arxiv.org/abs/2303.07677), whose own procedure is `scheme="paper"`: one
    draw over the whole set, and no interval.

    `model` is only read: the scan works on a copy of its own. Where the hardware gains from it
    and the scores of the first examples agree, the copy computes in bfloat16.

    Args:
        model: Any module.
        units: What to measure; locked units are measured too.
        data: Iterable of `(inputs, target)` batches. Inputs may be a tensor, a tuple (positional
            arguments) or a dict (keywords).
        scheme: "auto" tries several on some examples and takes the one that tells units apart
            best; else a name in `srinit.reinit.SCHEMES`, or a callable.
        scale: Factor on drawn weights; "auto" chooses it.
        draws: That many draws over the whole data set instead, the same for all batches;
            1 is what "paper" does by default.
        half_width: Precision that is enough, a fraction; None: until decided, or the data ends.
        confidence: Of each interval; and of all joint intervals and decisions together.
        max_drop: Limit that units are decided against, a fraction.
        best: End when it is certain which that many units have the smallest drops.
        seed: Draws and order derive from it.
        scorer: Per-example score in [0, 1].
        device: Where inputs go; by default to the model's first parameter. Nothing moves a
            parameter.
        journal: File to which every observation is appended, and from which a scan that was
            interrupted goes on, with the same result.
        on_progress: Called after each batch with (units done, units, a note in words).
        precision: "auto", "keep" (the model's own), "bfloat16" or "float16".
        batch_size: Examples a batch; 64 on a CPU, 256 elsewhere.
        max_examples: Read at most that many examples.

    Returns:
        One record a unit, in order of execution. A unit that cannot be drawn again, or is never
        called, is "not measured", with the reason.

    Raises:
        ConfigError: The journal belongs to another scan.
        DataError: There is no example, or data, model and scorer do not fit together.
        ReinitError: There is no such scheme.
        ResourceError: Memory or disk do not suffice.
        ValueError: An argument is out of range.

    Under `torchrun` or `accelerate launch` every process takes its share of the batches; all
    return the same.

    Example:
        >>> from srinit.units.records import Unit, UnitMap
        >>> layer, head = nn.Linear(4, 4).eval(), nn.Linear(4, 2)
        >>> unit = Unit(
        ...     name="0", kind="plain", in_shape=(4,), out_shape=(4,),
        ...     params=20, flops=32, position=0,
        ... )
        >>> found = measure_sensitivity(
        ...     nn.Sequential(layer, head),
        ...     UnitMap(removable=(unit,), locked=(), params=30, flops=48),
        ...     [(torch.rand(32, 4), torch.zeros(32, dtype=torch.long))],
        ...     scheme="default",
        ... )
        >>> found["0"].low <= found["0"].reinit_drop <= found["0"].high, found.stopped_by
        (True, 'data')
    """
    where = torch.device(modules.device_of(model) if device is None else device)
    settings = Settings(
        scheme=scheme,
        scale=scale,
        draws=draws,
        half_width=half_width,
        confidence=confidence,
        max_drop=max_drop,
        best=best,
        seed=seed,
        batch_size=batch_size or (64 if where.type == "cpu" else 256),
        precision=precision,
        max_examples=max_examples,
    )
    settings.check()
    with eager(), process_group() as ranks:
        scan = Scan(model, units, data, settings, scorer, where, ranks)
        return scan.run(journal, on_progress)


@record
class Estimate:
    """How long a scan will take, from a few batches of it."""

    seconds: float
    num_examples: int  # of which the most demanding unit is expected to need
    batches_measured: int


def estimate_time(
    model: nn.Module,
    units: UnitMap,
    data: Iterable[Batch],
    *,
    scheme: str | Scheme = "auto",
    scale: float = 1.0,
    draws: int | None = None,
    half_width: float | None = 0.02,
    confidence: float = 0.95,
    max_drop: float | None = None,
    seed: int = 0,
    scorer: Scorer = top1,
    device: torch.device | str | None = None,
    precision: Precision = "auto",
    batch_size: int | None = None,
    max_examples: int | None = None,
    batches: int = 2,
) -> Estimate:
    """Return how long `measure_sensitivity` with these arguments will take.

    A few batches are measured for it. The spread of the drops in them says how many more are
    needed; an early decision by `max_drop` is not foreseen, so that the estimate is rather high.
    """
    where = torch.device(modules.device_of(model) if device is None else device)
    settings = Settings(
        scheme=scheme,
        scale=scale,
        draws=draws,
        half_width=half_width,
        confidence=confidence,
        max_drop=max_drop,
        best=None,
        seed=seed,
        batch_size=batch_size or (64 if where.type == "cpu" else 256),
        precision=precision,
        max_examples=max_examples,
    )
    settings.check()
    with eager():
        scan = Scan(model, units, data, settings, scorer, where, Ranks())
        return scan.estimate(batches)


class Scan:
    """One scan: its model made ready, its order of examples, and what is known so far."""

    def __init__(
        self,
        model: nn.Module,
        units: UnitMap,
        data: Iterable[Batch],
        settings: Settings,
        scorer: Scorer,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self._began = time.perf_counter()
        self._model, self._units, self._settings = model, units, settings
        self._scorer, self._ranks, self._device = scorer, ranks, device
        self._targets = targets_of(units)
        self._examples: Examples = open_examples(data)
        self._draws = settings.draws or (1 if settings.scheme == "paper" else None)
        self._order = order_of(len(self._examples), settings.seed)[: settings.max_examples]
        pilot, size = self._order[-EXAMPLES:], settings.batch_size
        first = next(self._examples.read([self._order[:size]]))
        self._bench = Workbench(
            model,
            self._targets,
            first,
            scorer=scorer,
            device=device,
            seed=settings.seed,
            precision=settings.precision,
        )
        self._pilot = pilot
        self._goal = Goal(
            half_width=settings.half_width,
            confidence=settings.confidence,
            num_units=len(self._targets),
            max_drop=settings.max_drop,
        )
        self._trials: tuple[SchemeTrial, ...] = ()
        self._why = ""
        self._seen = self._score = 0.0

    # what is drawn

    def _perturbation(self, journal: Journal) -> Perturbation:
        settings = self._settings
        if settings.scheme != "auto":
            find_scheme(settings.scheme)
            return Perturbation(scheme=settings.scheme, scale=settings.scale)
        lines = [line for line in journal.lines if "pilot" in line]
        if len(lines) < len(CANDIDATES):
            lines = self._try_candidates(len(lines), lines, journal)
        trials = [self._trial(line, c) for line, c in zip(lines, CANDIDATES, strict=True)]
        chosen, self._why = choose(trials)
        self._trials = records_of(trials, chosen)
        if len(self._order) >= 20 * EXAMPLES:  # chosen on examples that are then left out
            self._order = self._order[:-EXAMPLES]
        return chosen.perturbation

    def _try_candidates(
        self, done: int, lines: list[dict[str, Any]], journal: Journal
    ) -> list[dict[str, Any]]:
        batch = next(self._examples.read([self._pilot]))
        for index in range(done, len(CANDIDATES), self._ranks.count):
            number = index + self._ranks.rank
            mine = self._pilot_line(batch, number) if number < len(CANDIDATES) else None
            fresh = [line for line in self._ranks.gather(mine) if line is not None]
            if self._ranks.rank == 0:
                journal.append(fresh)
            lines = [*lines, *fresh]
        return lines

    def _pilot_line(self, batch: Batch, number: int) -> dict[str, Any]:
        candidate = CANDIDATES[number]
        problems = self._bench.check(candidate)
        active = {t.name: PER_DRAW for t in self._targets if t.name not in problems}
        found = self._bench.measure(batch, number, active, candidate, purpose="pilot")
        return {
            "pilot": number,
            "baseline": found.baseline.to_line(),
            "units": {name: rows.to_line() for name, (rows,) in found.units.items()},
        }

    def _trial(self, line: dict[str, Any], candidate: Perturbation) -> Trial:
        baseline = Rows.from_line(line["baseline"])
        goal = Goal(half_width=None, confidence=0.95, num_units=1)
        tallies = {}
        for name, rows in line["units"].items():
            tallies[name] = Tally(name, removable=True, goal=goal, interval=False)
            tallies[name].add(baseline, Rows.from_line(rows), None, PER_DRAW, EXAMPLES)
        classes = len(set(baseline.predictions or ())) or 1
        chance = 1 / classes if classes > 1 else 0.0
        score = sum(baseline.scores) / len(baseline.scores)
        return judge(candidate, tallies, score, chance)

    # fresh draws

    def run(self, path: Path | None, on_progress: OnProgress | None) -> Sensitivity:
        """Return the finished scan."""
        journal = self._open(path)
        perturbation = self._perturbation(journal)
        problems = self._bench.check(perturbation)
        if self._draws is not None:
            return self._run_whole(journal, perturbation, problems, on_progress)
        tallies = self._tallies(problems)
        progress = self._progress(tallies, on_progress)
        for _ in self._steps(journal, perturbation, tallies, progress):
            pass
        return self._result(perturbation, tallies)

    def estimate(self, batches: int) -> Estimate:
        """Return the time that `run` will take, after measuring some batches."""
        journal = self._open(None)
        perturbation = self._perturbation(journal)
        problems = self._bench.check(perturbation)
        tallies = self._tallies(problems)
        progress = self._progress(tallies, None)
        steps = self._steps(journal, perturbation, tallies, progress)
        count = 0
        for _ in steps:
            count += 1
            if count >= batches:
                break
        spent = time.perf_counter() - self._began
        measured = [tally for tally in tallies.values() if not tally.problem]
        if self._draws is not None:
            done = max((tally.num_examples for tally in measured), default=1)
            factor = self._draws * len(self._order) / max(done, 1)
            return Estimate(
                seconds=spent * factor, num_examples=len(self._order), batches_measured=count
            )
        left = progress.seconds_left(measured) or 0.0
        most = max((progress.examples_left(t) + t.num_examples for t in measured), default=0)
        return Estimate(seconds=spent + left, num_examples=int(most), batches_measured=count)

    def _open(self, path: Path | None) -> Journal:
        header = identity(
            self._settings, self._model, self._targets, len(self._examples), self._scorer
        )
        first = self._ranks.rank == 0
        journal = Journal(path if first else None, header)
        journal.lines = self._ranks.from_first(journal.lines)
        return journal

    def _tallies(self, problems: dict[str, str]) -> dict[str, Tally]:
        return {
            target.name: Tally(
                target.name,
                removable=target.removable,
                goal=self._goal,
                problem=problems.get(target.name, ""),
            )
            for target in self._targets
        }

    def _progress(self, tallies: dict[str, Tally], tell: OnProgress | None) -> Progress:
        flops = suffix_flops(self._units)
        weights = {name: max(flops.get(name, 0.0), 1.0) for name in tallies}
        return Progress(self._goal, weights, len(self._order), tell)

    def _steps(
        self,
        journal: Journal,
        perturbation: Perturbation,
        tallies: dict[str, Tally],
        progress: Progress,
    ) -> Iterator[None]:
        """Measure until all is known or the data ends; yield after every round of batches."""
        size = self._settings.batch_size
        batches = [self._order[i : i + size] for i in range(0, len(self._order), size)]
        per_draw = dict.fromkeys(tallies, FIRST_PER_DRAW)
        known = [line for line in journal.lines if "batch" in line]
        for entry in known:
            self._apply(entry, tallies, per_draw)
        progress.start(list(tallies.values()))
        rounds = _rounds(len(known), len(batches), self._ranks.count)
        mine = [batches[i] for r in rounds for i in r if (i - r.start) == self._ranks.rank]
        reader = self._examples.read(mine)
        for numbers in rounds:
            if self._finished(tallies):
                return
            number = numbers.start + self._ranks.rank
            line = (
                self._measure(next(reader), number, perturbation, tallies, per_draw)
                if number < numbers.stop
                else None
            )
            for fresh in self._ranks.gather(line):
                if fresh is None or self._finished(tallies):
                    continue
                kept = self._apply(fresh, tallies, per_draw)
                if self._ranks.rank == 0:
                    journal.append([kept])
            progress.tell(list(tallies.values()))
            yield

    def _measure(
        self,
        batch: Batch,
        number: int,
        perturbation: Perturbation,
        tallies: dict[str, Tally],
        per_draw: dict[str, int],
    ) -> dict[str, Any]:
        active = {name: per_draw[name] for name, tally in tallies.items() if not tally.is_done}
        found = self._bench.measure(batch, number, active, perturbation)
        return {
            "batch": number,
            "classes": found.classes,
            "baseline": found.baseline.to_line(),
            "units": {
                name: {"per_draw": active[name], **rows.to_line()}
                for name, (rows,) in found.units.items()
            },
        }

    def _apply(
        self, line: dict[str, Any], tallies: dict[str, Tally], per_draw: dict[str, int]
    ) -> dict[str, Any]:
        """Take in one batch; return the line without units that were finished before it."""
        baseline = Rows.from_line(line["baseline"])
        left = len(self._order) - int(self._seen)
        self._seen += len(baseline.scores)
        self._score += sum(baseline.scores)
        used = {name: entry for name, entry in line["units"].items() if not tallies[name].is_done}
        for name, entry in used.items():
            rows = Rows.from_line(entry)
            tallies[name].add(baseline, rows, line["classes"], entry["per_draw"], left)
        if line["batch"] + 1 == WARM_UP:
            self._choose_per_draw(tallies, per_draw)
        return {**line, "units": used}

    def _choose_per_draw(self, tallies: dict[str, Tally], per_draw: dict[str, int]) -> None:
        flops = suffix_flops(self._units)
        for name, tally in tallies.items():
            if tally.problem:
                continue
            unit = self._model.get_submodule(name)
            per_draw[name] = per_draw_for(
                tally.variances(),
                flops=flops.get(name, 0.0),
                params=modules.count_params(unit),
                half_width=self._goal.pace,
                confidence=self._goal.confidence,
                costs=costs_of(self._device),
            )

    def _finished(self, tallies: dict[str, Tally]) -> bool:
        return all(tally.is_done for tally in tallies.values()) or self._best_known(tallies)

    def _best_known(self, tallies: dict[str, Tally]) -> bool:
        """Return whether it is certain which units have the smallest drops."""
        count = self._settings.best
        measured = [tally for tally in tallies.values() if not tally.problem]
        if count is None or any(not tally.drops for tally in measured):
            return False
        ranked = sorted(measured, key=lambda tally: tally.mean)
        if len(ranked) <= count:
            return True
        return max(t.joint[1] for t in ranked[:count]) <= min(t.joint[0] for t in ranked[count:])

    def _result(self, perturbation: Perturbation, tallies: dict[str, Tally]) -> Sensitivity:
        by_best = self._best_known(tallies)
        open_ones = [] if by_best else [t for t in tallies.values() if not t.is_done]
        decided = by_best or any(t.is_decided and not t.is_precise for t in tallies.values())
        stopped = "data" if open_ones else "decision" if decided else "precision"
        return self._sensitivity(
            perturbation,
            tuple(t.result(ended="data" if t in open_ones else "") for t in tallies.values()),
            stopped,
        )

    # whole-set draws

    def _run_whole(
        self,
        journal: Journal,
        perturbation: Perturbation,
        problems: dict[str, str],
        on_progress: OnProgress | None,
    ) -> Sensitivity:
        assert self._draws is not None
        found = {
            target.name: WholeSet(
                target.name,
                removable=target.removable,
                goal=self._goal,
                draws=self._draws,
                problem=problems.get(target.name, ""),
            )
            for target in self._targets
        }
        size = max(self._settings.batch_size, WHOLE_BATCH)
        batches = [self._order[i : i + size] for i in range(0, len(self._order), size)]
        known = [line for line in journal.lines if "part" in line]
        for entry in known:
            self._apply_whole(entry, found)
        rounds = _rounds(len(known), len(batches), self._ranks.count, warm_up=0)
        mine = [batches[i] for r in rounds for i in r if (i - r.start) == self._ranks.rank]
        reader = self._examples.read(mine)
        began = time.perf_counter()
        for numbers in rounds:
            number = numbers.start + self._ranks.rank
            line = (
                self._measure_whole(next(reader), number, perturbation, found)
                if number < numbers.stop
                else None
            )
            fresh = [each for each in self._ranks.gather(line) if each is not None]
            for part in fresh:
                self._apply_whole(part, found)
            if self._ranks.rank == 0:
                journal.append(fresh)
            if on_progress is not None:
                rate = (time.perf_counter() - began) / (numbers.stop - len(known))
                left = rate * (len(batches) - numbers.stop)
                on_progress(numbers.stop, len(batches), f"about {left:.0f} s left")
        return self._sensitivity(perturbation, tuple(f.result() for f in found.values()), "data")

    def _measure_whole(
        self, batch: Batch, number: int, perturbation: Perturbation, found: dict[str, WholeSet]
    ) -> dict[str, Any]:
        assert self._draws is not None
        names = [name for name, whole in found.items() if not whole.problem]
        measured = self._bench.measure_whole(batch, number, names, perturbation, self._draws)
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

    def _apply_whole(self, line: dict[str, Any], found: dict[str, WholeSet]) -> None:
        self._seen += line["count"]
        self._score += line["score"]
        for name, lines in line["units"].items():
            found[name].add(lines)

    def _sensitivity(
        self, perturbation: Perturbation, units: tuple[Any, ...], stopped: str
    ) -> Sensitivity:
        return Sensitivity(
            units=units,
            unit_map=self._units,
            scheme=perturbation.name,
            scale=perturbation.scale,
            confidence=self._settings.confidence,
            half_width=None if self._draws is not None else self._settings.half_width,
            max_drop=self._settings.max_drop,
            baseline_score=self._score / self._seen if self._seen else 0.0,
            num_examples=int(self._seen),
            seed=self._settings.seed,
            stopped_by=stopped,
            scheme_reason=self._why or _note(perturbation),
            trials=self._trials,
            seconds=time.perf_counter() - self._began,
        )


def _note(perturbation: Perturbation) -> str:
    scheme = find_scheme(perturbation.scheme)
    return scheme.note if isinstance(scheme, RuleScheme) else "given by the caller"


def _rounds(done: int, total: int, ranks: int, *, warm_up: int = WARM_UP) -> list[range]:
    """Return the batches that are measured at the same time, by one rank each.

    No round crosses the warm-up, whose outcome the design of the next batches depends on.
    """
    rounds = []
    start = done
    while start < total:
        stop = min(start + ranks, total)
        if start < warm_up < stop:
            stop = warm_up
        rounds.append(range(start, stop))
        start = stop
    return rounds
