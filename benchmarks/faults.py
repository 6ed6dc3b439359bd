"""Kills a run at random moments, and fills the disk at every write: what is lost?

    python benchmarks/faults.py kills --count 200    SIGKILL over the whole flow; resumed each time
    python benchmarks/faults.py disk                 every write refused once, as on a full disk

The flow is `srinit run` on a small project (handwritten digits): baseline, scan, plan, cut,
fine-tuning, comparison, gates, export, report, seal. Half of the kills come after a random time,
half in front of a random file operation (open for writing, rename, removal, new folder) of the
run folder. After every fault the same command is given again. A flow that has ended must have a
valid seal and audit log, no half-written file, and the same sensitivity, removed units and
fine-tuned weights, byte for byte, as a flow that nothing interrupted. Results are appended to
`benchmarks/results/faults.json`; Linux only, since flows are forked from one process that has
torch loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import io
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from srinit import cli
from srinit.demo.train import train
from srinit.pipeline.observer import Silent
from srinit.store import RunFolder, audit

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "src" / "srinit" / "demo"
RESULTS = HERE / "results" / "faults.json"
SCHEMA = "srinit.faults/1"
SAME = (
    "plan.json",
    "scan/sensitivity.json",
    "scan/observations.jsonl",
    "stages/01/model.safetensors",
)
VERBS = {
    "begin", "baseline", "scan", "plan", "prune", "finetune", "compare", "gate", "export", "report",
    "finish", "seal",
}  # fmt: skip
SECONDS = 4.0  # a flow takes about three times as long
HANG = 300
OPERATIONS = 60  # in a flow there are about four times as many


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["kills", "disk"])
    parser.add_argument("--count", type=int, default=200, help="of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="srinit-faults-"))
    try:
        project(folder)
        load_everything(folder)
        began = time.perf_counter()
        found = {"kills": kills, "disk": disk}[args.command](folder, args)
        found["seconds"] = round(time.perf_counter() - began, 1)
    finally:
        shutil.rmtree(folder)
    note(args, found)
    if found["faults_lost"]:
        raise SystemExit(1)


# the flow


def project(folder: Path) -> None:
    """Write a project whose flow takes a few seconds: a small training set, one epoch."""
    data = load_digits()
    images = (data.images * (255 / 16)).round().astype(np.uint8)[..., None]
    labels = data.target.astype(np.int64)
    names = np.array([str(digit) for digit in range(10)])
    for name, part in (("train", slice(0, 500)), ("rest", slice(600, 1300))):
        np.savez(
            folder / f"{name}.npz", images=images[part], labels=labels[part], class_names=names
        )
    child(lambda: trained(folder, images[:600], labels[:600]))
    shutil.copy(DEMO / "model.py", folder / "model.py")
    config = (DEMO / "srinit.yaml").read_text()
    config = config.replace("epochs: 8", "epochs: 2\n  batch_size: 32").replace(
        "expected_top1: 0.97", "expected_top1: null"
    )
    config = config.replace("half_width: 0.04", "half_width: 0.15")
    (folder / "srinit.yaml").write_text(f"{config}report:\n  pictures: 1\nexport:\n  onnx: false\n")


def trained(folder: Path, images: Any, labels: Any) -> int:
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


def flow(folder: Path, out: str) -> int:
    command = ["run", "-c", str(folder / "srinit.yaml"), "--out", str(folder / out), "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = cli.run([*command, "--device", "cpu"])
    if code not in (0, 3):
        (folder / "last.json").write_text(output.getvalue())
    return code


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


def state(run: Path) -> dict[str, str]:
    """Return what must be equal after every history of faults."""
    found = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in SAME}
    plan = json.loads((run / "plan.json").read_text())
    found["removed"] = json.dumps([entry["unit"]["name"] for entry in plan["remove"]])
    result = json.loads((run / "result.json").read_text())
    keys = ("removed", "score_before", "score_after", "drop", "passed")
    found["result"] = json.dumps({key: result[key] for key in keys})
    return found


def lost(run: Path, wanted: dict[str, str]) -> str:
    """Return what is wrong with a finished run; empty if nothing is."""
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
    found = state(run)
    return ", ".join(f"{key} differs" for key in wanted if found[key] != wanted[key])


def ended(run: Path) -> bool:
    """Return whether a flow had ended when it was killed: a finished run is not gone on with."""
    return (run / "audit.jsonl").is_file() and RunFolder.open(run).was_sealed


def undisturbed(folder: Path) -> dict[str, str]:
    code = child(lambda: flow(folder, "whole"))
    if code not in (0, 3):
        raise SystemExit(f"the flow ends with {code}: {(folder / 'last.json').read_text()}")
    wanted = state(folder / "whole" / "digits")
    if trouble := lost(folder / "whole" / "digits", wanted):
        raise SystemExit(trouble)
    return wanted


# faults


def kills(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    wanted, rng = undisturbed(folder), random.Random(args.seed)
    count, flows, findings, places = 0, 0, [], {"time": 0, "file": 0}
    while count < args.count:
        flows += 1
        out, here = f"out{flows}", 0
        while True:
            kind = rng.choice(("time", "file"))
            if count >= args.count:  # let the last flow end
                code = child(lambda out=out: flow(folder, out))
            elif kind == "time":
                after = rng.uniform(0, SECONDS)
                code = child(lambda out=out: flow(folder, out), kill_after=after)
            else:
                when = rng.randint(1, OPERATIONS)
                code = child(lambda out=out, when=when: mortal(folder, out, when))
            if code == -signal.SIGKILL:
                count, here = count + 1, here + 1
                places[kind] += 1
                if not ended(folder / out / "digits"):
                    continue
                code = 0  # killed after the seal, in front of the last word
            break
        run = folder / out / "digits"
        trouble = lost(run, wanted) if code in (0, 3) else f"exit {code}: {_last(folder)}"
        runs = sorted(path.name for path in run.parent.iterdir() if path.name[0] != ".")
        if runs != ["digits"]:
            trouble += f" {len(runs)} folders instead of one: {runs}"
        if trouble:
            findings.append({"flow": flows, "kills": here, "trouble": trouble[:500]})
        print(f"flow {flows}: {here} kills, {count} in all, {trouble or 'as if nothing happened'}")
        shutil.rmtree(folder / out)
    return {
        "kills": count,
        "after_a_time": places["time"],
        "before_a_file_operation": places["file"],
        "flows": flows,
        "faults_lost": findings,
    }


def _last(folder: Path) -> str:
    path = folder / "last.json"
    return path.read_text()[-800:] if path.is_file() else ""


def mortal(folder: Path, out: str, when: int) -> int:
    """Run the flow, and die by SIGKILL in front of a file operation."""
    place, left = str(folder / out), [when]

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            writes = isinstance(values[1], str) and any(c in values[1] for c in "wxa+")
            flags = values[2] if isinstance(values[2], int) else 0
            hit = writes or bool(flags & (os.O_WRONLY | os.O_RDWR))
        else:
            hit = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
        if hit and str(values[0]).startswith(place):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return flow(folder, out)


def disk(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Refuse every write of the flow once, in turn, as a full disk does."""
    wanted, findings, number = undisturbed(folder), [], 0
    out, resumed = "full", 0
    while True:
        number += 1
        code = child(lambda number=number: refusing(folder, out, number))  # type: ignore[misc]
        text = _last(folder)
        if code in (0, 3):
            break
        if code != 5 or "No space left" not in text:
            findings.append({"write": number, "trouble": f"exit {code}: {text}"[:500]})
        code = child(lambda: flow(folder, out))
        run = folder / out / "digits"
        trouble = lost(run, wanted) if code in (0, 3) else f"resumed: exit {code}: {_last(folder)}"
        resumed += 1
        if trouble:
            findings.append({"write": number, "trouble": trouble[:500]})
        print(
            f"write {number}: {trouble or 'refused with exit 5, resumed, as if nothing happened'}"
        )
        shutil.rmtree(folder / out)
    return {"writes_refused": number - 1, "resumed": resumed, "faults_lost": findings}


@contextlib.contextmanager
def _patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def refusing(folder: Path, out: str, number: int) -> int:
    """Run the flow while the numbered write under its folder finds the disk full."""
    place, left, real = str(folder / out), [number], os.fsync

    def fsync(descriptor: Any) -> None:
        handle = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if str(path).startswith(place) and not path.is_dir():
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with _patched(os, "fsync", fsync):
        return flow(folder, out)


def note(args: argparse.Namespace, found: dict[str, Any]) -> None:
    body = json.loads(args.out.read_text()) if args.out.is_file() else {"schema": SCHEMA}
    body[args.command] = {
        **found,
        "seed": args.seed,
        "command": " ".join(["python", "benchmarks/faults.py", *sys.argv[1:]]),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {"python": platform.python_version(), "torch": version("torch")},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
