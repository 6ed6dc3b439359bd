"""The scan: planted truth, intervals, stopping, and a caller's model that stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from planted import CLASSES, Planted, batches_of, planted_data, units_of
from srinit import records
from srinit.engine.finite import FiniteCheck
from srinit.errors import ConfigError, DataError, ReinitError
from srinit.rng import isolated_rng
from srinit.sensitivity import Sensitivity, estimate_time, measure_sensitivity
from zoo import noise
from zoo_plain import Constant, Root, Two


@pytest.fixture(scope="module")
def data() -> list[tuple[Tensor, Tensor]]:
    return batches_of(*planted_data())


def scan(model: nn.Module, names: tuple[str, ...], data: Any, **kwargs: Any) -> Sensitivity:
    locked = kwargs.pop("locked", ())
    kwargs = {"scheme": "default", "half_width": 0.08, **kwargs}
    return measure_sensitivity(model, units_of(model, *names, locked=locked), data, **kwargs)


def test_unit_multiplied_by_zero_has_a_drop_of_exactly_zero(data: Any) -> None:
    found = scan(Planted(), ("blocks.0", "blocks.1", "head"), data)
    worthless = found["blocks.1"]
    assert worthless.reinit_drop == 0
    assert set(worthless.observations) == {0.0}
    assert worthless.low < 0 < worthless.high


def test_classifier_falls_to_chance(data: Any) -> None:
    found = scan(Planted(), ("blocks.0",), data, locked=("head",), half_width=0.05)
    head = found["head"]
    assert not head.removable
    chance = 0.9 - 1 / CLASSES
    assert head.low < chance < head.high
    assert head.balanced_drop == pytest.approx(head.reinit_drop, abs=0.05)


def test_intervals_hold_the_estimate_and_joint_ones_hold_the_single_ones(data: Any) -> None:
    found = scan(Planted(), ("stem", "blocks.0", "blocks.2", "head"), data)
    for unit in found.units:
        assert unit.joint_low <= unit.low <= unit.reinit_drop <= unit.high <= unit.joint_high
        assert (unit.high - unit.low) / 2 <= 0.08 + 1e-9
    assert found.stopped_by == "precision"
    assert [unit.unit for unit in found.units] == ["stem", "blocks.0", "blocks.2", "head"]


def test_the_interval_finds_what_a_long_scan_finds(data: Any) -> None:
    model = Planted()
    long = scan(model, ("blocks.0", "stem", "head"), data, draws=40, seed=9)
    short = scan(model, ("blocks.0", "stem", "head"), data, half_width=0.06, seed=1)
    for unit in long.units:
        assert short[unit.unit].low <= unit.reinit_drop <= short[unit.unit].high


def test_scan_stops_by_decision_as_soon_as_all_are_on_one_side(data: Any) -> None:
    found = scan(Planted(), ("blocks.1", "head"), data, half_width=None, max_drop=0.3)
    assert found["blocks.1"].decision == "redundant"
    assert found["head"].decision == "needed"
    assert found.stopped_by == "decision"
    assert found.num_examples < 600


def test_best_units_are_certain_before_they_are_precise(data: Any) -> None:
    found = scan(Planted(), ("blocks.1", "head", "stem"), data, half_width=None, best=1)
    assert found.stopped_by == "decision"
    others = min(found[name].joint_low for name in ("head", "stem"))
    assert found["blocks.1"].joint_high <= others


def test_data_that_ends_first_leaves_units_undecided_and_says_so(data: Any) -> None:
    found = scan(Planted(), ("blocks.0", "head"), data[:1], half_width=0.001, max_drop=0.05)
    assert found.stopped_by == "data"
    assert found.num_examples == 100
    assert found["blocks.0"].decision == "undecided"
    assert "the data ended at a half-width of 0." in found["blocks.0"].reason


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_same_seed_gives_the_same_record_and_another_seed_another(data: Any) -> None:
    model = Planted()

    def text(seed: int, threads: int = 1) -> str:
        with num_threads(threads):
            return _text(seed)

    def _text(seed: int) -> str:
        found = scan(model, ("blocks.0", "head"), data, seed=seed)
        body = {field: getattr(found, field) for field in found.__dataclass_fields__}
        return records.to_json(Sensitivity(**{**body, "seconds": None}), schema="test/1")

    assert text(0) == text(0)
    assert text(0) != text(1)
    assert text(0) == text(0, threads=2)  # units side by side


def test_record_survives_json(data: Any) -> None:
    found = scan(Planted(), ("blocks.0", "head"), data)
    text = records.to_json(found, schema="test/1")
    again = records.from_json(Sensitivity, text, schema="test/1")
    assert again.units == found.units


def test_unit_that_answers_one_class_is_not_called_redundant() -> None:
    target = torch.arange(1000) % 20 == 0  # one in twenty is of the second class
    x = torch.where(target, 1.0, -1.0)[:, None].repeat(1, 2)
    model = Constant()
    found = scan(model, ("gate",), batches_of(x, target.long()), max_drop=0.3, half_width=0.05)
    gate = found["gate"]
    assert gate.high < 0.3
    assert gate.top_share == 1.0
    assert gate.balanced_drop == pytest.approx(0.5)
    assert gate.decision == "undecided"
    assert "one class" in gate.reason


def test_not_a_number_counts_as_wrong_and_never_as_redundant(data: Any) -> None:
    found = scan(Root(), ("gate",), data, half_width=0.05, max_drop=0.99)
    gate = found["gate"]
    assert gate.nonfinite == pytest.approx(0.5, abs=0.15)
    assert gate.reinit_drop == pytest.approx(0.9 * gate.nonfinite, abs=0.05)
    assert gate.decision == "undecided"
    assert "not finite" in gate.reason


def test_not_a_number_that_a_clamp_hides_counts_as_wrong() -> None:
    with isolated_rng(0):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 8, 3)),
            nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, CLASSES),
        ).eval()  # fmt: skip
    x = noise(64, 3, 12, 12)
    with torch.no_grad():
        data = batches_of(x, model(x).argmax(1))

    def broken(unit: nn.Module, _: torch.Generator) -> None:
        for parameter in unit.parameters():
            parameter.detach().fill_(torch.nan)

    found = scan(model, ("1",), data, scheme=broken, max_drop=0.99)["1"]
    assert found.nonfinite == 1
    assert found.reinit_drop == 1
    assert found.decision != "redundant"


def test_infinity_in_a_mask_that_a_unit_hands_on_is_no_failure() -> None:
    mask = torch.full((6, 4), -torch.inf)
    check = FiniteCheck(6, lambda _: (torch.ones(6, 3), mask), (0, 0))
    check(None)
    assert check.finite_B is not None
    assert check.finite_B.tolist() == [True] * 6
    hidden = torch.ones(2, 6, 3)  # the batch comes second
    hidden[1, 4, 0] = torch.nan
    check = FiniteCheck(6, lambda _: hidden, (1,))
    check(None)
    assert check.finite_B is not None
    assert check.finite_B.tolist() == [True] * 4 + [False, True]


def test_what_cannot_be_drawn_is_not_measured_with_its_reason(data: Any) -> None:
    class Odd(Planted):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()
            self.unused = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(super().forward(x))

    found = scan(Odd(), ("blocks.0", "relu", "unused"), data)
    assert found["relu"].decision == found["unused"].decision == "not measured"
    assert "no parameters" in found["relu"].reason
    assert "never called" in found["unused"].reason
    assert found["relu"].reinit_drop is None
    assert found["blocks.0"].reinit_drop is not None


def test_scheme_that_changes_nothing_is_not_measured(data: Any) -> None:
    found = scan(Planted(), ("blocks.0",), data, scheme=lambda unit, generator: None)
    assert found["blocks.0"].decision == "not measured"
    assert "changed none of its values" in found["blocks.0"].reason


def test_paper_is_one_whole_set_draw_without_an_interval(data: Any) -> None:
    found = scan(Planted(), ("blocks.0", "blocks.1", "head"), data, scheme="paper")
    head = found["head"]
    assert found.num_examples == head.num_examples == 1200
    assert head.num_draws == 1
    assert head.low is None
    assert head.high is None
    assert found["blocks.1"].reinit_drop == 0
    assert "no interval" in head.reason


def test_paper_agrees_with_a_plain_loop(data: Any) -> None:
    """The same draw, put into a copy of the model by hand, and evaluated in one pass."""
    from srinit.evaluate import evaluate
    from srinit.modules import swapped
    from srinit.reinit import reinitialized
    from srinit.rng import seed_for

    model = Planted().eval()
    found = scan(model, ("blocks.0", "head"), data, scheme="paper", seed=5)
    for name in ("blocks.0", "head"):
        fresh = reinitialized(
            model.get_submodule(name), seed=seed_for(5, "draw", name, "set", 0), scheme="paper"
        )
        baseline = evaluate(model, data).score
        with swapped(model, name, fresh):
            drop = baseline - evaluate(model, data).score
        assert found[name].reinit_drop == pytest.approx(drop, abs=0.002)


def test_whole_set_draws_have_students_interval(data: Any) -> None:
    found = scan(Planted(), ("blocks.0", "head"), data, draws=5)
    head = found["head"]
    assert head.num_draws == 5
    assert head.num_examples == 5 * 1200
    assert len(head.observations) == 5
    assert head.low < head.reinit_drop < head.high
    assert "Student" in head.reason


def test_parts_are_drawn_alone_except_by_paper(data: Any) -> None:
    model = Planted()
    units = units_of(model, "blocks", parts=("blocks.1.linear",))
    alone = measure_sensitivity(model, units, data, scheme="default", half_width=0.08)
    assert alone["blocks"].reinit_drop == 0
    whole = measure_sensitivity(model, units, data, scheme="paper")
    assert whole["blocks"].reinit_drop != 0


def test_auto_says_what_it_chose_and_why(data: Any) -> None:
    found = scan(Planted(), ("blocks.0", "blocks.1", "stem", "head"), data, scheme="auto")
    chosen = [trial for trial in found.trials if trial.chosen]
    assert len(found.trials) >= 4
    assert [trial.scheme for trial in chosen] == [found.scheme]
    best = max((t.reliability or 0) * (1 - t.saturated) for t in found.trials)
    assert (chosen[0].reliability or 0) * (1 - chosen[0].saturated) == pytest.approx(best)
    assert found.scheme in found.scheme_reason
    assert "runners-up" in found.scheme_reason


def test_scorer_of_ones_own_for_a_task_without_classes(data: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    for parameter in model.parameters():
        parameter.detach().copy_(noise(*parameter.shape))
    x = torch.rand(600, 3, generator=torch.Generator().manual_seed(0))

    def closeness(output: Tensor, target: Tensor) -> Tensor:
        return torch.exp(-(output[:, 0] - target).abs())

    with torch.no_grad():
        target = model(x)[:, 0]
    found = scan(model, ("0", "1"), batches_of(x, target), scorer=closeness, half_width=0.1)
    assert found.baseline_score == pytest.approx(1.0, abs=0.02)
    assert found["0"].reinit_drop > 0
    assert found["0"].top_share is None
    assert found["0"].balanced_drop is None


def test_inputs_may_be_dicts_and_tuples() -> None:
    model = Two()
    for parameter in model.parameters():
        parameter.detach().copy_(noise(*parameter.shape))
    a = torch.rand(400, 4, generator=torch.Generator().manual_seed(1))
    target = model(a, a).argmax(1)
    parts = [(a[i : i + 100], target[i : i + 100]) for i in range(0, 400, 100)]
    keyed = scan(model, ("one",), [({"a": x, "b": x}, y) for x, y in parts], half_width=0.2)
    placed = scan(model, ("one",), [((x, x), y) for x, y in parts], half_width=0.2)
    assert keyed["one"].observations == placed["one"].observations


def test_data_may_be_a_loader_and_order_does_not_change_with_workers_or_batches() -> None:
    from torch.utils.data import DataLoader, TensorDataset

    model = Planted()
    dataset = TensorDataset(*planted_data())
    kept = scan(model, ("head",), batches_of(*planted_data()))
    loaded = scan(model, ("head",), DataLoader(dataset, batch_size=37))
    assert kept["head"].observations == loaded["head"].observations


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"half_width": 0.0}, "half_width must lie"),
        ({"confidence": 1.0}, "confidence must lie"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"scale": -1.0}, "scale must be positive"),
        ({"batch_size": -3}, "batch_size must be at least 1"),
        ({"best": 0}, "best must be at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(kwargs: Any, words: str, data: Any) -> None:
    with pytest.raises(ValueError, match=words):
        scan(Planted(), ("head",), data, **kwargs)


def test_bad_data_and_scorers_are_refused(data: Any) -> None:
    model = Planted()
    with pytest.raises(DataError, match="no example"):
        scan(model, ("head",), [])
    with pytest.raises(DataError, match=r"must be \(inputs, target\)"):
        scan(model, ("head",), [torch.zeros(2, 8)])
    with pytest.raises(DataError, match="class index 7, but the model has 4 outputs"):
        scan(model, ("head",), [(torch.zeros(2, 8), torch.tensor([0, 7]))])
    with pytest.raises(ConfigError, match=r"should return a tensor \(\d+,\), found \(\d+, 4\)"):
        scan(model, ("head",), data, scorer=lambda output, target: output)
    with pytest.raises(ConfigError, match=r"should return scores in \[0, 1\], found 3\.\d+"):
        scan(model, ("head",), data, scorer=lambda output, target: output[:, 0].sigmoid() + 3)
    with pytest.raises(ReinitError, match="no scheme 'kaming'"):
        scan(model, ("head",), data, scheme="kaming")


def test_progress_tells_units_decided_and_half_widths(data: Any) -> None:
    told: list[tuple[float, float | None, str]] = []
    scan(
        Planted(), ("blocks.0", "head"), data,
        on_progress=lambda done, total, note: told.append((done, total, note)),
    )  # fmt: skip
    assert told[-1][0] == told[-1][1] == 2
    assert told[-1][2].startswith("2 of 2 units decided, half-widths 0.0")
    assert "s left" in told[0][2]


def test_estimate_of_the_time_is_of_the_right_size(data: Any) -> None:
    model = Planted()
    units = units_of(model, "blocks.0", "head")
    guess = estimate_time(model, units, data, scheme="default", half_width=0.05)
    found = measure_sensitivity(model, units, data, scheme="default", half_width=0.05)
    assert guess.batches_measured == 2
    assert 0 < guess.seconds < 60
    needed = max(unit.num_examples for unit in found.units)
    assert needed / 2 <= guess.num_examples <= needed * 2


def test_memory_that_runs_out_halves_the_batch_and_changes_nothing(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hungry(Planted):
        limit = 1000

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > self.limit:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(x)

    fits = scan(Hungry(), ("blocks.0", "head"), data, precision="keep")
    monkeypatch.setattr(Hungry, "limit", 20)
    halved = scan(Hungry(), ("blocks.0", "head"), data, precision="keep")
    for name in ("blocks.0", "head"):
        assert halved[name].observations == pytest.approx(fits[name].observations)
