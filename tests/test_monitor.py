"""Prediction logs, A/B on them, and monitoring: distances, limits, alarms."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import stats

from srinit.errors import DataError
from srinit.monitor import (
    LineCount,
    LogReader,
    LogWriter,
    Observations,
    Reference,
    WatchSettings,
    compare_logs,
    detect_drift,
    image_properties,
    joined,
    later_labels,
    observe_log,
    plan_test,
    read_log,
    sequential,
)
from srinit.monitor import distances as d
from srinit.stats import paired
from srinit.stats.power import paired_power


def seen_in(
    path: Path, model: str, names: tuple[str, ...], **more: int
) -> tuple[Observations, LineCount]:
    reader = LogReader(model, names, labels=later_labels(path), **more)
    return joined(list(observe_log(path, reader))), reader.count


START = datetime(2026, 11, 24, tzinfo=UTC)


def write(path: Path, model: str, answers: list[str], **more: object) -> Path:
    with LogWriter(path, model=model) as log:
        for number, answer in enumerate(answers):
            log.write(
                image=f"i{number}", prediction=answer, confidence=0.9, latency_ms=2.0,
                time=START + timedelta(seconds=number), **more,  # type: ignore[arg-type]
            )  # fmt: skip
    return path


def test_a_log_reads_back_with_labels_that_came_later(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "m", ["good", "crack"], brightness=0.5, features=[1.0, 2.0])
    with LogWriter(path, model="m") as log:
        log.write_label("i1", "good")
        log.write_label("i1", "crack")
    found = read_log(path)
    assert [found.label_of(entry) for entry in found.predictions] == [None, "crack"]
    seen, count = seen_in(path, "m", ("good", "crack"))
    assert seen.prediction.tolist() == [0, 1]
    assert seen.right is not None
    assert np.isnan(seen.right[0])
    assert seen.right[1] == 1.0
    assert seen.features is not None
    assert seen.features.shape == (2, 2)
    assert seen.contrast is None
    assert (count.used, count.labels, count.left_out) == (2, 2, 0)
    reader = LogReader("other", ("good", "crack"))
    assert [len(part.part(part.used)) for part in observe_log(path, reader)] == [0]
    assert reader.count.other_models == {"m": 2}
    seen, count = seen_in(path, "m", ("good",))
    assert (count.used, count.unknown_class) == (1, 1)
    assert count.problems == ["line 2: the model has no class 'crack'"]


def test_a_torn_last_line_is_left_out_and_dropped_by_the_next_writer(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "m", ["good"] * 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    found = read_log(path)
    assert (len(found.predictions), found.torn) == (2, True)
    write(path, "m", ["good"])
    assert len(read_log(path).predictions) == 3
    assert not read_log(path).torn


def test_what_is_no_prediction_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "m", ["good"] * 4)
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace("0.9", "1.9")
    lines[2] = "{"
    lines[3] = json.dumps({**json.loads(lines[3]), "colour": 1})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError) as found:
        read_log(path)
    said = str(found.value).splitlines()
    assert said[0].endswith("is no prediction log:")
    assert "line 2: confidence: Input should be less than or equal to 1" in said[1]
    assert "line 3: is not JSON" in said[2]
    assert "line 4: colour" in said[3]
    with (
        LogWriter(tmp_path / "b.jsonl", model="m") as log,
        pytest.raises(DataError, match="no line of a prediction log: confidence"),
    ):
        log.write(image="x", prediction="a", confidence=2.0, latency_ms=1.0)
    assert (tmp_path / "b.jsonl").read_text() == ""


def test_two_logs_are_paired_by_image_and_judged_at_any_time(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 3000).astype(str).tolist()
    first = list(truth)
    second = [("0" if t == "1" else "1") if n % 20 == 0 else t for n, t in enumerate(truth)]
    one = read_log(write(tmp_path / "1.jsonl", "one", [*first, "0"]))
    two = read_log(write(tmp_path / "2.jsonl", "two", second))
    bare = compare_logs(one, two, margin=0.02)
    assert (bare.paired, bare.only_first, bare.labeled) == (3000, 1, 0)
    assert bare.agreement.rate == 0.95
    assert bare.anytime.decision == "beyond"  # 5 % of the answers differ
    with LogWriter(tmp_path / "2.jsonl", model="two") as log:
        for number, label in enumerate(truth[:2000]):
            log.write_label(f"i{number}", label)
    found = compare_logs(one, read_log(tmp_path / "2.jsonl"), margin=0.02)
    assert (found.labeled, found.lost, found.gained) == (2000, 100, 0)
    assert found.score is not None
    assert (found.score.low, found.score.high) == paired.tango_interval(100, 0, 2000, 0.95)
    assert found.anytime.what == "loss of accuracy"
    assert found.anytime.low < 0.05 < found.anytime.high
    mixed = write(tmp_path / "1.jsonl", "another", ["0"])
    with pytest.raises(DataError, match="first log should hold the predictions of one model"):
        compare_logs(read_log(mixed), two)


def test_looking_all_the_time_hardly_ever_misleads() -> None:
    """Equal models, looked at after every 50 images: "beyond" may come up in 5 % of all runs."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(40):
        steps = random.choice([-1.0, 0.0, 1.0], size=600, p=[0.05, 0.9, 0.05]).tolist()
        interval = sequential(steps, "loss", margin=0.01, confidence=0.9)
        wrong += not interval.low <= 0 <= interval.high  # intervals never widen
    assert wrong <= 6


def test_the_planned_number_of_images_has_the_planned_power() -> None:
    plan = plan_test(0.03, discordant=0.1, expected_drop=0.005, power=0.8)
    exact = paired_power(
        plan.num_examples, margin=0.03, discordant=0.1, drop=0.005, quantile=paired.quantile(0.95)
    )
    assert 0.8 <= exact < 0.805
    random = np.random.default_rng(2)
    shares = [(0.1 + 0.005) / 2, (0.1 - 0.005) / 2, 0.9]
    draws = random.multinomial(plan.num_examples, shares, size=400)
    passed = [
        paired.tango_interval(int(a), int(b), plan.num_examples, 0.95)[1] <= 0.03
        for a, b, _ in draws
    ]
    assert abs(np.mean(passed) - exact) <= 0.06
    assert plan_test(0.02, discordant=0.0).num_examples == 189  # as the gate needs
    with pytest.raises(ValueError, match="must exceed the expected loss"):
        plan_test(0.01, discordant=0.1, expected_drop=0.02)


def test_distances_of_counts_are_those_of_the_samples() -> None:
    random = np.random.default_rng(3)
    values, points = random.integers(0, 9, 60).astype(float), random.normal(size=(60, 3))
    one, other = random.integers(0, 60, 25), random.integers(0, 60, 40)
    counts = [np.bincount(x, minlength=60)[None] / len(x) for x in (one, other)]
    ks = stats.ks_2samp(values[one], values[other]).statistic
    assert d.kolmogorov(values[one], values[other]) == pytest.approx(ks)
    assert d.kolmogorov_of_counts(values, *counts)[0] == pytest.approx(ks)
    straight = d.energy_of_samples(points[one], points[other])
    from scipy.spatial.distance import cdist

    assert d.energy_of_counts(cdist(points, points), *counts)[0] == pytest.approx(straight)
    line = np.arange(4.0)[:, None]
    shifted = line + 0.5
    by_hand = stats.energy_distance(line[:, 0], shifted[:, 0]) ** 2  # is 2E|X-Y| - ...
    across = np.abs(line - shifted.T).mean()
    assert d.energy_of_samples(line, shifted) ** 2 == pytest.approx(by_hand / (2 * across))


def test_image_properties_tell_darkness_and_blur() -> None:
    random = np.random.default_rng(4)
    image = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    plain = image_properties(image)
    dark = image_properties(image.point(lambda value: value * 0.5))
    soft = image_properties(image.filter(ImageFilter.GaussianBlur(1.5)))
    assert dark["brightness"] == pytest.approx(plain["brightness"] / 2, rel=0.02)
    assert soft["sharpness"] < plain["sharpness"] / 3
    assert soft["brightness"] == pytest.approx(plain["brightness"], rel=0.02)


def observations(random: np.random.Generator, count: int, **shift: float) -> Observations:
    features = random.normal(size=(count, 6)) + shift.get("features", 0.0)
    classes = [0.5 - shift.get("mix", 0.0), 0.3 + shift.get("mix", 0.0), 0.2]
    return Observations(
        prediction=random.choice(3, size=count, p=classes),
        confidence=random.beta(8, 2, size=count),
        brightness=features[:, 0] * 0.1 + 0.5 + shift.get("brightness", 0.0),
        features=features,
        agrees=(random.random(count) < 0.97 - shift.get("agrees", 0.0)).astype(float),
        right=np.where(random.random(count) < 0.5, random.random(count) < 0.9, np.nan),
    )


def test_good_windows_go_beyond_as_rarely_as_asked_over_all_quantities() -> None:
    random = np.random.default_rng(5)
    beyond = windows = 0
    for repeat in range(6):  # another baseline every time: its own noise counts too
        reference = Reference(observations(random, 600), num_classes=3, seed=repeat)
        found = detect_drift(
            reference, observations(random, 20 * 100),
            WatchSettings(window=100, false_alarm=0.1, min_effect=0.0, resamples=300),
        )  # fmt: skip
        beyond += sum(bool(window.beyond) for window in found.windows)
        windows += len(found.windows)
    assert windows == 120
    assert beyond / windows <= 0.2  # 0.1 is asked for; 0.2 would be 3.7 standard errors more
    assert beyond > 0


@pytest.mark.parametrize(
    ("shift", "cause"),
    [
        ({"mix": 0.4}, "class_mix"),
        ({"brightness": 0.1}, "brightness"),
        ({"features": 0.8}, "features"),
        ({"agrees": 0.25}, "agreement"),
    ],
)
def test_a_shift_raises_the_alarm_in_the_window_it_was_confirmed_in(
    shift: dict[str, float], cause: str
) -> None:
    random = np.random.default_rng(6)
    reference = Reference(observations(random, 600), num_classes=3)
    good, bad = observations(random, 200), observations(random, 300, **shift)
    both = Observations(
        **{k: np.concatenate([v, getattr(bad, k)]) for k, v in vars(good).items() if v is not None}
    )
    found = detect_drift(reference, both, WatchSettings(window=100, resamples=300))
    assert found.alarm
    assert cause in found.causes
    assert found.first_alarm == 3  # two good windows, then confirmed by the second bad one
    finding = next(f for f in found.windows[-1].findings if f.quantity == cause)
    assert finding.effect > finding.limit
    assert finding.p_value < 0.01
    assert finding.window_examples == 100
    if cause == "features":
        assert finding.permutation_p is not None
        assert finding.permutation_p <= 0.01
    assert not detect_drift(reference, good, WatchSettings(window=100, resamples=300)).alarm


def test_a_pipe_is_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    with pytest.raises(DataError, match="it is no file"):
        read_log(tmp_path / "pipe")


def test_one_class_that_grows_stands_out_more_than_the_mix() -> None:
    one, other = np.full(50, 0.02), np.full(50, 0.02)
    other[0], other[1:] = 0.04, 0.96 / 49
    assert float(d.largest_change(one, other)) == pytest.approx(0.02)
    random = np.random.default_rng(8)
    classes = np.arange(20)
    good = [Observations(prediction=random.choice(classes, n), confidence=np.full(n, 0.9))
            for n in (2000, 1000)]  # fmt: skip
    share = np.where(classes == 3, 3.0, 1.0)
    bad = Observations(
        prediction=random.choice(classes, 1000, p=share / share.sum()),
        confidence=np.full(1000, 0.9),
    )
    reference = Reference(good[0], num_classes=20)
    assert not detect_drift(reference, good[1], WatchSettings(window=500)).alarm
    found = detect_drift(reference, bad, WatchSettings(window=500))
    assert set(found.causes) >= {"class_share"}


def test_too_little_data_is_refused() -> None:
    random = np.random.default_rng(7)
    with pytest.raises(DataError, match="50 at least"):
        Reference(observations(random, 40), num_classes=3)
    reference = Reference(observations(random, 60), num_classes=3)
    with pytest.raises(DataError, match="too few to watch"):
        detect_drift(reference, observations(random, 20))
