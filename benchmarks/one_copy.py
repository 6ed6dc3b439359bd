"""Peak resident memory of what is done to a language model, in multiples of its weights.

    nice python benchmarks/one_copy.py run
    python benchmarks/one_copy.py table

A Llama of SmolLM2's shape (30 layers, 135 M parameters) with random weights is written to a
folder, and read from it in a process of its own for every number format. Everything is done once
with a tiny network first, so that what importing takes is not counted. Resident are also pages of
the folder's files. Four sequences of 64 tokens. Results are in results/one_copy.json; `table`
writes docs/language_models.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import srinit
from srinit.criteria import score_units
from srinit.evaluate import next_token_probability
from srinit.hugging_face import write_folder
from srinit.rng import isolated_rng

HERE = Path(__file__).resolve().parent
PATH = HERE / "results" / "one_copy.json"
PAGE = HERE.parent / "docs" / "language_models.md"
FORMATS = ("float32", "bfloat16")
SIZES = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
    "tie_word_embeddings": True,
}  # fmt: skip
TINY = {
    **SIZES, "hidden_size": 36, "intermediate_size": 32, "num_hidden_layers": 3, "vocab_size": 64,
}  # fmt: skip


def written(folder: Path, sizes: dict[str, Any], dtype: str) -> Path:
    """Write a network with random weights; return its folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with isolated_rng(0):
        model = LlamaForCausalLM(LlamaConfig(**sizes)).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    return folder


def memory() -> tuple[float, float]:
    """Return resident memory now, and its peak since `forget`, in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, peak = (float(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    return now, peak


def forget() -> None:
    """Let the peak begin anew (Linux)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def steps(folder: Path, work: Path, vocabulary: int) -> dict[str, Callable[[], Any]]:
    """Return what is done, in order; each uses what the others made."""
    from transformers import AutoModelForCausalLM

    made: dict[str, Any] = {}
    tokens = torch.arange(4 * 64).reshape(4, 64) * 7 % vocabulary
    data = [({"input_ids": tokens}, tokens)]

    def load() -> None:
        made["model"] = AutoModelForCausalLM.from_pretrained(folder).eval()

    def forward() -> None:
        with torch.no_grad():
            made["model"](**data[0][0])

    def units() -> None:
        made["units"] = srinit.find_units(made["model"], data[0][0])

    def scored(criterion: str) -> None:
        made["scores"] = score_units(
            made["model"], made["units"], data, criterion=criterion, scorer=next_token_probability
        )

    def cut() -> None:
        made["plan"] = srinit.make_plan(made["units"], scores=made["scores"], units=1)
        made["pruned"] = srinit.apply_plan(made["model"], made["plan"], share=True)

    def save() -> None:
        srinit.save_pruned(work / "saved", made["pruned"], made["plan"], base=f"hf:{folder}")

    def export() -> None:
        write_folder(made["pruned"], work / "folder", inputs=data[0][0], card="")

    return {
        "load": load, "plain forward": forward, "units": units,
        "removal drop": lambda: scored("removal_drop"),
        "block influence": lambda: scored("block_influence"),
        "cut (`share=True`)": cut, "save_pruned": save, "Hugging Face folder": export,
    }  # fmt: skip


def measure(dtype: str) -> dict[str, Any]:
    """Return the peaks of every step, in a process that does nothing else."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for step in steps(written(work / "tiny", TINY, dtype), work / "a", 64).values():
            step()
        folder = Path(sys.argv[-1])
        forget()
        base = memory()[0]
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        found = {}
        for name, step in steps(folder, work / "b", SIZES["vocab_size"]).items():
            forget()
            start = time.process_time()
            step()
            now, peak = memory()
            found[name] = {
                "peak": round((peak - base) / size, 3), "after": round((now - base) / size, 3),
                "seconds": round(time.process_time() - start, 1),
            }  # fmt: skip
    return {"weights_bytes": size, "imports_bytes": base, "steps": found}


def run(_: argparse.Namespace) -> None:
    """Measure every format in a process of its own."""
    found: dict[str, Any] = {"torch": torch.__version__, "threads": 1}
    for dtype in FORMATS:
        with tempfile.TemporaryDirectory() as name:
            folder = written(Path(name), SIZES, dtype)
            command = [sys.executable, __file__, "one", dtype, str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[dtype] = json.loads(done.stdout.splitlines()[-1])
        sys.stdout.write(f"{dtype}: {json.dumps(found[dtype]['steps'], indent=1)}\n")
    PATH.write_text(json.dumps(found, indent=1) + "\n")


def table(path: Path) -> str:
    """Return the peaks as a table."""
    found = json.loads(path.read_text())
    lines = ["| step | peak, float32 | peak, bfloat16 |", "|---|---|---|"]
    for name in found[FORMATS[0]]["steps"]:
        cells = [f"{found[dtype]['steps'][name]['peak']:.2f}x" for dtype in FORMATS]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def write_page(_: argparse.Namespace) -> None:
    """Put the table into the page."""
    head, _, rest = PAGE.read_text("utf-8").partition("<!-- one copy -->")
    _, _, tail = rest.partition("<!-- /one copy -->")
    body = f"<!-- one copy -->\n\n{table(PATH)}\n\n<!-- /one copy -->"
    PAGE.write_text(head + body + tail, "utf-8")


def one(args: argparse.Namespace) -> None:
    """Print what one process measures."""
    sys.stdout.write(json.dumps(measure(args.dtype)) + "\n")


def main() -> None:
    """Run or draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    verbs.add_parser("run").set_defaults(do=run)
    verbs.add_parser("table").set_defaults(do=write_page)
    single = verbs.add_parser("one", help="what `run` starts")
    single.add_argument("dtype", choices=FORMATS)
    single.add_argument("folder")
    single.set_defaults(do=one)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
