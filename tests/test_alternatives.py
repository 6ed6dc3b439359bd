"""Alternatives to pruning: which are on the front, which is taken, and how the page says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from srinit import latency
from srinit.alternatives import Alternative, Alternatives, Pick, front, picked
from srinit.alternatives.compiled import Compiled
from srinit.comparison import Drop
from srinit.errors import ModelError
from srinit.report.alternatives import _drawing, _lead, _ticks
from srinit.report.text import LANGUAGES, Translator


def tried(kind: str, ms: float, loss: float = 0.0, *, passed: bool = True) -> Alternative:
    return Alternative(
        kind=kind, detail="", numbers="float32", runtime="onnxruntime", size_bytes=1,
        loss=Drop(value=loss, low=loss, high=loss, confidence=0.95, baseline=0.9,
                  pruned=0.9 - loss, num_examples=100),
        latency=(latency.pair([2e-3] * 9, [ms / 1e3] * 9, batch_size=1, device="cpu"),),
        failed_gates=() if passed else ("loss of accuracy",),
    )  # fmt: skip


def found(*alternatives: Alternative) -> Alternatives:
    best, other = picked(alternatives)
    ratio = None
    if other is not None:
        own, their = ([alternatives[i].milliseconds] * 9 for i in (best, other))
        ratio = latency.pair(their, own, batch_size=1, device="cpu").ratio
    points = [(each.milliseconds, each.loss.pruned or 0.0) for each in alternatives]
    return Alternatives(
        data="validation", num_examples=100, limits=("max_drop: 0.01",), not_asked=(),
        tried=alternatives, front=front(points), pick=Pick(place=best, other=other, ratio=ratio),
    )  # fmt: skip


def test_what_neither_time_nor_score_beats_is_on_the_front() -> None:
    made = found(tried("unpruned", 2.0), tried("pruned", 1.0, 0.02), tried("pruned", 1.5, 0.03))
    assert made.front == (1, 0)
    assert str(_drawing(made, Translator(LANGUAGES))).count("<text class=name") == 3


@pytest.mark.parametrize(
    ("alternatives", "en"),
    [
        ([tried("unpruned", 2.0), tried("pruned", 1.0)],
         "Take pruned, float32 with ONNX Runtime (1.00 ms): the fastest that meets the "
         "acceptance criteria. It takes 50% (50%) of the time of the fastest without pruning"),
        ([tried("unpruned", 2.0), tried("pruned", 1.0), tried("resolution", 0.5)],
         "Pruning is not the tool here: take unpruned, images of , float32"),
        ([tried("unpruned", 2.0), tried("pruned", 2.0)],
         "it was not shown to be faster than pruned, float32"),
        ([tried("unpruned", 2.0), tried("pruned", 1.0, passed=False)],
         "Pruning is not the tool here: take unpruned, float32 with ONNX Runtime (2.00 ms). "
         "Nothing pruned was shown to meet the acceptance criteria."),
    ],
)  # fmt: skip
def test_the_winner_is_named_also_where_it_is_not_pruned(
    alternatives: list[Alternative], en: str
) -> None:
    said = _lead(found(*alternatives), Translator(LANGUAGES))
    assert en in said.en
    assert said.ja != said.en


def test_nothing_that_fails_a_limit_is_taken_however_fast() -> None:
    assert picked([tried("unpruned", 2.0), tried("sibling", 0.1, 0.5, passed=False)]) == (0, None)
    words = found(tried("unpruned", 2.0), tried("pruned", 1.0)).words()
    assert "0.50 of the time of the unpruned network" in words


def test_times_over_decades_have_few_round_ticks() -> None:
    ticks = [round(10**tick, 6) for tick in _ticks(-1.3, 0.6)]
    assert len(ticks) <= 7
    assert ticks == sorted(ticks)
    assert set(ticks) <= {0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0}


def test_a_network_that_compiles_wrongly_or_not_at_all_is_no_alternative(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, inputs = nn.Linear(3, 2).eval(), torch.ones(2, 3)

    def missing(*_: object, **__: object) -> nn.Module:
        raise RuntimeError("no working C++ compiler\nmore")

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.raises(ModelError, match=r"^RuntimeError: no working C\+\+ compiler$"):
        Compiled(network, inputs, [1]).check()
    monkeypatch.setattr(torch, "compile", lambda *_, **__: nn.Linear(3, 2).eval())
    with pytest.raises(ModelError, match="answers differently from PyTorch"):
        Compiled(network, inputs, [1]).check()
    monkeypatch.setattr(torch, "compile", lambda net, **_: net)
    compiled = Compiled(network, inputs, [1, 4])
    compiled.check()
    compiled.call(4)()
