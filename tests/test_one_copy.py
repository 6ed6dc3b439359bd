"""Networks that fit into memory once: weights are shared, nothing is kept that is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import torch
from torch import nn

import srinit
from srinit.artifact import load_pruned
from srinit.criteria.score import _Batches
from srinit.evaluate import next_token_probability
from srinit.recording import record
from srinit.rng import isolated_rng

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
TOKENS = torch.arange(24).reshape(2, 12)


def llama(**settings: Any) -> Any:
    config = transformers.LlamaConfig(
        hidden_size=256, intermediate_size=300, num_hidden_layers=3, num_attention_heads=4,
        vocab_size=300, tie_word_embeddings=False, **settings,
    )  # fmt: skip
    with isolated_rng(0):
        return transformers.LlamaForCausalLM(config).eval()


def test_a_cut_may_share_large_weights_and_is_the_same_network(tmp_path: Path) -> None:
    model = llama()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.zero_()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = {"input_ids": TOKENS}
    units = srinit.find_units(model, inputs)
    plan = srinit.make_plan(units, remove=["model.layers.1"])
    own, shared = (srinit.apply_plan(model, plan, share=share) for share in (False, True))
    theirs = {value.data_ptr() for value in model.parameters()}
    alone = {n for n, value in shared.named_parameters() if value.data_ptr() not in theirs}
    assert {n for n in alone if "norm" not in n} == {"model.layers.0.mlp.down_proj.weight"}
    assert not any(value.data_ptr() in theirs for value in own.parameters())
    assert shared.config.num_hidden_layers == 2
    with torch.no_grad():
        assert torch.equal(own(**inputs).logits, shared(**inputs).logits)
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items())
    srinit.save_pruned(tmp_path, shared, plan, base="py:unused.py:f")
    again = load_pruned(tmp_path, base=llama)
    assert all(torch.equal(v, shared.state_dict()[n]) for n, v in again.state_dict().items())
    made = transformers.LlamaForCausalLM.from_pretrained(_written(shared, tmp_path / "hf"))
    assert made.config.num_hidden_layers == 2


def _written(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def test_recording_keeps_no_value_alive() -> None:
    class Layer(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            alive.append(sum(each() is not None for each in seen))
            result = x * 2
            seen.append(ref(result))
            return result

    seen: list[ref[torch.Tensor]] = []
    alive: list[int] = []
    trace = record(nn.Sequential(*(Layer() for _ in range(20))), torch.ones(2, 3))
    assert max(alive) <= 2
    assert len(trace.ops) == 20
    assert all(trace.ops[i].inputs == trace.ops[i - 1].outputs for i in range(1, 20))


def test_batches_of_texts_are_as_small_as_their_outputs_ask() -> None:
    tokens = torch.zeros(40, 64, dtype=torch.long)
    data = [({"input_ids": tokens}, tokens)]
    place = torch.device("cpu")
    large = llama(max_position_embeddings=64)
    large.lm_head = nn.Linear(256, 40_000)  # 64 * 40,000 * 4 bytes an example
    assert len(_Batches(data, large, None, place, 0, None)) == 7  # 6 a batch
    assert len(_Batches(data, llama(), None, place, 0, None)) == 1
    scores = srinit.criteria.score_units(
        llama(), srinit.find_units(llama(), data[0][0]), data, criterion="block_influence",
        scorer=next_token_probability,
    )  # fmt: skip
    assert scores.num_examples == 40
