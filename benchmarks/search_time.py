"""How long the search for units takes, counted in forward passes of the same network.

    python benchmarks/search_time.py                the conformance list, tiny and large networks
    python benchmarks/search_time.py hf:bit timm:shvit_s1       these cases of the coverage table

Of each network the median forward (in evaluation mode, without gradients, nothing around it) and
the median of three searches, in turn, on the same inputs and one core, in processor time; the
first search of a process is kept apart, since it imports parts of torch. Writes
`benchmarks/results/search_time.json`, unless cases are named.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.rng import isolated_rng
from srinit.units import find_units

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "search_time.json"
LIMIT = 20  # forward passes that a search should take at most
SEARCHES = 3
FORWARDS = 5  # in each of the rounds before and after a search
TINY = (  # of the coverage table those that took the most passes before branches were kept
    "hf:mobilebert",
    "hf:funnel",
    "hf:bit",
    "hf:regnet",
    "hf:resnet",
    "hf:siglip_vision_model",
    "hf:gemma3_text",
    "timm:repghostnet_050",
    "timm:mvitv2_tiny",
)
LARGE = ("torchvision:resnet152", "torchvision:swin_b", "timm:vit_base_patch16_224",
         "timm:convnext_base", "hf:BertModel", "hf:GPT2LMHeadModel")  # fmt: skip


def networks() -> Iterator[tuple[str, str, Callable[[], tuple[nn.Module, Any]]]]:
    """Yield group, name and builder of everything that is measured."""
    sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
    import torchvision

    import test_conformance as conformance

    def made(source: str, inputs: Any, **args: Any) -> Callable[[], tuple[nn.Module, Any]]:
        from srinit.networks import load_model

        return lambda: (load_model(source, args=args), inputs)

    for table in (conformance.PLAIN, conformance.HUGGING_FACE):
        for name, case in table.items():
            yield "conformance", name, case.build
    for name in conformance.TORCHVISION:
        yield "conformance", name, made(f"torchvision:{name}", conformance.image(96))
    for name, (_, size) in conformance.TIMM.items():
        yield "conformance", name, made(f"timm:{name}", conformance.image(size))
    segmentation = torchvision.models.segmentation.fcn_resnet50
    detection = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
    yield "conformance", "fcn_resnet50", lambda: (bare(segmentation), conformance.image(96))
    yield (
        "conformance",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        lambda: (bare(detection), ([*conformance.image(160)],)),
    )
    for name in TINY:
        yield "tiny", name, lambda name=name: case_of(name)
    for name in LARGE:
        yield "large", name, lambda name=name: large(name)


def bare(build: Callable[..., nn.Module]) -> nn.Module:
    """Return a network of torchvision without weights."""
    return build(weights=None, weights_backbone=None)


def case_of(name: str) -> tuple[nn.Module, Any]:
    """Return a network of the coverage table and its inputs."""
    from coverage_models import build, settled
    from coverage_one import smaller

    model, inputs, _ = build(name)
    return settled(model).eval(), smaller(model, inputs)


def large(name: str) -> tuple[nn.Module, Any]:
    """Return a network in its published size."""
    from srinit.networks import load_model
    from test_conformance import image
    from zoo import tokens

    kind, _, rest = name.partition(":")
    if kind != "hf":
        return load_model(name), image(224)
    import transformers

    model = getattr(transformers, rest)
    return model(model.config_class()), tokens(2, 64)


def measure(build: Callable[[], tuple[nn.Module, Any]]) -> dict[str, Any]:
    """Return the seconds of a forward and of a search."""
    with isolated_rng(0):
        model, inputs = build()
    model.eval()
    modules.call(model, inputs)
    forwards, searches = [timed(modules.call, model, inputs) for _ in range(FORWARDS)], []
    found: list[int] = []
    for _ in range(SEARCHES):
        searches.append(timed(lambda *given: found.append(len(find_units(*given))), model, inputs))
        forwards += [timed(modules.call, model, inputs) for _ in range(FORWARDS)]
    forward = statistics.median(forwards)
    return {
        "forward_s": forward,
        "search_s": statistics.median(searches),
        "ratio": statistics.median(searches) / forward,
        "first_ratio": searches[0] / forward,
        "units": found[0],
    }


def timed(function: Callable[..., Any], *given: Any) -> float:
    """Return the seconds of processor time that a call takes."""
    started = time.process_time()
    with torch.no_grad():
        function(*given)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="cases of the coverage table, such as hf:bit")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    chosen = list(networks())
    if arguments.cases:
        chosen = [("named", name, lambda name=name: case_of(name)) for name in arguments.cases]
    rows = []
    for group, name, build in chosen:
        rows.append({"group": group, "name": name, **measure(build)})
        print("{group:12} {name:40} {ratio:6.1f} forward passes".format(**rows[-1]), flush=True)
    summary = {
        group: {
            "networks": sum(row["group"] == group for row in rows),
            "median_ratio": statistics.median(r["ratio"] for r in rows if r["group"] == group),
            "worst_ratio": max(row["ratio"] for row in rows if row["group"] == group),
            "above_20": [r["name"] for r in rows if r["group"] == group and r["ratio"] > LIMIT],
        }
        for group in dict.fromkeys(row["group"] for row in rows)
    }
    print(json.dumps(summary, indent=2))
    if not arguments.cases:
        RESULTS.write_text(json.dumps({"summary": summary, "networks": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
