"""The stages that change the network: plan, prune, fine-tune; and what judges it: compare, gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from srinit import artifact
from srinit.compare import Comparison, compare_outcomes
from srinit.cost import count_cost
from srinit.curve import measure_prefixes
from srinit.errors import ConfigError
from srinit.evaluate import Outcomes, evaluate
from srinit.finetune import TuneLog, fine_tune, recalibrate
from srinit.gates import GateResult, check_gates
from srinit.latency import measure_latency_pair
from srinit.pipeline import look
from srinit.pipeline.session import Session
from srinit.plan import PrunePlan, make_plan
from srinit.records import record
from srinit.surgery import apply_plan

STAGE_SCHEMA = "srinit.stage/1"


@record
class StageMetrics:
    """What one stage of pruning did, on validation data; fractions."""

    removed: tuple[str, ...]
    score_before: float  # the unpruned network
    score_cut: float  # right after the cut
    score_recalibrated: float | None  # after normalization statistics were estimated again
    score_tuned: float | None  # after fine-tuning
    num_examples: int
    params: int
    flops: int  # per example; one multiply-add counts 2
    size_bytes: int
    params_before: int
    flops_before: int
    size_bytes_before: int
