"""Is pruning the right tool? Alternatives on the same validation data and processor, in turn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srinit import int8 as quantizing
from srinit import modules
from srinit.alternatives import Alternative, Alternatives, Field, Pick, front, picked
from srinit.config.sections import AlternativesSection, GatesSection, ModelSection
from srinit.edge import device
from srinit.gates import check_gates
from srinit.gates.judges import WORSE
from srinit.latency import pair
from srinit.runs import artifacts
from srinit.runtimes import installed
from srinit.sources import DataSet
from srinit.steps.table import step
from srinit.steps.task import Bench, Execution, Task

NOT_ASKED = ("max_shift_drop", "max_params_ratio", "max_perplexity_ratio")
MAX_DROP = 0.01  # where no gate speaks of answers


@dataclass(frozen=True)
class Explorer:
    """What alternatives are made and measured with, beside the pruned network."""

    model: nn.Module  # the unpruned network
    calibration: DataSet
    validation: DataSet
    task: Task
    bench: Bench
    gates: GatesSection
    settings: AlternativesSection
    execution: Execution
    load: Callable[[ModelSection], nn.Module]


@step(
    artifacts.ALTERNATIVES,
    part="alternatives",
    says=("alternatives", lambda found: found.words()),
)
def alternatives(tuned: nn.Module, explorer: Explorer | None) -> Alternatives | None:
    """Return the alternatives to the pruned network, measured; None where the config wants none.

    Validation data are read, the test data are not. Everything runs on the CPU.
    """
    if explorer is None:
        return None
    begin = time.perf_counter()
    settings, observer = explorer.settings, explorer.execution.observer
    data = explorer.validation.by_content(settings.examples)
    limits = explorer.gates.limits()
    asked = {name: limit for name, limit in limits.items() if name not in NOT_ASKED}
    not_asked = tuple(name for name in limits if name in NOT_ASKED)
    not_asked += ("gates.site",) if explorer.gates.site else ()
    silent = {"max_latency_ratio", WORSE}  # they say nothing of all answers together
    asked = asked if set(asked) - silent else {**asked, "max_drop": MAX_DROP}
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        found = Field(
            explorer.task.compared, explorer.task.scorer,
            modules.to_device(explorer.bench.inputs, torch.device("cpu")),
            explorer.bench.batch_sizes, data, Path(name),
        )  # fmt: skip
        both = {"unpruned": explorer.model, "pruned": tuned}
        wanted = limits.get("max_drop")
        max_drop = wanted if isinstance(wanted, float) else MAX_DROP
        reduced = quantizing.needs_reduced_range(device.instructions())
        serve = partial(found.serve, both, explorer.calibration, max_drop, reduced_range=reduced)
        tasks: list[tuple[str, Callable[[], None]]] = [
            ("exported files", serve),
            ("torch", partial(found.in_torch, both, compiles=settings.compile)),
        ]
        for share in settings.resolutions:
            smaller = partial(found.lower, explorer.model, share)
            tasks.append((f"{share:.0%} of the resolution", smaller))
        for number, named in enumerate(settings.siblings):
            tasks.append(
                (f"sibling {named.source}", partial(_sibling, found, number, named, explorer))
            )
        for number, (what, call) in enumerate(tasks, start=1):
            found.attempt(what, call)
            observer.progress(number, len(tasks) + 1)
        if not settings.siblings:
            found.not_tried["a smaller sibling"] = "none is named (alternatives.siblings)"
        for missing in ("onnxruntime", "openvino"):
            if not installed(missing):
                found.not_tried[missing] = f"not installed: pip install 'srinit[{_extra(missing)}]'"
        made = Alternatives(
            data="validation", num_examples=len(data), limits=tuple(_words(asked)),
            not_asked=not_asked, not_tried=found.not_tried,
        )  # fmt: skip
        if found.entries:
            made = _judged(made, found, asked)
    made = replace(made, seconds=round(time.perf_counter() - begin, 1))
    observer.say(f"alternatives: {made.words()}")
    return made


def _sibling(found: Field, number: int, named: ModelSection, explorer: Explorer) -> None:
    found.sibling(number, named.source, explorer.load(named))


def _judged(made: Alternatives, found: Field, limits: Any) -> Alternatives:
    """Return the record with every alternative timed and judged, the front, and what to take."""
    times, tried = found.timed(), []
    for place, entry in enumerate(found.entries):
        latency = tuple(
            pair(own[0], own[place], batch_size=size, device="cpu", runtime=entry.runtime)
            for size, own in times.items()
        )
        compared = found.compared(found.entries[0].outcomes, entry.outcomes, latency=latency)
        judged = check_gates(compared, limits) if place else None
        tried.append(
            Alternative(
                kind=entry.kind, detail=entry.detail, numbers=entry.numbers,
                runtime=entry.runtime, size_bytes=entry.size_bytes, loss=compared.score,
                latency=latency,
                failed_gates=tuple(g.sentence for g in judged.failed) if judged else (),
            )
        )  # fmt: skip
    points = [(each.milliseconds, each.loss.pruned or 0.0) for each in tried]
    best, other = picked(tried)
    pick = Pick(place=best)
    if other is not None:
        own = next(iter(times.values()))
        ratio = pair(own[other], own[best], batch_size=1, device="cpu").ratio
        pick = Pick(place=best, other=other, ratio=ratio)
    return replace(made, tried=tuple(tried), front=front(points), pick=pick)


def _extra(runtime: str) -> str:
    return "openvino" if runtime == "openvino" else "onnx"


def _words(limits: Any) -> list[str]:
    return [f"{name}: {limit}" for name, limit in limits.items()]
