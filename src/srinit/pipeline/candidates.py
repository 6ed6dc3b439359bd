"""Candidates of a plan, written to be timed on another device."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from srinit import edge, modules
from srinit.copying import detached_copy
from srinit.export import export_onnx, export_openvino
from srinit.pipeline.runner import Runner
from srinit.runs import artifacts
from srinit.runtimes import files_of, installed
from srinit.surgery import remove_units

MOST = 12  # networks besides the unpruned one


def places(count: int) -> list[int]:
    """Return which numbers of removed units are written, evenly spread, the ends among them.

    Example:
        >>> places(3), places(24)
        ([0, 1, 2, 3], [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24])
    """
    steps = min(count, MOST)
    return sorted({round(index * count / max(steps, 1)) for index in range(steps + 1)})


def write(runner: Runner, folder: Path) -> int:
    """Write the networks after removals of the run's ranking; return how many there are.

    As ONNX, and as OpenVINO IR where that is installed. Weights are those of the unpruned network:
    they are to be timed, not to answer.

    Raises:
        ModelError: The folder is not empty, or a network cannot be exported.
    """
    plan = runner.get(artifacts.PLAN)
    units = runner.get(artifacts.SENSITIVITY).unit_map
    inputs = runner.resources.example_inputs
    model = detached_copy(runner.resources.model, inputs)[0].cpu()
    inputs = modules.to_device(inputs, "cpu")
    networks: list[edge.Network] = []
    chosen = places(len(plan.ranking))
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        for place in chosen:
            gone = plan.ranking[:place]
            some = [units[unit] for unit in gone]
            cut = remove_units(model, some, example_inputs=inputs) if gone else model
            paths = [Path(name) / f"{place:03d}.onnx"]
            export_onnx(cut, inputs, paths[0])
            if installed("openvino"):
                paths.append(paths[0].with_suffix(".xml"))
                export_openvino(cut, inputs, paths[0], paths[1])
            networks += [
                edge.Network(path.name, [part.read_bytes() for part in files_of(path)], gone)
                for path in paths
            ]
    head = json.loads((runner.path / "run.json").read_text("utf-8"))
    sizes = runner.config.compare.latency_batches
    edge.write_candidates(folder, str(head["name"]), networks, sizes)
    return len(chosen)
