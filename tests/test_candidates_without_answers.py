"""A candidate whose answers are not finite is on record as such, and is read back."""

from __future__ import annotations

import torch
from torch import nn

from srinit import records
from srinit.compensation.choose import Chooser
from srinit.compensation.records import Candidate
from srinit.records import Interval

SCHEMA = "srinit.candidate/1"


def test_a_candidate_without_finite_answers_survives_its_file() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    batches = [torch.randn(8, 4, generator=torch.Generator().manual_seed(0))]
    chooser = Chooser(model, nn.Sequential(nn.Linear(4, 3)), {}, batches)
    broken = nn.Sequential(nn.Linear(4, 3))
    nn.init.constant_(broken[0].weight, float("inf"))
    chooser._judge("broken", [broken] * len(chooser.rounds))
    found = chooser.candidates[-1]
    assert (found.divergence, found.gain, found.is_surely_nearer) == (None, None, False)
    assert found.distance == float("inf")
    text = records.to_json(found, schema=SCHEMA)
    assert records.from_json(Candidate, text, schema=SCHEMA) == found


def test_a_candidate_is_surely_nearer_by_its_whole_interval() -> None:
    gain = Interval(value=0.1, low=0.0, high=0.2, confidence=0.95)
    assert not Candidate(name="a", divergence=0.1, gain=gain).is_surely_nearer
    sure = Interval(value=0.1, low=0.01, high=0.2, confidence=0.95)
    assert Candidate(name="a", divergence=0.1, gain=sure).is_surely_nearer
