"""Padding decides nothing: masks are read wherever something is averaged over tokens."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit.criteria import score_units
from srinit.errors import DataError, ReinitError
from srinit.evaluate import agreement, labeled_by
from srinit.evaluate.cka import biased_cka
from srinit.padding import places_of
from srinit.reinit import Call, reinitialized
from srinit.report.features import collect
from srinit.units import find_units

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
SIZE, LENGTH, VOCABULARY = 24, 12, 50
AVERAGED = ("block_influence", "cka", "output_cka")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seeded(model: nn.Module) -> Any:
    noise = generator()
    for parameter in model.parameters():
        parameter.detach().normal_(0, 0.4, generator=noise)
    return model.eval()


def texts(side: str) -> tuple[Tensor, Tensor]:
    """Return tokens, and which of them are real."""
    tokens = torch.randint(1, VOCABULARY, (SIZE, LENGTH), generator=generator(1))
    mask = torch.ones_like(tokens)
    for row in range(SIZE):
        count = row % 8
        if side == "left":
            mask[row, :count] = 0
        elif count:
            mask[row, -count:] = 0
    return tokens.masked_fill(mask == 0, 0), mask


def other_padding(tokens: Tensor, mask: Tensor) -> Tensor:
    junk = torch.randint(1, VOCABULARY, tokens.shape, generator=generator(7))
    return torch.where(mask == 0, junk, tokens)


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return seeded(LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, attn_implementation="eager",
    )))  # fmt: skip


def bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    return seeded(BertForSequenceClassification(BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=LENGTH,
    )))  # fmt: skip


@needs_transformers
@pytest.mark.parametrize("criterion", AVERAGED)
@pytest.mark.parametrize(("build", "side"), [(llama, "left"), (llama, "right"), (bert, "right")])
def test_what_stands_at_padded_places_changes_no_score(
    build: Any, side: str, criterion: str
) -> None:
    model, (tokens, mask) = build(), texts(side)
    units = find_units(model, {"input_ids": tokens, "attention_mask": mask})
    target = torch.zeros(SIZE).long()
    scores = []
    for ids in (tokens, other_padding(tokens, mask)):
        data = [({"input_ids": ids, "attention_mask": mask}, target)]
        found = score_units(model, units, data, criterion=criterion, precision="keep")
        scores.append([unit.score for unit in found.units])
    assert len(scores[0]) == 3
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert all(score is not None and score > 0 for score in scores[0])


@needs_transformers
def test_block_influence_of_padded_texts_is_the_mean_over_real_tokens() -> None:
    model, (tokens, mask) = llama(), texts("left")
    inputs = {"input_ids": tokens, "attention_mask": mask}
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    units = find_units(model, inputs)
    found = score_units(
        model, units, [(inputs, torch.zeros(SIZE))], criterion="block_influence", precision="keep"
    )
    cosine = torch.cosine_similarity(states[1], states[2], dim=2)
    wanted = 1 - float(cosine[mask.bool()].mean())
    assert found["model.layers.1"].score == pytest.approx(wanted, abs=1e-5)
    assert abs(wanted - (1 - float(cosine.mean()))) > 1e-3


@needs_transformers
@pytest.mark.parametrize("criterion", ["block_influence", "cka"])
def test_tokens_without_a_mask_that_look_padded_are_refused_and_targets_tell(
    criterion: str,
) -> None:
    model, (tokens, mask) = llama(), texts("right")
    units = find_units(model, tokens[:2])
    with pytest.raises(DataError, match=r"looks like padding.*attention_mask"):
        score_units(model, units, [(tokens, torch.zeros(SIZE))], criterion=criterion)
    scores = []
    for ids in (tokens, other_padding(tokens, mask)):
        data = [({"input_ids": ids}, ids.masked_fill(mask == 0, -100))]
        found = score_units(model, units, data, criterion=criterion, precision="keep")
        scores.append([unit.score for unit in found.units])
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)  # right: no real token sees padding


class Encoder(nn.Module):
    """A PyTorch encoder, with PyTorch's own words for what is padded."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.first = batch_first
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first) for _ in range(3)
        )
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        x = self.embed(tokens)
        x = x if self.first else x.transpose(0, 1)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=src_key_padding_mask)
        out: Tensor = self.head(x[:, 0] if self.first else x[0])
        return out


@pytest.mark.parametrize("criterion", ["block_influence", "cka"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_masks_of_pytorch_given_by_position_are_read(batch_first: bool, criterion: str) -> None:
    model, (tokens, mask) = seeded(Encoder(batch_first=batch_first)), texts("right")
    units = find_units(model, (tokens, mask == 0))
    scores = []
    for ids in (tokens, other_padding(tokens, mask)):
        data = [((ids, mask == 0), torch.zeros(SIZE).long())]
        found = score_units(model, units, data, criterion=criterion, precision="keep")
        scores.append([unit.score for unit in found.units])
    assert len(scores[0]) == 3
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@needs_transformers
def test_decoders_are_averaged_over_the_places_of_the_decoder() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    model = seeded(T5ForConditionalGeneration(T5Config(
        vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2,
        decoder_start_token_id=0,
    )))  # fmt: skip
    tokens, mask = texts("right")
    answers, real = tokens[:, :7], torch.ones(SIZE, 7).long()
    real[::3, 4:] = 0
    units = find_units(
        model, {"input_ids": tokens, "attention_mask": mask, "decoder_input_ids": answers}
    )
    scores = []
    for ids, said in ((tokens, answers), (other_padding(tokens, mask), answers + 1 - real)):
        inputs = {
            "input_ids": ids, "attention_mask": mask, "decoder_input_ids": said,
            "decoder_attention_mask": real,
        }  # fmt: skip
        data = [(inputs, torch.zeros(SIZE))]
        found = score_units(model, units, data, criterion="block_influence", precision="keep")
        scores.append([unit.score for unit in found.units])
    assert any("decoder" in name for name in units.names)
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_matched_matches_the_moments_of_real_places() -> None:
    unit = seeded(nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6)))
    x = torch.randn(SIZE, LENGTH, 6, generator=generator(2))
    _, mask = texts("left")
    x = torch.where(mask[:, :, None] == 0, 50.0, x)
    places = places_of(unit, {"input_ids": mask, "attention_mask": mask})
    fresh = reinitialized(unit, seed=0, scheme="matched", reference=Call((x,), places=places))
    real = mask.bool()
    with torch.no_grad():
        wanted, found = unit(x)[real], fresh(x)[real]
    torch.testing.assert_close(found.mean(0), wanted.mean(0), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.std(0), wanted.std(0), atol=1e-4, rtol=1e-3)
    with pytest.raises(ReinitError, match="cannot leave out padding"):
        reinitialized(unit, seed=0, scheme="matched", reference=Call((x[:, :5],), places=places))


class PerToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        out: Tensor = self.head(self.embed(tokens))
        return out


MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
TOKENS = torch.tensor([[5, 6, 7, 0], [8, 9, 0, 0]])


class Named(nn.Module):
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens


@pytest.mark.parametrize(
    "inputs",
    [
        {"input_ids": TOKENS, "attention_mask": MASK},
        {"input_ids": TOKENS, "attention_mask": (1 - MASK[:, None, None].float()) * -1e9},
        {"tokens": TOKENS, "padding_mask": MASK == 0},
        {"tokens": TOKENS, "lengths": torch.tensor([3, 2])},
        (TOKENS, MASK == 0),
        (TOKENS, MASK),
    ],
)
def test_masks_of_every_kind_tell_the_same(inputs: Any) -> None:
    found = places_of(Named(), inputs)
    assert found is not None
    assert torch.equal(found.among((2, 4, 8)), MASK.bool())
    assert torch.equal(found.among((4, 2, 8)), MASK.bool().T)
    assert torch.equal(found.among((8, 3)).flatten(), MASK.bool().flatten())
    assert torch.equal(found.among((2, 2, 8)), torch.tensor([[True, True], [True, False]]))
    with pytest.raises(DataError, match=r"has places \(2, 3\)"):
        found.among((2, 3, 8))


def test_tokens_that_the_model_knows_as_padding_are_left_out() -> None:
    found = places_of(nn.Sequential(nn.Embedding(9, 2, padding_idx=0)), TOKENS)
    assert found is not None
    assert torch.equal(found.among((2, 4, 2)), MASK.bool())


def test_a_mask_that_may_mean_either_is_refused() -> None:
    with pytest.raises(DataError, match="the argument 'mask' may be True for real places"):
        places_of(Named(), (torch.arange(8).view(2, 4), MASK))


@pytest.mark.parametrize("seed", range(5))
def test_texts_without_padding_have_none(seed: int) -> None:
    tokens = torch.randint(0, 40, (16, 12), generator=generator(seed))
    assert places_of(nn.Identity(), tokens) is None
    assert places_of(nn.Identity(), torch.rand(4, 3, 8, 8, generator=generator())) is None
    binary = torch.randint(0, 2, (16, 12), generator=generator(seed))
    assert places_of(nn.Identity(), binary) is None


def test_agreement_scores_real_places_alone() -> None:
    model, (tokens, mask) = seeded(PerToken()), texts("right")
    data = [({"tokens": tokens, "attention_mask": mask}, None)]
    ((_, answers),) = labeled_by(model, data)
    assert torch.equal(answers == -100, mask == 0)
    logits = model(other_padding(tokens, mask), mask)
    assert agreement(logits, answers).tolist() == [1.0] * SIZE
    with pytest.raises(DataError, match="no scored place"):
        agreement(logits, torch.full_like(answers, -100))


def test_features_of_the_report_are_means_over_real_places() -> None:
    model, (tokens, mask) = seeded(PerToken()), texts("right")
    one, other = (
        collect(model, ["embed"], [{"tokens": ids, "attention_mask": mask}])["embed"]
        for ids in (tokens, other_padding(tokens, mask))
    )
    assert one == pytest.approx(other)


def test_cka_of_more_features_than_examples_is_the_same_number() -> None:
    one, other = (torch.randn(9, 30, generator=generator(i)).double() for i in (0, 1))
    a, b = one - one.mean(0), other - other.mean(0)
    wanted = float((b.T @ a).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm()))
    assert biased_cka(one, other) == pytest.approx(wanted, rel=1e-9)
