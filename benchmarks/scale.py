"""How long the steps of a run take with more processes: measured at a few, the rest simulated.

    python benchmarks/scale.py                             1 and 2 processes here, then the tables
    torchrun ... benchmarks/scale.py measure               one entry, with the processes there are
    python benchmarks/scale.py table                       fits and simulates again, writes tables

The model is Amdahl's law in whole pieces with Hockney's cost of a message. A step of `p` pieces (a
batch, a unit, a candidate: what no two processes share) takes with N processes

    serial + parallel * ceil(p / N) / p + calls * latency * ceil(log2 N) + bytes * factor / rate

where `factor` is 2 (N - 1) / N of what is summed and N - 1 of what is gathered from each. `serial`
and `parallel` are solved from the measured seconds of the fewest and the most processes, `calls`
and `bytes` are counted, latency and rate are those of a small and of a large sum. On a CPU seconds
are those of the processor, of the busiest process (others may use the machine); on a GPU of the
clock.
Measured entries stay in results/scale.json until they are measured again; simulated ones are
marked, and made anew. On a cluster, start `measure` with several numbers of processes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch import distributed as dist

from cifar import HERE, RESULTS, rewrite
from srinit import apply_plan, compare, compensate, find_units, measure_sensitivity
from srinit.compensation import recalibrate
from srinit.criteria import score_units
from srinit.distributed import ProcessGroup, process_group
from srinit.networks import load_model
from srinit.plan import PrunePlan, Removal
from srinit.rng import generator, isolated_rng
from srinit.trial import try_removals

PATH = RESULTS / "scale.json"
PAGE = HERE.parent / "docs" / "cluster.md"
BATCH = 16
SIMULATED = (8, 64, 1000)
TIMES = 100  # so many times the examples, in the second table
LARGE = 4 << 20  # entries of a large sum: 32 MiB
BY_UNIT = ("criteria", "trials")  # whose pieces do not grow with the examples
Entry = dict[str, Any]


class Lab:
    """An untrained residual network, and images that it answers as it does."""

    def __init__(self, args: argparse.Namespace) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with isolated_rng(0):
            model = load_model("py:cifar10/model.py:resnet20", root=HERE.parent / "examples")
        x = torch.randn(args.examples, 3, 32, 32, generator=generator("scale"))
        recalibrate(model, [(x[:64], None)])
        self.model = model.eval().to(device)
        with torch.no_grad():
            y = torch.cat([self.model(part.to(device)).argmax(1).cpu() for part in x.split(64)])
        self.data = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
        self.units = find_units(self.model, x[:2].to(device))
        gone = [self.units[name] for name in self.units.names[2:4]]
        self.plan = PrunePlan(
            remove=tuple(Removal(unit=unit) for unit in gone), ranking=(),
            prefixes=(), target={}, criterion="", inputs=self.units.inputs,
        )  # fmt: skip
        self.pruned = apply_plan(self.model, self.plan)

    def steps(self, ranks: ProcessGroup) -> dict[str, tuple[int, Callable[[], object]]]:
        """Return every step: how many pieces it has, and what it does."""
        lab, batches, names = self, len(self.data), self.units.names
        fitted = math.ceil(batches * 0.75)  # the rest judges
        options: dict[str, Any] = {"ranks": ranks}
        return {
            "scan": (batches, lambda: measure_sensitivity(
                lab.model, lab.units, lab.data, scheme="permuted", half_width=1e-3,
                batch_size=BATCH,
            )),
            "criteria": (len(names), lambda: score_units(
                lab.model, lab.units, lab.data, criterion="removal_drop", **options
            )),
            "trials": (len(names), lambda: try_removals(
                lab.model, lab.units, [[name] for name in names], lab.data,
                example_inputs=lab.data[0][0][:2], **options,
            )),
            "compensation": (fitted, lambda: compensate(
                lab.model, lab.plan, [x for x, _ in lab.data], **options
            )),
            "comparison": (batches, lambda: compare(lab.model, lab.pruned, lab.data, **options)),
        }  # fmt: skip


class Traffic:
    """What this process exchanges: calls, and bytes by how they travel."""

    def __init__(self) -> None:
        self.calls, self.summed, self.gathered = 0, 0, 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count while the block runs."""
        with (
            mock.patch.object(dist, "all_reduce", self._sum(dist.all_reduce)),
            mock.patch.object(dist, "broadcast", self._sum(dist.broadcast)),
            mock.patch.object(dist, "all_gather", self._gather(dist.all_gather)),
        ):
            yield

    def _sum(self, exchange: Callable[..., Any]) -> Callable[..., Any]:
        def counted(values: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            self.summed += values.numel() * values.element_size()
            return exchange(values, *args, **kwargs)

        return counted

    def _gather(self, exchange: Callable[..., Any]) -> Callable[..., Any]:
        def counted(parts: Any, values: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            self.gathered += values.numel() * values.element_size()
            return exchange(parts, values, *args, **kwargs)

        return counted


def measure(args: argparse.Namespace) -> None:
    """Measure every step with the processes that there are, and keep the entry."""
    with process_group() as ranks:
        lab = Lab(args)
        found: dict[str, Any] = {}
        for name, (pieces, step) in lab.steps(ranks).items():
            traffic = Traffic()
            ranks.gather(name)  # all begin together
            with traffic.counted():
                wall, cpu = time.perf_counter(), time.process_time()
                step()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                spent = [time.perf_counter() - wall, time.process_time() - cpu]
            each = ranks.gather(spent)
            found[name] = {
                "pieces": pieces,
                "wall_seconds": round(max(wall for wall, _ in each), 3),
                "cpu_seconds": round(max(cpu for _, cpu in each), 3),
                "calls": traffic.calls,
                "bytes_summed": traffic.summed,
                "bytes_gathered": traffic.gathered,
            }
        message = messages(ranks)
        if ranks.rank == 0:
            body = json.loads(PATH.read_text()) if PATH.is_file() else {"entries": []}
            kept = [e for e in body["entries"] if e["processes"] != ranks.count]
            entry = {
                "kind": "measured", "processes": ranks.count, "examples": args.examples,
                "batch": BATCH, "units": len(lab.units.names), "where": place(args),
                "steps": found, "message": message,
            }  # fmt: skip
            write([*kept, entry])
            print(json.dumps(entry, indent=1))


def messages(ranks: ProcessGroup) -> dict[str, float] | None:
    """Return seconds of a small sum, and bytes a second of a large one; None for one process."""
    if ranks.count == 1:
        return None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seconds = []
    for size, times in ((1, 50), (LARGE, 3)):
        values = torch.zeros(size, dtype=torch.float64, device=device)
        ranks.sum_(values)
        spent = []
        for _ in range(times):
            began = time.perf_counter()
            ranks.sum_(values)
            if device == "cuda":
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - began)
        seconds.append(sorted(spent)[len(spent) // 2])
    hops = math.ceil(math.log2(ranks.count))
    factor = 2 * (ranks.count - 1) / ranks.count
    return {
        "latency_seconds": seconds[0] / hops,
        "bytes_per_second": 8 * LARGE * factor / max(seconds[1] - seconds[0], 1e-9),
    }


def place(args: argparse.Namespace) -> dict[str, Any]:
    """Return hardware and software, and which clock counts."""
    on_gpu = torch.cuda.is_available()
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "threads": args.threads,
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "clock": "wall_seconds" if on_gpu else "cpu_seconds",
        "note": args.note,
    }


def fit(measured: list[Entry]) -> dict[str, dict[str, float]]:
    """Return serial and parallel seconds of every step, from the fewest and most processes."""
    few, many = measured[0], measured[-1]
    found = {}
    for name, one in few["steps"].items():
        clock, pieces = few["where"]["clock"], one["pieces"]
        shares = [math.ceil(pieces / e["processes"]) / pieces for e in (few, many)]
        seconds = [e["steps"][name][clock] for e in (few, many)]
        parallel = (seconds[0] - seconds[1]) / (shares[0] - shares[1])
        parallel = min(max(parallel, 0.0), seconds[0] / shares[0])
        found[name] = {"serial": max(seconds[0] - shares[0] * parallel, 0.0), "parallel": parallel}
    return found


def expected(
    name: str, count: int, fitted: dict[str, float], many: Entry, times: int
) -> dict[str, float]:
    """Return the seconds of a step with `count` processes, in parts, and `times` the examples."""
    step, message = many["steps"][name], many["message"]
    pieces = step["pieces"] * (1 if name in BY_UNIT else times)
    share = math.ceil(pieces / count) / pieces
    rounds = math.ceil(pieces / count) / math.ceil(step["pieces"] / many["processes"])
    calls = step["calls"] * (rounds if name == "scan" else 1)  # the scan gathers after each round
    hops = math.ceil(math.log2(count))
    summed = step["bytes_summed"] * 2 * (count - 1) / count
    grown = times if name in ("scan", "comparison") else 1
    each = step["bytes_gathered"] * grown * many["processes"] / count
    parts = {
        "serial": fitted["serial"],
        "parallel": fitted["parallel"] * times * share,
        "messages": calls * message["latency_seconds"] * hops,
        "bytes": (summed + each * (count - 1)) / message["bytes_per_second"],
    }
    return {key: round(value, 4) for key, value in parts.items()}


def simulate(measured: list[Entry]) -> list[Entry]:
    """Return an entry for every number of processes that was not measured, marked as simulated."""
    fitted, many = fit(measured), measured[-1]
    known = {e["processes"] for e in measured}
    found = []
    for times in (1, TIMES):
        for count in sorted({*known, *SIMULATED}):
            if times == 1 and count in known:
                continue
            steps = {n: expected(n, count, fitted[n], many, times) for n in many["steps"]}
            found.append(
                {
                    "kind": "simulated", "processes": count, "steps": steps,
                    "examples": times * many["examples"],
                }
            )  # fmt: skip
    return found


def write(entries: list[Entry]) -> None:
    """Write measured entries, the model fitted to them, and what it says."""
    measured = sorted((e for e in entries if e["kind"] == "measured"), key=lambda e: e["processes"])
    body: dict[str, Any] = {"entries": measured}
    if len(measured) > 1:
        fitted = {
            name: {key: round(value, 3) for key, value in parts.items()}
            for name, parts in fit(measured).items()
        }
        body = {"model": fitted, "entries": [*measured, *simulate(measured)]}
    PATH.write_text(json.dumps(body, indent=1) + "\n")


def tables() -> tuple[str, dict[str, Any]]:
    """Return the tables of expected times as markdown, and all entries."""
    body = json.loads(PATH.read_text())
    measured = [e for e in body["entries"] if e["kind"] == "measured"]
    simulated = [e for e in body["entries"] if e["kind"] == "simulated"]
    at, many = measured[0]["where"], measured[-1]
    clock = "processor" if at["clock"] == "cpu_seconds" else "wall"
    small, large = many["examples"], TIMES * many["examples"]
    counts = " and ".join(str(entry["processes"]) for entry in measured)
    lines = [
        f"ResNet-20 at 32x32, {many['units']} units, batches of {BATCH}; seconds of {clock} time "
        f"of the busiest process. **Measured** with {counts} processes on "
        f"{at['gpu'] or at['cpu']}, {at['threads']} thread each ({at['note']}); everything else "
        "is *simulated* by the model.\n",
        f"With {small} examples:\n",
        *_table([*measured, *(e for e in simulated if e["examples"] == small)], at["clock"]),
        f"\nWith {large:,} examples, all of it simulated:\n",
        *_table([e for e in simulated if e["examples"] == large], at["clock"]),
    ]
    message = many["message"]
    lines += [
        "\nThe fitted model, in seconds, and what is exchanged:\n",
        "| step | serial | parallel | pieces | exchanges | summed, MB | gathered a process, kB |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {n} | {p['serial']:.2f} | {p['parallel']:.2f} | {s['pieces']} | {s['calls']} | "
            f"{s['bytes_summed'] / 1e6:.1f} | {s['bytes_gathered'] / 1e3:.1f} |"
            for n, p in body["model"].items()
            for s in [many["steps"][n]]
        ),
        f"\nA message takes {1e6 * message['latency_seconds']:.0f} µs a hop, a sum "
        f"{message['bytes_per_second'] / 1e9:.2f} GB/s.",
    ]
    return "\n".join(lines), {"entries": body["entries"]}


def _table(entries: list[Entry], clock: str) -> list[str]:
    heads = [
        f"{e['processes']}, {e['kind']}" if e["kind"] == "measured" else f"*{e['processes']}*"
        for e in entries
    ]
    lines = ["| step | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    totals = [0.0] * len(entries)
    for name in entries[0]["steps"]:
        cells = []
        for place_, entry in enumerate(entries):
            step = entry["steps"][name]
            seconds = step[clock] if entry["kind"] == "measured" else sum(step.values())
            totals[place_] += seconds
            cells.append(f"{seconds:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("| together | " + " | ".join(f"{t:.2f}" for t in totals) + " |")
    return lines


def here(args: argparse.Namespace) -> None:
    """Measure one and two processes of this machine, one after the other."""
    own = [str(Path(__file__)), "measure", "--examples", str(args.examples), "--note", args.note]
    subprocess.run([sys.executable, *own], check=True)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([sys.executable, *launch, *own], check=True)


if __name__ == "__main__":
    given = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    given.add_argument("task", nargs="?", choices=["here", "measure", "table"], default="here")
    given.add_argument("--examples", type=int, default=320)
    given.add_argument("--threads", type=int, default=1)
    given.add_argument("--note", default="other work was running", help="of the machine")
    arguments = given.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.task == "measure":
        measure(arguments)
    elif arguments.task == "here":
        here(arguments)
    if arguments.task != "measure":
        write(json.loads(PATH.read_text())["entries"])
        rewrite(PAGE, "scale", tables()[0])
        print(tables()[0])
