"""The site's own data, defect classes, costs and the gate on shift, through the whole flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srinit import cli
from srinit.comparison.field_data import (
    FieldComparison,
    FlippedExample,
    field_csv,
    flipped_examples,
)
from srinit.errors import ConfigError, DataError, UnsafeError
from srinit.evaluate import Outcomes
from srinit.gates import check_unlabeled
from srinit.records import from_json, to_json
from srinit.sources import load_data

QUICK = [
    "scan.scheme=permuted", "scan.half_width=0.3", "finetune.epochs=0", "report.pictures=0",
    "export.onnx=false", "export.torch_export=false", "compare.latency_batches=[1]",
    "baseline.expected_top1=null", "plan.trial_examples=0",
]  # fmt: skip
TERMS = [
    "data.defect_class=['1','7']", "shift.examples=60", "shift.severities=[1]",
    "shift.corruptions=[contrast]", "roi={missed_defect_cost: 100, false_reject_cost: 2}",
    "gates={max_drop: 0.9, max_cost_increase: 90, max_shift_drop: 0.95, min_agreement: 0.02, "
    "max_class_recall_drop: {'3': 0.99}, site: true}",
]  # fmt: skip


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = cli.run([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def sets(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits that no other set holds: all/ without labels, some/ in folders of three classes."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("site")
    data = load_digits()
    for index in range(1300, 1420):
        image = Image.fromarray((data.images[index] * (255 / 16)).round().astype(np.uint8))
        label = str(data.target[index])
        places = [folder / "all"] + ([folder / "some" / label] if label in "137" else [])
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def finished(digits: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    found = [f"data.site=images:{pictures / 'all'}", *QUICK, *TERMS]
    code = cli.run(
        ["run", "-c", str(digits / "srinit.yaml"), "--out", str(out), *sets(*found), "--json"]
    )
    assert code == 0
    return out / "digits"


def test_a_run_compares_the_sites_images_without_reading_a_label(finished: Path) -> None:
    site = from_json(
        FieldComparison, (finished / "rounds/01/site.json").read_text(), schema="srinit.site/2"
    )
    assert (site.num_examples, site.num_labeled, site.comparison) == (120, 0, None)
    assert site.unlabeled is not None
    agreement = site.unlabeled.agreement
    assert agreement.total - agreement.hits == len(site.flipped)
    assert {row.label for row in site.flipped} <= {""}
    lines = (finished / "rounds/01/site.csv").read_text().splitlines()
    assert len(lines) == 1 + len(site.flipped)
    page = (finished / "report/report.html").read_text("utf-8")
    assert "On data of the site" in page
    assert "現場データでの比較" in page
    assert "Operation on data of the actual site" not in page


def test_costs_shift_and_site_are_judged_with_the_others(finished: Path) -> None:
    body = json.loads((finished / "rounds/01/gate.json").read_text())
    assert [gate["name"] for gate in body["gates"]] == [
        "max_drop", "max_class_recall_drop.3", "max_cost_increase", "max_shift_drop",
        "min_agreement", "site.min_agreement",
    ]  # fmt: skip
    shift = json.loads((finished / "rounds/01/shift.json").read_text())["points"][0]
    bound = {gate["name"]: gate["bound"] for gate in body["gates"]}
    assert bound["max_shift_drop"] == shift["family"]["high"] == shift["score"]["high"]  # one point
    found = json.loads((finished / "rounds/01/comparison.json").read_text())
    assert bound["max_cost_increase"] == found["error_cost"]["increase"]["high"]
    assert found["error_cost"]["costs"]["7"] == dict.fromkeys("02345689", 100.0)
    assert [row["name"] for row in found["defects"]["classes"]] == ["1", "7"]


def test_labeled_data_of_a_site_may_lack_classes(
    finished: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = call(capsys, "compare", str(finished), "--data", f"folder:{pictures / 'some'}")
    assert code == 0
    found = body["comparison"]
    assert body["gates"] is None
    counts = {row["name"]: row["num_examples"] for row in found["classes"]}
    assert sum(counts.values()) == found["num_examples"] == body["site"]["num_labeled"]
    assert {name for name, count in counts.items() if count} == set("137")
    assert found["defects"]["missed_pruned"]["total"] == counts["1"] + counts["7"]


def test_unlabeled_data_are_compared_by_agreement(
    finished: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compare", str(finished), "--data", f"images:{pictures / 'all'}")
    code, body = call(capsys, *arguments)
    assert (code, body["comparison"]) == (0, None)
    assert body["site"]["unlabeled"]["agreement"]["total"] == 120
    assert cli.run(list(arguments)) == 0
    assert "without labels: equal answers" in capsys.readouterr().out


def test_site_data_that_were_trained_on_and_gates_without_site_data_are_refused(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ("run", "-c", str(digits / "srinit.yaml"), "--out", str(tmp_path))
    code, body = call(capsys, *base, *sets("data.site=npz:train.npz"))
    assert code == DataError.exit_code
    assert "600 are both in train and in site" in body["error"]["message"]
    code, body = call(capsys, *base, *sets("gates.site=true"))
    assert code == ConfigError.exit_code
    assert "needs data.site" in body["error"]["message"]


def test_too_few_examples_of_the_site_are_named_before_the_work(
    digits: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = (f"data.site=images:{pictures / 'all'}", "gates={min_agreement: 0.97, site: true}")
    code, body = call(
        capsys, "run", "-c", str(digits / "srinit.yaml"), "--out", str(tmp_path), *sets(*wanted)
    )
    assert code == ConfigError.exit_code
    assert "on data.site, gates.min_agreement: 0.97 cannot pass on 120" in body["error"]["message"]
    assert not list(tmp_path.glob("*/baseline/*"))


def test_folders_of_other_classes_are_refused_even_where_some_may_lack(
    pictures: Path, tmp_path: Path
) -> None:
    names = [str(digit) for digit in range(10)]
    some = load_data(f"folder:{pictures / 'some'}", classes=names, may_lack_classes=True)
    assert some.class_names == tuple(names)
    with pytest.raises(DataError, match="missing"):
        load_data(f"folder:{pictures / 'some'}", classes=names)
    with pytest.raises(DataError, match=r"not expected: \['7'\]"):
        load_data(f"folder:{pictures / 'some'}", classes=names[:7], may_lack_classes=True)
    (tmp_path / "a").mkdir()
    with pytest.raises((DataError, UnsafeError), match="no images"):
        load_data(f"folder:{tmp_path}", classes=["a", "b"], may_lack_classes=True)


def test_flipped_examples_name_both_answers_and_no_cell_is_a_formula() -> None:
    def outcomes(predictions: list[int]) -> Outcomes:
        return Outcomes(
            scores=np.zeros(3),
            finite=np.array(predictions) >= 0,
            targets=np.array([0, 1, 1]),
            predictions=np.array(predictions),
            confidence=np.full(3, 0.5),
        )

    one, other = outcomes([0, 1, 1]), outcomes([0, 0, -1])
    found = flipped_examples(one, other, ["a", "=b", "c"], ["good", "bad"])
    assert [(row.name, row.label, row.baseline, row.pruned) for row in found] == [
        ("=b", "bad", "bad", "good"),
        ("c", "bad", "bad", "not finite"),
    ]
    unknown = flipped_examples(one, other, ["a", "b", "c"], ["good", "bad"], labels=np.full(3, -1))
    assert [row.label for row in unknown] == ["", ""]
    site = FieldComparison(data="x", data_hash="", num_examples=3, num_labeled=3, comparison=None,
                unlabeled=None, flipped=found)  # fmt: skip
    assert "\n'=b,bad,bad,good" in field_csv(site)
    assert from_json(FieldComparison, to_json(site, schema="s/1"), schema="s/1") == site
    assert isinstance(site.flipped[0], FlippedExample)


def test_gates_that_need_labels_say_so() -> None:
    from srinit.comparison import unlabeled_outcomes

    same = Outcomes(
        scores=np.ones(50),
        finite=np.ones(50, dtype=bool),
        targets=np.zeros(50, dtype=np.int64),
        predictions=np.zeros(50, dtype=np.int64),
        confidence=np.full(50, 0.9),
    )
    found = unlabeled_outcomes(same, same)
    assert check_unlabeled(found, {"min_agreement": 0.9}).passed
    assert not check_unlabeled(found, {"min_agreement": 0.95}).passed
    with pytest.raises(ConfigError, match="max_drop needs labels"):
        check_unlabeled(found, {"max_drop": 0.1})
