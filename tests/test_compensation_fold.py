"""Fold: what the last map before a cut puts out is mapped further, in its weight or its norm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit import cli, compensate, load_pruned, save_pruned
from srinit.compensation import compensated, realign
from srinit.compensation.answers import answers, divergence
from srinit.compensation.variants import fit_variants
from srinit.export import export_onnx, run_file
from srinit.rng import generator, isolated_rng
from srinit.surgery import remove_with_origins
from srinit.units import find_units
from test_compensation import NETWORKS, distance, made, plan_of
from test_run_without_training import project  # noqa: F401

# B batch, C channels, H W space


class Recurrent(nn.Module):
    """Blocks that share one convolution and have a normalization of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        shared = nn.Conv2d(8, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Own(shared if i != 1 else None) for i in range(4)))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Own(nn.Module):
    """A block with a normalization of its own, and a convolution of its own or another's."""

    def __init__(self, conv: nn.Conv2d | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1) if conv is None else conv
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)))


def recurrent() -> tuple[nn.Module, nn.Module, dict[str, str], list[Tensor]]:
    """Return such a network, the same without its second block, origins, and batches."""
    model, x_BCHW = trained()
    units = find_units(model, x_BCHW[:2])
    cut, origins = remove_with_origins(model, [units["blocks.1"]], example_inputs=x_BCHW[:2])
    return model, cut, origins, list(x_BCHW.split(32))


def trained() -> tuple[nn.Module, Tensor]:
    """Return such a network with statistics of its inputs, and those."""
    with isolated_rng(5):
        model = Recurrent()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
        nn.init.uniform_(model.blocks[1].norm.bias, 0.5, 1.5)  # what a shift can make up for
    x_BCHW = torch.randn(96, 3, 6, 6, generator=generator("fold"))
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(x_BCHW)
    return model.eval(), x_BCHW


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_fold_brings_answers_nearer_and_changes_the_maps_before_a_cut_alone(name: str) -> None:
    model, batches, units = made(name)
    gone = [units.names[len(units.names) // 2]]
    cut, origins = remove_with_origins(
        model, [units[n] for n in gone], example_inputs=batches[0][:2]
    )
    before = distance(model, cut, batches[2:])
    update = realign(model, cut, origins, batches[:2], fold=True)
    assert len(update.solved) == 1
    assert update.solved[0].lacking_after < update.solved[0].lacking_before
    assert distance(model, cut, batches[2:]) < before
    waited = realign(
        model, *remove_with_origins(model, [units[n] for n in gone], example_inputs=batches[0][:2]),
        batches[:2], fold=True, budget=0,
    )  # fmt: skip
    assert waited.changes.keys() == update.changes.keys()
    for key, change in update.changes.items():
        torch.testing.assert_close(waited.changes[key], change, rtol=1e-3, atol=1e-4)


def test_a_fold_into_a_weight_is_the_regression_on_what_the_map_puts_out() -> None:
    with isolated_rng(3):
        model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(4)))
    x_BC = torch.randn(64, 6, generator=generator("regression"))
    units = find_units(model, x_BC[:2], include_plain=True)
    cut, origins = remove_with_origins(model, [units["1"]], example_inputs=x_BC[:2])
    weight, bias = model[0].weight.double(), model[0].bias.double()
    F_BC = torch.cat([x_BC.double() @ weight.T + bias, torch.ones(64, 1)], 1)
    R_BC = model[1](model[0](x_BC)).double() - F_BC[:, :6]
    gram = F_BC.T @ F_BC
    penalty = 0.1 * gram.diagonal()[:6].mean()
    gram += torch.diag(torch.cat([penalty.expand(6), torch.zeros(1)]))
    turn = torch.linalg.solve(gram, F_BC.T @ R_BC).T
    realign(model, cut, origins, [x_BC], fold=True, strength=0.1)
    expected = weight + turn[:, :6] @ weight
    torch.testing.assert_close(cut[0].weight.double(), expected, rtol=1e-4, atol=1e-5)
    shifted = bias + turn[:, :6] @ bias + turn[:, 6]
    torch.testing.assert_close(cut[0].bias.double(), shifted, rtol=1e-4, atol=1e-5)


def test_a_shared_convolution_stays_and_its_normalization_takes_the_fold_up() -> None:
    model, cut, origins, batches = recurrent()
    before = {key: value.clone() for key, value in cut.state_dict().items()}
    far = distance(model, cut, batches[2:])
    update = realign(model, cut, origins, batches[:2], fold=True)
    assert {key.rpartition(".")[0] for key in update.changes} == {"blocks.0.norm"}
    assert [each.name for each in update.solved] == ["blocks.0.conv.weight"]
    after = cut.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if k not in update.changes)
    assert distance(model, cut, batches[2:]) < far


def test_where_weights_are_shared_the_fold_is_what_is_chosen() -> None:
    model, cut, origins, batches = recurrent()
    found = compensated(model, cut, origins, batches, measure="squared", recalibration=False)
    assert found.chosen.startswith("folded"), found.choice.candidates
    assert {each.name for each in found.choice.left} >= {"blocks.0.conv.weight"}
    pairs = answers(model, batches), answers(found.model, batches)
    nothing = answers(model, batches), answers(cut, batches)
    assert (
        divergence(*pairs, batches, "squared").mean()
        < divergence(*nothing, batches, "squared").mean()
    )


def test_a_fold_beside_shared_weights_survives_saving_loading_and_onnx(tmp_path: Path) -> None:
    model, x_BCHW = trained()
    units = find_units(model, x_BCHW[:2])
    plan = plan_of(units, ["blocks.1"])
    found = compensate(
        model, plan, list(x_BCHW.split(32)), measure="squared", recalibration=False, offer="fold"
    )
    assert found.chosen == "folded"
    network: Any = found.model
    assert network.blocks[0].conv is network.blocks[1].conv
    save_pruned(tmp_path / "net", network, plan, base={})
    loaded: Any = load_pruned(tmp_path / "net", base=lambda: trained()[0])
    assert torch.equal(loaded(x_BCHW), network(x_BCHW))
    assert loaded.blocks[0].conv.weight is loaded.blocks[1].conv.weight
    export_onnx(loaded, x_BCHW[:4], tmp_path / "net.onnx")
    said = run_file(tmp_path / "net.onnx", (x_BCHW[:4],))
    torch.testing.assert_close(said, network(x_BCHW[:4]).detach(), rtol=1e-4, atol=1e-4)


def test_trials_fold_where_weights_are_shared() -> None:
    model, x_BCHW = trained()
    units = find_units(model, x_BCHW[:2])
    fitted = fit_variants(
        model, [units["blocks.1"]], [x_BCHW[:32]], method="auto", example_inputs=x_BCHW[:2]
    )
    assert set(fitted.variants) == {"nothing", "folded"}
    assert all("norm" in key for key in fitted.variants["folded"])


def test_a_run_may_be_told_to_change_the_last_map_before_a_cut_alone(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(request.getfixturevalue("project"), tmp_path / "p")
    config = tmp_path / "p" / "srinit.yaml"
    code = cli.run(["run", "-c", str(config), "--set", "compensate.method=fold", "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err[-2000:]
    folder = Path(json.loads(said.out)["run"]) / "rounds" / "01"
    choice = json.loads((folder / "metrics.json").read_text())["compensation"]["choice"]
    assert [each["name"] for each in choice["candidates"]] == ["nothing", "recalibrated", "folded"]
    assert "patch" in {each["name"] for each in choice["skipped"]}


def test_a_normalization_that_two_convolutions_share_keeps_its_bias() -> None:
    model, cut, origins, batches = recurrent()
    network: Any = cut
    network.blocks[0].norm = network.blocks[1].norm
    network.blocks[0].conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    update = realign(model, cut, origins, batches[:2], fold=True)
    assert not any("norm" in key for key in update.changes)
