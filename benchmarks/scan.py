"""The scan against the published procedure: time, precision, decisions, memory, growth.

    python benchmarks/scan.py ratio        1. wall time: every half-width 0.02, against 28 passes
    python benchmarks/scan.py precision    2. evaluations and time to the error of 5 whole-set draws
    python benchmarks/scan.py spread       2. how far the error of 5 draws is off: 60 of late blocks
    python benchmarks/scan.py truth        3. a long scan: 50 passes, a draw for every few images
    python benchmarks/scan.py decisions    3. decisions, order: against that and 50 whole-set draws
    python benchmarks/scan.py memory       4. peak memory, against a plain evaluation
    python benchmarks/scan.py growth       5. and 6. time by depth; on a GPU with --device cuda
    python benchmarks/scan.py profile      where the time goes, and what cannot be avoided
    python benchmarks/scan.py coverage     do the intervals contain the long scan's drops
    python benchmarks/scan.py table        writes the tables of benchmarks/scan.md from the results

Data and checkpoints are those of `--shared` (data/cifar10-jpeg, checkpoints). Each command works
for at most `--budget` seconds and appends to `benchmarks/results/scan_<command>.json`; repeat it
until it says that it is complete. Times mean something on a quiet machine only: the load is
written beside them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from srinit.evaluate import evaluate
from srinit.modules import swapped
from srinit.networks import load_weights, read_weights
from srinit.reinit import reinitialized
from srinit.sensitivity import Sensitivity, measure_sensitivity
from srinit.sources import Preprocess, load_data
from srinit.units import UnitMap, find_units

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BLOCKS = {20: 9, 56: 27, 110: 54}
Batches = list[tuple[Tensor, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--depth", type=int, default=56, help="of the CIFAR ResNet")
    parser.add_argument("--scheme", default="keep_norm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=540, help="seconds for this call")
    parser.add_argument("--passes", type=int, help="of the reference in one run (3), of truth (50)")
    parser.add_argument("--half-width", type=float, default=0.02, help="of decisions' scans")
    parser.add_argument("--against", default="both", choices=("both", "fresh"), help="decisions")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--role", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    COMMANDS[args.command](args)


# what is measured


def network(args: argparse.Namespace, depth: int) -> nn.Module:
    """Return the CIFAR ResNet of the example; depths without a checkpoint stay untrained."""
    path = HERE.parent / "examples" / "cifar10" / "model.py"
    spec = importlib.util.spec_from_file_location("cifar_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        model: nn.Module = module.resnet(depth)
    weights = args.shared / "checkpoints" / f"resnet{depth}-cifar10-jpeg.safetensors"
    if weights.is_file():
        load_weights(model, read_weights(weights), where=weights.name)
    return model.eval().to(args.device)


def images(args: argparse.Namespace, batch_size: int) -> Batches:
    """Return the 10,000 test images, normalized, as tensors in memory."""
    path = args.shared / "data" / "cifar10-jpeg" / "test.parquet"
    preprocess = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    data = load_data(f"parquet:{path}", preprocess=preprocess)
    return [(x.contiguous(), y) for x, y in data.batches(batch_size)]


def units_of(model: nn.Module, device: str) -> UnitMap:
    """Return all blocks: removable ones, and the ones that change the shape."""
    found = find_units(model, torch.zeros(2, 3, 32, 32, device=device))
    names = {unit.name for unit in (*found.removable, *found.locked)}
    blocks = {f"layer{s}.{i}" for s in (1, 2, 3) for i in range(len(getattr(model, f"layer{s}")))}
    if names != blocks:
        raise SystemExit(f"units are {sorted(names ^ blocks)} off the blocks of this network")
    return found


def one_pass(model: nn.Module, batches: Batches) -> float:
    """Return the seconds of one plain pass in the model's own number format."""
    began = time.perf_counter()
    evaluate(model, batches)
    return time.perf_counter() - began


def figures(found: Sensitivity, seconds: float) -> dict[str, Any]:
    """Return what is recorded of a scan."""
    widths = [(u.high - u.low) / 2 for u in found.units if u.high is not None]  # type: ignore[operator]
    joint = [
        (u.joint_high - u.joint_low) / 2  # type: ignore[operator]
        for u in found.units
        if u.joint_high is not None
    ]
    return {
        "seconds": seconds,
        "scheme": found.scheme,
        "scale": found.scale,
        "seed": found.seed,
        "stopped_by": found.stopped_by,
        "units": len(found.units),
        "largest_half_width": max(widths),
        "largest_joint_half_width": max(joint),
        "evaluations": sum(u.num_examples for u in found.units),
        "draws": sum(u.num_draws for u in found.units),
        "images": found.num_examples,
        "drops": {u.unit: u.reinit_drop for u in found.units},
        "intervals": {u.unit: [u.low, u.high] for u in found.units},
    }


# the record


class Record:
    """A JSON file that grows; every entry says where and when it was measured."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.path = RESULTS / f"scan_{name}.json"
        self.body: dict[str, Any] = {"schema": "srinit.benchmark.scan/1", "entries": []}
        if self.path.is_file():
            self.body = json.loads(self.path.read_text())
        self._args = args

    def entries(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return the entries with these values."""
        return [
            entry
            for entry in self.body["entries"]
            if all(entry.get(key) == value for key, value in wanted.items())
        ]

    def add(self, **values: Any) -> None:
        """Append an entry and write the file."""
        self.body["entries"].append({**values, "where": where(self._args)})
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(self.body, indent=1) + "\n")


def where(args: argparse.Namespace) -> dict[str, Any]:
    """Return machine, versions and load."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(":")[2].strip() if lines else cpu
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    found = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": args.threads,
        "bfloat16": torch.cpu._is_avx512_bf16_supported(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": [round(each, 2) for each in os.getloadavg()],
        "command": f"python benchmarks/{command}".replace(str(args.shared), "SHARED"),
    }
    if args.device != "cpu":
        found["gpu"] = torch.cuda.get_device_name()
    return found


# 1


def ratio(args: argparse.Namespace) -> None:
    """Time the scan between passes of the reference, and the whole reference pass by pass."""
    record = Record("ratio", args)
    model = network(args, args.depth)
    batches = images(args, 256)
    units = units_of(model, args.device)
    warm = measure_sensitivity(model, units, batches[:1], scheme=args.scheme, half_width=0.3)
    blocks = len(warm.units)
    one_pass(model, batches[:2])
    passes = [one_pass(model, batches)]
    runs = []
    for index in range(max((args.passes or 3) - 1, 1)):
        seed = args.seed + index
        began = time.perf_counter()
        found = measure_sensitivity(model, units, batches, scheme=args.scheme, seed=seed)
        runs.append(figures(found, time.perf_counter() - began))
        passes.append(one_pass(model, batches))
        reference = statistics.mean(passes) * (blocks + 1)
        scan, width = runs[-1]["seconds"], runs[-1]["largest_half_width"]
        print(f"{runs[-1]['scheme']} seed {seed}: {scan:.1f} s, 1/{reference / scan:.1f} of "
              f"{reference:.0f} s ({len(passes)} passes); half-widths to {width:.4f}")  # fmt: skip
    scan = statistics.median(run["seconds"] for run in runs)
    record.add(
        depth=args.depth,
        scheme=args.scheme,
        pass_seconds=passes,
        passes_in_reference=blocks + 1,
        reference_seconds=reference,
        scan_seconds=scan,
        ratio=reference / scan,
        runs=runs,
    )


def reference(args: argparse.Namespace) -> None:
    """Run the published procedure itself, all passes, for the record; resumes by pass."""
    record = Record("reference", args)
    model = network(args, args.depth)
    batches = images(args, 256)
    names = [u.unit for u in _blocks(model, args)]
    began = time.perf_counter()
    one_pass(model, batches[:2])
    for name in ["", *names]:
        if record.entries(depth=args.depth, unit=name):
            continue
        if time.perf_counter() - began > args.budget:
            print("not complete: run it again")
            return
        start = time.perf_counter()
        if name:
            fresh = reinitialized(model.get_submodule(name), seed=args.seed, scheme="paper")
            with swapped(model, name, fresh):
                score = evaluate(model, batches).score
        else:
            score = evaluate(model, batches).score
        record.add(depth=args.depth, unit=name, score=score, seconds=time.perf_counter() - start)
    entries = record.entries(depth=args.depth)
    total = sum(entry["seconds"] for entry in entries)
    print(f"complete: {len(entries)} passes, {total:.0f} s")


def _blocks(model: nn.Module, args: argparse.Namespace) -> list[Any]:
    units = units_of(model, args.device)
    return sorted((*units.removable, *units.locked), key=lambda unit: unit.position)


# 2


def precision(args: argparse.Namespace) -> None:
    """Compare with five whole-set draws of every unit: error reached, evaluations, time."""
    record = Record("precision", args)
    model = network(args, args.depth)
    batches = images(args, 256)
    units = units_of(model, args.device)
    journal = _scratch(f"precision{args.depth}{args.scheme}")
    began = time.perf_counter()
    whole = _resumed(args, model, units, batches, journal, draws=5)
    if whole is None:
        return
    spent = time.perf_counter() - began
    error = {u.unit: (u.draw_spread or 0.0) / math.sqrt(5) for u in whole.units}
    typical = math.sqrt(statistics.mean(value**2 for value in error.values()))
    path = _scratch(f"precision{args.depth}{args.scheme}fresh")
    path.unlink(missing_ok=True)
    measure_sensitivity(
        model, units, batches, scheme=args.scheme, half_width=0.02, seed=args.seed + 1,
        journal=path,
    )  # fmt: skip
    needed = {name: _rows_to_error(path, name, typical) for name in error}
    rows = max(value for value in needed.values() if value is not None)
    start = time.perf_counter()
    measure_sensitivity(
        model, units, batches, scheme=args.scheme, half_width=1e-3, seed=args.seed + 1,
        max_examples=rows,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    passes = [one_pass(model, batches) for _ in range(2)]
    reference = statistics.mean(passes) * (5 * len(error) + 1)
    evaluations = 5 * 10_000 * len(error)
    mine = sum(value or 0 for value in needed.values())
    record.add(
        depth=args.depth,
        scheme=args.scheme,
        error_of_five_draws=error,
        typical_error=typical,
        evaluations_whole=evaluations,
        evaluations_fresh=mine,
        fewer_evaluations=evaluations / mine,
        examples_for_every_unit=rows,
        seconds_fresh=seconds,
        pass_seconds=passes,
        reference_seconds=reference,
        less_time=reference / seconds,
        seconds_whole_with_replay=spent,
    )
    print(
        f"error {typical:.4f}: {evaluations} against {mine} evaluations "
        f"({evaluations / mine:.0f}x), {reference:.0f} s against {seconds:.1f} s "
        f"({reference / seconds:.0f}x; all units at {rows} examples)"
    )


def spread(args: argparse.Namespace) -> None:
    """Measure 60 whole-set draws of the 13 last blocks of ResNet-56 over 2,048 images."""
    model = network(args, 56)
    units = units_of(model, args.device)
    late = [unit for unit in units.removable if unit.name >= "layer2.5"]
    part = UnitMap(removable=tuple(late), locked=(), params=units.params, flops=units.flops)
    found = measure_sensitivity(
        model, part, images(args, 256)[:8], scheme=args.scheme, draws=60, seed=5
    )
    drops = {unit.unit: list(unit.observations) for unit in found.units}
    Record("spread", args).add(depth=56, scheme=args.scheme, seed=5, images=2048, drops=drops)
    errors = [statistics.variance(each) / 5 for each in drops.values()]
    print(f"error of five draws of these blocks: {math.sqrt(statistics.mean(errors)):.4f}")


def _rows_to_error(journal: Path, unit: str, error: float) -> int | None:
    """Return after how many examples a unit's standard error is at most `error`."""
    drops: list[float] = []
    rows = 0
    for line in map(json.loads, journal.read_text().splitlines()):
        entry = line.get("units", {}).get(unit) if "batch" in line else None
        if not isinstance(entry, dict):
            continue
        base = np.array([float(s) for s in line["baseline"]["scores"]])
        drop = base - np.array([float(s) for s in entry["scores"]])
        for start in range(0, len(drop), entry["per_draw"]):
            part = drop[start : start + entry["per_draw"]]
            drops.append(float(part.mean()))
            rows += len(part)
            if len(drops) >= 16 and np.std(drops, ddof=1) / math.sqrt(len(drops)) <= error:
                return rows
    return rows


def _scratch(name: str) -> Path:
    folder = Path(tempfile.gettempdir()) / "srinit-benchmark"
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.jsonl"


class _OutOfTimeError(Exception):
    pass


def _resumed(
    args: argparse.Namespace,
    model: nn.Module,
    units: UnitMap,
    batches: Batches,
    journal: Path,
    *,
    draws: int,
) -> Sensitivity | None:
    """Return whole-set draws, or None where the budget ended first; the journal remembers."""
    stop = time.perf_counter() + args.budget

    def watch(done: float, total: float | None, note: str) -> None:
        if time.perf_counter() > stop:
            print(f"not complete ({done:.0f} of {total:.0f} parts, {note}): run it again")
            raise _OutOfTimeError

    try:
        return measure_sensitivity(
            model, units, batches, scheme=args.scheme, draws=draws, seed=args.seed,
            journal=journal, on_progress=watch,
        )  # fmt: skip
    except _OutOfTimeError:
        return None


# 3


TRUTH_PASSES = 50
COVERAGE_SCANS = 100


def truth(args: argparse.Namespace) -> None:
    """Average 50 passes over all images with a fresh draw for every few of them.

    As many evaluations as 50 whole-set draws, of thousands of draws in place of 50.
    """
    count = args.passes or TRUTH_PASSES
    record = Record("truth", args)
    if record.entries(depth=args.depth, scheme=args.scheme):
        print("complete")
        return
    model = network(args, args.depth)
    batches = images(args, 256)
    units = units_of(model, args.device)
    kept = _scratch(f"truth{args.depth}{args.scheme}")
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    began = time.perf_counter()
    for seed in range(1000 + len(lines), 1000 + count):
        if time.perf_counter() - began > args.budget:
            print(f"not complete ({len(lines)} of {count}): run it again")
            return
        found = measure_sensitivity(
            model, units, batches, scheme=args.scheme, seed=seed, half_width=None
        )
        lines.append(
            {
                "drops": {u.unit: u.reinit_drop for u in found.units},
                "draws": {u.unit: u.num_draws for u in found.units},
                "evaluations": sum(u.num_examples for u in found.units),
            }
        )
        with kept.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
    drops = {name: [line["drops"][name] for line in lines] for name in lines[0]["drops"]}
    record.add(
        depth=args.depth,
        scheme=args.scheme,
        passes=len(lines),
        drops={name: statistics.mean(values) for name, values in drops.items()},
        standard_errors={
            name: statistics.stdev(values) / math.sqrt(len(values))
            for name, values in drops.items()
        },
        draws={name: sum(line["draws"][name] for line in lines) for name in drops},
        evaluations=sum(line["evaluations"] for line in lines),
    )
    print("complete")


def decisions(args: argparse.Namespace) -> None:
    """Compare decisions and order with 50 whole-set draws, and with the long scan of `truth`."""
    record = Record("decisions", args)
    model = network(args, args.depth)
    batches = images(args, 256)
    units = units_of(model, args.device)
    seeds = range(args.seed + 1, args.seed + 6)
    known = {"depth": args.depth, "scheme": args.scheme, "half_width": args.half_width}
    references = [("fresh", _truth(args))]
    missing = any(not record.entries(**known, seed=seed, against="whole-set") for seed in seeds)
    if missing and args.against == "both":
        whole = _resumed(
            args, model, units, batches, _scratch(f"long{args.depth}{args.scheme}"), draws=50
        )
        if whole is None:
            return
        drops = {u.unit: float(u.reinit_drop) for u in whole.units}  # type: ignore[arg-type]
        error = {u.unit: (u.high - u.low) / 2 for u in whole.units}  # type: ignore[operator]
        references.append(("whole-set", (drops, error)))
    for seed in seeds:
        todo = [
            reference
            for reference in references
            if not record.entries(**known, seed=seed, against=reference[0])
        ]
        if not todo:
            continue
        found = measure_sensitivity(
            model, units, batches, scheme=args.scheme, seed=seed, half_width=args.half_width
        )
        for against, (drops, error) in todo:
            plain = _disagreements(found, drops, dict.fromkeys(drops, 0.0))
            sure = _disagreements(found, drops, error)
            inside = [u.low <= drops[u.unit] <= u.high for u in found.units]  # type: ignore[operator]
            order = [drops[u.unit] for u in found.units], [u.reinit_drop for u in found.units]
            tau = float(kendalltau(*order).statistic)
            claims = _claims(found, drops)
            print(
                f"seed {seed}, {against}: wrong, of all, decisions a half-width away: {plain}; "
                f"further than the reference's own error: {sure}; by joint interval: {claims}; "
                f"Kendall tau {tau:.3f}; {sum(inside)} of {len(drops)} intervals contain the "
                "reference's drop"
            )
            record.add(
                **known, seed=seed, against=against,
                decisions_wrong_and_all=plain, beyond_the_long_scans_error=sure,
                interval_decisions_wrong_and_all=claims,
                kendall_tau=tau, covered=int(sum(inside)), units=len(drops), truth=drops,
                truth_half_width=error, scan=figures(found, found.seconds or 0.0),
            )  # fmt: skip


def _truth(args: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Return the drops that `truth` measured, and the half-widths of their 95 % intervals."""
    entries = Record("truth", args).entries(depth=args.depth, scheme=args.scheme)
    if not entries:
        raise SystemExit(f"run `python benchmarks/scan.py truth --depth {args.depth}` first")
    errors = entries[-1]["standard_errors"]
    return entries[-1]["drops"], {name: 1.96 * error for name, error in errors.items()}


LIMITS = [round(0.001 * step, 3) for step in range(1000)]


def _disagreements(
    found: Sensitivity, drops: dict[str, float], error: dict[str, float]
) -> list[int]:
    """Return wrong and all decisions by the estimate, at limits a half-width from the truth.

    Args:
        found: The scan.
        drops: The truth.
        error: How much further away from each truth a limit must be to count.
    """
    wrong = total = 0
    for unit in found.units:
        true, half = drops[unit.unit], (unit.high - unit.low) / 2  # type: ignore[operator]
        for limit in LIMITS:
            if abs(limit - true) >= half + error[unit.unit]:
                total += 1
                wrong += (unit.reinit_drop <= limit) != (true <= limit)  # type: ignore[operator]
    return [int(wrong), total]


def _claims(found: Sensitivity, drops: dict[str, float]) -> list[int]:
    """Return wrong and all decisions that the scan itself would take: by its joint intervals."""
    wrong = total = 0
    for unit in found.units:
        for limit in LIMITS:
            if unit.joint_high <= limit or unit.joint_low > limit:  # type: ignore[operator]
                total += 1
                wrong += (unit.joint_high <= limit) != (drops[unit.unit] <= limit)  # type: ignore[operator]
    return [int(wrong), total]


# 4


def memory(args: argparse.Namespace) -> None:
    """Measure the peak resident memory of a plain evaluation and of a scan, a process each."""
    if args.role:
        _memory_of(args)
        return
    record = Record("memory", args)
    peaks: dict[str, float] = {}
    for role in ("data", "plain", "scan"):
        command = [sys.executable, __file__, "memory", "--role", role]
        command += ["--shared", str(args.shared), "--depth", str(args.depth)]
        command += ["--scheme", args.scheme, "--threads", str(args.threads)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        peaks[role] = float(output.strip().splitlines()[-1])
    limit = 2 * peaks["plain"] + 256
    above = {role: peaks[role] - peaks["data"] for role in ("plain", "scan")}
    print(f"MiB: {peaks}, limit {limit:.0f}; above the loaded data: {above}")
    record.add(
        depth=args.depth, scheme=args.scheme, batch_size=64, peak_mib=peaks, limit_mib=limit,
        above_data_mib=above, holds=peaks["scan"] <= limit,
        holds_above_data=above["scan"] <= 2 * above["plain"] + 256,
    )  # fmt: skip


def _memory_of(args: argparse.Namespace) -> None:
    model = network(args, args.depth)
    batches = images(args, 64)
    units = units_of(model, args.device)
    if args.role == "plain":
        evaluate(model, batches[:20])
    elif args.role == "scan":
        measure_sensitivity(model, units, batches, scheme=args.scheme, max_examples=1024)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# 5 and 6


def growth(args: argparse.Namespace) -> None:
    """Time scans of the same number of observations a unit, by depth."""
    record = Record("growth" if args.device == "cpu" else "gpu", args)
    examples = 512 if args.device == "cpu" else 8192
    peak = matmul_peak(args.device)
    batches = images(args, 256)
    times, blocks = [], []
    for depth in (20, 56, 110):
        model = network(args, depth)
        units = units_of(model, args.device)
        kwargs: dict[str, Any] = {"scheme": args.scheme, "half_width": None}
        few: dict[str, Any] = {**kwargs, "max_examples": 8, "batch_size": 8}
        for _ in range(2):  # the first one warms up
            preparation, _ = _timed(model, units, batches[:1], **few)
        seconds, found = _timed(model, units, batches, max_examples=examples, **kwargs)
        flops = unavoidable_flops(units, found)
        times.append(seconds)
        blocks.append(len(found.units))
        print(f"ResNet-{depth}: {len(found.units)} blocks, {seconds:.2f} s, "
              f"{flops / seconds / 1e9:.0f} GFLOP/s of {peak / 1e9:.0f}")  # fmt: skip
        record.add(
            depth=depth, scheme=args.scheme, examples_a_unit=examples, blocks=len(found.units),
            seconds=seconds, seconds_of_preparation=preparation, flops=flops, matmul_peak=peak,
            utilisation=flops / seconds / peak,
            draws=sum(u.num_draws for u in found.units),
        )  # fmt: skip
    exponent = float(np.polyfit(np.log(blocks), np.log(times), 1)[0])
    print(f"seconds grow with blocks to the power of {exponent:.2f}")
    record.add(exponent=exponent, blocks=blocks, seconds=times)


def _timed(
    model: nn.Module, units: UnitMap, batches: Batches, **kwargs: Any
) -> tuple[float, Sensitivity]:
    """Return the seconds of a scan, and what it found."""
    began = time.perf_counter()
    found = measure_sensitivity(model, units, batches, **kwargs)
    return time.perf_counter() - began, found


def matmul_peak(device: str) -> float:
    """Return the FLOP/s of a large matrix product on this device, the best of some.

    In bfloat16 where the device has it, else in 32 bits, as the scan.
    """
    size = 2048 if device == "cpu" else 8192
    has_half = device != "cpu" or torch.cpu._is_avx512_bf16_supported()
    one = torch.randn(size, size, device=device).to(torch.bfloat16 if has_half else torch.float32)
    best = math.inf
    for _ in range(8):
        if device != "cpu":
            torch.cuda.synchronize()
        began = time.perf_counter()
        one @ one
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def unavoidable_flops(units: UnitMap, found: Sensitivity) -> float:
    """Return the FLOPs of one baseline an image, and from the unit to the end an evaluation."""
    left, suffix = float(units.flops), {}
    for unit in sorted((*units.removable, *units.locked), key=lambda each: each.position):
        suffix[unit.name] = left
        left -= unit.flops
    again = sum(suffix[u.unit] * u.num_examples for u in found.units)
    return units.flops * found.num_examples + again


# profile


def profile(args: argparse.Namespace) -> None:
    """Write where one scan's time goes, by kind of work, and the limit of its arithmetic."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    record = Record("profile", args)
    model = network(args, args.depth)
    batches = images(args, 256)
    units = units_of(model, args.device)
    measure_sensitivity(model, units, batches, scheme=args.scheme, max_examples=64)
    began = time.perf_counter()
    found = measure_sensitivity(model, units, batches, scheme=args.scheme)
    seconds = time.perf_counter() - began
    torch.set_num_threads(1)  # all work in the thread that is profiled
    with torch_profile(activities=[ProfilerActivity.CPU]) as taken:
        part = measure_sensitivity(
            model, units, batches, scheme=args.scheme, max_examples=512, half_width=1e-3
        )
    torch.set_num_threads(args.threads)
    operators = {
        event.key: {"seconds": event.self_cpu_time_total / 1e6, "calls": event.count}
        for event in sorted(taken.key_averages(), key=lambda e: -e.self_cpu_time_total)[:14]
    }
    flops, peak = unavoidable_flops(units, found), matmul_peak(args.device)
    print(json.dumps(operators, indent=1))
    print(f"{seconds:.1f} s; arithmetic {flops / 1e12:.2f} TFLOP, at the measured peak of "
          f"{peak / 1e9:.0f} GFLOP/s {flops / peak:.1f} s")  # fmt: skip
    record.add(
        depth=args.depth, scheme=args.scheme, seconds=seconds, flops=flops, matmul_peak=peak,
        seconds_at_peak=flops / peak, operators=operators, profiled_examples=part.num_examples,
        scan=figures(found, seconds),
    )  # fmt: skip


# coverage


def coverage(args: argparse.Namespace) -> None:
    """Count intervals that contain the drop of the long scan of `truth`, over many seeds."""
    record = Record("coverage", args)
    model = network(args, args.depth)
    batches = images(args, 256)
    units = units_of(model, args.device)
    drops, _ = _truth(args)
    began = time.perf_counter()
    known = {"depth": args.depth, "scheme": args.scheme}
    scans = []
    for seed in range(100, 100 + COVERAGE_SCANS):
        if record.entries(**known):
            print("complete")
            return
        if time.perf_counter() - began > args.budget:
            print("not complete in this budget; it does not resume")
            return
        found = measure_sensitivity(
            model, units, batches, scheme=args.scheme, seed=seed, half_width=0.05
        )
        alone = [u.low <= drops[u.unit] <= u.high for u in found.units]  # type: ignore[operator]
        joint = [
            u.joint_low <= drops[u.unit] <= u.joint_high  # type: ignore[operator]
            for u in found.units
        ]
        scans.append((int(sum(alone)), all(joint)))
    record.add(
        **known,
        half_width=0.05,
        scans=len(scans),
        intervals=len(scans) * len(drops),
        covered=sum(alone for alone, _ in scans),
        all_joint=sum(joint for _, joint in scans),
    )
    print(record.body["entries"][-1])


# the tables


def table(args: argparse.Namespace) -> None:
    """Write the tables of `benchmarks/scan.md` anew, from the results."""
    from scan_table import tables

    path = HERE / "scan.md"
    before, _, rest = path.read_text("utf-8").partition("<!-- tables -->")
    _, _, after = rest.partition("<!-- end of tables -->")
    body = tables(RESULTS)
    path.write_text(f"{before}<!-- tables -->\n\n{body}\n<!-- end of tables -->{after}", "utf-8")
    print(body)


COMMANDS = {
    "ratio": ratio,
    "reference": reference,
    "precision": precision,
    "spread": spread,
    "truth": truth,
    "decisions": decisions,
    "memory": memory,
    "growth": growth,
    "profile": profile,
    "coverage": coverage,
    "table": table,
}

if __name__ == "__main__":
    main()
