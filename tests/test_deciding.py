"""Deciding is cheap: precision where it decides, sampled units, sparse times, shared trials."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from planted import Planted, batches_of, planted_data, units_of
from srinit import records, trialwork
from srinit.compensation.answers import answers, divergence
from srinit.compensation.variants import fit_variants
from srinit.criteria import score_units
from srinit.curve import PrefixMeter, anchors, measure_prefixes
from srinit.engine.perturb import Target
from srinit.errors import DataError, SurgeryError
from srinit.evaluate import evaluate, top1
from srinit.finetune import recalibrate
from srinit.latency import unit_times
from srinit.plan import Prefix
from srinit.rng import isolated_rng
from srinit.sensitivity import Sensitivity, estimate_time, measure_sensitivity
from srinit.sensitivity.scheme_selection import sample_of
from srinit.sensitivity.selection import select
from srinit.sources import DataSet
from srinit.surgery import remove_units, remove_with_origins
from srinit.trial import try_removals
from srinit.trialbench import TrialBench
from srinit.units import find_units
from zoo import noise
from zoo_images import NormBlock


def convolutional(blocks: int = 4, width: int = 8) -> nn.Module:
    """Return a residual network with normalization whose statistics fit its data."""
    with isolated_rng(0):
        net = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.Sequential(*(NormBlock(width) for _ in range(blocks))),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, 4),
        )
    recalibrate(net, [(noise(64, 3, 8, 8), None)])
    return net.eval()


def labeled(net: nn.Module, count: int = 160) -> list[tuple[torch.Tensor, torch.Tensor]]:
    x = noise(count, 3, 8, 8)
    with torch.no_grad():
        return batches_of(x, net(x).argmax(1), size=48)


@pytest.mark.parametrize("method", ["none", "recalibrate", "auto"])
def test_trials_side_by_side_are_those_of_networks_that_were_really_cut(method: Any) -> None:
    net = convolutional()
    data, fit = labeled(net), [noise(32, 3, 8, 8, seed=5)]
    example = data[0][0][:2]
    units = find_units(net, example)
    a, b, c = units.names[0], units.names[1], units.names[2]
    ways = {"none": {"nothing"}, "recalibrate": {"nothing", "recalibrated"}}
    for gone in ((), (a,)):
        sets = [names for names in [(b,), (c,), (a, c), (b, c)] if not set(names) & set(gone)]
        chosen = [[units[n] for n in (*gone, *names)] for names in sets]
        fitted = [fit_variants(net, s, fit, method=method, example_inputs=example) for s in chosen]
        bench = TrialBench(
            net, [units[n] for n in gone], [[units[n] for n in names] for names in sets],
            data[0], scorer=top1, precision="keep", variants=[each.variants for each in fitted],
        )  # fmt: skip
        reference, found = bench.outcomes(data)
        assert bench.replayed == len(sets)
        before = remove_units(net, [units[n] for n in gone], example_inputs=example)
        assert (reference.predictions == evaluate(before, data).predictions).all()
        theirs = answers(before, [x for x, _ in data])
        for each, removed, measured in zip(fitted, chosen, found, strict=True):
            assert set(each.variants) == ways.get(method, {"nothing", "realigned"})
            networks = {name: really_cut(net, removed, v) for name, v in each.variants.items()}
            distance = {
                name: divergence(
                    theirs, answers(other, [x for x, _ in data]), data, "probabilities"
                ).mean()
                for name, other in networks.items()
            }
            assert measured.after == min(distance, key=distance.__getitem__)
            for outcomes, name in ((measured.cut, "nothing"), (measured.best, measured.after)):
                wanted = evaluate(networks[name], data)
                assert (outcomes.predictions == wanted.predictions).all()
                assert outcomes.confidence == pytest.approx(wanted.confidence, abs=1e-4)


def really_cut(net: nn.Module, removed: Any, variant: Any) -> nn.Module:
    """Cut a network for good, and give it a variant's tensors."""
    cut, origins = remove_with_origins(net, removed, example_inputs=noise(2, 3, 8, 8))
    state = {own: variant.get(origins[own], value) for own, value in cut.state_dict().items()}
    cut.load_state_dict(state)
    return cut


def test_a_trial_counts_the_compensation_that_a_run_would_do() -> None:
    net = convolutional(6)
    with torch.no_grad():  # answers of all classes
        net[5].bias -= net(noise(64, 3, 8, 8)).mean(0)
    data, fit = labeled(net), [noise(64, 3, 8, 8, seed=5)]
    units = find_units(net, data[0][0][:2])
    options: dict[str, Any] = {"example_inputs": data[0][0][:2], "precision": "keep"}
    names = tuple(units.names[1:4])
    (plain,) = try_removals(net, units, [names], data, **options)
    (found,) = try_removals(net, units, [names], data, fit=fit, **options)
    assert (plain.after, found.after) == ("nothing", "realigned")
    assert plain.cost == plain.cut == found.cut
    assert found.cost.drop is not None
    assert plain.cost.drop is not None
    assert found.cost.drop < plain.cost.drop
    trained: list[nn.Module] = []
    (again,) = try_removals(net, units, [names], data, fit=fit, recover=trained.append, **options)
    assert (again.after, again.cut, len(trained)) == ("realigned", None, 1)
    assert again.cost.drop == pytest.approx(found.cost.drop, abs=0.02)


def test_a_trial_chooses_nothing_where_compensation_does_harm() -> None:
    net = convolutional(6)
    data = labeled(net)
    units = find_units(net, data[0][0][:2])
    odd = [100 * noise(4, 3, 8, 8, seed=7)]
    found, = try_removals(
        net, units, [units.names[1:2]], data, fit=odd, example_inputs=data[0][0][:2],
        precision="keep",
    )  # fmt: skip
    assert found.after == "nothing"
    assert found.cost == found.cut


def test_networks_whose_weights_leave_no_room_are_measured_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = convolutional()
    data, fit = labeled(net), [noise(32, 3, 8, 8, seed=5)]
    units = find_units(net, data[0][0][:2])
    sets = [(name,) for name in units.names]

    def tried() -> Any:
        return try_removals(net, units, sets, data, fit=fit, example_inputs=data[0][0][:2])

    together = tried()
    monkeypatch.setattr(trialwork, "BUDGET", 1)
    assert tried() == together


def test_trials_leave_the_network_and_its_statistics_alone() -> None:
    net = convolutional()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    data = labeled(net)
    units = find_units(net, data[0][0][:2])
    try_removals(net, units, [units.names[:1]], data, example_inputs=data[0][0][:2])
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module.training for module in net.modules())


def test_cheap_trials_find_the_costs_of_exact_ones() -> None:
    net = convolutional()
    data = labeled(net)
    units = find_units(net, data[0][0][:2])
    names = [(name,) for name in units.names]
    options: dict[str, Any] = {"example_inputs": data[0][0][:2]}
    cheap = try_removals(net, units, names, data, **options)
    exact = try_removals(net, units, names, data, precision="keep", **options)
    for one, other in zip(cheap, exact, strict=True):
        assert one.cost.drop == pytest.approx(other.cost.drop, abs=0.04)


def test_trials_need_an_example_and_say_so() -> None:
    net = convolutional(2)
    units = find_units(net, noise(2, 3, 8, 8))
    with pytest.raises(DataError, match="no example"):
        try_removals(net, units, [units.names[:1]], [], example_inputs=noise(2, 3, 8, 8))


def test_a_network_that_does_not_run_without_a_unit_is_named() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 6), nn.Linear(6, 4)).eval()
    units = units_of(net, "1")
    x, target = planted_data(40)
    with pytest.raises(SurgeryError, match="without 1 the network does not run"):
        try_removals(net, units, [("1",)], batches_of(x, target), example_inputs=x[:2])


class SaidError(Exception):
    """What one process hands to the others."""


class Played:
    """One of two processes, played one after the other: first each says what it has."""

    count = 2

    def __init__(self, rank: int, said: list[Any] | None = None) -> None:
        self.rank, self._said = rank, said

    def gather(self, value: Any) -> list[Any]:
        if self._said is None:
            raise SaidError(value)
        assert value == self._said[self.rank]
        return self._said


@pytest.mark.parametrize("what", ["trials", "removal_drop", "l1"])
def test_processes_that_share_find_what_one_finds(what: str) -> None:
    model = Planted()
    x, target = planted_data(300)
    data = batches_of(x, target)
    units = find_units(model, x[:2])

    def work(ranks: Any) -> Any:
        if what != "trials":
            return score_units(model, units, data, criterion=what, ranks=ranks)
        sets = [(name,) for name in units.names]
        return try_removals(model, units, sets, data, example_inputs=x[:2], ranks=ranks)

    said = []
    for rank in (0, 1):
        with pytest.raises(SaidError) as share:
            work(Played(rank))
        said.append(share.value.args[0])
    alone = work(None)
    assert [work(Played(rank, said)) for rank in (0, 1)] == [alone, alone]
    if what != "l1":
        assert all(len(each) < len(units) + 1 for each in said)


# prefixes


def test_few_networks_are_built_and_the_others_lie_between() -> None:
    net = convolutional(10)
    x = noise(4, 3, 8, 8)
    units = find_units(net, x)
    built: list[int] = []

    class Counting(PrefixMeter):
        def _measured(self, gone: Any) -> Prefix:
            built.append(len(gone))
            return super()._measured(gone)

    meter = Counting(net, units, x, batch_sizes=(1, 2), repeats=2)
    found = meter.prefixes(units.names[1:], wanted=lambda prefixes: (5,))
    places = {*anchors(10), 5}
    assert sorted(built) == sorted(places) == [i for i, p in enumerate(found) if p.measured]
    everything = measure_prefixes(net, units, units.names[1:4], x, batch_sizes=())
    assert [(p.params, p.flops) for p in found[:4]] == [(p.params, p.flops) for p in everything]
    for place, prefix in enumerate(found):
        assert set(prefix.latency_ms or {}) == {"1", "2"}
        assert (prefix.interpolated is None) == (place in places)
    error = found[1].interpolated
    assert error is not None
    assert all(value is not None and value >= 0 for value in error.values())
    low, between, high = ((found[i].latency_ms or {})["1"] for i in (0, 1, 3))
    assert min(low, high) <= between <= max(low, high)
    meter.prefixes(units.names[1:], wanted=lambda prefixes: (5,))
    assert sorted(built) == sorted(places)  # each set of units once


def test_what_is_no_sum_of_its_units_is_built() -> None:
    net = convolutional(10)
    x = noise(2, 3, 8, 8)
    units = find_units(net, x)
    wrong = records_with(units, units.names[4], params=1)
    found = measure_prefixes(net, wrong, wrong.names[1:], x, batch_sizes=())
    right = measure_prefixes(net, units, units.names[1:], x, batch_sizes=())
    assert [prefix.params for prefix in found] == [prefix.params for prefix in right]


def records_with(units: Any, name: str, **values: Any) -> Any:
    changed = tuple(
        dataclasses.replace(u, **values) if u.name == name else u for u in units.removable
    )
    return dataclasses.replace(units, removable=changed)


def test_the_times_of_units_leave_no_hooks_and_add_up_to_less_than_the_whole() -> None:
    net = convolutional(3)
    names = {f"2.{i}": (f"2.{i}",) for i in range(3)}
    times = unit_times(net, names, noise(2, 3, 8, 8), batch_size=2)
    assert set(times) == set(names)
    assert min(times.values()) > 0
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


# scheme selection


def test_the_scheme_selection_tries_all_of_few_units_and_some_of_many() -> None:
    few = [Target(name=str(number)) for number in range(9)]
    many = [Target(name=str(number), removable=number > 0) for number in range(90)]
    assert sample_of(few) == tuple(target.name for target in few)
    chosen = sample_of(many)
    assert len(chosen) == len(set(chosen)) == 12
    assert (chosen[0], chosen[-1]) == ("1", "89")


def test_the_choice_of_a_scheme_says_how_certain_it_is() -> None:
    model = Planted()
    found = measure_sensitivity(
        model, units_of(model, "stem", "blocks.0", "blocks.1", "head"),
        batches_of(*planted_data(400)), half_width=0.3,
    )  # fmt: skip
    assert found.scheme_certainty is not None
    assert 0 <= found.scheme_certainty <= 1
    assert f"chosen in {found.scheme_certainty:.0%} of 500 resamples" in found.scheme_reason
    for scheme in found.trials:
        assert scheme.num_units == 4
        assert scheme.score is not None
        assert scheme.score.low <= scheme.score.high


# the estimate


def test_an_estimate_with_no_time_for_batches_rests_on_forwards() -> None:
    model = Planted()
    units = units_of(model, "stem", "blocks.0", "blocks.1", "head")
    data = batches_of(*planted_data(400))
    short = estimate_time(model, units, data, budget=1e-9)
    assert (short.basis, short.batches_measured) == ("forwards", 0)
    assert 0 < short.seconds < 1000
    assert 0 < short.num_examples <= 400
    long = estimate_time(model, units, iter(data), budget=1e9, scheme="default")
    assert (long.basis, long.batches_measured) == ("batches", 2)


# precision where it decides


def test_units_are_put_on_a_side_once_that_is_sure() -> None:
    means = {"a": 0.0, "b": 0.1, "c": 0.12, "d": 0.5}
    joint = {"a": (0.0, 0.02), "b": (0.05, 0.15), "c": (0.06, 0.2), "d": (0.4, 0.6)}
    found = select(means, joint, 2)
    assert found.sides == {"a": "goes", "b": "open", "c": "open", "d": "stays"}
    assert found.line == pytest.approx(0.11)
    assert found.error == pytest.approx(0.15 - 0.06)
    assert select(means, {**joint, "c": (0.16, 0.2)}, 2).error == 0
    assert set(select(means, joint, 4).sides.values()) == {"goes"}


def deciding(data: Any, path: Path | None = None, **more: Any) -> Sensitivity:
    model = Planted()
    units = units_of(model, "stem", "blocks.0", "blocks.1", "blocks.2", "head")
    return measure_sensitivity(
        model, units, data, journal=path, batch_size=32,
        **{"scheme": "default", "half_width": 0.06, **more},
    )  # fmt: skip


def test_clear_units_get_wide_intervals_and_the_right_ones_go(tmp_path: Path) -> None:
    data = batches_of(*planted_data(1200))
    equal = deciding(data, tmp_path / "equal.jsonl")
    found = deciding(data, tmp_path / "a.jsonl", precision="decide", num_remove=3)
    goes = {unit.unit for unit in found.units if unit.selection == "goes"}
    assert goes <= {"blocks.0", "blocks.1", "blocks.2"}
    assert {found["stem"].selection, found["head"].selection} == {"stays"}
    assert found["head"].num_examples < equal["head"].num_examples
    assert sum(u.num_examples for u in found.units) < sum(u.num_examples for u in equal.units)
    assert (found.precision, found.num_remove) == ("decide", 3)
    assert found.selection_error is not None
    if goes == {"blocks.0", "blocks.1", "blocks.2"}:
        assert (found.selection_error, found.stopped_by) == (0, "decision")
    assert equal.precision == "equal"
    assert '"widths"' not in (tmp_path / "equal.jsonl").read_text().splitlines()[0]
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) > 3
    (tmp_path / "b.jsonl").write_bytes(b"".join(lines[:-2]))
    again = deciding(data, tmp_path / "b.jsonl", precision="decide", num_remove=3)
    assert (tmp_path / "b.jsonl").read_bytes() == b"".join(lines)
    assert records.plain(again.units) == records.plain(found.units)


def test_a_limit_alone_may_decide_and_locked_units_are_measured_coarsely() -> None:
    model = Planted()
    units = units_of(model, "blocks.0", "blocks.1", "head", locked=("stem",))
    found = measure_sensitivity(
        model, units, batches_of(*planted_data(1200)), scheme="default", half_width=0.02,
        batch_size=32, precision="decide", max_drop=0.2,
    )  # fmt: skip
    assert found["head"].decision == "needed"
    assert found["blocks.1"].decision == "redundant"
    assert "a wide interval is enough" in found["stem"].reason
    assert {unit.selection for unit in found.units} == {""}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"precision": "decide"}, "needs num_remove or max_drop"),
        ({"precision": "decide", "num_remove": 0}, "num_remove must be at least 1"),
        ({"precision": "decide", "num_remove": 1, "draws": 2}, "needs fresh draws"),
        ({"num_remove": 1}, "num_remove needs precision='decide'"),
        ({"precision": "exact"}, "precision must be 'equal' or 'decide'"),
    ],
)
def test_what_cannot_be_decided_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        deciding(batches_of(*planted_data(100)), **more)


def test_a_number_format_is_still_taken_where_precision_is_asked_for() -> None:
    data = batches_of(*planted_data(200))
    one, other = (
        deciding(data, half_width=0.3, **more)
        for more in ({"precision": "keep"}, {"arithmetic": "keep"})
    )
    assert records.plain(one.units) == records.plain(other.units)
    assert one.precision == "equal"


# data


def test_a_sample_by_content_reads_the_hashes_once() -> None:
    reads: list[int] = []

    class Hashed(DataSet):
        @property
        def ids(self) -> tuple[str, ...]:
            reads.append(1)
            return tuple(f"{(7 * index) % 10}" for index in self.indices)

        def subset(self, positions: Any) -> Any:
            return list(positions)

    found = Hashed(pool=None, indices=tuple(range(10))).by_content(3)  # type: ignore[arg-type]
    assert (found, len(reads)) == ([0, 3, 6], 1)
