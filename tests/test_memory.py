"""Memory that runs out: batches are worked through in parts, and nothing else changes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import processes
from planted import Planted, batches_of, planted_data, units_of
from srinit.errors import ResourceError, is_out_of_memory
from srinit.evaluate import BatchSplitter, agreement, evaluate, labeled_by
from srinit.finetune import Recipe, fine_tune, loop, recalibrate
from srinit.report.features import collect
from srinit.sensitivity import measure_sensitivity
from zoo_plain import CPU_IS_FULL, Hungry

ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "cpu": CPU_IS_FULL,
    "python": MemoryError(),
}
Batches = list[tuple[Tensor, Tensor]]


def network(hungry: Hungry, *, norm: bool) -> nn.Module:
    middle = nn.BatchNorm1d(16) if norm else nn.LayerNorm(16)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 16), middle, nn.ReLU(), hungry, nn.Linear(16, 3))


def task(seed: int, size: int = 30) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, size, 4, generator=generator)
    return [(part, part[:, :3].argmax(1)) for part in x]


RECIPE = Recipe(epochs=3, lr=0.1, batch_size=30)


@pytest.mark.parametrize("kind", ERRORS)
def test_fine_tuning_takes_the_same_steps_in_smaller_parts(kind: str) -> None:
    teacher = network(Hungry(None), norm=False)
    whole = network(Hungry(None), norm=False)
    expected = fine_tune(whole, task(1), task(2), teacher=teacher, recipe=RECIPE)
    hungry = Hungry(8, ERRORS[kind])
    model = network(hungry, norm=False)
    log = fine_tune(model, task(1), task(2), teacher=teacher, recipe=RECIPE)
    assert (log.part_size, expected.part_size) == (7, None)  # 30, 15, 7
    assert hungry.seen.count(30) == 1 + 4  # one step, and the first evaluation of every epoch
    for one, other in zip(log.points, expected.points, strict=True):
        assert (one.step, one.lr) == (other.step, other.lr)
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
    assert log.best_step == expected.best_step
    for (name, value), ours in zip(
        whole.state_dict().items(), model.state_dict().values(), strict=True
    ):
        assert torch.allclose(value, ours, atol=1e-5), name


def test_statistics_of_a_failed_attempt_are_taken_back() -> None:
    model = network(Hungry(16), norm=True)
    log = fine_tune(model, task(1), None, recipe=RECIPE)
    assert log.part_size == 15
    assert int(model[1].num_batches_tracked) == 2 * log.steps  # two halves a step, nothing else


def test_the_size_that_fits_is_remembered_for_a_resume(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"

    def stop(done: int, _total: int, _note: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    hungry = Hungry(16)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(
            network(hungry, norm=True), task(1), None, recipe=RECIPE, state=state, on_progress=stop
        )
    assert hungry.seen == [30, 15, 15, 15, 15]
    assert loop.CHECKPOINT_STEPS > 2  # kept because memory ran out
    again = Hungry(16)
    model = network(again, norm=True)
    log = fine_tune(model, task(1), None, recipe=RECIPE, state=state)
    assert set(again.seen) == {15}
    assert log.part_size == 15
    straight = network(Hungry(16), norm=True)
    fine_tune(straight, task(1), None, recipe=RECIPE)
    pairs = zip(model.state_dict().values(), straight.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_training_ends_where_two_examples_do_not_fit() -> None:
    model = network(Hungry(1), norm=True)
    with pytest.raises(ResourceError, match="2 examples do not fit into the memory of cpu"):
        fine_tune(model, task(1), None, recipe=RECIPE)


def test_parts_are_about_equal_and_never_smaller_than_asked_for() -> None:
    for size in range(1, 40):
        for limit in range(1, 12):
            for least in (1, 2):
                batch = (torch.arange(size), torch.arange(size))
                parts = list(BatchSplitter("cpu", least=least, limit=limit).split(batch))
                sizes = [len(one) for one, _ in parts]
                assert torch.cat([one for one, _ in parts]).tolist() == list(range(size))
                assert min(sizes) >= min(least, size)
                assert max(sizes) <= max(limit, 2 * least - 1)
                assert max(sizes) - min(sizes) <= 1


def test_recalibration_counts_a_batch_that_did_not_fit_once() -> None:
    hungry = Hungry(16)
    model = network(hungry, norm=True)
    before = network(Hungry(None), norm=True)
    assert recalibrate(model, task(1))
    assert recalibrate(before, [(half, None) for x, _ in task(1) for half in x.split(15)])
    assert torch.allclose(model[1].running_mean, before[1].running_mean, atol=1e-6)
    assert torch.allclose(model[1].running_var, before[1].running_var, atol=1e-6)


def test_labels_by_a_model_and_features_come_in_parts() -> None:
    model = network(Hungry(8), norm=True)
    assert evaluate(model, labeled_by(model, task(1)), scorer=agreement).score == 1.0
    parts = collect(model, ("4",), [x for x, _ in task(1)])["4"]
    whole = collect(network(Hungry(None), norm=True), ("4",), [x for x, _ in task(1)])["4"]
    assert parts == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("kind", ERRORS)
def test_a_scan_halves_its_batches_whoever_says_that_memory_is_full(kind: str) -> None:
    class Limited(Planted):
        limit: int | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.limit is not None and len(x) > self.limit:
                raise ERRORS[kind]
            return super().forward(x)

    data = batches_of(*planted_data(200), size=50)
    found = []
    for limit in (None, 20):
        model = Limited()
        model.limit = limit
        units = units_of(model, "blocks.0", "head")
        found.append(
            measure_sensitivity(
                model, units, data, scheme="default", half_width=0.2, precision="keep"
            )
        )
    fits, halved = ([unit.reinit_drop for unit in one.units] for one in found)
    assert halved == pytest.approx(fits)


def test_errors_are_told_apart() -> None:
    assert all(is_out_of_memory(error) for error in ERRORS.values())
    assert is_out_of_memory(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    assert is_out_of_memory(RuntimeError("std::bad_alloc"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError("out of memory"))


REAL = """
import resource, torch
from torch import nn
from srinit.evaluate import evaluate
from srinit.finetune import Recipe, fine_tune
torch.set_num_threads(1)


def network():
    return nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Flatten(),
                         nn.Linear(64 * 32 * 32, 2))


data = [(torch.randn(128, 1, 32, 32), torch.arange(128) % 2)]  # 32 MiB an activation
recipe = Recipe(epochs=1, lr=0.01, batch_size=128)
fine_tune(network(), [(x[:8], y[:8]) for x, y in data], None, recipe=recipe)  # loads what is late
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 2**20,) * 2)
log = fine_tune(network(), data, None, recipe=recipe)
print(log.part_size, log.stopped, evaluate(network(), data).num_examples)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_training_goes_on_where_the_system_really_refuses_memory() -> None:
    done = processes.run("-c", REAL)
    assert done.returncode == 0, done.stderr[-2000:]
    size, stopped, count = done.stdout.split()
    assert size in ("64", "32", "16")
    assert (stopped, count) == ("finished", "128")


def test_the_watch_of_this_file_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_error: Any) -> bool:
        return False

    monkeypatch.setattr("srinit.evaluate.batch_splitter.is_out_of_memory", never)
    with pytest.raises(RuntimeError, match="can't allocate"):
        evaluate(network(Hungry(8), norm=True), task(1))
