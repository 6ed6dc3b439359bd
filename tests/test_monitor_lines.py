"""Every line of a log is read, left out or counted; what was left out is an alarm of its own."""

from __future__ import annotations

import json
import random as randoms
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srinit.monitor import (
    DriftReport,
    Finding,
    LineCount,
    LogReader,
    LogWriter,
    Observations,
    Reference,
    Watch,
    WatchSettings,
    Window,
    joined,
    later_labels,
    observe_log,
)
from srinit.monitor.diagnosis import diagnose
from srinit.operations.monitoring import with_lines

START = datetime(2026, 11, 24, tzinfo=UTC)
NAMES = ("good", "crack", "dent")
SHARES = (0.6, 0.3, 0.1)
SETTINGS = WatchSettings(window=100, resamples=200)


def line(number: int, random: np.random.Generator, **more: Any) -> dict[str, Any]:
    body = {
        "time": (START + timedelta(seconds=number)).isoformat(), "model": "m",
        "image": f"i{number}", "prediction": str(random.choice(NAMES, p=SHARES)),
        "confidence": float(random.beta(8, 2)), "latency_ms": 2.0,
        "brightness": float(random.normal(0.5, 0.1)),
    }  # fmt: skip
    return {k: v for k, v in {**body, **more}.items() if v is not None}


def written(path: Path, lines: list[Any]) -> Path:
    rows = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def reference() -> Reference:
    random = np.random.default_rng(0)
    baseline = Observations(
        prediction=random.choice(3, size=800, p=SHARES),
        confidence=random.beta(8, 2, size=800),
        brightness=random.normal(0.5, 0.1, size=800),
    )
    return Reference(baseline, num_classes=3)


def watched(path: Path, reference: Reference, **more: int) -> tuple[DriftReport, LineCount]:
    """What monitoring says of a log, as `srinit monitor --log` asks it."""
    reader = LogReader("m", NAMES, labels=later_labels(path))
    watch = Watch(reference, SETTINGS, NAMES)
    for observed in observe_log(path, reader):
        watch.add(observed)
    return with_lines(watch.finish(), reader.count, SETTINGS.max_left_out), reader.count


@pytest.fixture
def healthy() -> list[Any]:
    random = np.random.default_rng(1)
    return [line(number, random) for number in range(500)]


def test_lines_of_any_order_are_judged_in_the_order_of_time(
    tmp_path: Path, reference: Reference, healthy: list[Any]
) -> None:
    in_order, _ = watched(written(tmp_path / "a.jsonl", healthy), reference)
    by_class = sorted(healthy, key=lambda each: str(each["prediction"]))
    shuffled = randoms.Random(0).sample(healthy, len(healthy))
    assert not in_order.alarm
    for lines in (by_class, shuffled):
        found, count = watched(written(tmp_path / "b.jsonl", lines), reference)
        assert found == in_order
        assert (count.lines, count.used, count.late) == (500, 500, 0)


def test_a_line_without_a_field_leaves_the_others_watched(
    tmp_path: Path, reference: Reference, healthy: list[Any]
) -> None:
    del healthy[7]["brightness"]
    found, _ = watched(written(tmp_path / "a.jsonl", healthy), reference)
    sizes = [f.window_examples for w in found.windows if (f := w.of("brightness"))]
    assert sizes == [99, 100, 100, 100, 100]
    assert (found.alarm, found.not_watched) == (False, ())
    for each in healthy[200:]:
        each.pop("brightness", None)
    found, _ = watched(written(tmp_path / "a.jsonl", healthy), reference)
    assert found.causes == ("fields_missing",)
    diagnosis = diagnose(found)
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.rollback) == ("log", "does_not_help")
    bare = [{k: v for k, v in each.items() if k != "brightness"} for each in healthy]
    found, _ = watched(written(tmp_path / "a.jsonl", bare), reference)
    assert (found.alarm, found.not_watched) == (False, ("brightness",))


@pytest.mark.parametrize("kind", ["other_models", "unreadable", "unknown_class", "failed"])
def test_what_is_left_out_is_counted_and_an_alarm_beyond_a_share(
    tmp_path: Path, reference: Reference, healthy: list[Any], kind: str
) -> None:
    broken: dict[str, Any] = {
        "other_models": {"model": "another"},
        "unreadable": {"confidence": 7},
        "unknown_class": {"prediction": "scratch"},
        "failed": {"prediction": None, "confidence": None, "latency_ms": None, "error": "no file"},
    }
    for share, beyond in ((0.5, True), (0.008, False)):
        lines = [dict(each) for each in healthy]
        for each in lines[: int(share * len(lines))]:
            each.update(broken[kind])
        lines = [{k: v for k, v in each.items() if v is not None} for each in lines]
        found, count = watched(written(tmp_path / "a.jsonl", lines), reference)
        number = getattr(count, kind)
        number = sum(number.values()) if isinstance(number, dict) else number
        assert (number, count.used) == (int(share * 500), 500 - int(share * 500))
        cause = "lines_failed" if kind == "failed" else "lines_left_out"
        assert found.causes == ((cause,) if beyond else ())
        if kind in ("unreadable", "unknown_class"):
            assert count.problems[0].startswith("line 1: ")


def test_a_log_of_nothing_but_failures_is_an_alarm(tmp_path: Path, reference: Reference) -> None:
    path = tmp_path / "a.jsonl"
    with LogWriter(path, model="m") as log:
        for number in range(100):
            log.write_failure(f"i{number}", "the file cannot be read")
    found, count = watched(path, reference)
    assert (count.failed, count.used) == (100, 0)
    assert "lines_failed" in found.causes


def test_doubled_lines_count_once_and_late_ones_are_named(
    tmp_path: Path, reference: Reference, healthy: list[Any]
) -> None:
    once, _ = watched(written(tmp_path / "a.jsonl", healthy), reference)
    twice, count = watched(written(tmp_path / "a.jsonl", [*healthy, *healthy]), reference)
    assert twice == once
    assert (count.doubled, count.used) == (500, 500)
    # Where lines were judged already, those of before come too late.
    reader = LogReader("m", NAMES, hold=50)
    for first in range(0, 500, 100):
        part = [*healthy[250:], *healthy[:250]][first : first + 100]
        reader.take([f"{json.dumps(each)}\n".encode() for each in part], first + 1)
        reader.ready()
    assert (reader.count.late, reader.count.left_out) == (250, 250)
    assert reader.count.problems[0].startswith("line 251: is earlier than")


def test_labels_that_came_later_are_those_of_their_own_window(
    tmp_path: Path, reference: Reference, healthy: list[Any]
) -> None:
    labels = [
        {"time": each["time"], "image": each["image"], "label": each["prediction"]}
        for each in healthy[:100]
    ] + [{"time": healthy[0]["time"], "image": "of no log", "label": "good"}]
    path = written(tmp_path / "a.jsonl", [*healthy, *labels])
    reader = LogReader("m", NAMES, labels=later_labels(path))
    seen = joined(list(observe_log(path, reader)))
    assert seen.right is not None
    assert (np.nansum(seen.right), np.isfinite(seen.right[:100]).all()) == (100, True)
    assert (reader.count.labels, reader.count.labels_unmatched) == (101, 1)


def test_one_window_is_no_alarm_and_the_rest_is_named(tmp_path: Path, reference: Reference) -> None:
    random = np.random.default_rng(2)
    dark = {"brightness": 0.01, "prediction": "dent"}
    lines = [line(n, random, **(dark if 200 <= n < 300 else {})) for n in range(430)]
    found, _ = watched(written(tmp_path / "a.jsonl", lines), reference)
    assert [bool(window.beyond) for window in found.windows] == [False, False, True, False]
    assert (found.alarm, found.examples_left) == (False, 30)
    found, _ = watched(written(tmp_path / "a.jsonl", lines[:300]), reference)
    assert (found.alarm, set(found.unconfirmed) >= {"brightness"}) == (False, True)
    short = [line(n, random, **dark) for n in range(70)]  # less than two windows: made smaller
    found, _ = watched(written(tmp_path / "a.jsonl", short), reference)
    assert (found.window, len(found.windows), found.alarm) == (35, 2, True)


def test_a_class_that_grows_slowly_adds_up(tmp_path: Path, reference: Reference) -> None:
    random = np.random.default_rng(3)
    healthy = [line(n, random) for n in range(2000)]
    more = (0.52, 0.26, 0.22)
    drifted = [line(n, random, prediction=str(random.choice(NAMES, p=more))) for n in range(2000)]
    assert not watched(written(tmp_path / "a.jsonl", healthy), reference)[0].alarm
    found, _ = watched(written(tmp_path / "a.jsonl", drifted), reference)
    assert "class_trend" in found.causes
    beyond = next(f for w in found.windows if (f := w.of("class_trend")) and f.beyond)
    assert beyond.about == "dent"
    assert beyond.now is not None
    assert beyond.now == pytest.approx(0.22, abs=0.05)


def test_a_watch_goes_on_from_its_state(
    tmp_path: Path, reference: Reference, healthy: list[Any]
) -> None:
    path = written(tmp_path / "a.jsonl", healthy)
    (whole,) = list(observe_log(path, LogReader("m", NAMES)))
    straight = Watch(reference, SETTINGS, NAMES)
    straight.add(whole)
    first = Watch(reference, SETTINGS, NAMES)
    first.add(whole.part(slice(0, 250)))
    second = Watch(reference, SETTINGS, NAMES)
    second.resume(json.loads(json.dumps(first.state())), standing=False)
    second.add(whole.part(slice(250, None)))
    assert [*first.windows, *second.windows] == straight.windows
    assert second.digest == straight.digest


@pytest.mark.parametrize(
    ("moved", "watched", "agrees", "cause", "rollback"),
    [
        ("brightness contrast", "brightness", 0.98, "light", "does_not_help"),
        ("brightness", "brightness", 0.5, "light", "may_help"),
        ("sharpness", "sharpness", None, "focus", "does_not_help"),
        ("confidence class_mix", "brightness", 0.5, "model", "helps"),
        ("confidence", "brightness", None, "model", "helps"),
        ("confidence", "brightness", 0.98, "model", "may_help"),
        ("class_trend", "brightness", 0.98, "product", "does_not_help"),
        ("class_trend", "brightness", None, "product_or_model", "may_help"),
        ("confidence", "", 0.98, "images", "does_not_help"),
        ("confidence", "", None, "unknown", "may_help"),
        ("lines_failed", "brightness", None, "log", "does_not_help"),
    ],
)
def test_the_cause_stands_beside_the_alarm(
    moved: str, watched: str, agrees: float | None, cause: str, rollback: str
) -> None:
    names = {*moved.split(), *watched.split()}
    found = [
        Finding(
            quantity=name, effect=2.0 * (name in moved), limit=1.0, beyond=name in moved,
            window_examples=300, baseline_examples=2000,
        )
        for name in sorted(names)
    ]  # fmt: skip
    if agrees is not None:
        found.append(
            Finding(
                quantity="agreement", effect=0.0, limit=0.1, beyond=False, window_examples=300,
                baseline_examples=2000, before=0.98, now=agrees,
            )
        )  # fmt: skip
    window = Window(first=0, num_examples=300, findings=tuple(found))
    report = DriftReport(
        alarm=True, causes=tuple(moved.split()), first_alarm=1, false_alarm=0.01, confirm=2,
        windows=(window, window), examples_left=0,
    )  # fmt: skip
    diagnosis = diagnose(report)
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.rollback) == (cause, rollback)
    assert diagnosis.goes_back_by_itself == (
        rollback == "helps" or agrees == 0.5 or cause == "unknown"
    )
