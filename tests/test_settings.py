"""A setting has one default and one bound, wherever it is taken; long signatures are known."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

import srinit
from srinit.comparison import Comparison
from srinit.config import Config, RecipeSettings, RoiInputs
from srinit.criteria.options import Options
from srinit.errors import ConfigError
from srinit.finetune import Recipe
from srinit.monitor.log import Prediction
from srinit.report.data import ReportInput
from srinit.sensitivity import Settings, estimate_time, measure_sensitivity
from srinit.units import UnitMap
from zoo import cifar_resnet

SOURCE = Path(srinit.__file__).parent
MOST = 8
CONFIG = {name: field.annotation for name, field in Config.model_fields.items()}
# Public functions with more parameters, and the record or section that documents them.
DOCUMENTED = {
    "comparison/paired.py:compare": CONFIG["compare"],
    "comparison/paired.py:compare_outcomes": Comparison,
    "comparison/robustness.py:measure_robustness": CONFIG["shift"],
    "compensation/apply.py:compensate": CONFIG["compensate"],
    "compensation/apply.py:compensated": CONFIG["compensate"],
    "realignment/walk.py:realign": CONFIG["compensate"],
    "criteria/score.py:score_units": Options,
    "finetune/loop.py:fine_tune": Recipe,
    "gates/feasible.py:check_feasible": CONFIG["gates"],
    "monitor/log.py:LogWriter.write": Prediction,
    "plan.py:make_plan": CONFIG["plan"],
    "sensitivity/scan.py:measure_sensitivity": Settings,
    "trial.py:removal_distances": CONFIG["plan"],
    "trial.py:try_removals": CONFIG["plan"],
}


def long_signatures() -> set[str]:
    found = set()
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] == "cli":
            continue  # a command line's options are its signature
        tree = ast.parse(path.read_text("utf-8"))
        owners = [
            ("", tree),
            *((f"{n.name}.", n) for n in tree.body if isinstance(n, ast.ClassDef)),
        ]
        for prefix, owner in owners:
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                    count = sum(each.arg not in ("self", "cls") for each in given)
                    if count > MOST and not prefix.startswith("_"):
                        found.add(f"{path.relative_to(SOURCE).as_posix()}:{prefix}{node.name}")
    return found


def test_long_signatures_are_those_of_documented_settings() -> None:
    assert long_signatures() == set(DOCUMENTED)


@pytest.mark.parametrize("record", sorted(set(DOCUMENTED.values()), key=str))
def test_what_documents_a_signature_says_so(record: type) -> None:
    assert record.__doc__
    assert not record.__doc__.startswith(f"{record.__name__}(")  # dataclasses write one themselves


def test_a_scan_has_one_default_for_every_setting() -> None:
    signature = inspect.signature(measure_sensitivity).parameters
    section = CONFIG["scan"].model_fields
    for field in fields(Settings):
        if field.name not in signature or field.name in ("batch_size", "precision"):
            continue  # by device and model; two words for one, see `Settings`
        assert signature[field.name].default == field.default, field.name
        if field.name in section:
            assert section[field.name].default == field.default, field.name
    assert set(section) - {"measure"} <= set(signature)
    assert signature["precision"].default == section["precision"].default == Settings.widths


def test_an_estimate_takes_the_settings_of_a_scan_and_no_others() -> None:
    units = UnitMap(removable=(), locked=(), params=1, flops=1)
    with pytest.raises(TypeError, match="halfwidth"):
        estimate_time(cifar_resnet(20), units, [], halfwidth=0.1)
    with pytest.raises(ValueError, match="confidence must lie in"):
        estimate_time(cifar_resnet(20), units, [], confidence=2.0)


def test_a_recipe_has_the_settings_of_the_section_and_one_more() -> None:
    section = CONFIG["finetune"].model_fields
    own = {name: field for name, field in Recipe.model_fields.items() if name != "clip"}
    assert set(own) == set(RecipeSettings.model_fields) <= set(section)
    chosen = {"epochs", "optimizer", "batch_size"}  # by the run, where the config leaves them out
    for name, field in own.items():
        assert field.default is not PydanticUndefined
        default = None if name in chosen else field.default
        assert section[name].default == default
        words = section[name].description
        assert words.startswith(field.description) if name in chosen else words == field.description


def test_a_recipe_refuses_what_is_no_setting_and_says_how_large_one_may_be() -> None:
    with pytest.raises(TypeError, match="no setting 'learning_rate'"):
        Recipe(learning_rate=0.1)
    with pytest.raises(ConfigError, match="batch_size is at most 65536, not 100000"):
        Recipe(batch_size=100_000)
    with pytest.raises(ConfigError, match="distill_weight is a share"):
        Recipe().changed(distill_weight=2.0)


def test_the_report_takes_the_section_of_the_config() -> None:
    assert CONFIG["roi"] is RoiInputs
    assert {f.name: f.type for f in fields(ReportInput)}["roi"] == "RoiInputs"
