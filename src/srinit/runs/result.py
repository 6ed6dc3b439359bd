"""What a whole run comes to, in a record and in plain words."""

from __future__ import annotations

from srinit.comparison import Drop, PerplexityChange
from srinit.records import Interval, record


@record
class RunResult:
    """The outcome of a run; scores are fractions, on test data where not said otherwise."""

    run: str  # the run folder
    passed: bool
    removed: tuple[str, ...]
    score: Drop  # what was lost, with the score of both networks
    score_cut: float | None  # validation, right after the cut
    params: tuple[int, int]  # before, after
    flops: tuple[int, int]  # per example; one multiply-add counts 2
    latency_ms: dict[str, tuple[float, float]]  # batch size: before, after (medians)
    latency_ratio: dict[str, Interval]  # after / before, of pairs
    failed_gates: tuple[str, ...] = ()
    round: int = 1  # the pruning round that is delivered
    stopped_because: str = ""  # why the rounds ended before the target
    report: str = ""
    onnx: str = ""
    folder: str = ""  # of transformers
    test_readings: int = 0  # how often the test data were read before, by what is known
    overrides: tuple[str, ...] = ()  # what later verbs changed of the config
    finished_earlier: bool = False  # it was there already, and nothing was done
    perplexity: PerplexityChange | None = None  # of language models
    measured: str = "Accuracy"  # what the score is
    warnings: tuple[str, ...] = ()  # signs that the unpruned network was put together wrongly

    @property
    def drop(self) -> float:
        """What was lost: score before - score after."""
        return self.score.drop or 0.0

    @property
    def score_before(self) -> float:
        """Score of the unpruned network."""
        return self.score.baseline or 0.0

    @property
    def score_after(self) -> float:
        """Score of the network that is delivered."""
        return self.score.pruned or 0.0

    def words(self) -> str:
        """Return the summary that is printed at the end of a run."""
        lines = [f"{self.run} was finished before; nothing was done (--fresh begins another run)."]
        lines = lines if self.finished_earlier else []
        lines += [self._cut(), self._accuracy()]
        lines += [self.perplexity.words()] if self.perplexity is not None else []
        lines.append(self._saving())
        if self.stopped_because:
            lines.append(
                f"Round {self.round} is delivered, short of the target: {self.stopped_because}"
            )
        if self.passed:
            lines.append("Every gate passed.")
        else:
            lines.append(f"NOT PASSED: {'; '.join(self.failed_gates) or 'see the rounds above.'}")
        lines += [f"Changed after the run began: {each}." for each in self.overrides]
        if self.test_readings:
            times = "time" if self.test_readings == 1 else "times"
            lines.append(
                f"WARNING: the test data were read {self.test_readings} {times} before; what is "
                "chosen by what test data said is chosen on test data. See readings.json."
            )
        lines += [f"WARNING: the unpruned network: {each}." for each in self.warnings]
        if self.onnx:
            lines.append(f"For the edge: {self.onnx}")
        if self.folder:
            lines.append(f"For transformers: {self.folder}")
        lines.append(f"Report: {self.report}")
        return "\n".join(lines)

    def _cut(self) -> str:
        if not self.removed:
            return "Nothing was cut: no unit met the target."
        return f"Cut: {len(self.removed)} units ({', '.join(self.removed)})."

    def _accuracy(self) -> str:
        score, drop = self.score, self.score.drop or 0.0
        return (
            f"{self.measured}: {100 * self.score_before:.2f} % before, "
            f"{100 * self.score_after:.2f} % after, on {score.num_examples} test examples; "
            f"{abs(100 * drop):.2f} points {'lost' if drop >= 0 else 'gained'} "
            f"({100 * score.confidence:.0f} % interval of the "
            f"loss: {100 * score.low:+.2f} to {100 * score.high:+.2f} points)."
        )

    def _saving(self) -> str:
        timed = [
            f"batch {batch}: {before:.2f} -> {after:.2f} ms ({_speed(self.latency_ratio[batch])})"
            for batch, (before, after) in self.latency_ms.items()
        ]
        return (
            f"Saved: parameters {self.params[0]:,} -> {self.params[1]:,} "
            f"({_change(*self.params)}), FLOPs {self.flops[0]:,} -> {self.flops[1]:,} "
            f"({_change(*self.flops)}); measured latency {', '.join(timed)}."
        )


def _speed(ratio: Interval) -> str:
    """Return a ratio of times in words, as the report puts it; with 1 in it nothing is shown."""
    low, high = ratio.low, ratio.high
    if low < 1 < high:
        return f"no change shown, {1 / high:.2f} to {1 / low:.2f}x as fast"
    return f"{1 / ratio.known:.2f}x as fast, 95 % interval {1 / high:.2f} to {1 / low:.2f}"


def _change(before: int, after: int) -> str:
    return f"{100 * (after / before - 1):+.1f} %" if before else "-"
