"""The config file: all problems at once, overrides, profiles, nothing dangerous."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srinit.config import Config, check_targets, dump_yaml, load_config, parse_yaml
from srinit.config.reference import reference
from srinit.errors import ConfigError

SHORTEST = """
model: {source: "timm:resnet18"}
data: {source: "folder:data", split: {calibration: 0.5, test: 0.5}}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "srinit.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shortest_config_is_model_and_data(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, SHORTEST))
    assert config.root == tmp_path
    assert config.scan.scheme == "auto"


def test_all_problems_are_reported_together_with_the_nearest_key(tmp_path: Path) -> None:
    text = "model: {sorce: x}\ndata: {batch_size: 0}\nplan: {max_dropp: 1}\nsede: 1\n"
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    message = str(caught.value)
    for part in (
        "model.source: is missing",
        "did you mean model.source?",
        "data.batch_size: Input should be greater than or equal to 1 (found 0)",
        "did you mean plan.max_drop?",
        "did you mean seed?",
    ):
        assert part in message
    assert caught.value.exit_code == 2


def test_overrides_beat_the_profile_and_the_profile_the_file(tmp_path: Path) -> None:
    text = SHORTEST + "seed: 1\nname: a\nprofiles: {quick: {seed: 2, name: b, scan: {draws: 3}}}\n"
    path = write(tmp_path, text)
    assert load_config(path).seed == 1
    config = load_config(path, ["profile=quick", "seed=5"])
    assert (config.seed, config.name, config.scan.draws) == (5, "b", 3)
    with pytest.raises(ConfigError, match=r"no profile 'fast' \(known: quick\)"):
        load_config(path, ["profile=fast"])


@pytest.mark.parametrize("pair", ["seed", "=1", "model.source.x=1"])
def test_a_wrong_override_is_named(tmp_path: Path, pair: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_config(write(tmp_path, SHORTEST), [pair])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "should be a mapping"),
        ("a: [1\n", "is not YAML"),
        ("a: &x [1]\nb: *x\n", "uses an alias"),
        ("a: !!python/object/apply:os.system [echo]\n", "is not YAML"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper"),
        ("\x00", "is not YAML"),
    ],
)
def test_dangerous_or_broken_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the config .*nothing\.yaml"):
        load_config(tmp_path / "nothing.yaml")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_mapping_or_a_config_error(content: bytes) -> None:
    try:
        body = parse_yaml(content, where="it")
    except ConfigError:
        return
    assert isinstance(body, dict)


def test_reading_a_config_does_not_import_torch() -> None:
    code = "import sys, srinit.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_key_has_a_description() -> None:
    def check(model: type, path: str) -> None:
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            assert field.description, f"{path}{name}"
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                check(inner, f"{path}{name}.")

    check(Config, "")


@pytest.mark.parametrize(
    "name", ["examples/cifar10", "src/srinit/demo", "src/srinit/template/files"]
)
def test_the_configs_that_are_shipped_are_valid(name: str) -> None:
    root = Path(__file__).resolve().parent.parent
    load_config(root / name / "srinit.yaml")


def test_every_key_is_documented() -> None:
    root = Path(__file__).resolve().parent.parent
    text = (root / "docs" / "config.md").read_text("utf-8")
    assert f"```yaml\n{reference()}```\n" in text, "make it anew from srinit.config.reference"


def test_a_criterion_is_named_by_its_nearest(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "model: timm:resnet18\ndata: folder:d\nplan: {criterion: compensated_distanc}\n", "utf-8"
    )
    with pytest.raises(ConfigError, match="nearest: compensated_distance"):
        load_config(tmp_path / "c.yaml")


def test_the_reference_is_a_valid_config(tmp_path: Path) -> None:
    text = reference().replace("source: ...", "source: timm:resnet18")
    text = text.replace("source: null", "source: folder:data")
    assert load_config(write(tmp_path, text)).finetune == Config.model_fields["finetune"].default


def test_scalars_are_those_of_yaml_12(tmp_path: Path) -> None:
    text = SHORTEST.replace("folder:data", 'folder:data", classes: [no, on, 010, 1:30], x: "')
    body = parse_yaml(text.encode(), where="it")["data"]["classes"]
    assert body == ["no", "on", 10, "1:30"]
    config = load_config(write(tmp_path, SHORTEST), ["finetune.lr=1e-4", "model.args={a: 0x10}"])
    assert config.finetune.lr == 1e-4
    assert config.model.args == {"a": 16}


def test_a_written_config_reads_back_equal(tmp_path: Path) -> None:
    extra = ["data.classes=[no, '1e-4', 'null', ok]", "model.args={lr: '1e-4', n: 3}"]
    config = load_config(write(tmp_path, SHORTEST), extra)
    again = load_config(write(tmp_path, dump_yaml(config.model_dump(mode="json"))))
    assert again == config


def test_model_and_data_may_be_their_source_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "model: timm:resnet18\ndata: folder:data\n")
    config = load_config(path, ["model.weights=w.safetensors", "data.batch_size=8"])
    assert config.model.source == "timm:resnet18"
    assert config.model.weights == "w.safetensors"
    assert config.data.split == {"train": 0.4, "calibration": 0.2, "validation": 0.1, "test": 0.3}
    named = load_config(path, ["data.test=folder:t", "data.train=folder:u"]).data.split
    assert named == pytest.approx({"calibration": 2 / 3, "validation": 1 / 3})


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("data.preprocess.channels=1", "mean and std need one value per channel"),
        ("data.calibration=folder:x", "calibration is named, and has a share of split"),
        ("data.split={test: 0.7, calibration: 0.7}", r"split adds up to 1\.4"),
        ("data.split={tset: 0.7}", "did you mean test"),
        ("data.classes=[a, a]", "classes should be different names"),
        ("gates.max_missed_defect_increase=0.1", r"needs data\.defect_class"),
        ("gates.max_missed_defect_rate=0.1", r"needs data\.defect_class"),
        ("gates.max_cost_increase=1", r"needs data\.costs"),
        ("gates.max_shift_drop=0.1", r"needs shift\.examples"),
        ("gates.max_class_recall_drop={a: 2}", r"gates\.max_class_recall_drop\.a: .*less than"),
        ("data.costs={a: {b: 0}}", "costs are all zero"),
        ("data.costs={a: {b: -1}}", r"data\.costs\.a\.b: .*greater than"),
        ("data={source: 'folder:d', classes: [a, b], defect_class: [a, b]}", "every class"),
        ("data={source: 'folder:d', classes: [a, b], costs: {a: {c: 1}}}", "'c' is not in classes"),
        ("finetune={command: a, fn: 'py:a.py:b'}", "command and fn are both given"),
        ("finetune.command=train.sh {weights}", r"command should name \{out\}"),
        ("plan.latency=0.5ms", "cannot be told from a fraction"),
        ("plan.params=1.5", "above 1 it is a count"),
        ("finetune.lr=.nan", "finite number"),
        ("roi.hourly_rate=.inf", "finite number"),
        ("max_drop=0.3", r"did you mean plan\.max_drop or gates\.max_drop"),
        ("scan.zzz=1", r"known are scheme, "),
        ("root=/x", "root: unknown key"),
        ("model.weights_sha256=" + "a" * 64, r"model\.weights, which is not given"),
        ("profiles=3", "profiles: should be a mapping"),
        ("name=../x", r"name: String should match"),
        ("device=tpu!", r"device: String should match"),
    ],
)
def test_values_that_make_no_sense_are_named(tmp_path: Path, pair: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, SHORTEST), [pair])


def test_costs_are_given_in_one_place_and_one_limit_a_class_is_a_mapping(tmp_path: Path) -> None:
    path = write(tmp_path, SHORTEST)
    twice = ["data.costs={ng: {ok: 9}, ok: {ng: 1}}", "roi.missed_defect_cost=9"]
    with pytest.raises(ConfigError, match=r"roi\.missed_defect_cost: data\.costs says"):
        load_config(path, twice)
    prices = ["data.defect_class=ng", "roi={missed_defect_cost: 9, false_reject_cost: 1}"]
    found = load_config(path, [*prices, "gates={max_cost_increase: 1}"])
    assert found.gates.limits() == {
        "max_drop": 0.02, "max_cost_increase": 1.0,
        "max_worse_classes": 0.0,  # of max_class_recall_drop: auto
    }  # fmt: skip
    classes = load_config(path, ["gates.max_class_recall_drop.ng=0.01", "data.defect_class=[ng]"])
    assert classes.gates.limits()["max_class_recall_drop"] == {"ng": 0.01}
    assert classes.data.defect_classes == ("ng",)


def test_a_latency_may_carry_its_unit(tmp_path: Path) -> None:
    path = write(tmp_path, SHORTEST)
    assert load_config(path, ["plan.latency=3.2ms"]).plan.latency == 3.2
    assert check_targets({"latency": "3.2ms"}) == {"latency": 3.2}
    assert check_targets({"latency": "0.8", "flops": 0.5}) == {"latency": 0.8, "flops": 0.5}
    assert load_config(path, ["plan.latency=0.05 s"]).plan.latency == 50
    assert load_config(path, ["plan.latency=0.7"]).plan.latency == 0.7


def test_a_key_written_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the key 'seed' is written twice"):
        load_config(write(tmp_path, SHORTEST + "seed: 1\nseed: 2\n"))


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it is no file"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="larger than 262,144 bytes"):
        load_config(write(tmp_path, "#" * 300_000))


def test_every_key_is_read_by_the_program() -> None:
    """A key that nothing reads would be a promise that nothing keeps."""
    root = Path(__file__).resolve().parent.parent / "src" / "srinit"
    others = [p for p in root.rglob("*.py") if p.parent.name != "config"]
    text = "\n".join(path.read_text("utf-8") for path in others)

    def unread(model: type, path: str) -> list[str]:
        found = []
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                found += unread(inner, f"{path}{name}.")
            elif not re.search(rf'[."]{name}\b|\b{name}:', text):
                found.append(path + name)
        return found

    assert unread(Config, "") == []
