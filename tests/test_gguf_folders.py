"""Networks in GGUF files: converted on reading, and a folder of safetensors at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from language_project import tokenizer
from srinit.errors import CheckpointError
from srinit.hugging_face import base_folder, write_folder
from srinit.networks import load_model, self_contained
from srinit.rng import isolated_rng
from srinit.surgery import remove_units
from srinit.units import find_units
from zoo import tokens

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

HEADS, LAYERS = 2, 3
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def network() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=64, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False,
    )  # fmt: skip
    with isolated_rng(0):
        return transformers.LlamaForCausalLM(config).eval()


def permuted(weight: torch.Tensor) -> torch.Tensor:
    """Return queries or keys in the order of llama.cpp: halves of a head interleaved."""
    rows, columns = weight.shape
    halves = weight.reshape(HEADS, 2, rows // HEADS // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def write_gguf(model: Any, path: Path) -> None:
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(48)
    words = tokenizer()
    names = words.convert_ids_to_tokens(list(range(len(words))))
    writer.add_tokenizer_model("gpt2")
    rest = ["t", "h", "th", *(f"extra{i}" for i in range(48))]
    writer.add_token_list([*names, *rest][:48])
    writer.add_token_types([1] * 48)
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    state = model.state_dict()
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output.weight", state["lm_head.weight"].numpy())
    writer.add_tensor("output_norm.weight", state["model.norm.weight"].numpy())
    for layer in range(LAYERS):
        for ours, theirs in NAMES.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            weight = permuted(weight) if theirs in ("attn_q", "attn_k") else weight
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "packed"
    place.mkdir()
    write_gguf(network(), place / "net.gguf")
    return place


@pytest.mark.parametrize("name", ["packed", "packed/net.gguf"])
def test_a_gguf_file_is_converted_and_ends_as_safetensors(
    name: str, folder: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    model: Any = load_model(f"hf:{name}", root=tmp_path, on_note=notes.append)
    inputs = {"input_ids": tokens(2, 8, high=48)}
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, network()(**inputs).logits)
    assert "were converted to torch.float32" in notes[0]
    assert "quantization_config" not in self_contained({}, name, tmp_path)["config"]
    units = find_units(model, inputs)
    pruned: Any = remove_units(model, [units["model.layers.1"]], example_inputs=inputs)
    found = write_folder(pruned, tmp_path / "out", inputs=inputs, card="",
                         base=base_folder(name, tmp_path))  # fmt: skip
    assert not list((tmp_path / "out").glob("*.gguf"))
    assert any("tokenizer was converted" in note for note in found.notes), found.notes
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, pruned.eval()(**inputs).logits)


def test_of_several_gguf_files_one_must_be_named(folder: Path, tmp_path: Path) -> None:
    (folder / "other.gguf").write_bytes((folder / "net.gguf").read_bytes())
    with pytest.raises(CheckpointError, match=r"holds 2 GGUF files.*name one: hf:packed/net.gguf"):
        load_model("hf:packed", root=tmp_path)
