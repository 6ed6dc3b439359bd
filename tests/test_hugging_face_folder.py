"""From a folder to a smaller folder that plain transformers loads, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import language_project
from language_project import run
from srinit import cli
from srinit.artifact import load_pruned
from srinit.errors import ModelError
from srinit.hugging_face import base_folder, foresee_folder, write_folder
from srinit.hugging_face.card import inherited
from srinit.hugging_face.outlook import probe
from srinit.networks import load_model
from srinit.rng import isolated_rng
from srinit.surgery import remove_units
from srinit.units import find_units
from zoo import tokens

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

ALONE = """
import sys
sys.modules["srinit"] = None  # importing it raises
import json, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
words = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
told = dict(max_new_tokens=6, min_new_tokens=6, do_sample=False, pad_token_id=0)
batch = words(["the cat sat", "a dog ran under the big tree house"], return_tensors="pt",
              padding=True)
short = words("the cat sat", return_tensors="pt")
with torch.no_grad():
    def made(inputs, **more):
        keys = ("input_ids", "attention_mask")
        kept = {key: inputs[key] for key in keys}
        return model.generate(**kept, **told, **more)[:, kept["input_ids"].shape[1]:].tolist()
    body = {
        "logits": model(input_ids=torch.arange(12).reshape(2, 6) % 40).logits.tolist(),
        "greedy": [made(batch, use_cache=True), made(batch, use_cache=False)],
        "beams": [made(batch, num_beams=3, use_cache=True),
                  made(batch, num_beams=3, use_cache=False)],
        "alone": made(short)[0],
        "chat": words.apply_chat_template([{"role": "user", "content": "a cat"}], tokenize=False),
        "layers": model.config.num_hidden_layers,
    }
open(out, "w").write(json.dumps(body))
"""


def in_a_process_without_srinit(folder: Path, tmp_path: Path) -> dict[str, Any]:
    out = tmp_path / "found.json"
    subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), str(out)], check=True, capture_output=True,
        timeout=120,
    )  # fmt: skip
    body: dict[str, Any] = json.loads(out.read_text())
    return body


def test_a_run_ends_in_a_folder_that_transformers_loads_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = language_project.project(tmp_path)
    code, body = run(project, capsys, "export.shard_size=60KB", "plan.params=0.6")
    assert code == 0, body
    place = Path(body["run"])
    folder = place / "export" / "huggingface"
    assert body["folder"] == str(folder)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors.index.json"} <= names
    assert len([name for name in names if name.endswith(".safetensors")]) > 1
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (project / "net" / name).read_bytes()
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "- `model.layers." in card
    assert "| perplexity, " in card
    assert cli.run(["verify", str(place), "--json"]) == 0
    capsys.readouterr()

    found = in_a_process_without_srinit(folder, tmp_path)
    (stage,) = place.glob("rounds/*")
    pruned: Any = load_pruned(stage)
    ids = torch.arange(12).reshape(2, 6) % 40
    with torch.no_grad():
        assert torch.equal(pruned(input_ids=ids).logits, torch.tensor(found["logits"]))
    assert found["layers"] == pruned.config.num_hidden_layers < 4
    assert found["greedy"][0] == found["greedy"][1]
    assert found["beams"][0] == found["beams"][1]
    assert found["greedy"][0][0] == found["alone"]
    assert found["chat"] == "<user> a cat\n"

    (folder / "tokenizer.json").write_text("{}")
    assert cli.run(["verify", str(place), "--json"]) != 0
    assert "tokenizer.json was changed" in capsys.readouterr().out


LAYERS_BY_PLACE = {"n_embd": 32, "n_head": 2, "n_positions": 64,
                   "scale_attn_by_inverse_layer_idx": True}  # fmt: skip


@pytest.mark.parametrize(("wanted", "code"), [("auto", 0), ("required", 2)])
def test_a_config_without_words_for_a_cut_is_said_before_the_work(
    wanted: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = language_project.project(tmp_path, "GPT2", layers=3, **LAYERS_BY_PLACE)
    plan = "plan={remove: [transformer.h.1], trial_examples: 0, beside: []}"
    found, body = run(project, capsys, f"export.huggingface={wanted}", plan)
    assert found == code, body
    (place,) = (path for path in (project / "runs").iterdir() if (path / "run.json").is_file())
    if wanted == "required":
        assert "no Hugging Face folder can be written without transformer.h.1" in str(body)
        assert not (place / "scan").exists()
        return
    outlook = json.loads((place / "outlook.json").read_text())
    assert not outlook["possible"]
    assert "scaling" in outlook["reason"]
    assert outlook["singly"] == ["transformer.h.2"]
    assert not (place / "export" / "huggingface").exists()
    written = json.loads((place / "export" / "huggingface.json").read_text())
    assert "configs that were tried none gives" in written["reason"]


SIZES = {
    "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96,
    "intermediate_size": 40, "num_hidden_layers": 4, "head_dim": 8, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
KINDS = ["full_attention", "sliding_attention"] * 2
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Gemma3ForCausalLM": ("Gemma3TextConfig", {**SIZES, "sliding_window": 4, "layer_types": KINDS}),
    "Qwen3ForCausalLM": ("Qwen3Config", SIZES),
    "BertForMaskedLM": ("BertConfig", SIZES),
    "T5ForConditionalGeneration": ("T5Config", {
        "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 4, "num_decoder_layers": 3,
        "num_heads": 4, "vocab_size": 96}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_families_by_their_own_words(name: str, tmp_path: Path) -> None:
    config, sizes = FAMILIES[name]
    with isolated_rng(0):
        made = getattr(transformers, name)(getattr(transformers, config)(**sizes))
    made.save_pretrained(tmp_path / "whole")
    model: Any = load_model(f"hf:{tmp_path / 'whole'}")
    inputs = {"input_ids": tokens(2, 8)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = tokens(2, 6)
    units = find_units(model, inputs)
    gone = probe(units.removable)
    assert foresee_folder(model, gone, inputs).possible
    pruned: Any = remove_units(model, gone, example_inputs=inputs).eval()
    found = write_folder(pruned, tmp_path / "out", inputs=inputs, card="# A card\n",
                         base=base_folder("whole", tmp_path))  # fmt: skip
    assert found.max_difference == 0
    assert found.network == name
    again = type(model).from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, pruned(**inputs).logits)


def test_a_folder_that_would_answer_otherwise_is_not_left(tmp_path: Path) -> None:
    with isolated_rng(0):
        model: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).eval()
    model.config.rms_norm_eps = 0.5  # the modules keep another one
    with pytest.raises(ModelError, match=r"read again by .* the folder answers otherwise"):
        write_folder(model, tmp_path / "out", inputs={"input_ids": tokens(2, 8)}, card="")
    assert list(tmp_path.iterdir()) == []


def test_a_class_of_somebody_elses_is_told_apart(tmp_path: Path) -> None:
    class Mine(transformers.LlamaForCausalLM):  # type: ignore[misc, name-defined]
        pass

    with isolated_rng(0):
        model = Mine(transformers.LlamaConfig(**SIZES)).eval()
    inputs = {"input_ids": tokens(2, 8)}
    units = find_units(model, inputs)
    found = foresee_folder(model, units.removable[:1], inputs)
    assert "Mine is a class of test_hugging_face_folder" in found.words()
    with pytest.raises(ModelError, match="which transformers does not have"):
        write_folder(model, tmp_path / "out", inputs=inputs, card="")


def test_code_weights_and_hidden_files_of_the_base_are_left_behind(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "onnx").mkdir(parents=True)
    (base / "1_Pooling").mkdir()
    for name in ("config.json", "modeling_x.py", "model.safetensors", ".cache", "tokenizer.model",
                 "LICENSE", "README.md", "pytorch_model.bin.index.json", "onnx/model.onnx",
                 "onnx/config.json", "1_Pooling/config.json", "modules.json"):  # fmt: skip
        (base / name).write_text("x")
    found = base_folder("base", tmp_path)
    assert found is not None
    assert found.files() == ["1_Pooling/config.json", "LICENSE", "modules.json", "tokenizer.model"]
    assert found.left_out() == ["modeling_x.py"]


def test_a_card_without_a_head_gives_nothing_on() -> None:
    assert inherited("# Net\n") == {}
    assert inherited("---\n: :\n---\n") == {}
