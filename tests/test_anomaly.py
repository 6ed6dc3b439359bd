"""Detection of anomalies: DeLong's intervals, the example's PatchCore, the whole flow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import marked_project as project
from srinit import cli
from srinit.comparison import compare_outcomes
from srinit.errors import ConfigError, DataError
from srinit.evaluate import Anomaly, FitsGoodParts, Outcomes
from srinit.functions import load_function
from srinit.pipeline import run as pipeline
from srinit.sources import Preprocess, load_data
from srinit.stats.auroc import paired_auroc

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "anomaly"

MODEL = """
import sys
from pathlib import Path
import torch
from torch import nn
sys.path.insert(0, str(Path(__file__).parent))
from patchcore import PatchCore

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        return x + 0.1 * torch.tanh(self.layer(x))

class Stages(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.down = nn.Conv2d(1, 6, 3, 1, 1), nn.AvgPool2d(2)
        self.fine = nn.Sequential(Block(), Block())
        self.coarse = nn.Sequential(Block(), Block())

    def forward(self, x):
        fine = self.fine(self.stem(x))
        return fine, self.coarse(self.down(fine))

def detector():
    torch.manual_seed(0)
    return PatchCore(Stages(), channels=12, size=60, false_rejects=0.1)

def broken():
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 1))
"""


def test_auroc_is_that_of_pairs_and_its_interval_delongs() -> None:
    rng = np.random.default_rng(0)
    bad = np.arange(90) < 30
    one = rng.normal(size=90) + bad
    other = one + 0.7 * rng.normal(size=90)
    (area, ends), (second, _), lost = paired_auroc(one, other, bad, 0.95)
    pairs = (one[bad][:, None] > one[~bad][None]).mean()
    assert area == pytest.approx(pairs)
    # DeLong's components by their definition
    v10 = (one[bad][:, None] > one[~bad][None]).mean(1)
    v01 = (one[bad][:, None] > one[~bad][None]).mean(0)
    error = np.sqrt(v10.var(ddof=1) / 30 + v01.var(ddof=1) / 60)
    assert ends == pytest.approx((area - 1.959964 * error, area + 1.959964 * error), rel=1e-5)
    w10 = v10 - (other[bad][:, None] > other[~bad][None]).mean(1)
    w01 = v01 - (other[bad][:, None] > other[~bad][None]).mean(0)
    error = np.sqrt(w10.var(ddof=1) / 30 + w01.var(ddof=1) / 60)
    assert lost[1] - lost[0] == pytest.approx(2 * 1.959964 * error, rel=1e-5)
    assert sum(lost) / 2 == pytest.approx(area - second)


def test_perfect_separation_and_no_difference_do_not_claim_certainty() -> None:
    bad = np.array([True] * 10 + [False] * 20)
    (area, ends), _, lost = paired_auroc(bad * 1.0, bad * 1.0, bad, 0.95)
    assert area == 1
    assert ends == pytest.approx((1 - (1 - 0.05 ** (1 / 10)), 1))
    assert lost[0] < 0 < lost[1]


def test_missed_defects_are_compared_at_the_same_share_of_false_rejects() -> None:
    values = np.concatenate([np.arange(40.0), [10.0, 37.5, 39.5, 50.0]])  # 40 good, 4 defective
    found = Outcomes(
        scores=np.zeros(44), finite=np.ones(44, dtype=bool),
        targets=np.array([0] * 40 + [1] * 4), predictions=np.zeros(44, dtype=int),
        confidence=np.ones(44), evidence=values,
    )  # fmt: skip
    change = compare_outcomes(found, found, class_names=["good", "bad"], defect_class="bad").auroc
    assert change is not None
    assert change.missed.baseline == 0.25  # two of forty good parts, 38 and 39, may be rejected
    assert change.missed.value == 0


def test_a_part_is_right_where_it_is_called_what_it_is_whatever_the_defect() -> None:
    task, output = Anomaly(("good", "a", "b")), torch.tensor([[-1.0], [2.0], [1.0], [-3.0]])
    target = torch.tensor([0, 2, 0, 1])
    assert task(output, target).tolist() == [1, 1, 0, 0]
    found = task.read(output, target)
    assert found.predictions.tolist() == [0, 2, 1, 0]
    assert found.evidence.tolist() == [-1, 2, 1, -3]
    with pytest.raises(DataError, match="one number a part"):
        task.check(torch.zeros(2, 5))
    with pytest.raises(ConfigError, match="fit_good"):
        task.loss(0.0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anomaly")
    shutil.copyfile(EXAMPLE / "patchcore.py", folder / "patchcore.py")
    (folder / "model.py").write_text(MODEL)
    for number, (image, marks) in enumerate(project.squares(240)):
        side = ("train", "calibration", "test")[number % 3]
        if marks and side == "train" and number % 2:
            continue  # most of what one has is good
        place = folder / side / project.CLASSES[marks[0][0] if marks else 0]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    net = load_function("model.py:detector", folder)()
    good = load_data(
        f"images:{folder / 'train' / 'good'}",
        preprocess=Preprocess(channels=1, mean=(0.5,), std=(0.25,)),
    )
    assert isinstance(net, FitsGoodParts)
    net.fit_good(inputs for inputs, _ in good.batches(16))
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    save_file(state, folder / "w.safetensors")
    return folder


def config_of(parts: Path, name: str, **sections: object) -> Path:
    data = {
        "train": "folder:train", "calibration": "images:calibration", "test": "folder:test",
        "classes": list(project.CLASSES), "batch_size": 16,
        "preprocess": {"channels": 1, "mean": [0.5], "std": [0.25]},
    }  # fmt: skip
    model = {"source": "py:model.py:detector", "weights": "w.safetensors"}
    return project.write_config(
        parts, name, **{"model": model, "score": "anomaly", "data": data, **sections}
    )


@pytest.fixture(scope="module")
def finished(parts: Path) -> Path:
    config = config_of(parts, "whole", gates={"max_drop": 0.5, "max_missed_defect_increase": 0.5,
                                              "max_false_reject_increase": 0.5})  # fmt: skip
    result = pipeline.run_file(config, [f"out={parts / 'runs'}"])
    assert result.passed, result.failed_gates
    return Path(result.run)


def test_the_whole_flow_learns_anew_and_compares_areas_and_both_errors(finished: Path) -> None:
    last = finished / "rounds" / "01"
    comparison = json.loads((last / "comparison.json").read_text())
    assert comparison["auroc"]["baseline"]["value"] > 0.95
    assert comparison["auroc"]["loss"]["high"] >= comparison["auroc"]["loss"]["value"]
    assert comparison["defects"]["rejected_pruned"]["total"] > 0
    assert comparison["auroc"]["missed"]["baseline"] < 0.2
    assert {row["name"] for row in comparison["defects"]["classes"]} == {"bright", "dark"}
    assert comparison["p_value"] is not None
    assert json.loads((last / "tune.json").read_text())["note"] == "fit_good"
    from safetensors.torch import load_file

    before, after = (
        load_file(last / "cut" / "model.safetensors"),
        load_file(last / "model.safetensors"),
    )
    assert not torch.equal(before["bank"], after["bank"])
    page = (finished / "report" / "report.html").read_text("utf-8")
    for text in ("AUROC", "ROC曲線下面積"):
        assert text in page
    files = json.loads((finished / "export" / "export.json").read_text())
    assert [each["file"] for each in files["files"]] == ["pruned.onnx"], files["failed"]


def test_a_detector_of_anomalies_is_watched(
    finished: Path, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.run(["monitor", str(finished), "--data", f"images:{parts / 'calibration'}", "--json",
                    "--set", "monitor.window=60"])  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert code in (0, 3), told
    assert told["num_examples"] == 80


def test_what_an_anomaly_run_cannot_hold_is_refused_before_it_begins(parts: Path) -> None:
    config = config_of(parts, "refused")
    for pairs, match in (
        (["data.classes=null"], r"takes the first class for the good one, here 'bright'"),
        (["model={source: 'py:model.py:broken'}"], "needs a network with a method fit_good"),
        (
            [
                "finetune.fn=py:model.py:detector",
                "data.calibration=train",
                "data.validation=folder:calibration",
            ],
            "own fit_good learns anew",
        ),
        (["export.package=true"], "a package answers with one class an image"),
    ):
        with pytest.raises((ConfigError, DataError), match=match):
            pipeline.run_file(config, [f"out={parts / 'runs'}", *pairs])


def test_limits_of_objects_are_for_tasks_that_look_for_them(parts: Path) -> None:
    config = config_of(parts, "limits")
    with pytest.raises(ConfigError, match=r"score: anomaly looks for no objects"):
        pipeline.run_file(config, [f"out={parts / 'runs'}", "gates.max_missed_object_increase=0.5"])
