"""Batches as loaders of Hugging Face serve them work in every function that reads data."""

from __future__ import annotations

from collections import UserDict, namedtuple
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from srinit import apply_plan, compare, find_units, fine_tune, make_plan, measure_sensitivity
from srinit.comparison import compare_unlabeled
from srinit.cost import count_cost
from srinit.criteria import score_units
from srinit.errors import DataError
from srinit.evaluate import (
    agreement,
    evaluate,
    inputs_and_target,
    labeled_by,
    next_token_accuracy,
    token_accuracy,
)
from srinit.finetune import Recipe, recalibrate
from srinit.latency import measure_latency
from srinit.trial import try_removals
from zoo_plain import Sum
from zoo_transformers import hf

WIDTH = {
    "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 3,
}  # fmt: skip
NONE = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(kind: Any = dict) -> list[Any]:
    x = torch.randn(24, 3, 16, 16, generator=source())
    labels = (x.mean((1, 2, 3)) > 0).long()
    return [kind(pixel_values=x[i : i + 8], labels=labels[i : i + 8]) for i in (0, 8, 16)]


def vit() -> nn.Module:
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        model, _ = hf("ViTForImageClassification", "ViTConfig", {}, image_size=16, patch_size=8,
                      num_labels=2, **WIDTH, **NONE)  # fmt: skip
    return model


class Encoding(UserDict[str, Any]):
    """A batch that is a mapping but no dict, like `BatchEncoding` and `BatchFeature`."""


@pytest.fixture(scope="module", params=[dict, Encoding], ids=["dict", "encoding"])
def batches(request: pytest.FixtureRequest) -> list[Any]:
    return images(request.param)


def test_a_loaders_dicts_give_what_pairs_give_from_units_to_comparison(batches: list[Any]) -> None:
    pairs = [({"pixel_values": b["pixel_values"]}, b["labels"]) for b in batches]
    tuned = {}
    for name, data in (("dicts", batches), ("pairs", pairs)):
        example = batches[0] if name == "dicts" else pairs[0][0]
        model = vit()
        units = find_units(model, example)
        scan = measure_sensitivity(model, units, data, scheme="permuted", half_width=0.4)
        taylor = score_units(model, units, data, criterion="taylor").order
        plan = make_plan(scan, remove=[units.names[1]])
        pruned = apply_plan(model, plan, example_inputs=example)
        (trial,) = try_removals(model, units, [units.names[:1]], data, example_inputs=example)
        log = fine_tune(pruned, data, data, teacher=model, recipe=Recipe(epochs=2, lr=0.01))
        found = compare(model, pruned, data)
        same = compare_unlabeled(model, pruned, data).agreement.rate
        cost = count_cost(pruned, example)
        measure_latency(pruned, example, repeats=7)
        tuned[name] = (units, scan.baseline_score, taylor, plan.names, trial, log.points,
                       found.score, same, cost)  # fmt: skip
        assert not recalibrate(pruned, data)  # there is nothing to recalibrate
    assert tuned["dicts"] == tuned["pairs"]


def test_a_loader_over_examples_that_are_dicts_is_read_in_any_order() -> None:
    whole = images()
    examples = [
        {"pixel_values": x, "labels": y}
        for batch in whole
        for x, y in zip(batch["pixel_values"], batch["labels"], strict=True)
    ]
    loader: Any = DataLoader(examples, batch_size=5)  # type: ignore[arg-type]
    model = vit()
    units = find_units(model, next(iter(loader)))
    found = measure_sensitivity(model, units, loader, scheme="permuted", half_width=None)
    assert found.num_examples == 24
    assert found.baseline_score == pytest.approx(evaluate(model, whole).score)


def test_a_causal_model_learns_from_its_collators_batches() -> None:
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        model, _ = hf("LlamaForCausalLM", "LlamaConfig", {}, vocab_size=12,
                      num_key_value_heads=2, max_position_embeddings=16, **WIDTH)  # fmt: skip
    start = torch.randint(0, 10, (32, 1), generator=source())
    ids = (start + torch.arange(8)) % 10
    mask = torch.ones_like(ids)
    mask[::2, :3] = 0  # padded at the left
    labels = ids.masked_fill(mask == 0, -100)
    data = [{"input_ids": ids, "attention_mask": mask, "labels": labels}]
    recipe = Recipe(epochs=60, lr=1e-2, optimizer="adamw")
    log = fine_tune(model, data, data, scorer=next_token_accuracy, recipe=recipe)
    assert log.score_before is not None
    assert log.score_after is not None
    assert log.score_before < 0.4 < 0.8 < log.score_after


def test_an_encoder_with_a_decoder_makes_its_inputs_from_the_labels() -> None:
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        model, _ = hf(
            "T5ForConditionalGeneration", "T5Config", {}, d_model=16, d_kv=8, d_ff=24,
            num_heads=2, vocab_size=90, num_layers=2, decoder_start_token_id=0, pad_token_id=0,
        )  # fmt: skip
    ids = torch.randint(1, 90, (2, 7), generator=source())
    labels = torch.randint(1, 90, (2, 6), generator=source(1))
    batch = {"input_ids": ids, "labels": labels}
    with torch.no_grad():
        expected = model(**batch).logits
    share = (expected.argmax(2) == labels).double().mean()
    assert evaluate(model, [batch], scorer=token_accuracy).score == pytest.approx(float(share))
    assert find_units(model, batch).names


def test_dicts_without_labels_will_do_where_nothing_is_scored() -> None:
    model, data = vit(), [{"pixel_values": batch["pixel_values"]} for batch in images()]
    assert compare_unlabeled(model, model, data).agreement.rate == 1.0
    assert evaluate(model, labeled_by(model, data), scorer=agreement).score == 1.0
    with pytest.raises(DataError, match=r"hold no target: give \(inputs, target\), or a dict"):
        evaluate(model, data)
    with pytest.raises(DataError, match="hold no target"):
        measure_sensitivity(model, find_units(model, data[0]), data, scheme="permuted")
    with pytest.raises(DataError, match="hold no target"):
        fine_tune(model, data, None, recipe=Recipe(epochs=1))


@pytest.mark.parametrize("key", ["labels", "label", "label_ids"])
def test_the_keys_of_labels_are_those_of_hugging_face(key: str) -> None:
    assert inputs_and_target({"x": 1, key: 2}) == ({"x": 1}, 2)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.zeros(2, 4), torch.zeros(2), torch.zeros(2)), "found tuple of 3 entries"),
        (torch.zeros(2, 4), "found Tensor"),
        ({"labels": torch.zeros(2)}, "labels alone"),
        ({"x": 1, "labels": 2, "label": 3}, "holds labels and label; keep the one"),
        ("text", "found str"),
    ],
)
def test_other_batches_are_refused_alike_by_all(batch: Any, message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    units = find_units(stack, torch.zeros(2, 3, 4))
    calls = [
        lambda: evaluate(model, [batch]),
        lambda: compare(model, model, [batch]),
        lambda: compare_unlabeled(model, model, [batch]),
        lambda: fine_tune(model, [batch], None),
        lambda: recalibrate(model, [batch]),
        lambda: measure_sensitivity(stack, units, [batch]),
        lambda: score_units(stack, units, [batch], criterion="cka"),
        lambda: list(labeled_by(model, [batch])),
    ]
    for call in calls:
        with pytest.raises(DataError, match=message):
            call()


def test_inputs_with_named_fields_stay_what_they_are() -> None:
    both = namedtuple("both", ["x", "y"])

    data = [(both(torch.eye(2), torch.zeros(2, 2)), torch.tensor([0, 1]))]
    assert evaluate(Sum(), data).score == 1.0
