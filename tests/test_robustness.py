"""Shift and noise: corruptions, paired changes, the family of tests."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit.comparison import measure_robustness, robustness_csv
from srinit.comparison.corruptions import CORRUPTIONS, SEVERITIES
from srinit.comparison.robustness import corrupted
from srinit.errors import ConfigError
from zoo import noise
from zoo_images import Bright


def pictures(count: int = 60, channels: int = 3) -> Tensor:
    smooth = nn.functional.interpolate(noise(count, channels, 4, 4), size=(16, 16), mode="bilinear")
    return (smooth * 40 + 128).clamp(0, 255).to(torch.uint8)


def scaled(x: Tensor) -> Tensor:
    return x.float() / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_keeps_the_form_and_grows_with_severity(name: str, channels: int) -> None:
    images = pictures(12, channels)
    change = []
    for severity in SEVERITIES:
        found = corrupted(
            images, CORRUPTIONS[name], severity, name=name, ids=[str(i) for i in range(12)]
        )
        assert found.shape == images.shape
        assert found.dtype == torch.uint8
        change.append(float((found.float() - images.float()).abs().mean()))
    assert change[0] > 0
    assert all(later > earlier for earlier, later in pairwise(change))


def test_noise_belongs_to_the_image_and_not_to_its_place() -> None:
    images, ids = pictures(4), ["a", "b", "c", "d"]
    state = torch.get_rng_state()
    forward = corrupted(images, CORRUPTIONS["noise"], 3, name="noise", ids=ids)
    backward = corrupted(images.flip(0), CORRUPTIONS["noise"], 3, name="noise", ids=ids[::-1])
    assert torch.equal(forward, backward.flip(0))
    assert torch.equal(torch.get_rng_state(), state)
    other = corrupted(images, CORRUPTIONS["noise"], 3, name="noise", ids=ids, seed=1)
    assert not torch.equal(forward, other)


def test_a_network_that_fails_in_the_dark_is_found_and_one_that_does_not_is_not() -> None:
    images = pictures(60)
    images[::2] = (images[::2].int() + 60).clamp(0, 255).to(torch.uint8)
    baseline = Bright(-1.0)  # always 1
    targets = torch.ones(60, dtype=torch.int64)
    same = measure_robustness(baseline, Bright(-2.0), images, targets, to_inputs=scaled)
    assert len(same.points) == len(CORRUPTIONS) * 5
    assert same.significant == ()
    assert all(point.score.drop == 0 for point in same.points)
    pruned = Bright(0.2)  # right in the light, wrong in the dark
    found = measure_robustness(
        baseline, pruned, images, targets, to_inputs=scaled, corruptions=["brightness"]
    )
    worst = found.worst
    assert worst is not None
    assert (worst.corruption, worst.severity) == ("brightness", 5)
    assert worst.score.drop == 1.0
    assert worst.excess.value == pytest.approx(1.0 - (found.clean.drop or 0.0))
    assert worst.score.low > 0.8
    assert worst in found.significant
    assert all(point.p_adjusted >= point.p_value for point in found.points)
    assert robustness_csv(found).count("\n") == 6


def test_your_own_corruption_counts_like_the_others() -> None:
    images, targets = pictures(10), torch.ones(10, dtype=torch.int64)

    def black(image: Tensor, severity: int) -> Tensor:
        return image * 0

    found = measure_robustness(
        Bright(-1.0), Bright(0.2), images, targets, to_inputs=scaled, severities=[2],
        corruptions={"lamp off": black, "blur": None},
    )  # fmt: skip
    assert [(p.corruption, p.severity) for p in found.points] == [("lamp off", 2), ("blur", 2)]
    assert found.points[0].score.drop == 1.0
    with pytest.raises(ConfigError, match=r"'half' should return an image \(3, 16, 16\)"):
        measure_robustness(
            Bright(0.0), Bright(0.0), images, targets, to_inputs=scaled,
            corruptions={"half": lambda image, _: image[:, :8]},
        )  # fmt: skip


def test_names_and_severities_that_do_not_exist_are_named() -> None:
    images, targets = pictures(2), torch.ones(2, dtype=torch.int64)
    network = Bright(0.0)
    with pytest.raises(ConfigError, match="no corruption 'fog'"):
        measure_robustness(network, network, images, targets, to_inputs=scaled, corruptions=["fog"])
    with pytest.raises(ConfigError, match="from 1 to 5, not 9"):
        measure_robustness(network, network, images, targets, to_inputs=scaled, severities=[9])


@pytest.mark.slow
def test_a_run_measures_shift_and_its_report_shows_it(digits: Path, tmp_path: Path) -> None:
    from srinit.pipeline import run as pipeline

    (digits / "dust.py").write_text(
        "def dust(image, severity):\n    image[:, :severity, :severity] = 255\n    return image\n"
    )
    quick = [
        "scan.scheme=permuted", "scan.half_width=0.3", "finetune.epochs=1", "report.pictures=0",
        "export.onnx=false", "export.torch_export=false", "gates.max_drop=0.6", f"out={tmp_path}",
        "compare.latency_batches=[1]", "baseline.expected_top1=null", "shift.examples=40",
        "shift.severities=[2,5]", "shift.corruptions=[noise,occlusion,'py:dust.py:dust']",
    ]  # fmt: skip
    result = pipeline.run_file(digits / "srinit.yaml", quick)
    body: Any = json.loads((Path(result.run) / "rounds/01/shift.json").read_text())
    assert body["num_examples"] == 40
    assert [p["corruption"] for p in body["points"]][::2] == [
        "noise",
        "occlusion",
        "py:dust.py:dust",
    ]
    page = Path(result.report).read_text("utf-8")
    assert "Under shift and noise" in page
    assert "環境の変化とノイズ" in page
    assert "py:dust.py:dust" in page
