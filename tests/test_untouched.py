"""The caller's model, modes, hooks, random state and environment after every public function."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import random
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # sets variables of the environment when torch first needs it
from torch import Tensor, nn

import srinit
from srinit.comparison import compare_unlabeled
from srinit.comparison.robustness import measure_robustness
from srinit.cost import count_cost
from srinit.criteria import CRITERIA, score_units
from srinit.curve import measure_prefixes
from srinit.evaluate import evaluate, labeled_by
from srinit.export import export_torch
from srinit.finetune import Recipe, recalibrate
from srinit.inference_cost import measure_inference_cost
from srinit.latency import measure_latency
from srinit.reinit import reinitialized
from srinit.trial import try_removals
from untouched_nets import ConvNet, EncoderNet, Fuse, StageNet, TokenNet
from zoo import noise

IMAGES = (noise(6, 3, 8, 8).abs() * 60).clamp(0, 255).to(torch.uint8)
BATCHES = [(noise(6, 3, 8, 8) + k, torch.arange(6) % 3) for k in range(3)]
EXAMPLE = BATCHES[0][0][:2]


NETS = (ConvNet, TokenNet, StageNet, EncoderNet)


def build(cls: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        model = cls()
    modules = list(model.modules())
    model.train()
    modules[2].eval()  # a caller may freeze one part's statistics
    modules[-1].register_forward_hook(lambda *_: None)
    modules[1].register_full_backward_hook(lambda *_: None)
    first = next(model.parameters())
    first.requires_grad_(False)
    last = list(model.parameters())[-1]
    last.grad = torch.ones_like(last)
    return model


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_state_dict_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that its owner could notice."""
    named = dict(model.named_modules(remove_duplicate=False))
    return {
        "modules": {name: (id(m), type(m), m.training) for name, m in named.items()},
        "hooks": {n: [tuple(getattr(m, h)) for h in HOOKS] for n, m in named.items()},
        "keys": {name: sorted(vars(m)) for name, m in named.items()},
        "params": {
            n: (id(p), bits(p), p.requires_grad, None if p.grad is None else bits(p.grad))
            for n, p in model.named_parameters(remove_duplicate=False)
        },
        "buffers": {n: (id(b), bits(b)) for n, b in model.named_buffers()},
    }


def state_of_process() -> dict[str, Any]:
    """Everything global that a library could leave changed."""
    generator = np.random.get_state()  # noqa: NPY002  the global one is what is watched
    return {
        "torch": bits(torch.get_rng_state()),
        "numpy": (generator[0], generator[1].tobytes(), *generator[2:]),  # type: ignore[index]
        "random": random.getstate(),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "mkldnn": torch.backends.mkldnn.enabled,
        "warnings": list(warnings.filters),
    }


def units(model: nn.Module) -> srinit.UnitMap:
    return srinit.find_units(model, EXAMPLE)


def scanned(model: nn.Module, **more: Any) -> srinit.Sensitivity:
    return srinit.measure_sensitivity(
        model, units(model), BATCHES, **{"scheme": "default", "half_width": 0.5, **more}
    )


def planned(model: nn.Module) -> srinit.PrunePlan:
    return srinit.make_plan(scanned(model), remove=[units(model).removable[0].name])


def tuned(model: nn.Module) -> object:
    student = srinit.apply_plan(model, planned(model))
    return srinit.fine_tune(
        student, BATCHES, BATCHES, teacher=model, recipe=Recipe(epochs=1, distill_weight=0.5)
    )


def scored(model: nn.Module) -> object:
    return [
        score_units(model, units(model), BATCHES, criterion=name, max_examples=12)
        for name in CRITERIA
    ]


def judged(model: nn.Module) -> object:
    found = srinit.compare(model, model, BATCHES)
    return srinit.check_gates(found, {"max_drop": 0.9, "min_agreement": 0.1})


def judged_wrongly(model: nn.Module) -> object:
    return srinit.check_gates(srinit.compare(model, model, BATCHES), {"no_such_gate": 0.1})


def recalibrated(model: nn.Module) -> object:
    return recalibrate(srinit.apply_plan(model, planned(model)), BATCHES)


def shifted(model: nn.Module, **more: Any) -> object:
    settings = {"corruptions": ["noise", "blur"], "severities": [3], **more}
    return measure_robustness(
        model, model, IMAGES, torch.arange(6) % 3, to_inputs=lambda x: x.float() / 255, **settings
    )


def exported(model: nn.Module) -> object:
    with tempfile.TemporaryDirectory() as folder:
        return export_torch(model, EXAMPLE, Path(folder) / "model.pt2")


def tried(model: nn.Module, **more: Any) -> object:
    found = units(model)
    names = [(unit.name,) for unit in found.removable[:1]]
    return try_removals(model, found, more.get("names", names), BATCHES, example_inputs=EXAMPLE)


def prefixes(model: nn.Module, *names: str) -> object:
    found = units(model)
    return measure_prefixes(model, found, names or [found.removable[0].name], EXAMPLE, repeats=2)


def saved(model: nn.Module) -> object:
    with tempfile.TemporaryDirectory() as folder:
        plan = planned(model)
        pruned = srinit.apply_plan(model, plan)
        srinit.save_pruned(Path(folder) / "x", pruned, plan, base={"source": "py:model.py:build"})
        return srinit.load_pruned(Path(folder) / "x", base=lambda: copy.deepcopy(model))


FUNCTIONS: dict[str, tuple[Callable[[nn.Module], object], Callable[[nn.Module], object]]] = {
    # name: a call that works, and one with a wrong argument
    "find_units": (units, lambda m: srinit.find_units(m, "not an input")),
    "measure_sensitivity": (scanned, lambda m: scanned(m, scheme="no such scheme")),
    "measure_sensitivity (auto)": (
        lambda m: scanned(m, scheme="auto"),
        lambda m: scanned(m, half_width=-1),
    ),
    "measure_sensitivity (draws)": (lambda m: scanned(m, draws=2), lambda m: scanned(m, draws=-1)),
    "apply_plan": (
        lambda m: srinit.apply_plan(m, planned(m)),
        lambda m: srinit.apply_plan(nn.Sequential(m), planned(m)),
    ),
    "compensate": (
        lambda m: srinit.compensate(m, planned(m), BATCHES),
        lambda m: srinit.compensate(nn.Sequential(m), planned(m), BATCHES),
    ),
    "compare": (
        lambda m: srinit.compare(m, m, BATCHES),
        lambda m: srinit.compare(m, m, [(EXAMPLE, torch.tensor([7, 9]))]),
    ),
    "compare_unlabeled": (
        lambda m: compare_unlabeled(m, m, BATCHES),
        lambda m: compare_unlabeled(m, m, []),
    ),
    "evaluate": (lambda m: evaluate(m, BATCHES), lambda m: evaluate(m, [])),
    "reinitialized": (
        lambda m: reinitialized(m.get_submodule(units(m).removable[0].name), seed=0),
        lambda m: reinitialized(m, seed=0, scheme="no such scheme"),
    ),
    "measure_latency": (
        lambda m: measure_latency(m, EXAMPLE, batch_size=2),
        lambda m: measure_latency(m, EXAMPLE, batch_size=-1),
    ),
    "fine_tune (teacher)": (
        tuned,
        lambda m: srinit.fine_tune(
            copy.deepcopy(m), BATCHES, None, teacher=m, recipe=Recipe(epochs=1, patience=1)
        ),
    ),
    "score_units": (scored, lambda m: score_units(m, units(m), BATCHES, criterion="none")),
    "check_gates": (judged, judged_wrongly),
    "recalibrate": (recalibrated, lambda _: recalibrate(None, BATCHES)),
    "measure_robustness": (shifted, lambda m: shifted(m, corruptions=["fog"])),
    "try_removals": (tried, lambda m: tried(m, names=[("no such unit",)])),
    "measure_prefixes": (prefixes, lambda m: prefixes(m, "no such unit")),
    "count_cost": (lambda m: count_cost(m, EXAMPLE), lambda m: count_cost(m, EXAMPLE[:, :1])),
    "measure_inference_cost": (
        lambda m: measure_inference_cost(m, EXAMPLE, seconds=0.001),
        lambda m: measure_inference_cost(m, EXAMPLE[:, :1], seconds=0.001),
    ),
    "export_torch": (exported, lambda m: export_torch(m, EXAMPLE[:, :1], Path("x.pt2"))),
    "labeled_by": (
        lambda m: list(labeled_by(m, BATCHES)),
        lambda m: list(labeled_by(m, [(EXAMPLE[:, :1], None)])),
    ),
    "save_pruned, load_pruned": (
        saved,
        lambda m: srinit.load_pruned(Path("/nowhere"), base=lambda: m),
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _fuse() -> Any:
    Fuse.left = -1
    yield
    Fuse.left = -1


@pytest.mark.parametrize("cls", NETS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_of_the_callers_changes(name: str, cls: type[nn.Module]) -> None:
    works, wrong = FUNCTIONS[name]
    model = build(cls)
    before, around = state_of(model), state_of_process()
    works(model)
    assert state_of(model) == before
    assert state_of_process() == around
    with pytest.raises(Exception):  # noqa: B017, PT011  which one is another test's business
        wrong(model)
    assert state_of(model) == before
    assert state_of_process() == around


@pytest.mark.parametrize("cls", NETS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_changes_when_the_model_raises_in_the_middle(
    name: str, cls: type[nn.Module]
) -> None:
    works, _ = FUNCTIONS[name]
    model = build(cls)
    before, around = state_of(model), state_of_process()
    Fuse.left = 10**6
    works(model)
    calls = 10**6 - Fuse.left
    middle = {0, calls // 2} if cls in NETS[2:] else {0, 1, calls // 3, 2 * calls // 3, calls - 1}
    for call in sorted(middle & set(range(calls))):
        Fuse.left = call
        with contextlib.suppress(Exception):  # a verdict ("locked") is as good as an error
            works(model)
        Fuse.left = -1
        assert state_of(model) == before, f"the model raised at its call {call} of {calls}"
        assert state_of_process() == around, f"the model raised at its call {call} of {calls}"
    if name == "reinitialized":
        assert calls > 0  # through find_units


def test_the_matrix_holds_every_public_function() -> None:
    """`run` takes a config: tests/test_cli.py looks at the process after whole flows."""
    public = {name for name in srinit.__all__ if inspect.isfunction(getattr(srinit, name))}
    told = re.findall(r"\w+", " ".join(FUNCTIONS))
    assert {name for name in public if name not in told} == {"make_plan", "run"}
    model = build(ConvNet)
    around = state_of_process()
    planned(model)  # make_plan
    assert state_of_process() == around


def test_the_matrix_would_notice() -> None:
    model = build(ConvNet)
    before = state_of(model)
    for change in (
        lambda: model.eval(),
        lambda: model.stem.register_forward_hook(lambda *_: None),
        lambda: setattr(model, "extra", 1),
        lambda: model.head.weight.data.add_(1),
        lambda: model.blocks[1].norm.running_mean.add_(1),
    ):
        change()
        after = state_of(model)
        assert after != before
        before = after
    around = state_of_process()
    torch.rand(1)
    assert state_of_process() != around
