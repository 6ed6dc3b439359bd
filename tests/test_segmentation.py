"""Segmentation of defects: scores, counts with intervals, masks of a folder, the whole flow."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import marked_project as project
from srinit import cli
from srinit.comparison import compare_outcomes
from srinit.config import MasksSection
from srinit.errors import ConfigError, DataError
from srinit.evaluate import CrossEntropy, Segmentation, evaluate, image_iou, loss_for
from srinit.pipeline import run as pipeline
from srinit.sources import Augment, DataSet, Marks, Preprocess, load_data
from srinit.stats.clustered import change_interval, share_interval
from srinit.stats.paired import clopper_pearson, tango_interval

GRAY = Preprocess(channels=1, mean=(0.5,), std=(0.25,))
NAMES = ("good", "scratch", "dent")


def logits_of(called: list[list[list[int]]], size: int = 3) -> torch.Tensor:
    """Return logits (B, C, H, W) that call these classes."""
    found = torch.nn.functional.one_hot(torch.tensor(called), size)
    return 8.0 * found.permute(0, 3, 1, 2).float()


def test_overlap_is_the_mean_over_the_defect_classes_that_are_there_or_called() -> None:
    real = torch.tensor([[[1, 1, 0, 2]], [[0, 0, 0, 0]], [[0, 0, 0, 0]], [[1, 255, 0, 0]]])
    called = logits_of([[[1, 0, 0, 2]], [[0, 0, 0, 0]], [[0, 2, 0, 0]], [[1, 1, 0, 0]]])
    assert Segmentation("iou")(called, real).tolist() == pytest.approx([0.75, 1, 0, 1])
    assert Segmentation("dice")(called, real).tolist() == pytest.approx([(2 / 3 + 1) / 2, 1, 0, 1])
    with_good = image_iou(called[:1], real[:1])  # which counts the good pixels, too
    assert float(with_good) == pytest.approx((0.5 + 0.5 + 1) / 3)


def test_coarse_logits_of_a_dict_are_enlarged_and_trained_with_the_cross_entropy_of_pixels() -> (
    None
):
    coarse = {"out": logits_of([[[0, 1]]]), "aux": torch.zeros(1)}
    real = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]])
    assert Segmentation()(coarse, real).tolist() == [1.0]
    assert loss_for(Segmentation()) == CrossEntropy()


def test_defects_are_counted_one_by_one_and_small_called_spots_are_none() -> None:
    real = torch.tensor([[[1, 1, 0, 0, 2], [0, 0, 0, 0, 0], [1, 0, 0, 0, 255]]])
    called = logits_of([[[0, 2, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 1]]])
    task = Segmentation(class_names=NAMES)
    found = task.read(called, real)
    counts = {name: found.counts[name][0].tolist() for name in found.counts.dtype.names}
    assert counts["missed_objects"] == [2, 3]  # one of another class was found
    assert counts["missed_objects.scratch"] == [1, 2]
    assert counts["missed_objects.dent"] == [1, 1]
    assert counts["false_alarms"] == [1, 1]
    assert counts["missed_pixels"] == [3, 4]
    assert counts["false_pixels"] == [1, 10]
    assert (found.targets.tolist(), found.predictions.tolist()) == ([1], [1])
    large = dataclasses.replace(task, min_area=2).read(called, real)
    assert large.counts["missed_objects"][0].tolist() == [3, 3]
    assert large.counts["false_alarms"][0].tolist() == [0, 1]
    assert large.predictions.tolist() == [0]
    broken = task.read(called * float("nan"), real)
    assert broken.counts["missed_objects"][0].tolist() == [3, 3]


def test_one_logit_a_pixel_is_a_yes_above_zero() -> None:
    found = Segmentation(class_names=NAMES[:2]).read(
        torch.tensor([[[[3.0, -3.0]]]]), torch.tensor([[[1, 0]]])
    )
    assert found.predictions.tolist() == [1]
    assert found.confidence[0] == pytest.approx(1 / (1 + np.exp(-3)))
    assert "missed_objects.scratch" not in found.counts.dtype.names  # there is no other


def test_shares_of_single_objects_have_the_exact_interval_and_clusters_a_wider_one() -> None:
    rng = np.random.default_rng(0)
    single = (rng.random(200) < 0.1).astype(float)
    assert share_interval(single, np.ones(200), 0.95) == pytest.approx(
        clopper_pearson(int(single.sum()), 200, 0.95)
    )
    # ten objects an image, all alike: two hundred images tell what two hundred objects do
    low, high = share_interval(10 * single, np.full(200, 10.0), 0.95)
    alone = clopper_pearson(int(single.sum()), 200, 0.95)
    assert (low, high) == pytest.approx(alone, abs=0.004)
    nothing = share_interval(np.zeros(30), np.full(30, 50.0), 0.95)
    assert nothing == pytest.approx(clopper_pearson(0, 30, 0.95))
    assert share_interval(np.zeros(2), np.zeros(2), 0.95) == (0, 1)


def test_changes_of_single_objects_have_tangos_interval() -> None:
    before, after = np.zeros(90), np.zeros(90)
    before[:4], after[:7] = 1, 1
    after[0] = 0
    assert change_interval(before, after, np.ones(90), 0.95) == pytest.approx(
        tango_interval(3, 1, 90, 0.95)
    )
    same = change_interval(np.zeros(30), np.zeros(30), np.full(30, 50.0), 0.95)
    assert same == pytest.approx(tango_interval(0, 0, 30, 0.95))


def test_a_cluster_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        whole = rng.integers(1, 8, 60).astype(float)
        part = rng.binomial(whole.astype(int), rng.beta(1, 4, 60)).astype(float)
        low, high = share_interval(part, whole, 0.9)
        covered += low <= 0.2 <= high
    assert 0.88 <= covered / 400 <= 0.98


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project.write_masks(tmp_path_factory.mktemp("masks"))


def masked(folder: Path, preprocess: Preprocess = GRAY, **settings: Any) -> DataSet:
    return load_data(
        "masks:parts/images:parts/masks", root=folder, preprocess=preprocess,
        marks=Marks(MasksSection(**settings)),
    )  # fmt: skip


def test_masks_belong_to_images_by_name_and_what_fits_nothing_is_named(tmp_path: Path) -> None:
    images, masks = tmp_path / "parts" / "images", tmp_path / "parts" / "masks"
    for folder in (images / "a", masks / "a"):
        folder.mkdir(parents=True)
    for name in ("a/1.png", "2.png"):
        Image.new("L", (8, 8)).save(images / name)
    Image.new("L", (8, 8), 255).save(masks / "a" / "1_mask.png")
    Image.new("L", (8, 8)).save(masks / "9_mask.png")
    Image.new("L", (8, 8)).save(masks / "b_mask.jpg")
    with pytest.raises(DataError, match=r"3 problems") as caught:
        masked(tmp_path, suffix="_mask")
    for text in ("b_mask.jpg: a mask must be saved without loss", "2.png: has no mask; write data.",
                 "9_mask.png: there is no image"):  # fmt: skip
        assert text in str(caught.value)
    for name in ("9_mask.png", "b_mask.jpg"):
        (masks / name).unlink()
    data = masked(tmp_path, suffix="_mask", missing="good")
    assert data.class_names == ("good", "defect")
    assert data.class_counts == {"good": 1, "defect": 1}
    assert data.targets.max() == 1
    notes = " ".join(data.pool.notes)
    assert "1 images without a mask are taken for good ones" in notes
    assert "255 is taken for a defect" in notes


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.full((8, 8, 3), [9, 0, 0]), "1.png: is a picture in colors"),
        (np.zeros((4, 8)), r"1.png: has 4x8 pixels \(height x width\), its image 8x8"),
        (np.arange(64).reshape(8, 8), r"value 63 of 1.png is none of"),
    ],
)
def test_what_is_no_mask_of_its_image_is_refused(
    tmp_path: Path, values: np.ndarray, match: str
) -> None:
    for name in ("images", "masks"):
        (tmp_path / "parts" / name).mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "parts" / "images" / "1.png")
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "parts" / "masks" / "1.png")
    with pytest.raises(DataError, match=match):
        masked(tmp_path)


def test_a_thin_crack_and_the_pixels_of_no_class_stay_when_masks_are_reduced(
    tmp_path: Path,
) -> None:
    for name in ("images", "masks"):
        (tmp_path / "parts" / name).mkdir(parents=True)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 31], mask[:16, :16] = 1, 255
    palette = Image.fromarray(mask).convert("P")
    palette.putdata(mask.ravel().tolist())
    palette.save(tmp_path / "parts" / "masks" / "1.png")
    Image.new("L", (64, 64)).save(tmp_path / "parts" / "images" / "1.png")
    small = masked(tmp_path, dataclasses.replace(GRAY, size=(8, 8))).targets[0]
    assert (small[:, 3] == 1).all()
    assert (small[:2, :2] == 255).all()
    assert np.isin(small[:, 4:], 0).all()


def test_training_masks_are_moved_with_their_images(parts: Path) -> None:
    data = masked(parts, missing="good")
    moved = data.batches(8, shuffle_seed=3, augment=Augment(flip=True, crop_padding=4))
    for inputs, target in moved:
        far = (inputs[:, 0] * 0.25 + 0.5 - 0.5).abs() > 0.3
        inside = target != 255
        assert torch.equal(far & inside, (target > 0) & inside)
    with pytest.raises(DataError, match=r"data.augment changes images.*cannot be changed alike"):
        Augment(flip=True).both(
            torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 5, 4), torch.Generator()
        )


@pytest.fixture(scope="module")
def finished(parts: Path) -> Path:
    config = project.write_config(
        parts, "whole",
        data={
            "source": "masks:parts", "classes": list(project.CLASSES),
            "masks": {"missing": "good", "min_area": 2}, "batch_size": 32,
            "preprocess": {"channels": 1, "mean": [0.5], "std": [0.25]},
            "split": {"train": 0.2, "calibration": 0.2, "validation": 0.1, "test": 0.5},
        },
        gates={
            "max_drop": 0.2, "max_missed_object_increase": {"bright": 0.5, "dark": 0.6},
            "max_missed_defect_increase": 0.3, "max_false_reject_increase": 0.3,
        },
    )  # fmt: skip
    result = pipeline.run_file(config, [f"out={parts / 'runs'}"])
    assert result.passed, result.failed_gates
    return Path(result.run)


def test_the_whole_flow_counts_pixels_defects_and_parts(finished: Path) -> None:
    comparison = json.loads((finished / "rounds" / "01" / "comparison.json").read_text())
    counts = {row["name"]: row for row in comparison["counts"]}
    assert set(counts) == {
        "missed_objects", "missed_objects.bright", "missed_objects.dark", "false_alarms",
        "missed_pixels", "false_pixels", "dice",
    }  # fmt: skip
    assert counts["dice"]["baseline"]["value"] == 1
    assert counts["missed_objects"]["baseline"]["part"] == 0
    assert (
        counts["missed_objects"]["baseline"]["whole"]
        > comparison["defects"]["missed_baseline"]["total"]
    )
    assert comparison["defects"]["defect_class"] == "bright, dark"
    assert comparison["classes"] == []
    gates = json.loads((finished / "rounds" / "01" / "gate.json").read_text())
    assert "max_missed_object_increase.dark" in {gate["name"] for gate in gates["gates"]}
    assert (finished / "export" / "pruned.onnx").is_file()
    page = (finished / "report" / "report.html").read_text("utf-8")
    for text in ("Defect pixels missed", "見逃した欠陥画素", "Yellow: missed"):
        assert text in page
    pictures = json.loads((finished / "report" / "pictures.json").read_text())
    assert len(pictures["overlays"]) == 4


def test_sets_get_their_share_of_every_class_of_parts(finished: Path) -> None:
    sets = json.loads((finished / "data.json").read_text())["sets"]
    for name in project.CLASSES:
        counts = {key: each["classes"][name] for key, each in sets.items()}
        assert abs(counts["test"] - sum(counts.values()) / 2) <= 1
        assert min(counts.values()) > 0


def test_a_finished_run_is_compared_and_watched_on_other_marked_images(
    finished: Path, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = f"masks:{parts / 'parts'}"
    assert cli.run(["compare", str(finished), "--data", other, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "missed_objects" in json.dumps(found)
    code = cli.run(["monitor", str(finished), "--data", f"images:{parts / 'parts' / 'images'}",
                    "--set", "monitor.window=60", "--json"])  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert code in (0, 3), told
    assert told["num_examples"] == 120


def test_what_a_segmentation_run_cannot_hold_is_refused_before_it_begins(parts: Path) -> None:
    config = project.write_config(parts, "refused")
    for pairs, match in (
        (["export.package=true"], r"export.package: a package answers with one class an image"),
        (["gates.max_class_recall_drop=0.1"], r"score: defect_iou has no recall of classes"),
        (["data.classes=[good,bright,dark,fray]"], r"4 classes .*but the model has 3 outputs"),
        (["gates.max_missed_object_increase=0.01"], r"cannot pass on \d+ defective examples"),
        (["data.source=images:parts/images"], r"data.train has no labels"),
    ):
        with pytest.raises((ConfigError, DataError), match=match):
            pipeline.run_file(config, [f"out={parts / 'runs'}", *pairs])


def test_torchvision_networks_with_two_outputs_are_read(parts: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    ).eval()
    data = load_data("masks:parts", root=parts, marks=Marks(MasksSection(missing="good")),
                     classes=project.CLASSES, preprocess=Preprocess(size=(32, 32)))  # fmt: skip
    few = list(data.subset(range(4)).batches(4))
    found = evaluate(model, few, scorer=Segmentation(class_names=project.CLASSES))
    assert found.counts.shape == (4,)
    assert compare_outcomes(found, found).counts[0].change.value in (0, None)
