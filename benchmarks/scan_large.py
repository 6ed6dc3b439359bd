"""The scan of networks for images of 224 x 224 on a GPU: time, and share of the matmul peak.

    python benchmarks/scan_large.py --device cuda

timm's networks with untrained weights and images of noise: what is measured is the time of a fixed
number of evaluations, not the drops. Appends to `benchmarks/results/scan_large.json`; the table
is written by `python benchmarks/scan.py table`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from scan import Batches, Record, matmul_peak, unavoidable_flops
from srinit.rng import isolated_rng
from srinit.sensitivity import measure_sensitivity
from srinit.units import find_units

NETWORKS = ("resnet50", "vit_base_patch16_224", "convnext_tiny")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--examples", type=int, default=2048, help="a unit")
    parser.add_argument("--scheme", default="keep_norm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    args.shared = Path("SHARED")  # not used: images of noise
    torch.set_num_threads(args.threads)
    record = Record("large", args)
    peak = matmul_peak(args.device)
    for name in args.networks:
        with isolated_rng(0):
            model = decided(timm.create_model(name).eval()).to(args.device)
        batches = noise(model, args.examples, args.device)
        began = time.perf_counter()
        units = find_units(model, batches[0][0][:2].to(args.device))
        search = time.perf_counter() - began
        kwargs: dict[str, Any] = {"scheme": args.scheme, "half_width": None}
        for _ in range(2):  # the first one warms up
            began = time.perf_counter()
            measure_sensitivity(model, units, batches[:1], max_examples=8, batch_size=8, **kwargs)
            preparation = time.perf_counter() - began
        began = time.perf_counter()
        found = measure_sensitivity(model, units, batches, **kwargs)
        seconds = time.perf_counter() - began
        flops = unavoidable_flops(units, found)
        measured = [unit for unit in found.units if unit.num_examples]
        print(f"{name}: {len(measured)} of {len(found.units)} units, {seconds:.1f} s "
              f"({preparation:.1f} s before the first batch, search {search:.1f} s), "
              f"{flops / seconds / 1e12:.0f} TFLOP/s of {peak / 1e12:.0f}")  # fmt: skip
        record.add(
            network=name, scheme=args.scheme, examples_a_unit=args.examples, blocks=len(measured),
            seconds=seconds, seconds_of_preparation=preparation, seconds_of_search=search,
            flops=flops, matmul_peak=peak, utilisation=flops / seconds / peak,
            draws=sum(unit.num_draws for unit in measured),
        )  # fmt: skip


def decided(model: Any) -> nn.Module:
    """Let a network prefer one class: untrained answers hang on the last bit of a number."""
    with torch.no_grad():
        model.get_classifier().bias[0] += 10
    network: nn.Module = model
    return network


def noise(model: nn.Module, count: int, device: str) -> Batches:
    """Return images of noise with the network's own answers."""
    made = torch.Generator().manual_seed(0)
    found: Batches = []
    for _ in range(0, count, 128):
        x = torch.randn(min(128, count), 3, 224, 224, generator=made)
        with torch.inference_mode():
            target = model(x.to(device)).argmax(1).cpu()
        found.append((x, target.clone()))
    return found


if __name__ == "__main__":
    main()
