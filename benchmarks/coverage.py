"""Which networks can be pruned by whole layers: every file of timm and torchvision, and more.

    python benchmarks/coverage.py                 measure what is not measured yet (under two hours)
    python benchmarks/coverage.py --only 'hf:*'   some of it
    python benchmarks/coverage.py --again 'hf:t5' measure these anew
    python benchmarks/coverage.py --table         write docs/coverage.md from what was measured

One process a network, with a time and a memory limit; results are appended to
`benchmarks/results/coverage.jsonl`, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import multiprocessing
import platform
import resource
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "coverage.jsonl"
TABLE = HERE.parent / "docs" / "coverage.md"
HOLD_OUT = "## Hold-out: networks drawn at random"
FORK = multiprocessing.get_context("fork")
LIMIT = 300  # seconds of processor time a network
MEMORY = 10  # GiB of address space a network, beyond what torch takes at import
# Networks without a residual stream of modules: none is a right answer for these.
NO_STREAM = (
    "timm:densenet121",
    "timm:inception_v3",
    "timm:inception_v4",
    "timm:vgg11",
    "timm:nasnetalarge",
    "timm:pnasnet5large",
    "timm:rdnet_tiny",
    "timm:selecsls42",
    "torchvision:alexnet",
    "torchvision:densenet121",
    "torchvision:googlenet",
    "torchvision:inception_v3",
    "torchvision:s3d",
    "torchvision:squeezenet1_0",
    "torchvision:squeezenet1_1",
    "torchvision:ssd300_vgg16",
    "torchvision:vgg11",
    "hf:mobilenet_v1",
    "timm:lcnetv2_small",
    "timm:hgnet_tiny",
    "hf:albert",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="glob of cases, e.g. 'timm:res*'")
    parser.add_argument("--again", help="glob of cases whose results are measured anew")
    parser.add_argument("--table", action="store_true", help="write docs/coverage.md")
    parser.add_argument("--part", default="1/1", help="1/2 and 2/2: two processes side by side")
    parser.add_argument(
        "--limit", type=int, default=LIMIT, help="seconds of processor time a network"
    )
    parser.add_argument("--memory", type=int, default=MEMORY, help="GiB a network")
    parser.add_argument("--minutes", type=float, default=600, help="stop after so many minutes")
    arguments = parser.parse_args()
    if arguments.table:
        old = TABLE.read_text() if TABLE.is_file() else ""
        _, heading, rest = old.partition(HOLD_OUT)  # coverage_holdout.py writes what follows it
        TABLE.write_text(table(read()) + (f"\n{heading}{rest}" if heading else ""))
        return
    sys.path.insert(0, str(HERE))
    import coverage_one  # noqa: F401 - with torch, before anything is forked
    from coverage_models import listing

    done = {} if arguments.again else read()
    pattern = arguments.again or arguments.only
    cases = [c for c in listing() if fnmatch.fnmatch(c, pattern) and c not in done]
    cases.sort(key=lambda case: hashlib.sha256(case.encode()).digest())  # a part is a fair sample
    part, parts = (int(number) for number in arguments.part.split("/"))
    cases = cases[part - 1 :: parts]
    deadline = time.monotonic() + 60 * arguments.minutes
    for number, case in enumerate(cases, start=1):
        if time.monotonic() > deadline:
            break
        result = one(case, limit=arguments.limit, memory=arguments.memory)
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{number}/{len(cases)} {case}: {verdict(result)}", flush=True)


def read() -> dict[str, dict[str, Any]]:
    """Return the latest result of every case."""
    if not RESULTS.is_file():
        return {}
    results = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    return {result["case"]: result for result in results}


def one(case: str, *, limit: int, memory: int) -> dict[str, Any]:
    """Measure one network in a process of its own, forked from one that has imported all."""
    here, there = FORK.Pipe(duplex=False)
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = FORK.Process(target=_child, args=(case, limit, memory, there))
    process.start()
    there.close()
    result: dict[str, Any] = {"case": case, "error": f"took longer than {20 * limit} s"}
    try:
        if here.poll(20 * limit):
            result = here.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        result["error"] = f"ended with exit code {code}"
        if -code in (signal.SIGXCPU, signal.SIGKILL):
            result["error"] = f"took more than {limit} s of processor time, or memory"
    process.kill()
    process.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result["seconds"] = time.monotonic() - started
    result["limits"] = {"seconds": limit, "gib": memory}
    result["cpu_seconds"] = sum(after[:2]) - sum(before[:2])
    return result


def _child(case: str, limit: int, memory: int, there: Any) -> None:
    from coverage_one import guarded

    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + limit, used + limit + 5))
    there.send(guarded(case, memory))


def verdict(result: dict[str, Any]) -> str:
    """Return one line on a result."""
    if "error" in result:
        return f"ERROR {result['error']}"
    text = f"{result['units']}+{result['branches']} units, {result['share']:.0%} of parameters"
    return "; ".join([text, *problems(result)])


def problems(result: dict[str, Any]) -> list[str]:
    """Return everything that failed for a network."""
    if "error" in result:
        return [result["error"]]
    found = [] if result["untouched"] else ["the model was changed"]
    found += result.get("problems", [])
    found += [f"{key}: {result[key]}" for key in ("after", "trains", "reloads") if result.get(key)]
    if result.get("exports"):
        found.append(f"export: {result['exports']}")
    return found


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the page: the totals first, then one row a network, then what failed and why."""
    rows = [results[case] for case in sorted(results)]
    measured = [row for row in rows if "error" not in row]
    stream = [row for row in measured if row["case"] not in NO_STREAM]
    two = [row for row in measured if row["units"] + row["branches"] >= 2]
    two_stream = [row for row in stream if row["units"] + row["branches"] >= 2]
    ratios = sorted(row["find_s"] / row["forward_s"] for row in measured)
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "timm", "torchvision", "transformers")
    )
    lines = [
        "# Coverage: which networks can be pruned by whole layers",
        "",
        "Random weights (zero-initialized ones made non-zero, so that every unit does something);",
        "made by `python benchmarks/coverage.py`, then `--table`. It says that surgery works, not",
        "what it costs in accuracy.",
        f"Versions: Python {platform.python_version()}, {versions}; CPU.",
        "",
        "| what | found |",
        "|---|---|",
        f"| networks measured | {len(measured)} of {len(rows)} |",
        of("two or more units", len(two), len(measured)),
        of("the same, of those with a residual stream", len(two_stream), len(stream)),
        *outcomes(measured),
        f"| time of the search in forward passes, median and worst | "
        f"{ratios[len(ratios) // 2]:.1f}, {ratios[-1]:.1f} |",
        "",
        *COLUMNS,
        *(row_of(row) for row in measured),
        "",
        "## What failed, and why",
        "",
        *(f"- `{row['case']}`: {text}" for row in rows for text in problems(row)),
        "",
        "## Networks with fewer than two units",
        "",
        *few(measured),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


NOT_TRIED = "not tried: training needs targets"
COLUMNS = (
    "| network | units | branches | share of parameters | locked | singly | half | all "
    "| trains | reloads | exports |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


def outcomes(measured: list[dict[str, Any]]) -> list[str]:
    """Return the rows of the first table on what became of the networks that were cut."""
    cut = [row for row in measured if "singly" in row]
    offered = sum(row["units"] + row["branches"] for row in cut)
    exported = [row for row in cut if row.get("unpruned_exports")]
    return [
        of("units that run removed singly, equal to skipping them",
           sum(row["singly"] for row in cut), offered),
        of("networks that run without every second unit", sum(r["half"] for r in cut), len(cut)),
        of("networks that run without any unit", sum(row["all"] for row in cut), len(cut)),
        of("gradients reach what they reached before",
           sum(row.get("trains", "x") in ("", NOT_TRIED) for row in cut), len(cut)),
        of("reloaded bit-equal", sum(row.get("reloads", "x") == "" for row in cut), len(cut)),
        of("export with torch.export where the unpruned network does",
           sum(row.get("exports", "x") == "" for row in exported), len(exported)),
        of("left untouched by the search", sum(r["untouched"] for r in measured), len(measured)),
    ]  # fmt: skip


def few(measured: list[dict[str, Any]]) -> list[str]:
    """Return a line for every network with fewer than two units: why."""
    return [
        f"- `{row['case']}`: {row['note'] or '; '.join(row['details'][:2]) or 'one unit'}"
        for row in measured
        if row["units"] + row["branches"] < 2
    ]


def of(what: str, count: int, total: int) -> str:
    """Return a row of the first table."""
    return f"| {what} | {count} of {total} ({count / max(total, 1):.1%}) |"


def row_of(row: dict[str, Any]) -> str:
    """Return the row of one network."""

    def mark(key: str) -> str:
        if key not in row:
            return "-"
        value = row[key]
        if value == NOT_TRIED:
            return "not tried"
        return "yes" if value in ("", True) else "no"

    locked = ", ".join(f"{count} {reason}" for reason, count in row["locked"].items()) or "-"
    total = row["units"] + row["branches"]
    singly = f"{row['singly']} of {total}" if "singly" in row else "-"
    exports = mark("exports") if row.get("unpruned_exports", True) else "unpruned fails too"
    cells = [
        f"`{row['case']}`", row["units"], row["branches"], f"{row['share']:.2f}", locked, singly,
        mark("half"), mark("all"), mark("trains"), mark("reloads"), exports,
    ]  # fmt: skip
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    main()
