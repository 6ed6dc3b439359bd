"""The config file: all problems at once, overrides, profiles, nothing dangerous."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srinit.config import Config, load_config, parse_yaml
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
