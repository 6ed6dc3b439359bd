"""A pruned network lives on like any other: compiled, in DDP, copied, trained, exported."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from srinit import modules
from srinit.export import export_onnx, export_torch
from srinit.surgery import remove_units
from srinit.units import find_units
from zoo import cifar_resnet, noise, tokens
from zoo_transformers import WIDTH, hf, llama


def resnet() -> tuple[nn.Module, Any]:
    return cifar_resnet(20), noise(2, 3, 32, 32)


def bert() -> tuple[nn.Module, Any]:
    inputs = {"input_ids": tokens(2, 8), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
    return hf("BertForMaskedLM", "BertConfig", inputs, num_hidden_layers=4, **WIDTH)


CASES = {"resnet": resnet, "bert": bert, "llama": llama}


@pytest.fixture(params=list(CASES))
def pruned(request: pytest.FixtureRequest) -> tuple[nn.Module, Any]:
    """A network without every second of its units, branches of shape changes included."""
    model, inputs = CASES[request.param]()
    units = list(find_units(model, inputs))
    return remove_units(model, units[::2], example_inputs=inputs), inputs


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


def logits(model: nn.Module, inputs: Any) -> Tensor:
    return modules.logits_of(modules.call(model, inputs))


def test_compiled_it_answers_the_same(pruned: tuple[nn.Module, Any]) -> None:
    model, inputs = pruned
    with torch.no_grad():
        expected = logits(model, inputs)
        found = logits(torch.compile(model, backend="eager"), inputs)
    torch.compiler.reset()
    assert torch.equal(expected, found)


def test_in_ddp_gradients_reach_every_parameter(pruned: tuple[nn.Module, Any], group: None) -> None:
    model, inputs = pruned
    parallel = DistributedDataParallel(model.train())
    for _ in range(2):  # a second backward fails where a parameter was not reached in the first
        logits(parallel, inputs).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_copied_and_loaded_it_stays_what_it_is(pruned: tuple[nn.Module, Any]) -> None:
    model, inputs = pruned
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
        twin.load_state_dict(model.state_dict())
        assert torch.equal(logits(twin.eval(), inputs), logits(model.eval(), inputs))
    assert twin.train().training
    assert all(module.training for module in twin.modules())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_transformers_export(name: str, tmp_path: Path) -> None:
    model, inputs = CASES[name]()
    units = list(find_units(model, inputs))
    model = remove_units(model, units[::2], example_inputs=inputs).eval()
    with torch.no_grad():
        expected = logits(model, inputs)
    export_torch(model, inputs, tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    assert torch.allclose(program(inputs), expected, atol=1e-5)
    export_onnx(model, inputs, tmp_path / "model.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [each.name for each in session.get_inputs()]
    found = session.run(None, {key: inputs[key].numpy() for key in names})[0]
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4)
