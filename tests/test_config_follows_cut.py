"""Pruned networks of transformers, from a folder to a folder: every config that can follow does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from srinit.rng import isolated_rng
from srinit.surgery import remove_units
from srinit.surgery.config_edits import applied, boundaries, lowered, moved_indices
from srinit.surgery.replace import Cut
from srinit.units import find_units
from zoo import noise, tokens

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

SIZES = {
    "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96,
    "intermediate_size": 40, "num_hidden_layers": 6, "head_dim": 8, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {
    "num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
}  # fmt: skip
LATENT = {
    "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip
PATCHES = {
    "hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 4, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
HALF = ["sliding_attention", "full_attention"] * 3
MAMBA = {"mamba_d_state": 4, "mamba_d_conv": 2, "mamba_expand": 2, "mamba_dt_rank": 4}

Case = tuple[str, str, dict[str, Any], tuple[int, ...], dict[str, Any]]
CASES: dict[str, Case] = {
    # what is removed, and what the config says afterwards
    "plain": ("LlamaForCausalLM", "LlamaConfig", SIZES, (1, 4), {"num_hidden_layers": 4}),
    "index list": (
        "Qwen3MoeForCausalLM", "Qwen3MoeConfig",
        {**SIZES, **EXPERTS, "decoder_sparse_step": 1, "mlp_only_layers": [1, 3]}, (0, 1),
        {"mlp_only_layers": [1]},
    ),
    "period and index list": (
        "Qwen2MoeForCausalLM", "Qwen2MoeConfig",
        {**SIZES, **EXPERTS, "decoder_sparse_step": 2, "mlp_only_layers": [3]}, (0,), {},
    ),
    "threshold": (
        "Glm4MoeForCausalLM", "Glm4MoeConfig",
        {**SIZES, **EXPERTS, "first_k_dense_replace": 2}, (1, 3), {"first_k_dense_replace": 1},
    ),
    "threshold and latent attention": (
        "DeepseekV3ForCausalLM", "DeepseekV3Config",
        {**SIZES, **EXPERTS, **LATENT, "first_k_dense_replace": 2}, (0, 1), {},
    ),
    "period and offset": (
        "JambaForCausalLM", "JambaConfig",
        {**SIZES, **MAMBA, "num_experts": 2, "num_experts_per_tok": 1, "use_mamba_kernels": False,
         "attn_layer_period": 3, "attn_layer_offset": 1, "expert_layer_period": 2,
         "expert_layer_offset": 1}, (0,), {},
    ),
    "infinity": (
        "Mamba2ForCausalLM", "Mamba2Config",
        {**SIZES, "num_heads": 8, "n_groups": 1, "state_size": 8, "chunk_size": 4}, (2,),
        {"time_step_limit": [0.0, {"__float__": "Infinity"}]},
    ),
    "rotary kind that is gone": (
        "Gemma3ForCausalLM", "Gemma3TextConfig",
        {**SIZES, "sliding_window": 4, "layer_types": HALF}, (0, 2, 4),
        {"layer_types": HALF[1::2]},
    ),
    "pattern of kinds": (
        "GPTNeoForCausalLM", "GPTNeoConfig",
        {"hidden_size": 32, "num_layers": 6, "num_heads": 4, "vocab_size": 96, "window_size": 4,
         "attention_types": [[["global", "local"], 3]], "max_position_embeddings": 64}, (1, 2),
        {"attention_layers": ["global", "local", "global", "local"]},
    ),
    "layers without positions": (
        "SmolLM3ForCausalLM", "SmolLM3Config", {**SIZES, "no_rope_layer_interval": 3}, (0,),
        {"no_rope_layers": [1, 0, 1, 1, 0]},
    ),
    "indices of windows": (
        "VitDetModel", "VitDetConfig",
        {**PATCHES, "mlp_ratio": 2, "window_block_indices": [0, 1, 3, 4], "window_size": 2,
         "residual_block_indices": [2, 5]}, (1, 2),
        {"window_block_indices": [0, 1, 2], "residual_block_indices": [3]},
    ),
    "places of outputs": (
        "Dinov2ForImageClassification", "Dinov2Config", {**PATCHES, "mlp_ratio": 2}, (5,), {},
    ),
    "classifier": (
        "ViTForImageClassification", "ViTConfig",
        {**PATCHES, "intermediate_size": 40, "num_labels": 7}, (0, 3), {},
    ),
    "weights of a norm": (
        "Wav2Vec2ForCTC", "Wav2Vec2Config",
        {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 96,
         "intermediate_size": 40, "num_conv_pos_embeddings": 16, "conv_dim": [16] * 3,
         "num_conv_pos_embedding_groups": 2, "conv_stride": [5, 2, 2],
         "conv_kernel": [10, 3, 3]}, (1,), {},
    ),
}  # fmt: skip


def from_folder(kind: str, config: str, settings: dict[str, Any], folder: Path) -> Any:
    """Return a network that was saved and loaded, as users have it."""
    with isolated_rng(0):
        made = getattr(transformers, config)(**settings)
        model = getattr(transformers, kind)(made)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder).eval()


def inputs_of(model: Any) -> dict[str, Any]:
    if model.main_input_name == "pixel_values":
        return {"pixel_values": noise(2, 3, 32, 32)}
    if model.main_input_name == "input_values":
        return {"input_values": noise(2, 800)}
    return {"input_ids": tokens(2, 8)}


def without(model: nn.Module, inputs: Any, gone: tuple[int, ...]) -> Any:
    units = find_units(model, inputs)
    chosen = [unit for unit in units if unit.name.rpartition(".")[2] in map(str, gone)]
    assert len(chosen) == len(gone)
    return remove_units(model, chosen, example_inputs=inputs).eval()


def first(output: Any) -> torch.Tensor:
    found: torch.Tensor = output[0]
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_network_from_a_folder_is_saved_and_read_again(name: str, tmp_path: Path) -> None:
    kind, config, settings, gone, said = CASES[name]
    model = from_folder(kind, config, settings, tmp_path / "whole")
    inputs = inputs_of(model)
    pruned = without(model, inputs, gone)
    pruned.save_pretrained(tmp_path / "pruned")
    body = json.loads((tmp_path / "pruned" / "config.json").read_text("utf-8"))
    assert {key: body[key] for key in said} == said
    again, info = type(model).from_pretrained(tmp_path / "pruned", output_loading_info=True)
    assert not any(info.values())
    again.eval()
    with torch.no_grad():
        assert torch.equal(first(pruned(**inputs)), first(again(**inputs)))
    if pruned.can_generate():
        told = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        ways = [
            net.generate(**inputs, **told, use_cache=cache)
            for net in (pruned, again) for cache in (True, False)
        ]  # fmt: skip
        assert all(torch.equal(way, ways[0]) for way in ways)


def test_both_halves_of_an_encoder_decoder_follow(tmp_path: Path) -> None:
    half = {"layers": 4, "attention_heads": 2, "ffn_dim": 40}
    halves = {f"{side}_{k}": v for side in ("encoder", "decoder") for k, v in half.items()}
    settings = {"d_model": 32, "vocab_size": 96, "max_position_embeddings": 32, **halves}
    model = from_folder("BartForConditionalGeneration", "BartConfig", settings, tmp_path / "whole")
    inputs = {"input_ids": tokens(2, 8), "decoder_input_ids": tokens(2, 6)}
    units = find_units(model, inputs)
    chosen = [units["model.encoder.layers.0"], units["model.encoder.layers.2"],
              units["model.decoder.layers.3"]]  # fmt: skip
    pruned: Any = remove_units(model, chosen, example_inputs=inputs).eval()
    pruned.save_pretrained(tmp_path / "pruned")
    again = type(model).from_pretrained(tmp_path / "pruned").eval()
    assert (again.config.encoder_layers, again.config.decoder_layers) == (2, 3)
    with torch.no_grad():
        assert torch.equal(pruned(**inputs).logits, again(**inputs).logits)


@pytest.mark.parametrize(
    ("kind", "config", "settings"),
    [
        ("GPT2LMHeadModel", "GPT2Config",
         {"n_embd": 32, "n_head": 4, "n_layer": 4, "vocab_size": 96, "n_positions": 32,
          "scale_attn_by_inverse_layer_idx": True}),
        ("DiffLlamaForCausalLM", "DiffLlamaConfig", {**SIZES, "num_hidden_layers": 4}),
    ],
)  # fmt: skip
def test_numbers_that_follow_from_a_layers_place_are_not_lost_in_silence(
    kind: str, config: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Read again, the layers behind the cut would be scaled by other numbers than before."""
    model = from_folder(kind, config, settings, tmp_path / "whole")
    pruned = without(model, inputs_of(model), (1,))
    with pytest.raises(ValueError, match=r"configs that were tried none gives .*(scaling|lambda)"):
        pruned.save_pretrained(tmp_path / "pruned")
    kept = without(model, inputs_of(model), (3,))
    kept.save_pretrained(tmp_path / "kept")
    again = type(model).from_pretrained(tmp_path / "kept").eval()
    with torch.no_grad():
        assert torch.equal(kept(**inputs_of(model)).logits, again(**inputs_of(model)).logits)


def test_half_precision_is_saved_and_read_again(tmp_path: Path) -> None:
    model = from_folder("LlamaForCausalLM", "LlamaConfig", SIZES, tmp_path / "whole").bfloat16()
    pruned = without(model, inputs_of(model), (2,))
    pruned.save_pretrained(tmp_path / "pruned")
    again = type(model).from_pretrained(tmp_path / "pruned")
    assert again.dtype == torch.bfloat16
    assert again.config.num_hidden_layers == 5


CUT = Cut(6, frozenset({0, 3}))


def test_a_count_takes_the_lists_beside_it_along() -> None:
    body = {"num_layers": 6, "kinds": list("abcdef"), "text": {"num_layers": 6}, "rope": {"a": {}}}
    first_way = applied(body, lowered(body, CUT)[0])
    assert first_way["num_layers"] == 4
    assert first_way["kinds"] == list("bcef")
    assert first_way["text"] == {"num_layers": 6}


def test_lists_of_indices_and_thresholds_count_what_is_left() -> None:
    body = {"dense_layers": [0, 1, 5], "first_k": 4, "types": [[["g", "l"], 3]], "by": {"1": 8}}
    edits = [(place[0], value) for place, value in moved_indices(body, CUT)]
    assert ("dense_layers", [0, 3]) in edits
    assert ("first_k", 2) in edits
    assert ("types", [[["l", "g", "g", "l"], 1]]) in edits
    assert ("by", {"0": 8}) in edits


def test_places_between_layers_move_in_numbers_and_in_names() -> None:
    body = {"out_indices": [1, 6], "out_features": ["stem", "stage6"], "layer_names": ["stage6"]}
    edits = {place[0]: value for place, value in boundaries(body, CUT)}
    assert edits == {"out_indices": [0, 4], "out_features": ["stem", "stage4"]}
