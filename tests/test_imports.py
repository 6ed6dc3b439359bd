"""Imports go one way, also those that the import contract cannot see."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import torch

from srinit.artifact import save_pruned
from srinit.config import load_config
from srinit.errors import ModelError, UnsafeError
from srinit.pipeline.network import load_network
from srinit.plan import Prefix, PrunePlan, Removal
from srinit.store import RunFolder, sha256_file
from srinit.surgery import apply_plan
from srinit.units import find_units
from zoo import EXAMPLE, cifar_resnet, noise

SOURCE = Path(__file__).parents[1] / "src" / "srinit"
X = noise(2, 3, 32, 32)


def test_no_room_is_imported_by_a_text() -> None:
    """`import_module("srinit.artifact")` would be a cycle that the contract does not see."""
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("import_module", "__import__"))
        and "'srinit" in ast.unparse(node).replace('"', "'")
    ]
    assert [place.partition(":")[0] for place in found] == [
        "__init__.py"
    ]  # the public names, loaded when first used


@pytest.mark.parametrize("bare", [False, True])
def test_a_config_may_name_the_network_of_another_run(tmp_path: Path, bare: bool) -> None:
    model = cifar_resnet(20)
    unit = find_units(model, X)["layer1.1"]
    costs = tuple(Prefix(num_removed=number, params=0, flops=0) for number in range(2))
    plan = PrunePlan(
        remove=(Removal(unit=unit),),
        ranking=(unit.name,),
        prefixes=costs,
        target={"remove": [unit.name]},
        criterion="by hand",
        inputs=find_units(model, X).inputs,
    )
    pruned = apply_plan(model, plan).eval()
    base = {"source": f"py:{EXAMPLE}:resnet", "args": {"depth": 20, "num_classes": 10}}
    run = RunFolder.create(tmp_path / "runs", "a")
    inputs = {f"{EXAMPLE}:resnet": sha256_file(EXAMPLE)}
    run.write_text(run.path / "inputs.lock.json", json.dumps(inputs))
    save_pruned(run.path / "rounds" / "01", pruned, plan, base=base)
    run.cover()
    (tmp_path / "c.yaml").write_text("model: run:runs/a\ndata: folder:data\n", "utf-8")
    config = load_config(tmp_path / "c.yaml")
    with pytest.raises(UnsafeError, match="is not sealed, and the code that it names"):
        load_network(config, bare=bare)
    run.seal()
    found = load_network(config, bare=bare)
    with torch.no_grad():
        torch.testing.assert_close(found(X), pruned(X), rtol=0, atol=0)
    with pytest.raises(ModelError, match="does not exist; run it first"):
        load_network(load_config(tmp_path / "c.yaml", ["model=run:runs/b"]))
