"""Kills a run at random moments, and fills the disk at every write: what is lost?

    python benchmarks/faults.py kills --count 200    SIGKILL over the whole flow; resumed each time
    python benchmarks/faults.py kills --count 30 --flow verbs    the same, verb by verb
    python benchmarks/faults.py kills --count 20 --set prune.rounds=2    in rounds
    python benchmarks/faults.py kills --count 20 --set finetune.fn=own.py:train    own training
    python benchmarks/faults.py disk                 every write refused, as on a full disk

The flow (benchmarks/faults_flow.py) is `srinit run` on a small project (handwritten digits):
baseline, scan, plan, cut, fine-tuning, comparison, gates, export, report, seal; then `srinit
promote` into a local registry. A third of the kills come after a random time, a third in front of
a random file operation (open for writing, rename, removal, new folder) of the run or the registry,
a third in front of a random statement of the registry's database. A full disk is an open, a flush
or a statement that is refused with "No space left on device". After every fault the same command
is given again. A flow that has ended must have a valid seal and audit log, no half-written file,
a registry whose versions have their hashes and whose aliases are right, and the same sensitivity,
plan, removed units and fine-tuned weights, byte for byte, as a flow that nothing interrupted.
`--flow verbs` takes the same way verb by verb: inspect, baseline, scan, plan, prune, finetune,
compare, export, report, seal, promote, rollback --rehearse. Several runs with seeds of their own
(`--seed`, `--out`) may share the work. Results are kept in `benchmarks/results/faults.json` after
every flow; Linux only, since flows are forked from one process that has torch loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import platform
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from faults_flow import FLOWS, SET, child, flow, last, load_everything, lost, project, undisturbed
from srinit.store import write_text

RESULTS = Path(__file__).resolve().parent / "results" / "faults.json"
SCHEMA = "srinit.faults/3"
SECONDS = 8.0  # a flow takes about twice as long
OPERATIONS = 80  # of files before a kill; in a flow there are about four times as many
STATEMENTS = 250  # of the database before a kill
TWICE = 2  # attempts in which writes of one kind to one file are refused
Flow = Callable[[Path, str], int]
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["kills", "disk"])
    parser.add_argument("--count", type=int, default=200, help="of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flow", choices=sorted(FLOWS), default="run", help="of kills")
    parser.add_argument("--set", action="append", default=[], help="key=value of the run's config")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    SET.extend(args.set)
    folder = Path(tempfile.mkdtemp(prefix="srinit-faults-"))
    try:
        project(folder)
        load_everything(folder)
        found = {"kills": kills, "disk": disk}[args.command](folder, args)
    finally:
        shutil.rmtree(folder)
    if found["faults_lost"]:
        raise SystemExit(1)


def kills(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Kill flows until there were enough kills."""
    began, wanted, rng = (
        time.perf_counter(),
        undisturbed(folder, args.flow),
        random.Random(args.seed),
    )
    found: dict[str, Any] = {"kills": 0, "flows": 0, "time": 0, "file": 0, "statement": 0}
    found |= {"faults_lost": []}
    while found["kills"] < args.count:
        found["flows"] += 1
        out, before = f"out{found['flows']}", found["kills"]
        while True:
            code, kind = _maybe_killed(
                folder, out, rng, FLOWS[args.flow], alive=found["kills"] >= args.count
            )
            if code != -signal.SIGKILL:
                break
            found["kills"] += 1
            found[kind] += 1
        run = folder / out / "digits"
        trouble = lost(folder, run, wanted) if code == 0 else f"exit {code}: {last(folder)}"
        here = found["kills"] - before
        if trouble:
            found["faults_lost"].append({"flow": found["flows"], "kills": here, "is": trouble})
        print(
            f"flow {found['flows']}: {here} kills, {found['kills']} in all, "
            f"{trouble or 'as if nothing happened'}",
            flush=True,
        )
        shutil.rmtree(folder / out)
        note(args, found, began)
    return found


def _maybe_killed(
    folder: Path, out: str, rng: random.Random, flow: Flow, *, alive: bool
) -> tuple[int, str]:
    """Give the command once; return how it ended, and what kind of kill was planned."""
    kind = rng.choice(("time", "file", "statement"))
    if alive:  # let the last flow end
        return child(lambda: flow(folder, out)), ""
    if kind == "time":
        return child(lambda: flow(folder, out), kill_after=rng.uniform(0, SECONDS)), kind
    left = [rng.randint(1, OPERATIONS if kind == "file" else STATEMENTS)]

    def count(_: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> int:
        if kind == "file":
            before_files(str(folder / out), count)
            return flow(folder, out)
        with before_statements(count):
            return flow(folder, out)

    return child(work), kind


def before_files(place: str, tell: Callable[[str], None]) -> None:
    """Call `tell` with the kind and the path before every file operation under `place`.

    For the rest of this process, since audit hooks stay.
    """

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            writes = isinstance(values[1], str) and any(c in values[1] for c in "wxa+")
            flags = values[2] if isinstance(values[2], int) else 0
            hit = writes or bool(flags & (os.O_WRONLY | os.O_RDWR))
        else:
            hit = event in CHANGES
        if hit and str(values[0]).startswith(place):
            tell(f"{event} {values[0]}")

    sys.addaudithook(watch)


@contextlib.contextmanager
def before_statements(tell: Callable[[str], None]) -> Iterator[None]:
    """Call `tell` with every statement for the registry's database before it is executed."""
    from sqlalchemy.engine.default import DefaultDialect

    real = DefaultDialect.do_execute

    def execute(self: Any, cursor: Any, statement: str, *args: Any) -> None:
        tell(statement)
        real(self, cursor, statement, *args)

    with patched(DefaultDialect, "do_execute", execute):
        yield


@contextlib.contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def disk(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Refuse every write of a flow in turn: by kind and file, each in two attempts.

    The flow goes on after every refusal in the folder that the refusal left, so that each refusal
    is a resume too.
    """
    began, wanted = time.perf_counter(), undisturbed(folder)
    refused: dict[str, int] = {}
    found: dict[str, Any] = {"writes_refused": 0, "places": 0, "faults_lost": []}
    mark = folder / "refused.txt"
    while True:
        mark.write_text("")
        code = child(lambda: refusing(folder, "full", refused, mark))
        places = mark.read_text().splitlines()
        if not places:
            break
        for place in places:
            refused[place] = refused.get(place, 0) + 1
        found |= {"writes_refused": sum(refused.values()), "places": len(refused)}
        text = last(folder)
        if code not in (0, 5) or (code == 5 and not FULL.search(text)):
            found["faults_lost"].append({"write": places, "is": f"exit {code}: {text}"[:600]})
        print(f"{found['writes_refused']}: {'; '.join(places)}: exit {code}", flush=True)
        note(args, found, began)
    run = folder / "full" / "digits"
    if trouble := lost(folder, run, wanted) if code == 0 else f"exit {code}: {last(folder)}":
        found["faults_lost"].append({"write": "in the end", "is": trouble[:600]})
    note(args, found, began)
    return found


FULL = re.compile(r"No space left|disk is full")


def refusing(folder: Path, out: str, refused: dict[str, int], mark: Path) -> int:
    """Run the flow; every write that was not refused often enough finds the disk full."""
    place, real = str(folder / out), os.fsync

    def refuses(what: str) -> bool:
        name = re.sub(
            r"[0-9a-f]{16,}|/srinit-\w+|\.\w{8}\.tmp|making-\w+", "*", what.replace(place, "")
        )
        if refused.get(name, 0) >= TWICE:
            return False
        if name not in mark.read_text().splitlines():
            with mark.open("a") as file:
                file.write(f"{name}\n")
        return True

    def file(what: str) -> None:
        event, _, path = what.partition(" ")
        made = event == "os.mkdir" and not Path(path).is_dir()
        if (event == "open" or made) and refuses(what):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fsync(descriptor: Any) -> None:
        handle = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if str(path).startswith(place) and not path.is_dir() and refuses(f"fsync {path}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    def statement(text: str) -> None:
        words = text.split()
        if not words or words[0].upper() not in ("INSERT", "UPDATE", "DELETE", "CREATE", "ALTER"):
            return
        tables = "_alembic" in text or words[0].upper() in ("CREATE", "ALTER")
        if refuses("sql " + (words[0] if tables else " ".join(words[:3]))):
            raise sqlite3.OperationalError("database or disk is full")

    with patched(os, "fsync", fsync), before_statements(statement):
        return flow(folder, out)


def note(args: argparse.Namespace, found: dict[str, Any], began: float) -> None:
    """Keep what was found so far."""
    body = json.loads(args.out.read_text()) if args.out.is_file() else {}
    body["schema"] = SCHEMA
    body.setdefault(args.command, {})[" ".join(sys.argv[1:])] = {  # a smaller run keeps the larger
        **found,
        "seconds": round(time.perf_counter() - began, 1),
        "command": " ".join(["python", "benchmarks/faults.py", *sys.argv[1:]]),
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "mlflow": sys.modules["mlflow"].__version__,
        },
    }
    write_text(args.out, json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
