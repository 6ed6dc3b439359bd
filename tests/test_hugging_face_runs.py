"""A folder of transformers through the command line: its own class, its own weights, its score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from srinit import cli
from srinit.artifact import load_pruned
from srinit.rng import isolated_rng

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

DATA = """
import numpy as np

def walks():
    start = np.random.default_rng(1).integers(0, 10_000, (160, 1))
    tokens = (start // 7 + np.arange(6) * (1 + start % 3)) % 11
    return {"input_ids": tokens, "labels": tokens}
"""
CONFIG = """
model: hf:net
data: {source: py:data.py:walks, batch_size: 32}
score: next_token_accuracy
device: cpu
scan: {scheme: default, half_width: 0.4}
plan: {params: 0.99, trial_examples: 24}
finetune: {epochs: 1}
export: {onnx: false, torch_export: false}
report: {pictures: 0}
compare: {latency_batches: [1]}
registry: {track: false}
gates: {max_drop: 0.9, max_class_recall_drop: null}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=32, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with isolated_rng(0):
        transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "net")
    (tmp_path / "data.py").write_text(DATA)
    (tmp_path / "srinit.yaml").write_text(CONFIG)
    return tmp_path


def call(
    verb: str, project: Path, capsys: pytest.CaptureFixture[str], *changes: str
) -> tuple[int, dict[str, Any]]:
    pairs = [part for change in changes for part in ("--set", change)]
    config, out = str(project / "srinit.yaml"), str(project / "runs")
    code = cli.run([verb, "-c", config, "--out", out, *pairs, "--json"])
    body: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, body


def test_a_run_keeps_the_head_and_its_result_needs_no_folder(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = call("run", project, capsys)
    assert code == 0, body
    shutil.rmtree(project / "net")
    (folder,) = (project / "runs").glob("*/rounds/01")
    pruned: Any = load_pruned(folder)
    assert type(pruned).__name__ == "LlamaForCausalLM"
    assert pruned.config.num_hidden_layers < 3
    assert pruned(input_ids=torch.ones(1, 4, dtype=torch.long)).logits.shape == (1, 4, 11)


@pytest.mark.parametrize(
    ("gone", "changes", "code", "message"),
    [
        ("net/model.safetensors", [], 4, "the network would be random"),
        ("", ["model.args={auto: AutoModel}"], 4, "no head"),
        ("", ["score=top1"], 4, "score: top1 needs class scores"),
        ("", ["model.args={num_hidden_layers: 2}"], 4, "unexpected: model.layers.2"),
        ("", ["model.args={layers: 2}"], 4, "model.args.layers"),
    ],
)
def test_what_would_give_a_wrong_number_is_named_with_its_exit_code(
    gone: str, changes: list[str], code: int, message: str, project: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if gone:
        (project / gone).unlink()
    found, body = call("run", project, capsys, *changes)
    assert found == code == body["exit_code"]
    assert message in body["error"]["message"]
