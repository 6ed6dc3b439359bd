"""One network of the coverage table, from units to export; prints one JSON line."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coverage_models import build, folder_of, settled
from srinit import modules
from srinit.artifact import load_pruned, save_pruned
from srinit.cost import count_cost
from srinit.plan import Prefix, PrunePlan, Removal
from srinit.recording.trace import locate
from srinit.rng import isolated_rng
from srinit.surgery import bypassed, remove_units
from srinit.units import Unit, UnitMap, find_units
from srinit.units.verify import run

SIDE = 128  # pixels


def measure(case: str) -> dict[str, Any]:
    """Return what was found and proved for one network."""
    model, inputs, base = build(case)
    settled(model).eval()
    inputs = smaller(model, inputs)
    result: dict[str, Any] = {"case": case, "params": modules.count_params(model)}
    run(model, inputs)
    started = time.perf_counter()
    for _ in range(3):
        run(model, inputs)
    result["forward_s"] = (time.perf_counter() - started) / 3
    before = digest(model)
    started = time.perf_counter()
    units = find_units(model, inputs)
    result["find_s"] = time.perf_counter() - started
    result["untouched"] = before == digest(model)
    result |= counts(units)
    if units.removable:
        result |= removals(model, inputs, units)
        result |= afterwards(model, inputs, units, base)
    if folder := folder_of(base):
        shutil.rmtree(folder)
    return result


def smaller(model: nn.Module, inputs: Any) -> Any:
    """Return smaller images for a network that takes them: what it is made of stays the same."""
    if not isinstance(inputs, torch.Tensor) or inputs.ndim != 4 or min(inputs.shape[2:]) <= SIDE:
        return inputs
    less = inputs[..., :SIDE, :SIDE].contiguous()
    try:
        run(model, less)
    except Exception:  # many networks know one size only
        return inputs
    return less


def counts(units: UnitMap) -> dict[str, Any]:
    """Return how many units there are of each kind, and what is locked."""
    whole = [unit for unit in units if unit.kind != "branch"]
    reasons: dict[str, int] = {}
    for lock in units.locked:
        reasons[lock.reason] = reasons.get(lock.reason, 0) + 1
    return {
        "units": len(whole),
        "branches": len(units) - len(whole),
        "share": sum(unit.params for unit in units) / max(units.params, 1),
        "verified": sum(unit.verified for unit in units),
        "locked": reasons,
        "details": [f"{lock.name}: {lock.reason}: {lock.detail}"[:200] for lock in units.locked],
        "note": units.note,
    }


def removals(model: nn.Module, inputs: Any, units: UnitMap) -> dict[str, Any]:
    """Remove each unit alone, every second one, and all; compare with skipping them."""
    every = list(units)
    problems = []
    singly = 0
    for unit in every:
        problem = removed(model, inputs, [unit])
        singly += not problem
        if problem:
            problems.append(f"{unit.name}: {problem}")
    half, whole = removed(model, inputs, every[::2]), removed(model, inputs, every)
    problems += [f"half: {half}"] * bool(half) + [f"all: {whole}"] * bool(whole)
    return {"singly": singly, "half": not half, "all": not whole, "problems": problems[:6]}


def removed(model: nn.Module, inputs: Any, units: list[Unit]) -> str:
    """Return what is wrong with a network without some units; "" if nothing is."""
    try:
        pruned = remove_units(model, units, example_inputs=inputs)
        with bypassed(model, units):
            reference = run(model, inputs)
        if difference(reference, run(pruned, inputs)):
            return "differs from skipping the units"
        gone = modules.count_params(model) - modules.count_params(pruned)
        if gone <= 0:
            return "nothing was removed"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return ""


def afterwards(
    model: nn.Module, inputs: Any, units: UnitMap, base: dict[str, Any]
) -> dict[str, Any]:
    """Train, reload and export the network without every second unit."""
    chosen = list(units)[::2]
    result: dict[str, Any] = {}
    try:
        pruned = remove_units(model, chosen, example_inputs=inputs)
    except Exception as error:
        return {"after": f"{type(error).__name__}: {str(error)[:200]}"}
    result["kept_share"] = modules.count_params(pruned) / modules.count_params(model)
    result["trains"] = attempt(lambda: trains(model, pruned, inputs))
    result["reloads"] = attempt(lambda: reloads(pruned, inputs, units, chosen, base))
    result["unpruned"] = attempt(lambda: exports(model, inputs))
    result["unpruned_exports"] = result["unpruned"] == ""
    if result["unpruned_exports"]:
        result["exports"] = attempt(lambda: exports(pruned, inputs))
    result["flops"], result["flops_left"] = (
        count_cost(one, inputs).flops for one in (model, pruned)
    )
    return result


def attempt(check: Any) -> str:
    """Return what went wrong in a check; "" if nothing did."""
    try:
        return str(check() or "")
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"


def trains(model: nn.Module, pruned: nn.Module, inputs: Any) -> str:
    """Compare which parameters gradients reach, by how many they do not reach."""

    def unreached(network: nn.Module) -> set[str]:
        network.train()
        with isolated_rng(0):
            output = modules.call(network, inputs)
        parts = [t for _, t in locate(output) if t.is_floating_point() and t.requires_grad]
        sum(part.float().square().mean() for part in parts).backward()
        missed = {n for n, p in network.named_parameters() if p.requires_grad and p.grad is None}
        network.zero_grad()
        network.eval()
        return missed

    if ".detection." in type(model).__module__:
        return "not tried: training needs targets"
    left = unreached(model)
    missed = unreached(pruned)
    if len(missed) > len(left):
        return f"no gradient reaches {sorted(missed - left)[:3]}"
    return ""


def reloads(
    pruned: nn.Module, inputs: Any, units: UnitMap, chosen: list[Unit], base: dict[str, Any]
) -> str:
    """Save, load from the base's name, and compare weights and outputs bit by bit."""
    removal = tuple(Removal(unit=unit) for unit in chosen)
    names = tuple(unit.name for unit in chosen)
    costs = tuple(Prefix(num_removed=i, params=0, flops=0) for i in range(len(names) + 1))
    plan = PrunePlan(
        remove=removal, ranking=names, prefixes=costs, target={"remove": list(names)},
        criterion="none", inputs=units.inputs,
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp())
    try:
        save_pruned(folder, pruned, plan, base=base)
        again = load_pruned(folder, trust_code=True)  # an hf: base is a temporary folder
        for (name, one), (other, two) in zip(
            pruned.state_dict().items(), again.state_dict().items(), strict=True
        ):
            if name != other or not torch.equal(one, two):
                return f"{name} is not bit-equal"
        return difference(run(pruned, inputs), run(again, inputs))
    finally:
        shutil.rmtree(folder)


def exports(network: nn.Module, inputs: Any) -> str:
    """Export with torch.export and compare the program's output."""
    args = inputs if isinstance(inputs, tuple) else () if isinstance(inputs, dict) else (inputs,)
    kwargs = inputs if isinstance(inputs, dict) else {}
    config = getattr(network, "config", None)
    if hasattr(config, "use_cache"):
        config.use_cache = False  # a cache object is no output of an exported program
    with torch.no_grad(), isolated_rng(0):
        program = torch.export.export(network, args, kwargs, strict=False)
        found = [t for _, t in locate(program.module()(*args, **kwargs))]
    expected = [t for _, t in locate(run(network, inputs))]
    if len(found) != len(expected):
        return f"{len(found)} outputs instead of {len(expected)}"
    pairs = zip(expected, found, strict=True)
    close = all(torch.allclose(a, b, atol=1e-4, rtol=1e-3, equal_nan=True) for a, b in pairs)
    return "" if close else "the program's output differs"


def difference(one: Any, other: Any) -> str:
    """Return "differs" unless two outputs are equal bit by bit."""
    first, second = list(locate(one)), list(locate(other))
    same = [p for p, _ in first] == [p for p, _ in second] and all(
        torch.equal(a.nan_to_num(), b.nan_to_num())
        for (_, a), (_, b) in zip(first, second, strict=True)
    )
    return "" if same else "outputs differ"


def digest(model: nn.Module) -> Any:
    """Return all of a network that a search for units might change."""
    state = {name: (t.data_ptr(), t._version) for name, t in model.state_dict().items()}
    shape = [
        (name, id(m), m.training, len(m._forward_hooks), "forward" in vars(m), sorted(vars(m)))
        for name, m in model.named_modules()
    ]
    return state, shape, torch.get_rng_state().sum().item()


def guarded(case: str, memory: int) -> dict[str, Any]:
    """Measure a network in this process, of which the memory is limited from now on."""
    torch.set_num_threads(1)  # two networks are measured side by side
    warnings.simplefilter("ignore")
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = in_use + (memory << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        return measure(case)
    except Exception as error:
        return {"case": case, "error": f"{type(error).__name__}: {str(error)[:300]}"}


if __name__ == "__main__":
    print(json.dumps(guarded(sys.argv[1], memory=10)))
