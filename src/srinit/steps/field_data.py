"""Both networks on the site's own data, apart from the test data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from srinit.comparison import (
    FieldComparison,
    Unread,
    flipped_examples,
    unlabeled_outcomes,
)
from srinit.config.sections import DataSection, GatesSection
from srinit.custody import readings
from srinit.errors import DataError
from srinit.evaluate import top1
from srinit.gates import GateResult, check_gates, check_unlabeled
from srinit.runs import RunFiles, artifacts
from srinit.sources import DataSet
from srinit.steps.table import step
from srinit.steps.task import Evaluator, Task

OTHER = ("max_latency_ratio", "max_params_ratio", "max_shift_drop")  # no matter of these data


@step(
    artifacts.SITE_GATES,
    artifacts.SITE,
    part="site",
    says=("site", lambda _, found: f"{len(found.flipped)} different answers listed of "
          f"{found.num_examples} examples"),
    reason=lambda judged, _: "" if judged is None else "; ".join(
        gate.sentence for gate in judged.failed
    ),
    together=True,
    keys={"data_settings": ("data.site",)},
)  # fmt: skip
def site_comparison(
    site: DataSet | None,
    model: nn.Module,
    tuned: nn.Module,
    gates_settings: GatesSection,
    data_settings: DataSection,
    task: Task,
    outcomes_of: Evaluator,
    files: RunFiles,
) -> tuple[GateResult | None, FieldComparison | None]:
    """Return the comparison on `data.site` and what the limits say of it; None without it.

    Labeled examples are compared as the test data are, and judged by the same limits; of examples
    without labels it is known where the two networks differ, not who is right.
    """
    if site is None:
        return None, None
    if not outcomes_of.execution.ranks.rank:
        readings.note_read(files.folder, site.ids, site.data_hash, "as data.site")
    found = compared_on(model, tuned, site, data_settings.site or "", task, outcomes_of)
    return judge(found, gates_settings), found


def with_site(result: GateResult, on_site: GateResult | None) -> GateResult:
    """Return both judgements as one; limits on the site's data are named `site.NAME`."""
    if on_site is None:
        return result
    more = (
        replace(gate, name=f"site.{gate.name}", sentence=f"on the site's data, {gate.sentence}")
        for gate in on_site.gates
    )
    return GateResult(passed=result.passed and on_site.passed, gates=(*result.gates, *more))


def limits(settings: GatesSection) -> dict[str, Any]:
    """Return the limits that speak of errors, which site data can hold or not."""
    return {name: limit for name, limit in settings.limits().items() if name not in OTHER}


def judge(found: FieldComparison, settings: GatesSection) -> GateResult | None:
    """Return the limits as the site's data hold them; None where none can be judged."""
    wanted = limits(settings)
    if found.comparison is not None:
        return check_gates(found.comparison, wanted) if wanted else None
    assert found.unlabeled is not None
    agreement = {k: v for k, v in wanted.items() if k == "min_agreement"}
    return check_unlabeled(found.unlabeled, agreement) if agreement else None


def compared_on(
    first: nn.Module,
    second: nn.Module,
    data: DataSet,
    source: str,
    task: Task,
    outcomes_of: Evaluator,
) -> FieldComparison:
    """Return two networks compared on any data, with labels, without, or with some.

    Args:
        first: The network before.
        second: The one after.
        data: The examples.
        source: What they are called.
        task: Scores, classes and what errors mean.
        outcomes_of: Measures a network.

    Raises:
        DataError: Examples without labels, and a score that needs them.
    """
    targets = data.targets
    has_label = targets >= 0 if targets.ndim == 1 else np.ones(len(data), dtype=bool)
    labeled = data.subset(np.flatnonzero(has_label).tolist())
    comparison = unlabeled = None
    flipped: tuple[Any, ...] = ()
    if len(labeled):
        pair = outcomes_of.pair(first, second, labeled)
        comparison = task.compared(*pair, data=source, data_hash=labeled.data_hash)
        flipped = flipped_examples(pair[0], pair[1], labeled.names, task.class_names)
    if len(labeled) < len(data):
        if task.score not in ("top1", "agreement"):
            raise DataError(f"{source} has no labels, and score: {task.score} needs them.")
        pair = outcomes_of.pair(first, second, data, scorer=top1, served=Unread)
        unlabeled = unlabeled_outcomes(
            *pair, class_names=task.class_names, confidence=task.confidence
        )
        flipped = flipped_examples(pair[0], pair[1], data.names, task.class_names, labels=targets)
    return FieldComparison(
        data=source,
        data_hash=data.data_hash,
        num_examples=len(data),
        num_labeled=len(labeled),
        comparison=comparison,
        unlabeled=unlabeled,
        flipped=flipped,
    )
