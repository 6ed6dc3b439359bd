"""Prediction logs: one JSON line a prediction, appended by whatever serves the model.

A line is a prediction, or a label that came later::

    {"time": "2026-11-24T08:15:02.120+09:00", "model": "SHA-256 of the weights", "image": "A-17",
     "prediction": "good", "confidence": 0.97, "latency_ms": 3.1}
    {"time": "2026-11-25T10:00:00.000+09:00", "image": "A-17", "label": "crack"}
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from srinit.errors import DataError
from srinit.records import plain, record
from srinit.store.files import refused
from srinit.store.lock import in_turn

Text = Annotated[str, Field(min_length=1, max_length=1024)]
Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
MAX_LINE, MAX_SHOWN = 1 << 20, 8


@record
class Prediction:
    """One answer of a model; whatever is None was not logged."""

    time: AwareDatetime
    model: Text  # SHA-256 of the weights file
    image: Text  # id of the example, the same for every model that saw it
    prediction: Text  # class name
    confidence: Unit  # probability of the prediction
    latency_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    label: Text | None = None
    shadow: Text | None = None  # what the unpruned network said
    brightness: Number | None = None  # see `image_properties`
    contrast: Number | None = None
    sharpness: Number | None = None
    features: Annotated[tuple[Number, ...], Field(max_length=4096)] | None = None


@record
class LaterLabel:
    """The truth about an image, known later than the prediction."""

    time: AwareDatetime
    image: Text
    label: Text


@record
class PredictionLog:
    """What a log holds: predictions in the order of the file, labels filled in."""

    predictions: tuple[Prediction, ...]
    labels: dict[str, str]  # image -> label, the last one counts
    torn: bool  # a half-written last line was left out

    def of_model(self, model: str) -> tuple[Prediction, ...]:
        """Return the predictions of one model."""
        return tuple(found for found in self.predictions if found.model == model)

    def label_of(self, prediction: Prediction) -> str | None:
        """Return the label of a prediction, its own or one that came later."""
        return self.labels.get(prediction.image, prediction.label)


_PREDICTION: TypeAdapter[Prediction] = TypeAdapter(Prediction)
_LABEL: TypeAdapter[LaterLabel] = TypeAdapter(LaterLabel)


def read_log(path: Path) -> PredictionLog:
    """Return a prediction log, every line checked.

    A last line without its end, as a crash leaves it, is left out.

    Raises:
        DataError: There is no such file, or some lines are no predictions; they are numbered.
    """
    predictions: list[Prediction] = []
    labels: dict[str, str] = {}
    problems: list[str] = []
    torn = False
    if path.exists() and not path.is_file():
        raise DataError(f"{path} cannot be read: it is no file.")
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise DataError(f"{path}, line {number}: is longer than {MAX_LINE:,} bytes.")
                if not line.strip():
                    continue
                try:
                    found = _parse(line)
                except ValueError as error:
                    if not line.endswith(b"\n"):
                        torn = True
                    else:
                        problems.append(f"  line {number}: {_said(error)}")
                    continue
                if isinstance(found, Prediction):
                    predictions.append(found)
                if found.label is not None:
                    labels[found.image] = found.label
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if problems:
        more = len(problems) - MAX_SHOWN
        shown = problems[:MAX_SHOWN] + ([f"  and {more} more lines"] if more > 0 else [])
        raise DataError(f"{path} is no prediction log:\n" + "\n".join(shown))
    return PredictionLog(predictions=tuple(predictions), labels=labels, torn=torn)


def _parse(line: bytes) -> Prediction | LaterLabel:
    try:
        body = json.loads(line)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    if isinstance(body, dict) and "label" in body and "prediction" not in body:
        return _LABEL.validate_python(body)
    return _PREDICTION.validate_python(body)


def _said(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        parts = [
            f"{'.'.join(map(str, problem['loc'])) or 'the line'}: {problem['msg']}"
            for problem in error.errors()[:3]
        ]
        return "; ".join(parts)
    return f"is not JSON ({error})"


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

    def _append(self, body: dict[str, Any]) -> None:
        line = (json.dumps(plain(body), ensure_ascii=False) + "\n").encode("utf-8", "replace")
        try:
            _parse(line)
        except ValueError as error:
            raise DataError(f"this is no line of a prediction log: {_said(error)}.") from None
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
