"""Hugging Face networks after the cut: caches, configs and `from_pretrained` follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from srinit.surgery import remove_units
from srinit.units import find_units
from zoo import tokens
from zoo_transformers import HUGGING_FACE, WIDTH, hf, text

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
pytest.importorskip("transformers")

DECODERS = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", {"num_key_value_heads": 1}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 32, "n_layer": 4, "n_head": 2}),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {}),
    "opt": ("OPTForCausalLM", "OPTConfig", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "gemma2": (
        "Gemma2ForCausalLM",
        "Gemma2Config",
        {"head_dim": 16, "sliding_window": 4, "num_key_value_heads": 2},
    ),
}


def decoder(name: str) -> nn.Module:
    model, config, settings = DECODERS[name]
    sizes = {"num_hidden_layers": 4, **WIDTH} if name != "gpt2" else {"vocab_size": 96}
    network, _ = hf(model, config, {}, **{**sizes, **settings})
    return network


def without(model: nn.Module, inputs: Any, *suffixes: str) -> nn.Module:
    units = find_units(model, inputs)
    gone = [unit for unit in units if unit.name.endswith(suffixes)]
    assert len(gone) == len(suffixes)
    return remove_units(model, gone, example_inputs=inputs).eval()


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("gone", [(".0",), (".1", ".2")])
def test_decoding_with_a_cache_equals_the_full_forward(name: str, gone: tuple[str, ...]) -> None:
    model = decoder(name)
    pruned = without(model, text(), *gone)
    ids = tokens(2, 9)
    with torch.no_grad():
        full = pruned(input_ids=ids).logits
        step = pruned(input_ids=ids[:, :5], use_cache=True)
        found = [step.logits]
        for place in range(5, 9):
            step = pruned(
                input_ids=ids[:, place : place + 1],
                past_key_values=step.past_key_values,
                use_cache=True,
            )
            found.append(step.logits)
    torch.testing.assert_close(torch.cat(found, 1), full, atol=1e-5, rtol=1e-4)
    assert pruned.config.num_hidden_layers == 4 - len(gone)
    assert model.config.num_hidden_layers == 4


def test_layer_types_lose_the_entries_of_removed_layers() -> None:
    model = decoder("gemma2")
    kinds = list(model.config.layer_types)
    pruned = without(model, text(), ".1")
    assert pruned.config.layer_types == [kinds[0], *kinds[2:]]
    assert [layer.self_attn.layer_idx for layer in pruned.model.layers] == [0, 1, 2]
    assert model.config.layer_types == kinds


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "llama", "t5", "vit", "whisper"])
def test_a_pruned_model_survives_save_and_from_pretrained(name: str, tmp_path: Path) -> None:
    model, inputs = HUGGING_FACE[name].build()
    units = find_units(model, inputs)
    chosen = [unit for unit in units if unit.name.endswith(".1")]
    pruned = remove_units(model, chosen, example_inputs=inputs).eval()
    pruned.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in pruned.parameters())
    with torch.no_grad():
        one, other = pruned(**inputs), again(**inputs)
    for key in ("logits", "last_hidden_state"):
        if key in one:
            assert torch.equal(one[key], other[key])


def test_all_layers_of_an_encoder_may_go() -> None:
    model, inputs = HUGGING_FACE["bert"].build()
    units = find_units(model, inputs)
    pruned = remove_units(model, list(units), example_inputs=inputs)
    assert pruned(**inputs).last_hidden_state.shape == (2, 8, 32)


def test_generation_works_without_the_first_layer() -> None:
    pruned = without(decoder("llama"), text(), ".0")
    ids = tokens(1, 4)
    slow = pruned.generate(ids, max_new_tokens=5, do_sample=False, use_cache=False, pad_token_id=0)
    fast = pruned.generate(ids, max_new_tokens=5, do_sample=False, use_cache=True, pad_token_id=0)
    assert torch.equal(slow, fast)


def test_a_pruned_network_still_returns_hidden_states_after_the_caller_asked_for_them() -> None:
    model = decoder("llama")
    inputs = {"input_ids": tokens(2, 6)}
    with torch.no_grad():
        whole = model(**inputs, output_hidden_states=True).hidden_states
        assert len(whole) == 5
        pruned = without(model, inputs, "layers.1")
        found = pruned(**inputs, output_hidden_states=True).hidden_states
        again = model(**inputs, output_hidden_states=True).hidden_states
    assert len(found) == 4
    assert torch.equal(found[1], whole[1])  # before the cut nothing changed
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))


def heterogeneous() -> nn.Module:
    """Layers of two kinds, of which one has wider heads; the config says so layer by layer."""
    sizes = {
        **WIDTH,
        "num_hidden_layers": 6,
        "num_key_value_heads": 2,
        "hidden_size_per_layer_input": 0,
    }
    kinds = ["sliding_attention", "full_attention"]
    network, _ = hf(
        "Gemma4TextModel", "Gemma4TextConfig", {}, **sizes, head_dim=8, global_head_dim=16,
        layer_types=[*kinds, kinds[0], kinds[0], kinds[1], kinds[1]], num_kv_shared_layers=0,
        sliding_window=4,
    )  # fmt: skip
    return network


@pytest.mark.parametrize("gone", [(".0",), (".0", ".2", ".4"), (".5",)])
def test_what_a_config_says_of_single_layers_goes_with_them(
    gone: tuple[str, ...], tmp_path: Path
) -> None:
    model = heterogeneous()
    pruned: Any = without(model, text(), *gone)
    wide = [head.self_attn.head_dim == 16 for head in pruned.layers]
    assert [pruned.config.per_layer_config[i].head_dim == 16 for i in range(len(wide))] == wide
    assert len(model.config.per_layer_config) == 6
    pruned.save_pretrained(tmp_path)
    again = type(pruned).from_pretrained(tmp_path).eval()
    ids = tokens(2, 9)
    with torch.no_grad():
        full = pruned(input_ids=ids, use_cache=False).last_hidden_state
        assert torch.equal(again(input_ids=ids, use_cache=False).last_hidden_state, full)
        step = pruned(input_ids=ids[:, :5], use_cache=True)
        rest = pruned(input_ids=ids[:, 5:], past_key_values=step.past_key_values, use_cache=True)
    torch.testing.assert_close(rest.last_hidden_state, full[:, 5:], atol=1e-5, rtol=1e-4)


def test_a_config_that_would_read_itself_otherwise_is_not_written(tmp_path: Path) -> None:
    """Gemma 4 reads the last layer's type as full attention, whatever the file says."""
    pruned = without(heterogeneous(), text(), ".4", ".5")
    with pytest.raises(ValueError, match="another network"):
        pruned.save_pretrained(tmp_path)


def test_tensors_that_a_module_keeps_in_a_list_are_not_compared() -> None:
    """The network that a lowered config builds has no values to compare with."""
    model = decoder("llama")
    kind = type(model)

    class Listing(kind):  # type: ignore[misc, valid-type]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.model.kept = [torch.zeros(2), (torch.ones(1), 3)]

    pruned = without(Listing(model.config).eval(), text(), ".1")
    assert pruned.config.num_hidden_layers == 3
    assert "save_pretrained" not in vars(pruned)


class OwnConfig:
    """A config in the manner of Hugging Face that knows nothing of attention."""

    def __init__(self, layers: int = 3) -> None:
        self.layers = layers

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> OwnConfig:
        return cls(**values)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.linear(x)


class Own(nn.Module):
    def __init__(self, config: OwnConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Residual() for _ in range(config.layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def save_pretrained(self, folder: Path) -> None:
        (folder / "config.json").write_text(self.config.to_json_string())


def test_a_config_of_your_own_follows_the_cut_and_is_written(tmp_path: Path) -> None:
    model = Own(OwnConfig()).eval()
    x = torch.ones(2, 4)
    units = find_units(model, x)
    pruned: Any = remove_units(model, [next(iter(units))], example_inputs=x)
    pruned.save_pretrained(tmp_path)
    again = Own(OwnConfig.from_dict(json.loads((tmp_path / "config.json").read_text())))
    assert len(again.blocks) == len(pruned.blocks) == 2
    again.load_state_dict(pruned.state_dict())
    assert torch.equal(again(x), pruned(x))
