"""Folders of transformers as users have them: every tensor from the files, the class they name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from srinit.errors import CheckpointError, ConfigError, DataError, ModelError, UnsafeError
from srinit.evaluate import agreement, evaluate, next_token_accuracy, token_accuracy, top1
from srinit.networks import load_model, self_contained
from srinit.rng import isolated_rng
from zoo import noise, tokens
from zoo_transformers import WIDTH

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
FILE = "model.safetensors"


def saved(folder: Path, kind: str, config: str, **settings: Any) -> nn.Module:
    """Save a small network with the weights of its class's start, as a trainer would."""
    sizes = {"num_hidden_layers": 3, **WIDTH, **settings}
    made = getattr(transformers, config)(**sizes)
    with isolated_rng(0):
        model: nn.Module = getattr(transformers, kind)(made).eval()
    model.save_pretrained(folder)
    return model


def causal(folder: Path, **settings: Any) -> nn.Module:
    return saved(folder, "LlamaForCausalLM", "LlamaConfig", **settings)


def masked(folder: Path, **settings: Any) -> nn.Module:
    return saved(folder, "BertForMaskedLM", "BertConfig", **settings)


def classifier(folder: Path, **settings: Any) -> nn.Module:
    sizes = {"image_size": 32, "patch_size": 8, "num_labels": 5, **settings}
    return saved(folder, "ViTForImageClassification", "ViTConfig", **sizes)


def edit(folder: Path, change: Callable[[dict[str, Any]], None], name: str = "config.json") -> None:
    body = json.loads((folder / name).read_text("utf-8"))
    change(body)
    (folder / name).write_text(json.dumps(body), "utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    state = load_file(folder / FILE)
    change(state)
    save_file(state, folder / FILE, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (causal, {"input_ids": tokens(2, 6)}),
        (masked, {"input_ids": tokens(2, 6)}),
        (classifier, {"pixel_values": noise(2, 3, 32, 32)}),
    ],
)
def test_the_class_that_the_config_names_is_taken_with_its_head(
    make: Callable[[Path], nn.Module], inputs: dict[str, Any], tmp_path: Path
) -> None:
    model = make(tmp_path / "net")
    found = load_model("hf:net", root=tmp_path)
    assert type(found) is type(model)
    with torch.no_grad():
        assert torch.equal(found(**inputs).logits, model(**inputs).logits)


def test_weights_that_are_tied_may_be_stored_once(tmp_path: Path) -> None:
    model = causal(tmp_path / "net", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(tmp_path / "net" / FILE)
    found: Any = load_model("hf:net", root=tmp_path)
    assert torch.equal(found.lm_head.weight, model.lm_head.weight)
    assert found.lm_head.weight is found.model.embed_tokens.weight


def test_a_head_that_is_not_tied_may_not_be_missing(tmp_path: Path) -> None:
    causal(tmp_path / "net", tie_word_embeddings=False)
    edit_weights(tmp_path / "net", lambda state: state.pop("lm_head.weight"))
    with pytest.raises(CheckpointError, match=r"1 missing: lm_head\.weight"):
        load_model("hf:net", root=tmp_path)


def test_a_folder_without_weights_is_refused_and_the_config_alone_is_not(tmp_path: Path) -> None:
    causal(tmp_path / "net")
    (tmp_path / "net" / FILE).unlink()
    with pytest.raises(CheckpointError, match=r"would be random.*model\.weights"):
        load_model("hf:net", root=tmp_path)
    notes: list[str] = []
    one, other = (
        load_model("hf:net/config.json", root=tmp_path, on_note=notes.append) for _ in range(2)
    )
    assert "not trained" in notes[0]
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_weights_that_are_named_take_the_place_of_the_folders(tmp_path: Path) -> None:
    model = causal(tmp_path / "net", tie_word_embeddings=True)
    (tmp_path / "net" / FILE).rename(tmp_path / "elsewhere.safetensors")
    found = load_model("hf:net", root=tmp_path, weights="elsewhere.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


def test_pickled_weights_are_refused_and_the_way_out_is_told(tmp_path: Path) -> None:
    model = causal(tmp_path / "net")
    (tmp_path / "net" / FILE).unlink()
    torch.save(  # noqa: TID251
        model.state_dict(), tmp_path / "net" / "pytorch_model.bin"
    )
    with pytest.raises(UnsafeError, match=r"pytorch_model\.bin.*model\.weights"):
        load_model("hf:net", root=tmp_path)
    found = load_model("hf:net", root=tmp_path, weights="net/pytorch_model.bin")
    assert torch.equal(found.state_dict()["lm_head.weight"], model.state_dict()["lm_head.weight"])


def test_an_index_that_names_missing_files_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    causal(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / FILE).unlink(missing_ok=True)
    load_model("hf:net", root=tmp_path)
    gone = sorted(folder.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(CheckpointError, match=f"1 of them are missing: {gone.name}"):
        load_model("hf:net", root=tmp_path)


def test_a_shard_that_lacks_what_its_index_promises_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    causal(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / FILE).unlink(missing_ok=True)
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    name, *rest = (state := load_file(shard))
    save_file({key: state[key] for key in rest}, shard, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"1 missing: {name}"):
        load_model("hf:net", root=tmp_path)


def first_layer_gone(state: dict[str, Any]) -> None:
    for name in [name for name in state if ".layers.1.mlp" in name]:
        del state[name]


def renamed(state: dict[str, Any]) -> None:
    for name in list(state):
        state[f"student.{name}"] = state.pop(name)


def widened(state: dict[str, Any]) -> None:
    state["model.norm.weight"] = torch.ones(33)


def with_query_norm(state: dict[str, Any]) -> None:
    state["model.layers.0.self_attn.q_norm.weight"] = torch.ones(16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first_layer_gone, r"3 missing: model\.layers\.1\.mlp"),
        (renamed, "missing: .*unexpected: student"),
        (widened, r"1 misshapen: model\.norm\.weight \(\(33,\) instead of \(32,\)\)"),
        (with_query_norm, r"1 unexpected: model\.layers\.0\.self_attn\.q_norm\.weight"),
        (lambda state: state.update(extra=torch.ones(1)), "1 unexpected: extra"),
    ],
)
def test_weights_that_do_not_cover_the_network_are_refused_by_name(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    causal(tmp_path / "net")
    edit_weights(tmp_path / "net", change)
    with pytest.raises(CheckpointError, match=message):
        load_model("hf:net", root=tmp_path)


@pytest.mark.parametrize("layers", [2, 4])
def test_another_number_of_layers_than_the_weights_have_is_refused(
    layers: int, tmp_path: Path
) -> None:
    masked(tmp_path / "net")
    args = {"num_hidden_layers": layers, "auto": "AutoModelForMaskedLM"}
    with pytest.raises(CheckpointError, match=r"bert\.encoder\.layer\."):
        load_model("hf:net", args=args, root=tmp_path)


@pytest.mark.parametrize("source", ["timm:test_vit", "torchvision:squeezenet1_1"])
def test_named_weights_cover_the_networks_of_other_libraries_as_well(
    source: str, tmp_path: Path
) -> None:
    state = dict(load_model(source).state_dict())
    gone = next(iter(state))
    del state[gone]
    save_file(state, tmp_path / FILE)
    with pytest.raises(CheckpointError, match=f"1 missing, the first {gone}"):
        load_model(source, root=tmp_path, weights=FILE)


def test_a_head_that_was_never_trained_is_refused(tmp_path: Path) -> None:
    causal(tmp_path / "net")
    with pytest.raises(CheckpointError, match=r"1 missing: score\.weight.*would be random"):
        load_model("hf:net", args={"auto": "AutoModelForSequenceClassification"}, root=tmp_path)


def test_a_head_is_left_out_where_the_user_names_the_class(tmp_path: Path) -> None:
    model: Any = causal(tmp_path / "net", tie_word_embeddings=False)
    notes: list[str] = []
    found = load_model("hf:net", args={"auto": "AutoModel"}, root=tmp_path, on_note=notes.append)
    assert type(found).__name__ == "LlamaModel"
    assert "1 tensors are left out" in notes[0]
    assert "lm_head.weight" in notes[0]
    assert torch.equal(found.state_dict()["norm.weight"], model.model.norm.weight)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (None, ConfigError, "names no class.*model.args.auto"),
        (["LlamaForCausalLM", "LlamaModel"], ConfigError, "names 2 classes.*Choose one"),
        (["LlamaForEverything"], ConfigError, "LlamaForEverything, which transformers .* not have"),
        (["BertForMaskedLM"], ConfigError, "built from a BertConfig"),
        (["PreTrainedConfig"], ConfigError, "does not have"),
    ],
)
def test_a_config_that_names_no_class_of_its_own_is_refused(
    names: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    causal(tmp_path / "net")
    edit(tmp_path / "net", lambda body: body.update(architectures=names))
    with pytest.raises(error, match=message):
        load_model("hf:net", root=tmp_path)
    found = load_model("hf:net", args={"auto": "LlamaForCausalLM"}, root=tmp_path)
    assert type(found).__name__ == "LlamaForCausalLM"


def test_code_beside_the_weights_is_never_run(tmp_path: Path) -> None:
    causal(tmp_path / "net")
    (tmp_path / "net" / "mine.py").write_text("raise SystemExit(1)")
    body = {"architectures": ["Mine"], "auto_map": {"AutoModelForCausalLM": "mine.Mine"}}
    edit(tmp_path / "net", lambda config: config.update(body))
    with pytest.raises(UnsafeError, match=r"Mine, which is code beside the weights.*py:FILE"):
        load_model("hf:net", root=tmp_path)


def test_arguments_that_the_config_does_not_know_are_refused(tmp_path: Path) -> None:
    causal(tmp_path / "net")
    with pytest.raises(ModelError, match=r"num_hiden_layers.*nearest: num_hidden_layers"):
        load_model("hf:net", args={"num_hiden_layers": 2}, root=tmp_path)
    args = self_contained({}, "net", tmp_path)
    assert args["auto"] == "LlamaForCausalLM"
    with pytest.raises(ModelError, match="num_hiden_layers"):
        load_model("hf:net", args={**args, "num_hiden_layers": 2}, root=tmp_path)


@pytest.mark.parametrize(
    ("auto", "scorer", "target"),
    [
        ("AutoModel", next_token_accuracy, tokens(2, 6) % 16),
        ("AutoModel", token_accuracy, tokens(2, 6) % 16),
        ("AutoModel", top1, torch.tensor([0, 1])),
        ("AutoModel", agreement, tokens(2, 6) % 16),
    ],
)
def test_hidden_states_are_no_predictions(
    auto: str, scorer: Any, target: Any, tmp_path: Path
) -> None:
    causal(tmp_path / "net")
    model = load_model("hf:net", args={"auto": auto}, root=tmp_path)
    with pytest.raises(ModelError, match=r"hidden states .*no head.*model\.args\.auto"):
        evaluate(model, [({"input_ids": tokens(2, 6)}, target)], scorer=scorer)


@pytest.mark.parametrize(
    ("scorer", "target", "message"),
    [
        (next_token_accuracy, tokens(2, 6) + 96, "outputs a place"),
        (top1, torch.tensor([0, 1]), r"class scores \(B, C\)"),
    ],
)
def test_scores_of_other_tasks_are_refused_on_a_language_model(
    scorer: Any, target: Any, message: str, tmp_path: Path
) -> None:
    model = causal(tmp_path / "net")
    with pytest.raises(DataError, match=message):
        evaluate(model, [({"input_ids": tokens(2, 6)}, target)], scorer=scorer)


def test_a_classifier_predicts_no_tokens(tmp_path: Path) -> None:
    model = classifier(tmp_path / "net")
    with pytest.raises(DataError, match=r"logits \(B, T, V\).*found \(2, 5\)"):
        evaluate(
            model, [({"pixel_values": noise(2, 3, 32, 32)}, tokens(2, 5))],
            scorer=next_token_accuracy,
        )  # fmt: skip
