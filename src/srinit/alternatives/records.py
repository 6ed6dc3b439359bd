"""What alternatives came to on the same data and device, which are on the front, which to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from srinit.comparison import Drop
from srinit.latency import LatencyPair
from srinit.records import Interval, record

SCHEMA = "srinit.alternatives/1"


@record
class Alternative:
    """One way to answer, with what it costs; differences are to the first, the reference."""

    kind: str  # "unpruned", "pruned", "resolution" or "sibling"
    detail: str  # of a lower resolution its height and width, of a sibling its source
    numbers: str  # "float32" or "int8"
    runtime: str  # "onnxruntime", "openvino", "torch" or "torch.compile"
    size_bytes: int
    loss: Drop  # of the score; of the reference itself zero
    latency: tuple[LatencyPair, ...]  # the reference and it, at every batch size
    failed_gates: tuple[str, ...] = ()  # in sentences

    @property
    def passed(self) -> bool:
        """Whether it keeps the limits."""
        return not self.failed_gates

    @property
    def is_pruned(self) -> bool:
        """Whether layers were removed."""
        return self.kind == "pruned"

    @property
    def milliseconds(self) -> float:
        """Median at the first batch size."""
        return self.latency[0].pruned.median_ms

    def words(self) -> str:
        """Return what it is, for a terminal."""
        detail = f" {self.detail}" if self.detail else ""
        return f"{self.kind}{detail}, {self.numbers}, {self.runtime}"


@record
class Pick:
    """What to take, and the fastest on the other side of pruning that keeps the limits too."""

    place: int  # in `Alternatives.tried`
    other: int | None = None
    ratio: Interval | None = None  # times of the pick over those of the other, in turn


@record
class Alternatives:
    """Everything that was tried; the first is the reference."""

    data: str  # whose examples were read
    num_examples: int
    limits: tuple[str, ...]  # the gates that were asked, or the limit in their place
    not_asked: tuple[str, ...]  # gates that were not
    tried: tuple[Alternative, ...] = ()
    front: tuple[int, ...] = ()  # places of those that none beats in score and time
    pick: Pick | None = None  # None: nothing could be measured
    not_tried: dict[str, str] = field(default_factory=dict)  # with the reason
    seconds: float = 0.0  # that all of it took

    def words(self) -> str:
        """Return the sentence that says what to take."""
        if self.pick is None:
            return "nothing could be measured"
        taken = self.tried[self.pick.place]
        first = self.tried[0].latency[0]
        if not self.pick.place:
            return f"take {taken.words()}: nothing that keeps the limits is faster"
        said = (
            f"take {taken.words()}: {taken.milliseconds:.3g} ms, "
            f"{taken.latency[0].ratio.known:.2f} of the time of the unpruned network"
        )
        if self.pick.other is None or self.pick.ratio is None:
            side = "without pruning" if taken.is_pruned else "with pruning"
            return f"{said}; nothing {side} keeps the limits (batch {first.baseline.batch_size})"
        other, ratio = self.tried[self.pick.other], self.pick.ratio
        side = "with" if other.is_pruned else "without"
        return (
            f"{said}, and {ratio.known:.2f} (95 % interval {ratio.low:.2f} to {ratio.high:.2f}) of "
            f"that of the fastest {side} pruning that keeps the limits, {other.words()} "
            f"(batch {first.baseline.batch_size})"
        )


def front(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Return the places of points (time, score) that none beats in both, fastest first.

    Example:
        >>> front([(2.0, 0.9), (1.0, 0.8), (3.0, 0.9), (2.5, 0.95)])
        (1, 0, 3)
    """
    kept: list[int] = []
    best = float("-inf")
    for place in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[place][1] > best:
            best = points[place][1]
            kept.append(place)
    return tuple(kept)


def picked(tried: Sequence[Alternative]) -> tuple[int, int | None]:
    """Return the fastest that keeps the limits, and the fastest of the other side of pruning.

    Where nothing keeps them it is the reference.
    """
    order = sorted(range(len(tried)), key=lambda place: tried[place].milliseconds)
    passed = [place for place in order if tried[place].passed]
    best = passed[0] if passed else 0
    others = [place for place in passed if tried[place].is_pruned != tried[best].is_pruned]
    return best, others[0] if others else None
