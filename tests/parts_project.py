"""A small project on disk: three digits, a network that was never trained, a config that passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from report_run import MODEL
from srinit import cli
from srinit.registry import open_registry
from srinit.store import audit, sha256_bytes
from srinit.store.seal import entry_inputs
from srinit.store.sums import read_sums, write_sums

CONFIG = """\
name: parts
model: {source: "py:model.py:create_model", weights: weights.safetensors}
data:
  train: npz:train.npz
  source: npz:rest.npz
  split: {calibration: 0.4, validation: 0.2, test: 0.4}
  preprocess: {channels: 1, mean: [0.3], std: [0.37]}
scan: {scheme: permuted, half_width: 0.3}
plan: {flops: 0.8, trial_examples: 0, beside: []}
finetune: {epochs: 1, rehearsal: 0}
compare: {latency_batches: [1]}
gates: {max_drop: 0.9, max_class_recall_drop: null, max_params_ratio: 1.0}
export: {onnx: false, torch_export: false}
report: {pictures: 0}
"""


def make(folder: Path, config: str = CONFIG) -> Path:
    """Write the project into a folder; return its config."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = digits.target < 3
    images = (digits.images[chosen] * (255 / 16)).round().astype(np.uint8)[..., None]
    labels = digits.target[chosen].astype(np.int64)
    names = np.array(["a", "b", "c"])
    for part, rows in (("train", slice(0, 100)), ("rest", slice(100, 400))):
        np.savez(
            folder / f"{part}.npz", images=images[rows], labels=labels[rows], class_names=names
        )
    (folder / "model.py").write_text(MODEL)
    space: dict[str, Any] = {}
    exec(MODEL, space)
    state = space["create_model"]().state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "weights.safetensors")
    (folder / "srinit.yaml").write_text(config)
    return folder / "srinit.yaml"


def finished(folder: Path) -> Path:
    """Make the project and carry its run out; return the run folder."""
    config = make(folder)
    assert cli.run(["run", "-c", str(config), "--out", str(folder / "runs")]) == 0
    return folder / "runs" / "parts"


def content(run: Path) -> dict[str, bytes]:
    """Return every file of a run but its lock and its log."""
    files = (p for p in run.rglob("*") if p.is_file() or p.is_symlink())
    left_out = (".lock", "audit.jsonl", "seal.sig.json")
    return {
        p.relative_to(run).as_posix(): p.read_bytes()
        for p in files
        if not p.name.endswith(left_out)
    }


def copied(run: Path, target: Path, *, registry: bool = False) -> Path:
    """Copy the runs folder of a finished run; return the run in the copy.

    With `registry` an empty one lies beside it: MLflow takes a second to make its tables.
    """
    shutil.copytree(run.parent, target, copy_function=shutil.copy2, symlinks=True)
    if registry:
        empty = run.parent.with_name("empty")
        if not empty.exists():
            with open_registry(empty, "m"):
                pass
        (target / "mlflow").mkdir()
        shutil.copy(empty / "mlflow.db", target / "mlflow" / "mlflow.db")
    return target / run.name


def call(capsys: Any, *arguments: str | Path) -> tuple[int, Any]:
    """Run a verb in this process; return its exit code and its JSON document."""
    capsys.readouterr()
    code = cli.run([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def forge(run: Path) -> None:
    """Write hashes and log anew, as somebody can who may write to everything."""
    names = [name for name in read_sums(run / "SHA256SUMS") if (run / name).is_file()]
    sums = {name: sha256_bytes((run / name).read_bytes()) for name in names}
    write_sums(run / "SHA256SUMS", sums)
    entries = audit.read(run / "audit.jsonl").entries
    (run / "audit.jsonl").unlink()
    listed = sha256_bytes((run / "SHA256SUMS").read_bytes())
    for entry in entries:
        inputs = entry_inputs(run, sums, listed) if entry["verb"] == "seal" else entry["inputs"]
        audit.append(
            run / "audit.jsonl", verb=entry["verb"], decision=entry["decision"],
            reason=entry["reason"], inputs=inputs,
        )  # fmt: skip
