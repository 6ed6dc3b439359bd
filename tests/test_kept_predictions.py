"""The teacher is asked once for each fixed version of an image, and training stays the same."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from srinit.finetune import Recipe, fine_tune, loop
from srinit.finetune.teacher import KeptPredictions, Teacher, keeps_predictions
from srinit.rng import isolated_rng
from srinit.sources import Augment, DataSet, Preprocess, load_data

FLIP = Augment(crop_padding=1, flip=True)
PREPROCESS = Preprocess(size=(6, 6), channels=1, mean=(0.5,), std=(0.25,))
PER_EPOCH = 3  # batches of four


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    random = np.random.default_rng(0)
    for name in ("ng", "ok"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 255, (6, 6), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    return load_data(f"folder:{tmp_path / 'data'}", preprocess=PREPROCESS)


class Net(nn.Module):
    """Convolves, normalizes, answers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))


def network() -> Net:
    with isolated_rng(0):
        return Net()


def recipe(**settings: object) -> Recipe:
    return Recipe(**{"epochs": 4, "batch_size": 4, "lr": 0.01, "precision": "float32", **settings})


def trained(
    data: DataSet, how: Recipe, augment: Augment | None = None, state: Path | None = None
) -> dict[str, Tensor]:
    model, teacher = network(), network()
    fine_tune(model, data, None, teacher=teacher, recipe=how, augment=augment, state=state)
    return model.state_dict()


def near(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.allclose(v.float(), other[k].float(), atol=1e-5) for k, v in one.items())


@pytest.mark.parametrize(("augment", "views"), [(None, None), (FLIP, 2)])
def test_training_is_the_same_as_with_a_teacher_asked_at_every_step(
    data: DataSet, monkeypatch: pytest.MonkeyPatch, augment: Augment | None, views: int | None
) -> None:
    kept = trained(data, recipe(views=views), augment)
    monkeypatch.setattr(loop, "keeps_predictions", lambda *_: False)
    asked = trained(data, recipe(views=views), augment)
    assert near(kept, asked)
    assert not near(kept, trained(data, recipe(views=views, distill_weight=0.0), augment))


@pytest.mark.parametrize(
    ("augment", "views", "times"), [(None, None, 1), (FLIP, 1, 1), (FLIP, 2, 2), (FLIP, None, 4)]
)
def test_the_teacher_is_asked_once_a_version(
    data: DataSet,
    monkeypatch: pytest.MonkeyPatch,
    augment: Augment | None,
    views: int | None,
    times: int,
) -> None:
    asked, plain = [], Teacher.__call__

    def counted(self: Teacher, inputs: Tensor) -> Tensor:
        asked.append(len(inputs))
        return plain(self, inputs)

    monkeypatch.setattr(Teacher, "__call__", counted)
    trained(data, recipe(views=views), augment)
    assert asked.count(4) == PER_EPOCH * times


def test_versions_repeat_and_differ() -> None:
    seen = []
    teacher = Teacher(network(), "float32")

    class Told:
        """Answers with the seed of the changes that were asked for."""

        def batches(self, _size: int, **options: int) -> list[tuple[Tensor, Tensor]]:
            seen.append(options["augment_seed"])
            return [(torch.zeros(4, 1, 6, 6), torch.zeros(4, dtype=torch.int64))]

    kept = KeptPredictions(teacher, Told(), recipe(views=2), FLIP, seed=0)
    for epoch in range(5):
        assert kept.of(epoch, np.array([3, 0])).shape == (2, 2)
    assert len(set(seen)) == len(seen) == 2


def test_an_interrupted_training_ends_with_the_same_weights(data: DataSet, tmp_path: Path) -> None:
    how, state = recipe(views=2), tmp_path / "state.safetensors"
    whole = trained(data, how, FLIP)

    class StopError(Exception):
        pass

    def stop(step: int, *_: object) -> None:
        if step == 3 * PER_EPOCH - 1:  # the third epoch sees the first version again
            raise StopError

    model, teacher = network(), network()
    monkey = pytest.MonkeyPatch()
    monkey.setattr(loop, "CHECKPOINT_STEPS", 2)
    with monkey.context(), pytest.raises(StopError):
        fine_tune(
            model, data, None, teacher=teacher, recipe=how, augment=FLIP, state=state,
            on_progress=stop,
        )  # fmt: skip
    monkey.undo()
    assert state.is_file()
    found = trained(data, how, FLIP, state)
    assert all(torch.equal(value, found[name]) for name, value in whole.items())


def test_nothing_is_kept_where_it_would_not_serve(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Teacher(network(), "float32")
    total = 4 * PER_EPOCH

    def keeps(how: Recipe, augment: Augment | None = FLIP, steps: int = total) -> bool:
        return keeps_predictions(teacher, data, how, augment, steps, PER_EPOCH)

    assert keeps(recipe(views=2))
    assert keeps(recipe(), None)
    assert not keeps(recipe())  # every epoch shows new versions
    assert not keeps(recipe(views=2), steps=2 * PER_EPOCH)  # no version comes again
    assert not keeps(recipe(views=2, distill_weight=0.0))
    assert not keeps(recipe(views=2, feature_weight=1.0))
    assert not keeps_predictions(None, data, recipe(views=2), FLIP, total, PER_EPOCH)
    monkeypatch.setattr("srinit.finetune.teacher.MOST_KEPT", 2 * 12 * 2 * 4 - 1)
    assert not keeps(recipe(views=2))  # there is no room


def test_a_teacher_says_what_the_network_says_and_is_left_alone() -> None:
    model = network().eval()
    before = copy.deepcopy(model.state_dict())
    inputs = torch.rand(4, 1, 6, 6)
    with torch.no_grad():
        expected = model(inputs)
    teacher = Teacher(model, "float32")
    for _ in range(2):
        assert torch.allclose(teacher(inputs), expected, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
