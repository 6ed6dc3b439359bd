"""Feeds damaged and hostile text to every reader of untrusted files: 100,000 inputs each.

    python benchmarks/fuzz.py                         goes on where it stopped
    python benchmarks/fuzz.py --inputs 2000 --out x.json

A target passes when every input is either read or refused with an error of srinit's own, within
two seconds of processor time (and a quarter of an hour by the clock). Anything else is kept in the
results with the input that caused it, and tried again at the next call. Inputs are valid files
changed at random (bytes, lines, values, splices), and plain noise; they derive from the number of
the input, so that a failure can be repeated alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from srinit import sources
from srinit.artifact import read_recipe
from srinit.config import load_config
from srinit.errors import PruneError
from srinit.plan import PrunePlan
from srinit.sensitivity.journal import Journal
from srinit.store import audit, read_npz, write_text
from srinit.store.sums import read_sums

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = "srinit.fuzz/1"
CHUNK = 1000  # inputs between two looks at the results file
SECONDS = 2  # of processor time: a hang
PATIENCE = 900  # by the clock: this process may have to wait for a core

UNIT = {
    "name": "layer1.0",
    "kind": "block",
    "in_shape": [4, 8, 8],
    "out_shape": [4, 8, 8],
    "params": 100,
    "flops": 200,
    "position": 0,
}
PLAN = {
    "schema": "srinit.plan/2",
    "remove": [{"unit": UNIT, "evidence": {"reinit_drop": 0.1}}],
    "ranking": ["layer1.0"],
    "prefixes": [{"num_removed": 0, "params": 100, "flops": 200}],
    "target": {"params": 0.5},
    "criterion": "reinit_drop (matched)",
    "inputs": None,
}
TOKENS = (
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"- ", b"  ", b"null", b"true", b"1e999",
    b"-1", b"NaN", b"../", b"/etc/passwd", b"\x00", b"\xff\xfe", b"*a", b"&a ",
    b"!!python/name:os ", b"9" * 400, b"[" * 50,
    b"\xf0\x9f\x98\x80", b"=cmd()", b"<<: ", b"%", b"path", b"label", b"'",
)  # fmt: skip


VALUES = (
    None, True, -1, 0, 2**63, 10**400, 1e308, float("nan"), "", "../x", "layer1.0", "\ud800",
    [], {}, [[[]]], {"unit": {}}, "py:evil.py:run", "=cmd()", "<img onerror=alert(1)>", ["a"] * 50,
)  # fmt: skip


def altered(tree: Any, random: np.random.Generator) -> Any:
    """Return a JSON tree with one value, or one key, replaced by an odd one."""
    if isinstance(tree, dict) and tree and random.random() < 0.9:
        key = list(tree)[int(random.integers(0, len(tree)))]
        if random.random() < 0.1:
            rest = {k: v for k, v in tree.items() if k != key}
            return rest | ({f"{key}x": tree[key]} if random.random() < 0.5 else {})
        return {**tree, key: altered(tree[key], random)}
    if isinstance(tree, list) and tree and random.random() < 0.8:
        place = int(random.integers(0, len(tree)))
        return [altered(v, random) if i == place else v for i, v in enumerate(tree)]
    return VALUES[int(random.integers(0, len(VALUES)))]


def damaged(seed: bytes, random: np.random.Generator) -> bytes:
    """Return `seed` with some random changes; sometimes noise alone."""
    if random.random() < 0.05:
        return random.bytes(int(random.integers(0, 200)))
    if seed[:1] == b"{" and random.random() < 0.5:
        lines = seed.split(b"\n{") if b"\n{" in seed else [seed]
        chosen = int(random.integers(0, len(lines)))
        text = lines[chosen] if chosen == 0 else b"{" + lines[chosen]
        body = json.dumps(altered(json.loads(text), random)).encode()
        return b"\n".join([*lines[:chosen], body, *(b"{" + x for x in lines[chosen + 1 :])]) + b"\n"
    content = bytearray(seed)
    for _ in range(int(random.integers(1, 6))):
        place = int(random.integers(0, len(content) + 1))
        end = min(len(content), place + int(random.integers(1, 40)))
        kind = int(random.integers(0, 6))
        if kind == 0 and content:
            content[place % len(content)] ^= 1 << int(random.integers(0, 8))
        elif kind == 1:
            del content[place:end]
        elif kind == 2:
            content[place:place] = TOKENS[int(random.integers(0, len(TOKENS)))]
        elif kind == 3:
            content[place:place] = content[place:end] * int(random.integers(1, 20))
        elif kind == 4:
            del content[place:]
        else:
            lines = bytes(content).split(b"\n")
            random.shuffle(lines)
            content = bytearray(b"\n".join(lines))
    return bytes(content)


def targets(folder: Path) -> dict[str, tuple[bytes, Callable[[bytes], Any]]]:
    """Return, for every kind of file, a valid one and what reads it."""
    (folder / "a.png").write_bytes(b"not read")
    write_text(folder / "plan.json", json.dumps(PLAN))
    recipe = {
        "schema": "srinit.recipe/1",
        "base": {"source": "timm:test_resnet", "args": {}},
        "plan": {key: value for key, value in PLAN.items() if key != "schema"},
        "weights": "model.safetensors",
        "weights_sha256": "0" * 64,
        "aliases": {},
        "preprocessing": {},
        "metadata": {},
        "versions": {},
    }
    audit.append(folder / "seed.jsonl", verb="scan", decision="done", inputs={"a": "b"})
    audit.append(folder / "seed.jsonl", verb="gate", decision="passed")
    np.savez(folder / "seed.npz", images=np.zeros((2, 2, 2), np.uint8), labels=np.arange(2))
    journal = b'{"schema":"srinit.observations/1","seed":0}\n{"unit":"a","drop":0.5}\n'
    sums = ("0" * 64 + "  a/b.json\n").encode() * 3

    def through(name: str, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
        def reader(content: bytes) -> Any:
            (folder / name).write_bytes(content)
            return read(folder / name)

        return reader

    example = ROOT / "examples/cifar10/srinit.yaml"
    whole = {**load_config(example).model_dump(mode="json"), "profiles": {"a": {"seed": 1}}}
    return {
        "config": (example.read_bytes(), through("c.yaml", load_config)),
        "config values": (json.dumps(whole).encode(), through("v.yaml", load_config)),
        "plan": (json.dumps(PLAN, indent=2).encode(), PrunePlan.from_json),
        "recipe": (
            json.dumps(recipe, indent=2).encode(),
            through("recipe.json", lambda path: read_recipe(path.parent)),
        ),
        "journal": (journal, through("o.jsonl", lambda path: Journal(path, {"seed": 0}))),
        "audit log": ((folder / "seed.jsonl").read_bytes(), through("a.jsonl", audit.read)),
        "hashes": (sums, through("SHA256SUMS", read_sums)),
        "csv list": (
            b"path,label\na.png,ok\na.png,ng\n",
            through("l.csv", lambda path: sources.load_data(f"csv:{path}")),
        ),
        "arrays": ((folder / "seed.npz").read_bytes(), through("x.npz", read_npz)),
        "array data": (
            (folder / "seed.npz").read_bytes(),
            through("y.npz", lambda path: sources.load_data(f"npz:{path}")),
        ),
    }


class Hang(BaseException):
    """An input took too long."""


def _stop(*_: object) -> None:
    raise Hang


def _watch(seconds: float, patience: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, patience)


def run_chunk(
    name: str, seed: bytes, read: Callable[[bytes], Any], begin: int, end: int
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Return the counts and the failures of the inputs numbered from `begin` to `end`."""
    counts, failures = {"read": 0, "refused": 0}, []
    for number in range(begin, end):
        key = [number, *name.encode()]
        content = damaged(seed, np.random.default_rng(key))
        _watch(SECONDS, PATIENCE)
        try:
            read(content)
            counts["read"] += 1
        except PruneError:
            counts["refused"] += 1
        except (Exception, Hang) as error:
            failures.append({"number": number, "error": repr(error)[:300], "input": repr(content)})
        finally:
            _watch(0, 0)
    return counts, failures


def again(
    name: str, seed: bytes, read: Callable[[bytes], Any], state: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the kept failures that fail again, after something was mended; count the others."""
    left: list[dict[str, Any]] = []
    for failure in state["failures"]:
        counts, failures = run_chunk(name, seed, read, failure["number"], failure["number"] + 1)
        left += failures
        for kind, count in counts.items():
            state[kind] += count
    return left


def main() -> int:
    """Run what is left of every target; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs of every target")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/fuzz.json")
    parser.add_argument("--only", help="one target")
    arguments = parser.parse_args()
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _stop)
    body: dict[str, Any] = {"schema": SCHEMA, "python": platform.python_version(), "targets": {}}
    if arguments.out.is_file():
        body = json.loads(arguments.out.read_text("utf-8"))
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        for name, (seed, read) in targets(Path(folder)).items():
            if arguments.only not in (None, name):
                continue
            fresh = {"inputs": 0, "read": 0, "refused": 0, "seconds": 0.0, "failures": []}
            state = body["targets"].setdefault(name, fresh)
            if state["failures"]:
                state["failures"] = again(name, seed, read, state)
                write_text(arguments.out, json.dumps(body, indent=2) + "\n")
            while state["inputs"] < arguments.inputs:
                end = min(state["inputs"] + CHUNK, arguments.inputs)
                begin_time = time.perf_counter()
                counts, failures = run_chunk(name, seed, read, state["inputs"], end)
                state["inputs"] = end
                state["read"] += counts["read"]
                state["refused"] += counts["refused"]
                state["failures"] = [*state["failures"], *failures][:20]
                state["seconds"] = round(state["seconds"] + time.perf_counter() - begin_time, 1)
                write_text(arguments.out, json.dumps(body, indent=2) + "\n")
            print(f"{name}: {state['inputs']} inputs, {len(state['failures'])} failures")
    return int(any(state["failures"] for state in body["targets"].values()))


if __name__ == "__main__":
    sys.exit(main())
