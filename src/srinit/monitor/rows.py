"""The lines of a log that speak of one model, in the order of time; every other line is counted."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from srinit.class_names import canonical
from srinit.monitor.lines import Line, parsed
from srinit.monitor.log import batches
from srinit.monitor.observations import FAILED, LATE_LABEL, LEFT_OUT, Observations

HOLD = 50_000  # lines that are put in order together
HOLD_VALUES = 20_000_000  # features held in all
REMEMBERED = 100_000  # images twice as many are remembered, to know doubled lines and late labels
KEPT = 5_000  # images that a state keeps
SLACK = 60.0  # seconds that a line may be late and is still taken
MOST_LABELS = 200_000
MAX_SHOWN = 8

COLUMNS = 8  # time, prediction, confidence, brightness, contrast, sharpness, agrees, right
NAN = math.nan
NOTHING = (NAN,) * 6
Vector = npt.NDArray[np.float32]


@dataclass
class LineCount:
    """What became of every line of a log."""

    lines: int = 0  # that are not empty
    used: int = 0
    failed: int = 0  # parts that got no answer
    other_models: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    unknown_class: int = 0
    late: int = 0  # earlier than lines that were passed on already
    doubled: int = 0  # the same image at the same time; counted once
    torn: int = 0  # a half-written last line
    labels: int = 0  # lines that bring a label
    labels_unmatched: int = 0  # of an image that is not (or no more) known
    problems: list[str] = field(default_factory=list)  # the first ones, with their numbers

    @property
    def left_out(self) -> int:
        """Lines that say something that was not used: an alarm beyond a share."""
        others = sum(self.other_models.values())
        return others + self.unreadable + self.unknown_class + self.late

    @property
    def answers(self) -> int:
        """Lines of parts, each counted once."""
        return self.used + self.failed + self.left_out

    def plain(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return {**asdict(self), "left_out": self.left_out}


class LogReader:
    """Takes lines in the order of a file and gives what they say in the order of time.

    Memory does not grow with the log: lines are put in order `hold` at a time, and the last
    100,000 to 200,000 images are remembered.

    Args:
        model: Hash by which the lines name the network.
        class_names: Of the network.
        labels: Labels that are known already, by image.
        hold: Lines that are put in order together; 0: what came since the last time.
    """

    def __init__(
        self,
        model: str,
        class_names: Sequence[str],
        *,
        labels: Mapping[str, str] | None = None,
        hold: int = HOLD,
    ) -> None:
        self.model, self.hold = model, hold
        self.count = LineCount()
        self._index = {canonical(name): place for place, name in enumerate(class_names)}
        self._known = dict[str, int | None]()  # by spelling
        self._labels = labels or {}
        self._unused = set(self._labels)
        self._recent: dict[str, tuple[float, int]] = {}
        self._before: dict[str, tuple[float, int]] = {}
        self._values = array("d")  # COLUMNS numbers a row
        self._vectors = dict[int, Vector]()  # features, by row
        self._passed = 0.0
        self._last = 0.0  # time of the last line that told one

    def take(self, lines: Sequence[bytes], first: int = 1) -> None:
        """Take in some lines; `first` is the number of the first of them."""
        for number, (line, found) in enumerate(zip(lines, parsed(lines), strict=True), first):
            if isinstance(found, str):
                if found and not line.endswith(b"\n"):
                    self.count.torn += 1
                elif found:
                    self.count.lines += 1
                    self._leave("unreadable", number, found)
                continue
            self.count.lines += 1
            self._row(found, number)

    def ready(self, *, end: bool = False) -> Observations | None:
        """Return what is in order by now, all of it at the end of the log; None for nothing."""
        if end:
            self.count.labels_unmatched += len(self._unused)
            self._unused.clear()
        hold = 0 if end else self.hold
        if hold and self._vectors:
            hold = min(hold, HOLD_VALUES // len(next(iter(self._vectors.values()))))
        count = len(self._values) // COLUMNS
        if count < max(2 * hold, 1):
            return None
        table = np.frombuffer(self._values).reshape(-1, COLUMNS).copy()
        order = np.argsort(table[:, 0], kind="stable")
        now, later = order[: count - hold], order[count - hold :]
        self._passed = max(self._passed, float(table[now[-1], 0]))
        found = _observations(table[now], _stacked(self._vectors, now))
        self._values = array("d", table[later].tobytes())
        vectors = enumerate(map(self._vectors.get, later.tolist()))
        self._vectors = {row: vector for row, vector in vectors if vector is not None}
        return found

    def state(self) -> dict[str, Any]:
        """Return what `resume` goes on from, as JSON; what `ready` held back is lost."""
        recent = list({**self._before, **self._recent}.items())[-KEPT:]
        count = asdict(self.count)
        return {"count": count, "recent": recent, "times": [self._passed, self._last]}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.count = LineCount(**state["count"])
        self._recent = {image: (float(at), int(place)) for image, (at, place) in state["recent"]}
        self._passed, self._last = state["times"]

    def _row(self, line: Line, number: int) -> None:
        fields = cast("dict[str, Any]", line)
        image, get, count = fields["image"], fields.get, self.count
        answer = get("prediction")
        if answer is None and get("label"):
            self._late_label(image, str(line["label"]))
            return
        at = self._last = line["time"].timestamp()
        model = get("model", self.model)
        if model != self.model:
            others = count.other_models
            name = model if model in others or len(others) < MAX_SHOWN else "others"
            others[name] = others.get(name, 0) + 1
            self._values.extend((at, LEFT_OUT, *NOTHING))
            return
        before = self._recent.get(image) or self._before.get(image)
        if before is not None and before[0] == at:
            count.doubled += 1
            return
        if at < self._passed - SLACK:
            self._leave("late", number, "is earlier than lines that were judged already")
            return
        if answer is None:
            count.failed += 1
            self._remember(image, at, FAILED)
            self._values.extend((at, FAILED, *NOTHING))
            return
        place = self._known[answer] if answer in self._known else self._place(answer)
        if place is None:
            self._leave("unknown_class", number, f"the model has no class {answer!r}")
            return
        count.used += 1
        self._remember(image, at, place)
        label, shadow, features = get("label"), get("shadow"), get("features")
        if self._labels and image in self._labels:
            label = self._labels[image]
            self._unused.discard(image)
        if features is not None:
            self._vectors[len(self._values) // COLUMNS] = np.array(features, dtype=np.float32)
        row = (
            at,
            place,
            line["confidence"],
            get("brightness", NAN),
            get("contrast", NAN),
            get("sharpness", NAN),
            NAN if shadow is None else self._place(shadow) == place,
            NAN if label is None else self._place(label) == place,
        )
        if None in row:
            row = tuple(NAN if value is None else value for value in row)  # type: ignore[assignment]
        self._values.extend(row)

    def _leave(
        self, kind: Literal["unreadable", "unknown_class", "late"], number: int, why: str
    ) -> None:
        setattr(self.count, kind, getattr(self.count, kind) + 1)
        if len(self.count.problems) < MAX_SHOWN:
            self.count.problems.append(f"line {number}: {why}")
        self._values.extend((max(self._last, self._passed), LEFT_OUT, *NOTHING))

    def _place(self, name: str) -> int | None:
        if name not in self._known:
            if len(self._known) > REMEMBERED:
                self._known.clear()
            self._known[name] = self._index.get(canonical(name))
        return self._known[name]

    def _remember(self, image: str, at: float, place: int) -> None:
        if len(self._recent) >= REMEMBERED:
            self._before, self._recent = self._recent, {}
        self._recent[image] = at, place

    def _late_label(self, image: str, label: str) -> None:
        """Count a label on a line of its own; where it was not known before, it counts now."""
        self.count.labels += 1
        if image in self._labels:
            return
        known = self._recent.get(image) or self._before.get(image)
        if known is None or known[1] == FAILED:
            self.count.labels_unmatched += 1
            return
        right = float(self._place(label) == known[1])
        at = max(self._last, self._passed)
        self._values.extend((at, LATE_LABEL, *NOTHING[:5], right))


def _observations(table: npt.NDArray[np.float64], features: Any) -> Observations:
    """Return rows as observations; a column of which nothing is known is None."""
    columns = [None if np.isnan(column).all() else column for column in table[:, 3:].T.copy()]
    brightness, contrast, sharpness, agrees, right = columns
    return Observations(
        prediction=table[:, 1].astype(np.int64),
        confidence=table[:, 2].copy(),
        brightness=brightness,
        contrast=contrast,
        sharpness=sharpness,
        features=features,
        agrees=agrees,
        right=right,
        time=table[:, 0].copy(),
    )


def _stacked(
    vectors: Mapping[int, Vector], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64] | None:
    """Return the vectors of rows; those that are missing, or of another length, are NaN."""
    if not vectors:
        return None
    size = len(next(iter(vectors.values())))
    found = np.full((len(rows), size), np.nan)
    for place, row in enumerate(rows.tolist()):
        vector = vectors.get(row)
        if vector is not None and len(vector) == size:
            found[place] = vector
    return found


def observe_log(path: Path, reader: LogReader) -> Iterator[Observations]:
    """Yield what a whole log holds, in the order of time; `reader.count` says what it left out.

    Raises:
        DataError: The log cannot be read.
    """
    for first, lines in batches(path):
        reader.take(lines, first)
        if (found := reader.ready()) is not None:
            yield found
    if (found := reader.ready(end=True)) is not None:
        yield found


def later_labels(path: Path) -> dict[str, str]:
    """Return the labels on lines of their own, by image: the last one counts.

    Of more than `MOST_LABELS`, the last ones are kept; the others are counted as unmatched later.
    """
    found: dict[str, str] = {}
    for _, lines in batches(path):
        chosen = [line for line in lines if b'"label"' in line and b'"prediction"' not in line]
        for line in parsed(chosen) if chosen else ():
            if not isinstance(line, str) and "prediction" not in line and line.get("label"):
                found.pop(line["image"], None)
                found[line["image"]] = str(line["label"])
        while len(found) > MOST_LABELS:
            del found[next(iter(found))]
    return found
