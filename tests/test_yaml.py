"""One reader and one writer of YAML: what is written is what is read, whoever reads it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from srinit.config import Config, dump_yaml, load_config, parse_yaml
from srinit.errors import ConfigError
from srinit.report.reading import load_report_input
from srinit.store import RunFolder, write_text

SOURCE = Path(__file__).parents[1] / "src" / "srinit"
GOLDEN = Path(__file__).parent / "golden" / "report" / "run"
ODD = [
    "no", "on", "off", "yes", "y", "N", "1e3", "1E-4", "012", "0o17", "0x1F", "0b1", "1_000",
    "1:30", "2026-11-24", "2026-11-24T08:15:02Z",
    "=", "<<", "~", "null", "", " ", "- a", "a: b", "a #b",
    "#", "&a", "*a", "!a", "%a", "@a", "`a`", "'", '"', "[", "{", "|", ">", "?", ":", "-", "...",
    "---", ".inf", ".nan", "+1", "-", "1.", ".5", "合格", "キズ: 有", "Späne", "\u0308", "\ufeff",
    "\x85", "\u2028", "a\nb", "a\n", "\n", "a\tb", "\x1b[31m", "\x00", "\U0001f600", "ＮＯ",
    "x" * 300,
]  # fmt: skip
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
    | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_a_text_stays_the_text(text: str) -> None:
    body = {"classes": [text, {text: text}], text: 1}
    for flow in (False, True):
        written = dump_yaml(body, flow=flow)
        assert parse_yaml(written.encode(), where="it") == body


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=3))
def test_whatever_is_written_reads_back_equal(body: dict[str, Any]) -> None:
    assert parse_yaml(dump_yaml(body).encode(), where="it") == body


@pytest.mark.parametrize("version", ["1.1", "1.2"])
@pytest.mark.parametrize("text", [text for text in ODD if text.isprintable()], ids=ascii)
def test_other_readers_of_yaml_read_the_same(text: str, version: str) -> None:
    reader = YAML(typ="safe", pure=True)
    reader.version = version
    written = dump_yaml({"classes": [text, 12, 1e-07, True, None]})
    assert reader.load(written) == {"classes": [text, 12, 1e-07, True, None]}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("no", "no"), ("on", "on"), ("1e3", 1000.0), ("012", 12), ("1:30", "1:30"), ("0o17", 15),
        ("2026-11-24", "2026-11-24"), ("2026-11-24 08:15:02", "2026-11-24 08:15:02"), ("0x1F", 31),
        ("1_000", "1_000"), ("0b1", "0b1"), ("=", "="), ("Yes", "Yes"), ("TRUE", True), ("", None),
        ("1e-4", 1e-4), (".5", 0.5), ("1.", 1.0), ("-.inf", float("-inf")), ("合格", "合格"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_the_core_schema(written: str, expected: object) -> None:
    found = parse_yaml(f"value: {written}".encode(), where="it")["value"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"the key 'a' is written twice \(line 3, column 1\)"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", r"the key 'b' is written twice \(line 4, column 3\)"),
        ("a: [1\nb: 2\n", r"it is not YAML: .*\(line 2, column 2\)"),
        ("a: 1\n\tb: 2\n", r"it is not YAML: .*\(line 2, column 1\)"),
        ("a: &x [1]\n", r"uses an alias \(&name, \*name; line 1\)"),
        ("a: 1\nb: *x\n", r"uses an alias \(&name, \*name; line 2\)"),
        ("a: !!set {b}\n", r"is not YAML without tags: .*set \(line 1\)"),
        ("a: 1\n---\nb: 1\n", r"it is not YAML: .*\(line 2, column 1\)"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text.encode(), where="it")


def test_a_class_named_no_is_a_class_in_the_report_too(tmp_path: Path) -> None:
    """The report read `no` as YAML 1.1 does, as False."""
    run = tmp_path / "run"
    for path in GOLDEN.rglob("*.*"):
        write_text(run / path.relative_to(GOLDEN), path.read_text("utf-8"))
    config = {"model": "timm:resnet18", "data": {"source": "npz:x.npz", "defect_class": "no"}}
    write_text(tmp_path / "c.yaml", dump_yaml(config))
    loaded = load_config(tmp_path / "c.yaml")
    assert loaded.data.defect_class == "no"
    write_text(run / "config.yaml", dump_yaml(loaded.model_dump(mode="json")))
    (run / "audit.jsonl").unlink()  # the golden one is shortened
    RunFolder.open(run).record(run / "config.yaml")
    assert load_report_input(run).defect_class == "no"


def test_the_reference_shows_what_it_reads_back() -> None:
    for name, field in Config.model_fields["gates"].annotation.model_fields.items():  # type: ignore[union-attr]
        value = json.loads(json.dumps(field.default, default=list))
        assert parse_yaml(f"{name}: {dump_yaml(value, flow=True)}".encode(), where=name) == {
            name: value
        }


def test_yaml_is_read_and_written_in_one_place() -> None:
    rest = [path for path in SOURCE.rglob("*.py") if path != SOURCE / "config" / "yaml.py"]
    imported = {
        name.name
        for path in rest
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [*node.names, ast.alias(getattr(node, "module", None) or "")]
    }
    assert not {name for name in imported if name == "yaml" or name.startswith("ruamel")}
