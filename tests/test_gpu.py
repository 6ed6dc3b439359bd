"""What differs on a GPU: noise made there, draws together, larger batches; and the same truths."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from planted import CLASSES, Planted, batches_of, planted_data, units_of
from srinit import records
from srinit.engine.evaluator import PerturbationEvaluator
from srinit.engine.perturb import Perturbation, Target
from srinit.evaluate import top1
from srinit.reinit import Reinitializer
from srinit.rng import isolated_rng
from srinit.sensitivity import Sensitivity, measure_sensitivity
from zoo import noise
from zoo_images import Images, NewTensors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

KEEP_NORM = Perturbation(scheme="keep_norm")


BLOCKS = ("blocks.0", "blocks.1", "blocks.2")


def model_of_images() -> nn.Module:
    """Return a network on the GPU that answers every class for some images of noise."""
    with isolated_rng(0), torch.no_grad():
        model = Images().eval()
        logits = model(noise(200, 3, 12, 12))
        model.head.weight /= logits.std(0)[:, None]
        model.head.bias.sub_(logits.mean(0)).div_(logits.std(0))
    return model.cuda()


def images(model: nn.Module, count: int = 200) -> list[tuple[Tensor, Tensor]]:
    """Return images that the network is sure of, and what it answers."""
    x = noise(4 * count, 3, 12, 12)
    with torch.no_grad():
        logits = model(x.cuda()).cpu()
    best = logits.topk(2, dim=1).values
    sure = (best[:, 0] - best[:, 1]).topk(count).indices
    target = logits[sure].argmax(1)
    assert len(set(target.tolist())) == CLASSES
    return batches_of(x[sure], target)


def bench_of(model: nn.Module, data: Any, *names: str) -> PerturbationEvaluator:
    return PerturbationEvaluator(model, [Target(name=name) for name in names], data[0], scorer=top1)


def text_of(found: Sensitivity) -> str:
    body = {field: getattr(found, field) for field in found.__dataclass_fields__}
    return records.to_json(Sensitivity(**{**body, "seconds": None}), schema="test/1")


def test_planted_truth_holds() -> None:
    model = Planted().cuda()
    units = units_of(model, "stem", "blocks.1", "head")
    found = measure_sensitivity(model, units, batches_of(*planted_data()), scheme="default")
    assert found["blocks.1"].reinit_drop == 0.0
    chance = found.baseline_score - 1 / CLASSES
    assert found["head"].low <= chance <= found["head"].high  # type: ignore[operator]


def test_drops_are_those_of_a_cpu() -> None:
    model = model_of_images()
    data = images(model)
    here = measure_sensitivity(model, units_of(model, *BLOCKS), data, scheme="keep_norm")
    model = model.cpu()
    there = measure_sensitivity(model, units_of(model, *BLOCKS), data, scheme="keep_norm")
    for one, other in zip(here.units, there.units, strict=True):
        assert one.low <= other.high, one.unit  # type: ignore[operator]
        assert other.low <= one.high, one.unit  # type: ignore[operator]


def test_resuming_gives_the_same_bytes_and_leaves_model_and_random_state(tmp_path: Path) -> None:
    model = model_of_images()
    data = images(model)
    state = copy.deepcopy(model.state_dict())
    before = torch.cuda.get_rng_state()

    def scan(journal: Path) -> str:
        units = units_of(model, *BLOCKS)
        return text_of(
            measure_sensitivity(
                model, units, data, scheme="keep_norm", batch_size=32, journal=journal
            )
        )

    wanted = scan(tmp_path / "whole.jsonl")
    content = (tmp_path / "whole.jsonl").read_bytes()
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(content[: len(content) // 2])
    assert scan(cut) == wanted
    assert cut.read_bytes() == content
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("per_draw", [1, 3, 8])
def test_draws_are_made_together_and_are_the_same_for_smaller_parts(per_draw: int) -> None:
    model = model_of_images()
    data = images(model, 100)
    bench = bench_of(model, data, *BLOCKS)
    active = dict.fromkeys(BLOCKS, per_draw)
    whole = bench.measure(data[0], 0, active, KEEP_NORM)
    assert bench.dtype is torch.bfloat16
    assert bench.grouped == set(BLOCKS)
    for name in BLOCKS:
        bank = bench._perturber.batched(name, KEEP_NORM)
        assert bank is not None
        assert bank.fits
    bench._chunk = 24
    parts = bench.measure(data[0], 0, active, KEEP_NORM)
    for name in BLOCKS:
        (one,), (other,) = whole.units[name], parts.units[name]
        changed = sum(a != b for a, b in zip(one.scores, other.scores, strict=True))
        assert changed <= 2, name  # sums in another order, in bfloat16
        assert len(set(one.predictions or ())) > 1


def test_weights_that_do_not_fit_together_are_made_in_turn(monkeypatch: Any) -> None:
    model = model_of_images()
    data = images(model, 100)
    bench = bench_of(model, data, *BLOCKS)
    active = dict.fromkeys(BLOCKS, 2)
    whole = bench.measure(data[0], 0, active, KEEP_NORM)
    bank = bench._perturber.batched(BLOCKS[0], KEEP_NORM)
    assert bank is not None
    monkeypatch.setattr(
        "srinit.engine.batched_weights.MOST_BYTES", {"cpu": 1, "cuda": 7 * bank.bytes}
    )
    parts = bench.measure(data[0], 0, active, KEEP_NORM)
    for name in BLOCKS:
        (one,), (other,) = whole.units[name], parts.units[name]
        assert sum(a != b for a, b in zip(one.scores, other.scores, strict=True)) <= 2, name


def test_noise_is_that_of_the_cpu_unless_local_noise_is_asked_for() -> None:
    unit = NewTensors(16).eval()
    here = copy.deepcopy(unit).cuda()
    wanted = Reinitializer(unit, scheme="keep_norm").draw(3).conv1.weight
    assert torch.equal(Reinitializer(here, scheme="keep_norm").draw(3).conv1.weight.cpu(), wanted)
    for scheme in ("keep_norm", "default", "permuted"):
        reinitializer = Reinitializer(here, scheme=scheme, local_noise=True)
        found = reinitializer.draw(3).conv1.weight.clone()
        assert not torch.equal(reinitializer.draw(4).conv1.weight, found)
        assert torch.equal(reinitializer.draw(3).conv1.weight, found)
        assert not torch.equal(found.cpu(), wanted)


def test_many_draws_at_once_depend_on_their_number_alone() -> None:
    reinitializer = Reinitializer(
        NewTensors(16).cuda().eval(), scheme="keep_norm", local_noise=True
    )
    seed = lambda number: 100 + number  # noqa: E731
    many = reinitializer.draw_many(list(range(150)), seed)
    some = reinitializer.draw_many(list(range(60, 75)), seed)
    assert many is not None
    assert some is not None
    for name, values in many.items():
        assert torch.equal(values[60:75], some[name])
        assert len({float(each.sum()) for each in values}) == 150
        wanted = math.sqrt(2 / values[0, 0].numel())
        assert float(values.std()) == pytest.approx(wanted, rel=0.05)
