"""Pictures: against Captum and formulas, on networks that know their own answer."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from report_run import RUN, make_run
from srinit import records
from srinit.errors import ModelError
from srinit.evaluate.cka import unbiased_cka
from srinit.report import (
    explain,
    feature_similarity,
    features,
    images,
    load_report_input,
    write_report,
)
from srinit.report.pictures import MAX_BYTES, _choose, _within
from srinit.report.variants import _redrawn
from srinit.rng import isolated_rng
from srinit.runs.pictures import PICTURES_SCHEMA, Picture, Pictures
from srinit.sources import load_data
from zoo_images import Called

captum = pytest.importorskip("captum.attr")


def network(how: str) -> Called:
    with isolated_rng(1):
        return Called(how).eval()


def image() -> Tensor:
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("how", ["module", "function", "method", "in place"])
def test_guided_backpropagation_is_captum_s_however_relu_is_called(how: str) -> None:
    gradient, count = explain.guided_gradient(network(how), image(), target=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = captum.GuidedBackprop(_two_relus()).attribute(image(), target=2)
    assert count == 2
    torch.testing.assert_close(gradient, expected[0])


def _two_relus() -> nn.Module:
    """Return the network with one ReLU module per call, as Captum wants it."""
    model = network("module")
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(model.one, nn.ReLU(), model.two, nn.ReLU(), pool, model.head)


def test_network_without_relu_gives_the_plain_gradient_and_says_so() -> None:
    model, inputs = network("gelu"), image().requires_grad_(True)
    gradient, count = explain.guided_gradient(model, image(), target=1)
    (expected,) = torch.autograd.grad(model(inputs)[0, 1], inputs)
    assert count == 0
    torch.testing.assert_close(gradient, expected[0])


def test_relu6_is_guided_and_other_clips_are_not() -> None:
    clipped = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU6(), nn.Linear(4, 4))
    assert explain.guided_gradient(clipped, image(), target=0)[1] == 1
    symmetric = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Hardtanh(), nn.Linear(4, 4))
    assert explain.guided_gradient(symmetric, image(), target=0)[1] == 0


def test_grad_cam_is_the_published_formula_at_the_last_map() -> None:
    model = network("module")
    cam = explain.grad_cam(model, image(), target=3)
    maps = F.relu(model.two(F.relu(model.one(image())))).detach()
    weights = model.head.weight[3] / maps[0, 0].numel()  # gradient of a mean-pooled linear head
    expected = F.relu((weights[:, None, None] * maps[0]).sum(0))
    assert cam is not None
    torch.testing.assert_close(cam, expected.detach())


def test_token_network_gets_a_map_over_its_patches() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 4, 4)
            self.layer = nn.Linear(8, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.embed(x).flatten(2).mT
            tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
            return self.head(self.layer(tokens)[:, 1:].mean(1))  # type: ignore[no-any-return]

    with isolated_rng(0):
        model = Tokens().eval()
    inputs = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    cams = [explain.grad_cam(model, inputs, target=target) for target in range(3)]
    assert all(cam is None or cam.shape == (16, 16) for cam in cams)
    assert any(cam is not None and bool(cam.any()) for cam in cams)
    assert explain.is_token_model(model, inputs)
    assert not explain.is_token_model(network("module"), image())
    stream = feature_similarity._map(model, "layer", inputs)
    assert stream is not None
    tokens = model.embed(inputs)[0].mean(0)  # as they lie in the picture, the first left out
    np.testing.assert_allclose(stream, tokens.detach().numpy(), rtol=1e-5)


def test_network_without_a_map_has_no_grad_cam() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    assert explain.grad_cam(model, image(), target=0) is None


@pytest.mark.parametrize("raises", [False, True])
def test_explaining_leaves_the_network_as_it_was(raises: bool) -> None:
    model = network("module").train()
    before = copy.deepcopy(model.state_dict())
    if raises:
        with pytest.raises(IndexError, match="out of bounds"):
            explain.guided_gradient(model, image(), target=99)
        with pytest.raises((IndexError, AssertionError), match=r"out of (bounds|range)|target"):
            explain.grad_cam(model, image(), target=99)
    else:
        explain.guided_gradient(model, image(), target=0)
        explain.grad_cam(model, image(), target=0)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_branch_is_drawn_again_and_nothing_else() -> None:
    found = load_report_input(RUN)
    model = network("function")
    unit = dataclasses.replace(
        found.sensitivity.unit_map.removable[0], name="body", kind="branch", parts=("body.two",)
    )
    outer = nn.Sequential()
    outer.add_module("body", model)
    fresh = _redrawn(outer, unit, found.sensitivity, image(), seed=0)
    changed = {
        name
        for name, tensor in fresh.state_dict().items()
        if not torch.equal(tensor, outer.state_dict()[name])
    }
    assert changed == {"body.two.weight", "body.two.bias"}


def stages() -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))) for _ in range(2)))


def test_units_that_stay_are_found_under_their_new_names() -> None:
    baseline = stages()
    pruned = copy.deepcopy(baseline)
    del pruned[0][1], pruned[0][1]  # what were 0.1 and 0.2
    removed = ("0.1", "0.2")
    assert features.renamed(baseline, pruned, removed, "0.0") == "0.0"
    assert features.renamed(baseline, pruned, removed, "0.3") == "0.1"
    assert features.renamed(baseline, pruned, removed, "1.3") == "1.3"
    twin = pruned.get_submodule(features.renamed(baseline, pruned, removed, "0.3"))
    assert torch.equal(twin.weight, baseline[0][3].weight)  # type: ignore[arg-type]


def test_units_behind_a_pass_through_keep_their_names() -> None:
    baseline = stages()
    pruned = copy.deepcopy(baseline)
    pruned[0][1] = nn.Identity()
    assert features.renamed(baseline, pruned, ("0.1",), "0.3") == "0.3"


def test_unknown_unit_has_no_counterpart() -> None:
    with pytest.raises(ModelError, match=r"no submodule '0\.9'"):
        features.renamed(stages(), stages(), (), "0.9")


def alike(one: Any, other: Any) -> float | None:
    return unbiased_cka(torch.from_numpy(one), torch.from_numpy(other))


def test_cka_is_one_for_a_turned_copy_and_about_zero_for_noise() -> None:
    chance = np.random.default_rng(0)
    one, noise = chance.normal(size=(200, 30)), chance.normal(size=(200, 500))
    turn = np.linalg.qr(chance.normal(size=(30, 30)))[0]
    assert alike(one, 5 * one @ turn + 3) == pytest.approx(1)
    assert alike(one, noise) == pytest.approx(0, abs=0.05)


def test_cka_does_not_grow_with_the_number_of_features() -> None:
    """The usual (biased) estimate calls wide noise alike; this one must not."""
    chance = np.random.default_rng(1)
    values = [
        alike(chance.normal(size=(40, 400)), chance.normal(size=(40, 400))) for _ in range(30)
    ]
    assert np.mean([value for value in values if value is not None]) == pytest.approx(0, abs=0.05)


def test_cka_of_a_constant_is_not_a_number() -> None:
    assert alike(np.ones((10, 3)), np.random.default_rng(0).normal(size=(10, 3))) is None


def test_principal_components_are_scikit_learn_s() -> None:
    from sklearn.decomposition import PCA

    data = np.random.default_rng(0).normal(size=(60, 9)) * np.arange(1, 10)
    points, share = features.principal(data)
    reference = PCA(2).fit(data)
    expected = reference.transform(data)
    expected /= np.sqrt((expected**2).sum(1).mean())
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-8)
    assert share == pytest.approx(reference.explained_variance_ratio_.sum())


def test_alignment_turns_and_mirrors_but_does_not_stretch() -> None:
    points = np.random.default_rng(0).normal(size=(50, 2))
    mirrored = points @ np.array([[0.0, -1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(features.aligned(mirrored, points), points, atol=1e-12)
    assert np.linalg.norm(features.aligned(2 * points, points)) == pytest.approx(
        2 * np.linalg.norm(points)
    )


@pytest.mark.parametrize(("side", "media"), [(8, "image/png"), (400, "image/jpeg")])
def test_pictures_are_small_and_decode_to_what_they_were(side: int, media: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    picture = images.encoded(pixels)
    decoded = Image.open(io.BytesIO(base64.b64decode(picture.base64)))
    assert picture.media == media
    assert decoded.size == (picture.width, picture.height)
    assert max(decoded.size) <= images.MAX_SIDE
    if media == "image/png":
        np.testing.assert_array_equal(np.asarray(decoded), pixels)


def test_heat_runs_from_dark_to_bright_and_takes_a_flat_map() -> None:
    colors = images.heat(np.array([[0.0, 0.5, 1.0]])).astype(int).sum(axis=2)
    assert colors[0, 0] < colors[0, 1] < colors[0, 2]
    assert images.overlay(np.zeros((4, 4), np.uint8), np.zeros((4, 4))).shape == (4, 4, 3)


def test_examples_are_newly_wrong_ones_first_then_one_of_each_class(tmp_path: Path) -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    np.savez(
        tmp_path / "a.npz",
        images=np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4, 1),
        labels=labels,
        class_names=np.array(["a", "b", "c"]),
    )
    data = load_data("npz:a.npz", root=tmp_path)
    assert _choose(data, (3,), 4) == [3, 0, 4, 1]
    assert _choose(data, (3, 5, 1), 2) == [3, 0]
    assert _choose(data, (), 0) == []


def test_pictures_that_are_too_many_are_left_out_and_it_is_said() -> None:
    found = load_report_input(RUN).pictures
    assert found is not None
    large = Picture(media="image/png", base64="A" * (MAX_BYTES // 2), width=1, height=1)
    example = found.examples[0]
    heavy = dataclasses.replace(
        found,
        examples=tuple(dataclasses.replace(example, picture=large) for _ in range(3)),
    )
    kept = _within(heavy)
    assert len(records.to_json(kept, schema=PICTURES_SCHEMA)) <= MAX_BYTES
    assert kept.examples
    assert "too_large" in kept.missing


def test_pictures_read_back_equal() -> None:
    found = load_report_input(RUN).pictures
    assert found is not None
    text = records.to_json(found, schema=PICTURES_SCHEMA)
    assert records.from_json(Pictures, text, schema=PICTURES_SCHEMA) == found


@pytest.mark.slow
def test_fresh_run_makes_its_report_with_every_picture(tmp_path: Path) -> None:
    run = make_run(tmp_path / "project")
    found = load_report_input(run)
    pictures = found.pictures
    assert pictures is not None
    assert pictures.missing == ()
    assert pictures.gradient == "guided"
    names = ("baseline", "lowest", "highest", "pruned")
    assert all(tuple(e.variant for e in x.explanations) == names for x in pictures.examples)
    kept = [unit.name for unit in found.sensitivity.unit_map if unit.name not in found.plan.names]
    assert [row.unit for row in pictures.similarity] == kept
    cut = {name for point in pictures.cut_points for name in point.removed}
    assert cut == set(found.plan.names)
    (end,) = (point for point in pictures.cut_points if point.unit == "")
    assert end.removed == ("stage2.1", "stage2.2")  # the network's last blocks are shown too
    (beside,) = found.beside
    assert (beside.criterion, beside.num_examples) == ("removal_drop", 118)
    assert pictures.projection is not None
    assert len(pictures.projection.labels) == pictures.num_features_examples
    assert found.class_names[0] == "良品"
    page = write_report(found, tmp_path / "again").read_text("utf-8")
    assert page == (run / "report" / "report.html").read_text("utf-8")
