"""LoRA, parts of a step, recomputed layers, the likeliest tokens alone, and the memory foretold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import srinit
from language_project import project, run
from srinit.config import LoraSettings
from srinit.errors import ConfigError
from srinit.evaluate import loss_for, next_token_probability
from srinit.evaluate.losses import distillation
from srinit.finetune import Recipe
from srinit.finetune.lora import adapted, targets_of
from srinit.finetune.memory import training_memory
from srinit.rng import isolated_rng

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def llama(layers: int = 3) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=40, num_hidden_layers=layers,
        num_attention_heads=2,
    )  # fmt: skip
    with isolated_rng(1):
        return transformers.LlamaForCausalLM(config).eval()


def batch(rows: int = 8) -> tuple[dict[str, Tensor], Tensor]:
    tokens = torch.arange(rows * 12).reshape(rows, 12) * 7 % 48
    return {"input_ids": tokens}, tokens


def trained(model: Any, **settings: Any) -> srinit.TuneLog:
    data = [batch()]
    recipe = Recipe(epochs=6, distill_weight=0.0, **settings)
    return srinit.fine_tune(model, data, data, recipe=recipe, scorer=next_token_probability)


def test_adapters_are_merged_and_all_else_is_as_it_was() -> None:
    model = llama()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules, attributes = dict(model.named_modules()), set(vars(model))
    log = trained(model, lora={"r": 4})
    assert (log.recipe.optimizer, log.recipe.peak_lr) == ("adamw", 1e-3)
    assert (log.score_after or 0) > (log.score_before or 1)
    assert dict(model.named_modules()) == modules
    assert set(vars(model)) == attributes
    assert all(parameter.requires_grad for parameter in model.parameters())
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {f"{name}.weight" for name in targets_of(model, "auto")}
    assert not any("embed" in name or "lm_head" in name or "norm" in name for name in changed)
    for name in changed:  # the change has the rank of the adapters
        assert torch.linalg.matrix_rank(model.state_dict()[name] - before[name], rtol=1e-4) <= 4
    with torch.no_grad():
        score = next_token_probability(model(**batch()[0]), batch()[1]).mean()
    assert float(score) == pytest.approx(log.score_after, abs=1e-6)


def test_a_training_that_fails_leaves_no_adapter_and_no_change() -> None:
    model = llama()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def fail() -> None:
        with adapted(model, LoraSettings(r=2), 0):
            model.model.layers[0].mlp.up_proj.lora_B["default"].weight.data.fill_(1)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("targets", "count"), [("auto", 14), (("q_proj", "v_proj"), 4), (("model.layers.1.*",), 7)]
)
def test_targets_are_ends_of_names_or_globs(targets: Any, count: int) -> None:
    assert len(targets_of(llama(2), targets)) == count
    with pytest.raises(ConfigError, match="names no linear map of LlamaForCausalLM"):
        targets_of(llama(2), ("query",))


def test_without_a_head_the_last_linear_map_is_the_output() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    assert targets_of(network, "auto") == ["0", "2"]


def test_parts_and_recomputed_layers_take_the_same_steps() -> None:
    networks = [llama() for _ in range(3)]
    plain = trained(networks[0], precision="float32")
    parts = trained(networks[1], precision="float32", micro_batch=3)
    trained(networks[2], precision="float32", checkpointing=True)
    assert plain.part_size is parts.part_size is None
    first = networks[0].state_dict()
    for other in networks[1:]:
        for name, value in other.state_dict().items():
            assert torch.allclose(value, first[name], atol=1e-5), name
    assert not networks[2].model.is_gradient_checkpointing
    with pytest.raises(ConfigError, match="checkpointing: Linear does not support it"):
        srinit.fine_tune(
            nn.Linear(2, 2), [(torch.ones(2, 2), torch.tensor([0, 1]))], None,
            recipe=Recipe(epochs=1, checkpointing=True),
        )  # fmt: skip


def test_the_likeliest_classes_and_the_rest_as_one() -> None:
    with isolated_rng(0):
        ours, theirs = torch.randn(4, 6), torch.randn(4, 6)
    whole = distillation(ours, theirs, 1.0)
    assert distillation(ours, theirs, 1.0, top=6) == whole
    assert 0 < distillation(ours, theirs, 1.0, top=2) < whole  # joined classes hide differences
    p, q = theirs.softmax(1), ours.softmax(1)
    places = p.argmax(1, keepdim=True)
    a, b = p.gather(1, places), q.gather(1, places)
    hand = (a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()).mean()
    assert distillation(ours, theirs, 1.0, top=1) == pytest.approx(float(hand), abs=1e-6)


def test_the_memory_that_training_needs_is_counted_and_less_with_adapters() -> None:
    model, teacher = llama(), llama()
    loss = loss_for(next_token_probability)

    def needed(**settings: Any) -> Any:
        recipe = Recipe(batch_size=8, precision="float32", **settings)
        return training_memory(
            model, batch(3), recipe, loss=loss, scorer=next_token_probability, teacher=teacher
        )

    size = sum(parameter.nbytes for parameter in model.parameters())
    full, parts = needed(optimizer="adamw"), needed(optimizer="adamw", micro_batch=2)
    assert (full.gradients, full.optimizer, full.teacher) == (size, 2 * size, size)
    assert full.kept == size
    assert parts.activations == pytest.approx(full.activations / 4, rel=0.05)
    assert needed(checkpointing=True).activations < full.activations / 2
    small = needed(lora={"r": 2})
    assert small.gradients == 4 * sum(
        2 * sum(model.get_submodule(name).weight.shape) for name in targets_of(model, "auto")
    )
    states = [each.gradients + each.optimizer + each.kept for each in (small, full)]
    assert states[0] < states[1] / 9
    assert small.activations < full.activations  # what frozen maps read is not kept
    assert list(model.state_dict()) == list(teacher.state_dict())


def test_a_run_heals_by_adapters_and_its_folder_holds_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project(tmp_path)
    lora = "finetune={epochs: 3, batch_size: 8, micro_batch: 4, lora: {r: 4}, distill_top: 5}"
    cut = ("scan=off", "plan.params=null", "plan.units=1")
    code, body = run(folder, capsys, *cut, "finetune={epochs: 1, lora: {r: 4, targets: [query]}}")
    assert code == 2
    assert "names no linear map" in body["error"]["message"]
    assert not list((folder / "runs").glob("*/scan/*"))  # said before anything is measured
    code, body = run(folder, capsys, *cut, lora)
    assert code == 0, body
    found = Path(body["run"])
    log = json.loads((found / "rounds" / "01" / "tune.json").read_text())
    assert log["recipe"]["lora"]["r"] == 4
    assert log["steps"] > 0
    made = transformers.AutoModelForCausalLM.from_pretrained(found / "export" / "huggingface")
    assert not any("lora" in name for name in made.state_dict())
