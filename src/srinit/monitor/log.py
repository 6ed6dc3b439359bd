"""Prediction logs: one JSON line a prediction, appended by whatever serves the model.

A line is a prediction, a label that came later, or a part that got no answer::

    {"time": "2026-11-24T08:15:02.120+09:00", "model": "SHA-256 of the weights", "image": "A-17",
     "prediction": "good", "confidence": 0.97, "latency_ms": 3.1}
    {"time": "2026-11-25T10:00:00.000+09:00", "image": "A-17", "label": "crack"}
    {"time": "2026-11-24T08:15:03.002+09:00", "image": "A-18", "error": "the file cannot be read"}
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime

from srinit.errors import DataError
from srinit.monitor.lines import MAX_LINE, Features, Number, Text, Time, Unit, parsed
from srinit.records import plain, record
from srinit.store.files import refused
from srinit.store.lock import in_turn

MAX_SHOWN, BATCH = 8, 2000


@record
class Prediction:
    """One answer of a model; whatever is None was not logged."""

    time: AwareDatetime
    model: Text  # SHA-256 of the weights file
    image: Text  # id of the example, the same for every model that saw it
    prediction: Text  # class name
    confidence: Unit  # probability of the prediction
    latency_ms: Time
    label: Text | None = None
    shadow: Text | None = None  # what the unpruned network said
    brightness: Number | None = None  # see `image_properties`
    contrast: Number | None = None
    sharpness: Number | None = None
    features: Features | None = None


@record
class PredictionLog:
    """What a log holds: predictions in the order of the file, labels filled in."""

    predictions: tuple[Prediction, ...]
    labels: dict[str, str]  # image -> label, the last one counts
    torn: bool  # a half-written last line was left out
    failed: int = 0  # parts that got no answer

    def label_of(self, prediction: Prediction) -> str | None:
        """Return the label of a prediction, its own or one that came later."""
        return self.labels.get(prediction.image, prediction.label)


def read_log(path: Path) -> PredictionLog:
    """Return a prediction log, every line checked.

    A last line without its end, as a crash leaves it, is left out.

    Raises:
        DataError: There is no such file, or some lines are no predictions; they are numbered.
    """
    predictions: list[Prediction] = []
    labels: dict[str, str] = {}
    problems: list[str] = []
    torn, failed = False, 0
    for first, lines in batches(path):
        for number, (line, found) in enumerate(zip(lines, parsed(lines), strict=True), first):
            if isinstance(found, str):
                if len(line) > MAX_LINE:
                    raise DataError(f"{path}, line {number}: {found}.")
                if line.endswith(b"\n") and found:
                    problems.append(f"  line {number}: {found}")
                torn = torn or bool(found and not line.endswith(b"\n"))
                continue
            if "prediction" in found:
                fields: dict[str, Any] = {k: v for k, v in found.items() if k != "error"}
                predictions.append(Prediction(**fields))
            failed += "prediction" not in found and bool(found.get("error"))
            if label := found.get("label"):
                labels[found["image"]] = label
    if problems:
        more = len(problems) - MAX_SHOWN
        shown = problems[:MAX_SHOWN] + ([f"  and {more} more lines"] if more > 0 else [])
        raise DataError(f"{path} is no prediction log:\n" + "\n".join(shown))
    return PredictionLog(predictions=tuple(predictions), labels=labels, torn=torn, failed=failed)


def read_models(path: Path, most: int = 20_000) -> frozenset[str]:
    """Return the models that the first lines of a log name."""
    found = set[str]()
    for first, lines in batches(path):
        found |= {line.get("model", "") for line in parsed(lines) if not isinstance(line, str)}
        if first > most:
            break
    return frozenset(found - {""})


def batches(path: Path, start: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the lines of a log, some at a time, with the number of the first of them.

    Args:
        path: The file.
        start: Bytes to leave out; numbers then count from there.

    Raises:
        DataError: It cannot be read.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path} cannot be read: it is no file.")
    number = 1
    try:
        with path.open("rb") as file:
            file.seek(start)
            each = iter(partial(file.readline, MAX_LINE + 1), b"")
            while lines := list(itertools.islice(each, BATCH)):
                yield number, lines
                number += len(lines)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


class LogWriter:
    """Appends predictions and labels to a log; several processes may write to one file.

    Args:
        path: The file, made if it does not exist; a half-written last line is dropped.
        model: SHA-256 of the weights that answer (`weights_sha256` of their recipe.json).

    Raises:
        ResourceError: The disk refuses; what was written before stays.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "preds.jsonl"
        ...     with LogWriter(path, model="0" * 64) as log:
        ...         log.write(image="A-17", prediction="good", confidence=0.97, latency_ms=3.1)
        ...         log.write_label("A-17", "crack")
        ...     found = read_log(path)
        >>> found.label_of(found.predictions[0])
        'crack'
    """

    def __init__(self, path: Path, *, model: str) -> None:
        self.path, self.model = path, model
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.with_name(f".{path.name}.lock")
            self._file = path.open("a+b", buffering=0)
            with in_turn(self._lock):
                self._drop_torn_line()
        except OSError as error:
            raise refused("append to", path, error) from error

    def _drop_torn_line(self) -> None:
        end = size = self._file.seek(0, os.SEEK_END)
        begin = max(0, size - MAX_LINE)
        self._file.seek(begin)
        tail = self._file.read(size - begin)
        if tail and not tail.endswith(b"\n"):
            end = begin + tail.rfind(b"\n") + 1
            self._file.truncate(end)

    def write(
        self,
        *,
        image: str,
        prediction: str,
        confidence: float,
        latency_ms: float,
        label: str | None = None,
        shadow: str | None = None,
        features: Sequence[float] | None = None,
        brightness: float | None = None,
        contrast: float | None = None,
        sharpness: float | None = None,
        time: datetime | None = None,
    ) -> None:
        """Append one prediction; see `Prediction` for what the fields mean.

        Raises:
            DataError: A field is out of its range.
            ResourceError: The disk refuses.
        """
        body = {
            "time": _text(time), "model": self.model, "image": image, "prediction": prediction,
            "confidence": confidence, "latency_ms": latency_ms, "label": label, "shadow": shadow,
            "brightness": brightness, "contrast": contrast, "sharpness": sharpness,
            "features": None if features is None else list(features),
        }  # fmt: skip
        self._append({name: value for name, value in body.items() if value is not None})

    def write_label(self, image: str, label: str, *, time: datetime | None = None) -> None:
        """Append the truth about an image that was predicted before."""
        self._append({"time": _text(time), "image": image, "label": label})

    def write_failure(self, image: str, error: str, *, time: datetime | None = None) -> None:
        """Append that a part got no answer, and why."""
        body = {"time": _text(time), "model": self.model, "image": image, "error": error[:1024]}
        self._append(body)

    def _append(self, body: dict[str, Any]) -> None:
        line = (json.dumps(plain(body), ensure_ascii=False) + "\n").encode("utf-8", "replace")
        (found,) = parsed([line])
        if isinstance(found, str):
            raise DataError(f"this is no line of a prediction log: {found}.")
        try:
            with in_turn(self._lock):
                end = self._file.seek(0, os.SEEK_END)
                if self._file.write(line) != len(line):  # a full disk may take a part
                    self._file.truncate(end)
                    raise OSError(28, "No space left on device")
        except OSError as error:
            raise refused("append to", self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _text(time: datetime | None) -> str:
    return (time or datetime.now(UTC)).isoformat(timespec="milliseconds")
