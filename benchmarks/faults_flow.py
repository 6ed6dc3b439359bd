"""The flow that benchmarks/faults.py disturbs, what must come out of it, and its processes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from srinit import cli
from srinit.demo.train import train
from srinit.observer import Silent
from srinit.registry import open_registry
from srinit.registry.client import quiet
from srinit.store import RunFolder, audit

DEMO = Path(__file__).resolve().parent.parent / "src" / "srinit" / "demo"
SAME = (
    "plan.json",
    "scan/sensitivity.json",
    "scan/observations.jsonl",
    "rounds/01/model.safetensors",
)
VERBS = {
    "begin", "baseline", "scan", "plan", "prune", "finetune", "compare", "gate", "export", "report",
    "finish", "seal", "promote",
}  # fmt: skip
OWN = """import torch

def train(model, train, validation):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    for x, y in list(train)[:4]:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
"""
HANG = 900  # by the clock; other work may stop this process for minutes
LAST = "last.json"  # what a verb that failed had to say


def project(folder: Path) -> None:
    """Write a project whose flow takes a few seconds: a small training set, two epochs."""
    data = load_digits()
    images = (data.images * (255 / 16)).round().astype(np.uint8)[..., None]
    labels = data.target.astype(np.int64)
    names = np.array([str(digit) for digit in range(10)])
    for name, part in (("train", slice(0, 500)), ("rest", slice(600, 1300))):
        np.savez(
            folder / f"{name}.npz", images=images[part], labels=labels[part], class_names=names
        )
    child(lambda: _trained(folder, images[:600], labels[:600]))
    shutil.copy(DEMO / "model.py", folder / "model.py")
    (folder / "own.py").write_text(OWN)
    config = (DEMO / "srinit.yaml").read_text()
    config = config.replace("epochs: 8", "epochs: 2\n  batch_size: 32").replace(
        "expected_top1: 0.97", "expected_top1: null"
    )
    config = config.replace("half_width: 0.04", "half_width: 0.15")
    config = config.replace("max_drop: 0.03", "max_drop: 0.5")  # promoted without an override
    (folder / "srinit.yaml").write_text(f"{config}report:\n  pictures: 1\nexport:\n  onnx: false\n")


def _trained(folder: Path, images: Any, labels: Any) -> int:
    model = train(images, labels, seed=0, observer=Silent())
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "digits.safetensors")
    return 0


def load_everything(folder: Path) -> None:
    """Import what a flow needs, without running a tensor operation in this process."""
    import captum.attr  # noqa: F401
    import torch._dynamo  # noqa: F401

    import srinit.finetune
    import srinit.report
    import srinit.sensitivity  # noqa: F401

    with quiet():
        import mlflow.store.tracking.sqlalchemy_store
        import mlflow.tracking  # noqa: F401
    tempfile.tempdir = str(folder / "temporary")  # what kills leave there goes with the project
    Path(tempfile.tempdir).mkdir()


SET: list[str] = []  # pairs of `--set` that the flow is given


def flow(folder: Path, out: str) -> int:
    """Run all of it unless it is finished, then promote; return the exit code."""
    run = folder / out / "digits"
    command = ["run", "-c", str(folder / "srinit.yaml"), "--out", str(folder / out)]
    command += [word for pair in SET for word in ("--set", pair)]
    code = 0 if ended(run) else verb(folder, *command, "--device", "cpu")
    return code or verb(folder, "promote", str(run))


STEPS = (
    ("inspect", "baseline", "scan"),  # of a config
    ("plan", "prune", "finetune", "compare", "export", "report", "seal", "promote"),  # of a run
)


def by_verbs(folder: Path, out: str) -> int:
    """Take the same way verb by verb; one that was done is not given again."""
    run, note = folder / out / "digits", folder / f"{out}.done"
    done = note.read_text().split() if note.is_file() else []
    config = ["-c", str(folder / "srinit.yaml"), "--out", str(folder / out), "--device", "cpu"]
    for name in (*STEPS[0], *STEPS[1]):
        if name in done:
            continue
        if code := verb(folder, name, *(config if name in STEPS[0] else [str(run)])):
            return code
        done.append(name)
        note.write_text(" ".join(done))
    return verb(folder, "rollback", str(run), "--rehearse")


FLOWS = {"run": flow, "verbs": by_verbs}


def verb(folder: Path, *arguments: str) -> int:
    """Run one verb; what it says when it fails is kept."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = cli.run([*arguments, "--json"])
    if code:
        (folder / LAST).write_text(output.getvalue())
    return code


def last(folder: Path) -> str:
    """Return what the verb that failed last said."""
    path = folder / LAST
    return path.read_text()[-800:] if path.is_file() else ""


def child(work: Callable[[], int], *, kill_after: float | None = None) -> int:
    """Run `work` in a forked process; return its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            code = work()
        finally:
            os._exit(code)
    deadline = time.monotonic() + (HANG if kill_after is None else kill_after)
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if kill_after is None:
        raise SystemExit(f"a flow hung for {HANG} s")
    return os.waitstatus_to_exitcode(status)


def ended(run: Path) -> bool:
    """Return whether a run is sealed: `srinit run` does not go on with a finished one."""
    return (run / "audit.jsonl").is_file() and RunFolder.open(run).was_sealed


def state(run: Path) -> dict[str, str]:
    """Return what must be equal after every history of faults."""
    found = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in SAME}
    plan = json.loads((run / "plan.json").read_text())
    found["removed"] = json.dumps([entry["unit"]["name"] for entry in plan["remove"]])
    result = json.loads((run / "result.json").read_text())
    keys = ("removed", "score", "passed")
    found["result"] = json.dumps({key: result[key] for key in keys})
    return found


def lost(folder: Path, run: Path, wanted: dict[str, str]) -> str:
    """Return what is wrong with a finished and promoted run; empty if nothing is."""
    try:
        RunFolder.open(run).verify()
        entries = audit.read(run / "audit.jsonl").entries
    except Exception as error:  # any error is the finding
        return f"{type(error).__name__}: {error}"
    leftovers = [str(p.relative_to(run)) for p in run.rglob("*.tmp")]
    if leftovers:
        return f"left half-written: {leftovers}"
    missing = VERBS - {entry["verb"] for entry in entries}
    if missing:
        return f"the audit log holds nothing about {sorted(missing)}"
    runs = sorted(p.name for p in run.parent.iterdir() if p.is_dir() and p.name[0] != ".")
    if runs != ["digits", "mlflow"]:
        return f"{len(runs)} folders instead of two: {runs}"
    found = state(run)
    if differing := [key for key in wanted if found[key] != wanted[key]]:
        return f"{', '.join(differing)} differs"
    if child(lambda: verb(folder, "verify", str(run))):  # reads the versions in the registry too
        return f"verify: {last(folder)}"
    ways = child(lambda: _aliases(run.parent / "mlflow"))
    return "" if ways == 0 else f"the aliases of the registry are wrong ({ways})"


def _aliases(place: Path) -> int:
    """Return 0 if champion is version 2, the way back version 1, and no move is half-done."""
    with open_registry(place, "digits") as registry:
        numbers = [version.version for version in registry.rollback_target()]
        return 0 if (numbers, registry.interrupted()) == ([2, 1], None) else 10 + numbers[0]


def undisturbed(folder: Path, kind: str = "run") -> dict[str, str]:
    """Return what a flow that nothing interrupts ends with."""
    code = child(lambda: FLOWS[kind](folder, "whole"))
    if code:
        raise SystemExit(f"the flow ends with {code}: {last(folder)}")
    run = folder / "whole" / "digits"
    wanted = state(run)
    if trouble := lost(folder, run, wanted):
        raise SystemExit(trouble)
    return wanted
