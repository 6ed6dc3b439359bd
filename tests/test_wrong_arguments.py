"""Wrong arguments are named with what to write instead, before anything is measured or trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit import apply_plan, compare, find_units, fine_tune, make_plan, measure_sensitivity
from srinit.comparison import compare_unlabeled
from srinit.config import load_config
from srinit.criteria import score_units
from srinit.errors import ConfigError, DataError, PlanError
from srinit.evaluate import evaluate
from srinit.finetune import Recipe, recalibrate
from srinit.pipeline.run import run
from srinit.trial import try_removals


def stack() -> nn.Module:
    own = torch.Generator().manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    body = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(32, 2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=own))
    return model


def batches(count: int = 2, size: int = 16) -> list[tuple[Tensor, Tensor]]:
    x = torch.randn(count, size, 4, 8, generator=torch.Generator().manual_seed(1))
    return [(each, (each.mean((1, 2)) > 0).long()) for each in x]


MODEL, DATA = stack(), batches()
UNITS = find_units(MODEL, DATA[0][0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lion"}, "optimizer is one of sgd, adamw, not 'lion'"),
        ({"schedule": "cosine"}, "schedule is one of finetune, rewind, not 'cosine'"),
        ({"precision": "int8"}, "precision is one of auto, float32"),
        ({"epochs": -1}, "epochs is 0 or more, not -1"),
        ({"epochs": float("nan")}, "epochs is 0 or more, not nan"),
        ({"lr": 0.0}, r"lr is above 0, not 0\.0"),
        ({"lr": "0.1"}, r"lr is above 0, not '0\.1'"),
        ({"distill_weight": 1.5}, r"distill_weight is a share in \[0, 1\], not 1\.5"),
        ({"label_smoothing": 1.0}, r"label_smoothing is a share in \[0, 1\), not 1\.0"),
        ({"batch_size": 0}, "batch_size is 1 or more, not 0"),
        ({"batch_size": 2.5}, r"batch_size is a whole number, not 2\.5"),
        ({"patience": 0}, "patience is 1 or more, not 0"),
        ({"ema": 1.0}, r"ema is a decay in \(0, 1\), not 1\.0"),
        ({"temperature": 0}, "temperature is above 0, not 0"),
        ({"epochs": None, "clip": -1}, "epochs is 0 or more, not None; clip is above 0, not -1"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_when_it_is_written(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**settings)


def frozen() -> nn.Module:
    return stack().requires_grad_(False)


def test_a_frozen_network_is_said_to_be_so() -> None:
    with pytest.raises(ConfigError, match=r"all 38 parameters of Sequential are frozen"):
        fine_tune(frozen(), DATA, None)
    with pytest.raises(ConfigError, match="Identity has no parameters"):
        fine_tune(nn.Identity(), DATA, None)
    assert fine_tune(frozen(), DATA, None, recipe=Recipe(epochs=0)).stopped == "nothing to do"
    partly = stack()
    partly[0].requires_grad_(False)
    before = {name: value.clone() for name, value in partly.state_dict().items()}
    fine_tune(partly, DATA, None, recipe=Recipe(epochs=1))
    moved = {n for n, v in partly.state_dict().items() if not torch.equal(v, before[n])}
    assert moved == {"2.weight", "2.bias"}


FROZEN = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("whole", pathlib.Path(__file__).with_name("model.py"))
whole = importlib.util.module_from_spec(spec)
spec.loader.exec_module(whole)

def build(**settings):
    return whole.{name}(**settings).requires_grad_(False)
"""


def test_a_run_says_before_the_scan_that_nothing_can_be_trained(
    digits: Path, tmp_path: Path
) -> None:
    project = shutil.copytree(digits, tmp_path / "project")
    config = load_config(project / "srinit.yaml")
    name = config.model.source.rpartition(":")[2]
    (project / "frozen.py").write_text(FROZEN.replace("{name}", name))
    source = ["model.source=py:frozen.py:build", f"out={tmp_path}"]
    with pytest.raises(ConfigError, match=r"nothing can be trained: all .* are frozen"):
        run(load_config(project / "srinit.yaml", source))
    own = ["score=py:own.py:near", f"out={tmp_path}"]
    (project / "own.py").write_text("def near(output, target):\n    return target\n")
    with pytest.raises(ConfigError, match=r"score near is not known: .*finetune\.loss"):
        run(load_config(project / "srinit.yaml", own))
    assert not list(tmp_path.glob("*/scan/*"))


def test_the_config_names_a_loss_or_a_function(digits: Path) -> None:
    for loss in ("cross_entropy", "next_token", "py:own.py:loss"):
        found = load_config(digits / "srinit.yaml", [f"finetune.loss={loss}"])
        assert found.finetune.loss == loss
    with pytest.raises(ConfigError, match=r"finetune\.loss"):
        load_config(digits / "srinit.yaml", ["finetune.loss=hinge"])


def scan() -> Any:
    return measure_sensitivity(MODEL, UNITS, DATA, scheme="permuted", half_width=0.5)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"remove": UNITS.names[0]}, TypeError, rf"remove is a list .*\['{UNITS.names[0]}'"),
        ({"keep": UNITS.names[0]}, TypeError, "keep is a list of names, found a text"),
        ({"remove": 3}, TypeError, "remove is a list of names, found int"),
        ({"remove": [3]}, TypeError, "remove is a list of names, found int in it"),
        ({"rule": "mean"}, PlanError, "rule is one of interval, point, not 'mean'"),
        ({"max_drop": float("nan")}, PlanError, "max_drop=nan cannot be met"),
        ({"flops": float("nan")}, PlanError, "flops=nan cannot be met"),
        ({"scores": {"a": 1.0}}, TypeError, "scores are UnitScores, as score_units gives"),
    ],
)  # fmt: skip
def test_a_plan_says_what_it_is_made_from(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_plan(scan(), **settings)


def test_what_is_no_plan_or_no_scan_is_named() -> None:
    with pytest.raises(
        TypeError, match=r"made from a scan \(Sensitivity\) or from units \(UnitMap\)"
    ):
        make_plan([UNITS])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="plan is a PrunePlan, as make_plan gives, not list"):
        apply_plan(MODEL, ["0.layers.0"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"keep is a list of names or classes: write \['0'\]"):
        find_units(MODEL, DATA[0][0], keep="0")
    with pytest.raises(TypeError, match=r"select is a list of names or classes: write \[Linear\]"):
        find_units(MODEL, DATA[0][0], select=nn.Linear)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (lambda model, units, data, options: [1.0, 2.0], "returned list; return a dict"),
        (lambda model, units, data, options: None, "returned NoneType; return a dict"),
        (lambda model, units, data, options: {"nothere": 1.0}, "'nothere', which is no"),
        (lambda model, units, data, options: {3: 1.0}, "scored 3, which is no"),
        (lambda model, units, data, options: dict.fromkeys(units.names, "a"), "gave str"),
        (7, "a criterion is a name or a function, not int"),
        ("taylr", r"there is no criterion 'taylr' \(nearest: 'taylor'\)"),
    ],
)
def test_a_criterion_that_gives_no_scores_is_named(criterion: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        score_units(MODEL, UNITS, DATA, criterion=criterion)


EMPTY: dict[str, Callable[[], Any]] = {
    "evaluate": lambda: evaluate(MODEL, []),
    "compare": lambda: compare(MODEL, MODEL, []),
    "compare_unlabeled": lambda: compare_unlabeled(MODEL, MODEL, []),
    "measure_sensitivity": lambda: measure_sensitivity(MODEL, UNITS, []),
    "score_units": lambda: score_units(MODEL, UNITS, [], criterion="taylor"),
    "fine_tune": lambda: fine_tune(stack(), [], None),
    "validation": lambda: fine_tune(stack(), DATA, []),
    "recalibrate": lambda: recalibrate(nn.BatchNorm1d(2), []),
    "try_removals": lambda: try_removals(
        MODEL, UNITS, [UNITS.names[:1]], [], example_inputs=DATA[0][0]
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_data_without_an_example_are_said_to_be_empty(name: str) -> None:
    with pytest.raises(DataError, match=r"holds? no (example|batch)|no batch holds two examples"):
        EMPTY[name]()


def once() -> Any:
    return (batch for batch in DATA)


ONCE: dict[str, Callable[[], Any]] = {
    "compare": lambda: compare(MODEL, MODEL, once()),
    "compare_unlabeled": lambda: compare_unlabeled(MODEL, MODEL, once()),
    "validation": lambda: fine_tune(stack(), DATA, once()),
    "try_removals": lambda: try_removals(
        MODEL, UNITS, [UNITS.names[:1]], once(), example_inputs=DATA[0][0]
    ),
}


@pytest.mark.parametrize("name", ONCE)
def test_data_that_can_be_read_once_are_refused_where_they_are_read_again(name: str) -> None:
    with pytest.raises(DataError, match="reads the data more than once, and generator"):
        ONCE[name]()


def test_data_that_are_read_once_may_be_a_generator() -> None:
    whole = evaluate(MODEL, DATA).score
    assert evaluate(MODEL, once()).score == whole
    found = measure_sensitivity(MODEL, UNITS, once(), scheme="permuted", half_width=None)
    assert found.baseline_score == pytest.approx(whole)


@pytest.mark.parametrize("data", [None, 3])
def test_what_is_no_data_is_named(data: Any) -> None:
    calls = [
        lambda: evaluate(MODEL, data),
        lambda: compare(MODEL, MODEL, data),
        lambda: measure_sensitivity(MODEL, UNITS, data),
        lambda: recalibrate(nn.BatchNorm1d(2), data),
    ]
    for call in calls:
        with pytest.raises(DataError, match=f"should be batches .*found {type(data).__name__}"):
            call()


def test_candidates_of_a_trial_are_lists_of_units() -> None:
    settings: dict[str, Any] = {"example_inputs": DATA[0][0]}
    with pytest.raises(TypeError, match="is a list of names, found a text"):
        try_removals(MODEL, UNITS, list(UNITS.names), DATA, **settings)
    with pytest.raises(ConfigError, match="'nothere' cannot be tried: it is no removable unit"):
        try_removals(MODEL, UNITS, [["nothere"]], DATA, **settings)


def test_batches_of_one_example_train_unless_normalization_forbids_it() -> None:
    single = [(x[i : i + 1], y[i : i + 1]) for x, y in DATA for i in range(4)]
    model = stack()
    before = model[2].weight.detach().clone()
    log = fine_tune(model, single, None, recipe=Recipe(epochs=1))
    assert log.points[-1].loss is not None
    assert log.points[-1].loss > 0
    assert not torch.equal(before, model[2].weight)
    normed = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(32), nn.Linear(32, 2))
    with pytest.raises(DataError, match="no batch holds 2 examples"):
        fine_tune(normed, single, None, recipe=Recipe(epochs=1))
    log = fine_tune(normed, [*single, DATA[0]], None, recipe=Recipe(epochs=1))
    assert log.stopped == "finished"


def test_a_loss_that_is_no_function_is_named() -> None:
    with pytest.raises(ConfigError, match=r"loss should be a function .* found str"):
        fine_tune(stack(), DATA, None, loss="mse")  # type: ignore[arg-type]
