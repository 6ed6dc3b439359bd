"""Detection of objects: matching, files of boxes, detectors as networks, the whole flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import marked_project as project
from srinit import Detector, cli
from srinit.comparison.precision import average_precision
from srinit.config import BoxesSection
from srinit.errors import ConfigError, DataError, UnsafeError
from srinit.evaluate import Detection, loss_for
from srinit.evaluate.detection import apart, overlaps
from srinit.networks import load_model
from srinit.pipeline import run as pipeline
from srinit.sources import DataSet, Marks, Preprocess, load_data

NAMES = ("good", "bright", "dark")
SCALE = 4  # of the project's images, for the detector's sake


def rows(*found: tuple[float, ...]) -> torch.Tensor:
    return torch.nn.functional.pad(torch.tensor(found).reshape(-1, 6), (0, 0, 0, 5 - len(found)))


def test_a_detection_matches_one_object_of_its_class_that_it_overlaps_by_half() -> None:
    target = torch.tensor([[[1.0, 0, 0, 4, 4], [2, 10, 10, 20, 20], [0, 0, 0, 0, 0]]])
    task = Detection(class_names=NAMES)
    cases = {
        1.0: rows((0, 0, 4, 4, 0.9, 1), (10, 10, 19, 20, 0.8, 2)),
        0.5: rows((0, 0, 4, 4, 0.9, 1), (10, 10, 19, 20, 0.4, 2)),  # too unsure
        0.0: rows((0, 0, 4, 4, 0.9, 1), (10, 10, 19, 20, 0.8, 1)),  # another class: false, missed
    }
    for score, output in cases.items():
        assert task(output[None], target).tolist() == [score]
    twice = rows((0, 0, 4, 4, 0.9, 1), (0, 0, 4, 4, 0.8, 1), (10, 10, 20, 20, 0.7, 2))
    assert task(twice[None], target).tolist() == [0.5]  # the second one finds nothing free
    found = task.read(twice[None], target)
    assert found.counts["missed_objects"].tolist() == [[0, 2]]
    assert found.counts["missed_objects.dark"].tolist() == [[0, 1]]
    assert found.counts["false_alarms"].tolist() == [[1, 1]]
    assert (found.targets.tolist(), found.predictions.tolist()) == ([2], [2])
    assert found.confidence[0] == pytest.approx(0.9)


def test_an_image_without_objects_is_right_where_nothing_is_called() -> None:
    nothing, empty = torch.zeros(1, 0, 5), rows()[None]
    task = Detection(class_names=NAMES)
    assert task(empty, nothing).tolist() == [1.0]
    assert task(rows((0, 0, 4, 4, 0.9, 1))[None], nothing).tolist() == [0.0]
    assert task.read(empty, None).predictions.tolist() == [0]
    assert task.read(rows((0, 0, 4, 4, 0.2, 1))[None], None).confidence[0] == pytest.approx(0.8)


def test_overlaps_are_torchvisions() -> None:
    ops = pytest.importorskip("torchvision.ops")
    random = torch.rand(2, 7, 2, generator=torch.Generator().manual_seed(0)).double()
    boxes = [torch.cat([each, each + 0.3], 1) for each in random]
    expected = ops.box_iou(*boxes)
    assert np.allclose(overlaps(*(each.numpy() for each in boxes)), expected.numpy())


def test_answers_are_apart_by_what_one_finds_of_the_other() -> None:
    one = rows((0, 0, 4, 4, 0.9, 1), (10, 10, 20, 20, 0.8, 2))[None]
    assert apart(one, one).tolist() == [0.0]
    assert apart(one, one[:, :1]).tolist() == [0.5]


def test_average_precision_of_hand_made_detections() -> None:
    pytest.importorskip("pycocotools")
    objects = [np.array([[1, 0, 0, 10.0, 10], [1, 20, 20, 30, 30]]), np.zeros((0, 5))]
    found = [np.array([[0, 0, 10.0, 10, 0.9, 1]]), np.array([[0, 0, 5.0, 5, 0.8, 1]])]
    # one of two found with precision 1: recall up to 0.5, interpolated at 51 of 101 points
    result = average_precision(found, objects, NAMES)
    assert result.at_half == pytest.approx(51 / 101)
    assert result.mean == pytest.approx(51 / 101)
    assert result.classes == {"bright": pytest.approx(51 / 101), "dark": None}
    assert average_precision([np.zeros((0, 6))] * 2, objects, NAMES).mean == 0


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images and boxes as COCO, YOLO and Pascal VOC write them."""
    folder = tmp_path_factory.mktemp("boxes")
    for name in ("yolo/images", "yolo/labels", "voc/JPEGImages", "voc/Annotations", "images"):
        (folder / name).mkdir(parents=True)
    (folder / "nets.py").write_text(project.NETWORKS)
    (folder / "yolo" / "data.yaml").write_text("names: {0: bright, 1: dark}\n")
    images: list[Any] = []
    annotations: list[Any] = []
    for number, (small, marks) in enumerate(project.squares(60)):
        image, stem = np.kron(small, np.ones((SCALE, SCALE), np.uint8)), f"{number:03}"
        for place in ("yolo/images", "voc/JPEGImages", "images"):
            Image.fromarray(image).save(folder / place / f"{stem}.png")
        size, side = len(image), SCALE * project.SQUARE
        images.append({"id": number, "file_name": f"{stem}.png"})
        lines, objects = [], []
        for label, top, left in ((a, SCALE * b, SCALE * c) for a, b, c in marks):
            annotations.append({"image_id": number, "category_id": 10 * label,
                                "bbox": [left, top, side, side], "iscrowd": 0})  # fmt: skip
            middle = [(left + side / 2) / size, (top + side / 2) / size, side / size, side / size]
            lines.append(f"{label - 1} " + " ".join(map(str, middle)))
            ends = {"xmin": left + 1, "ymin": top + 1, "xmax": left + side, "ymax": top + side}
            box = "".join(f"<{key}>{value}</{key}>" for key, value in ends.items())
            objects.append(f"<object><name>{NAMES[label]}</name><bndbox>{box}</bndbox></object>")
        (folder / "yolo" / "labels" / f"{stem}.txt").write_text("\n".join(lines))
        (folder / "voc" / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation>{''.join(objects)}</annotation>"
        )
    crowd = {"image_id": 0, "category_id": 10, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    body = {
        "images": images,
        "annotations": [*annotations, crowd],
        "categories": [{"id": 20, "name": "dark"}, {"id": 10, "name": "bright"}],
    }
    (folder / "boxes.json").write_text(json.dumps(body))
    return folder


def read(source: str, folder: Path, **options: Any) -> DataSet:
    missing = options.pop("missing", "refuse")
    return load_data(source, root=folder, marks=Marks(boxes=BoxesSection(missing=missing)),
                     **options)  # fmt: skip


def test_three_tools_write_the_same_boxes(parts: Path) -> None:
    coco = read("coco:boxes.json", parts)
    assert coco.class_names == NAMES
    assert "1 annotations of crowds were left out" in " ".join(coco.pool.notes)
    assert sum(coco.class_counts.values()) == 60
    for source in ("yolo:yolo", "voc:voc"):
        other = read(source, parts, classes=NAMES)
        assert other.class_names == NAMES
        assert np.allclose(other.targets, coco.targets, atol=1e-3)
    with pytest.raises(DataError, match=r"do not say in which order.*bright, dark"):
        read("voc:voc", parts)


def test_boxes_are_resized_and_cropped_with_their_images(parts: Path) -> None:
    plain = read("coco:boxes.json", parts)
    half = read("coco:boxes.json", parts, preprocess=Preprocess(size=32))
    assert np.allclose(half.targets[..., 1:], plain.targets[..., 1:] / 2)
    cropped = read("coco:boxes.json", parts, preprocess=Preprocess(crop=(40, 32)))
    assert cropped.targets[..., 1::2].max() <= 32
    assert cropped.targets[..., 2::2].max() <= 40
    assert "objects lie beyond the crop" in " ".join(cropped.pool.notes)


def test_files_that_do_not_belong_together_are_named(tmp_path: Path, parts: Path) -> None:
    for name in ("images", "labels", "annotations"):
        (tmp_path / name).mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "images" / "1.png")
    (tmp_path / "labels" / "2.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "classes.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"(?s)1.png: has no file of boxes.*2.txt: there is no"):
        read("yolo:.", tmp_path)
    (tmp_path / "labels" / "2.txt").unlink()
    assert read("yolo:.", tmp_path, missing="good").targets.shape == (1, 0, 5)
    for text, match in (("0 0.5 0.5 0.1\n", "a line of 4 numbers"), ("7 0.5 0.5 0.1 0.1", "another "
                        "class"), ("0 0.5 0.5 2 0.1", "beyond 0 to 1")):  # fmt: skip
        (tmp_path / "labels" / "1.txt").write_text(text)
        with pytest.raises(DataError, match=match):
            read("yolo:.", tmp_path)
    (tmp_path / "annotations" / "1.xml").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>")
    (tmp_path / "Annotations").symlink_to(tmp_path / "annotations")
    with pytest.raises(DataError, match="declares a document type"):
        read("voc:.", tmp_path)
    body = json.loads((parts / "boxes.json").read_text())
    body["images"][0]["file_name"] = "../../secret.png"
    (tmp_path / "out.json").write_text(json.dumps(body))
    with pytest.raises(UnsafeError, match=r"lead out of its folder"):
        read("coco:out.json", tmp_path)
    (tmp_path / "bad.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="is no COCO file"):
        read("coco:bad.json", tmp_path)


DETECTOR = """
import torch
from torch import nn
from srinit import Detector

class Block(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 3, padding=1)
        nn.init.zeros_(self.layer.bias)
        self.layer.weight.data.mul_(share)

    def forward(self, x):
        return x + self.layer(x)

class Squares(nn.Module):
    '''Finds bright and dark squares of 16 pixels on a grid of 4; called as torchvision's are.'''

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1, bias=False)
        self.blocks = nn.Sequential(Block(0.0), Block(0.001), Block(0.002))
        with torch.no_grad():
            self.stem.weight.zero_()
            self.stem.weight[0] = 1 / 3

    def forward(self, images, targets=None):
        x = self.blocks(self.stem(torch.stack(images)))[:, 0]
        if targets is not None:
            return {"size": x.square().mean(), "count": 0 * x.sum()}
        fill = nn.functional.avg_pool2d(x[:, None], 16, 4)[:, 0]
        return [self.found(each) for each in fill]

    def found(self, fill):
        rows = []
        for label, full in ((1, fill > 0.9), (2, fill < -0.9)):
            for row, column in full.nonzero().tolist():
                rows.append((4.0 * column, 4.0 * row, 4.0 * column + 16, 4.0 * row + 16, label))
        table = torch.tensor(rows).reshape(-1, 5)
        return {"boxes": table[:, :4], "scores": torch.full((len(table),), 0.9),
                "labels": table[:, 4].long()}

def squares():
    return Detector(Squares(), most=6)
"""


@pytest.fixture(scope="module")
def finished(parts: Path) -> Path:
    (parts / "nets.py").write_text(DETECTOR)
    config = project.write_config(
        parts, "whole",
        model="py:nets.py:squares", score="objects",
        data={
            "source": "coco:boxes.json", "batch_size": 16,
            "preprocess": {"mean": [0.5] * 3, "std": [0.48] * 3},
        },
        gates={"max_drop": 0.9, "max_missed_object_increase": 0.9},
        export={"torch_export": True},
        compensate={"examples": 16},
    )  # fmt: skip
    result = pipeline.run_file(config, [f"out={parts / 'runs'}"])
    assert result.passed, result.failed_gates
    assert result.measured == "Mean score"
    return Path(result.run)


def test_the_whole_flow_counts_objects_and_has_the_mean_average_precision(finished: Path) -> None:
    last = finished / "rounds" / "01"
    comparison = json.loads((last / "comparison.json").read_text())
    counts = {row["name"]: row for row in comparison["counts"]}
    assert set(counts) == {
        "missed_objects", "missed_objects.bright", "missed_objects.dark", "false_alarms",
    }  # fmt: skip
    assert counts["missed_objects"]["baseline"]["part"] == 0
    assert comparison["score"]["baseline"] == 1
    assert comparison["defects"]["missed_baseline"]["hits"] == 0
    precision = json.loads((last / "precision.json").read_text())
    assert precision["baseline"]["at_half"] == pytest.approx(1)
    assert precision["tool"].startswith("pycocotools")
    assert json.loads((last / "tune.json").read_text())["recipe"]["distill_weight"] == 0
    page = (finished / "report" / "report.html").read_text("utf-8")
    for text in ("Mean average precision", "平均適合率", "Images with a false alarm"):
        assert text in page


def test_a_detector_is_watched_and_compared_on_other_data(
    finished: Path, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = f"yolo:{parts / 'yolo'}"
    assert cli.run(["compare", str(finished), "--data", other, "--json"]) == 0
    assert "missed_objects" in capsys.readouterr().out
    code = cli.run(["monitor", str(finished), "--data", other, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 4, told  # 18 test images are too few for monitoring
    assert "50 at least are needed" in json.dumps(told)


def test_what_a_detection_run_cannot_hold_is_refused_before_it_begins(parts: Path) -> None:
    config = project.write_config(parts, "refused", score="objects", data="coco:boxes.json",
                                  model="torchvision:resnet18")  # fmt: skip
    for pairs, match in (
        ([], r"score: objects needs a detector.*srinit.Detector"),
        (["model=py:nets.py:squares", "export.package=true"], "a package answers with one class"),
        (["model=py:nets.py:squares", "export.int8=true"], "export.int8: a detector's"),
        (["model=py:nets.py:squares", "finetune.label_smoothing=0.1"], "losses of its own"),
    ):
        with pytest.raises((ConfigError, DataError), match=match):
            pipeline.run_file(config, [f"out={parts / 'runs'}", *pairs])


def test_torchvisions_detectors_take_and_give_tensors_and_are_written_as_onnx(
    tmp_path: Path,
) -> None:
    pytest.importorskip("torchvision")
    pytest.importorskip("onnxruntime")
    from srinit.export import export_onnx

    model = load_model("detector:ssdlite320_mobilenet_v3_large",
                       args={"num_classes": 3, "most": 7})  # fmt: skip
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert isinstance(model, Detector)
    assert model(images).shape == (2, 7, 6)
    target = torch.tensor([[[1.0, 8, 8, 40, 40]], [[0, 0, 0, 0, 0]]])
    value = loss_for(Detection())(model.train()(images), target)
    value.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    found = export_onnx(model.eval(), images, tmp_path / "m.onnx")
    assert found.num_examples == 2
