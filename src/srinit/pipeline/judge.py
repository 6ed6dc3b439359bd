"""Compares the tuned network with the baseline on test data, read once, and asks the gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from srinit import artifact
from srinit.class_names import ClassList
from srinit.comparison import (
    Comparison,
    CostSide,
    Shift,
    Site,
    compare_outcomes,
    measure_shift,
    shift_csv,
)
from srinit.custody import readings
from srinit.custody.networks import load_run
from srinit.distributed import ProcessGroup
from srinit.errors import DataError
from srinit.evaluate import Outcomes
from srinit.functions import load_function
from srinit.gates import GateResult, check_gates
from srinit.latency import measure_latency_pair
from srinit.ownership import Ownership, measure_pair
from srinit.pipeline import cut, look, processes, shared, site
from srinit.pipeline.session import Session
from srinit.sources import load_data
from srinit.store import write_npz

COMPARISON_SCHEMA = "srinit.comparison/2"
GATE_SCHEMA = "srinit.gate/1"
OWNERSHIP_SCHEMA = "srinit.ownership/1"
SHIFT_SCHEMA = "srinit.shift/2"


def compare(session: Session) -> Comparison:
    """Return the comparison on test data; it is read here and nowhere else.

    All processes of a run must call it; so must they `shift` and `gate`.
    """
    path = cut.stage_folder(session) / "comparison.json"
    if path.is_file():
        return session.folder.read_record(Comparison, path, schema=COMPARISON_SCHEMA)
    pruned, test = cut.tune(session), session.split("test")
    steps = 2 * len(test)
    _tell_readings(session, test.ids, test.data_hash)
    readings.note(
        session.folder, "read", "", {"data_hash": test.data_hash, "num_examples": len(test)}
    )

    def progress(offset: int) -> None:
        session.observer.progress(offset, steps)

    before = shared.outcomes(
        session, session.model, test, on_progress=lambda done, _: progress(done)
    )
    after = shared.outcomes(
        session, pruned, test, on_progress=lambda done, _: progress(len(test) + done)
    )
    return processes.on_rank_zero(session, lambda s: _compared(s, pruned, before, after))


def _compared(session: Session, pruned: nn.Module, before: Outcomes, after: Outcomes) -> Comparison:
    """Return the comparison of two networks' outcomes, and time them; rank 0 does that alone."""
    folder = cut.stage_folder(session)
    path = folder / "comparison.json"
    if path.is_file():
        return session.folder.read_record(Comparison, path, schema=COMPARISON_SCHEMA)
    test, config = session.split("test"), session.config
    comparison = compare_outcomes(
        before,
        after,
        class_names=session.class_names,
        **session.error_terms,
        confidence=config.compare.confidence,
        cost=_cost(session),
        latency=tuple(
            measure_latency_pair(session.model, pruned, session.example_inputs, batch_size=batch)
            for batch in config.compare.latency_batches
        ),
        data=config.data.test or config.data.source or "",
        data_hash=test.data_hash,
    )
    arrays = {f"baseline_{k}": v for k, v in vars(before).items()}
    arrays |= {f"pruned_{k}": v for k, v in vars(after).items()}
    write_npz(folder / "predictions.npz", {**arrays, "ids": np.array(test.ids)})
    session.folder.audit(
        "compare",
        f"drop {comparison.score.drop}",
        inputs={
            "test": test.data_hash,
            **session.folder.digests(folder / artifact.WEIGHTS),
        },
    )
    session.folder.write_record(path, comparison, schema=COMPARISON_SCHEMA)
    return comparison


def _tell_readings(session: Session, ids: Sequence[str], data_hash: str) -> None:
    """Say and keep how often the test data were read before, unless that is kept already."""
    path = cut.stage_folder(session) / readings.FILE
    if path.is_file():
        return
    found = readings.find(session.path, ids, data_hash)
    if found.earlier:
        session.observer.say(f"{look.WARNING} {found.words()}")
    session.folder.write_record(path, found, schema=readings.SCHEMA)


def shift(session: Session) -> Shift | None:
    """Return both networks on corrupted test images; None where the config asks for none.

    Raises:
        DataError: The data holds no images.
    """
    settings = session.config.shift
    path = cut.stage_folder(session) / "shift.json"
    if path.is_file():
        return session.folder.read_record(Shift, path, schema=SHIFT_SCHEMA)
    count = settings.examples
    if count == 0:
        return None
    test = session.split("test")
    if not test.pool.holds_images:
        raise DataError(
            "shift needs images, and the test data holds other inputs: write shift.examples: 0."
        )
    chosen = test.by_content(count)
    own = {
        name: load_function(name.removeprefix("py:"), session.config.root)
        for name in settings.corruptions
        if name.startswith("py:")
    }
    found = measure_shift(
        session.model,
        cut.tune(session),
        chosen.pool.pixels(chosen.indices),
        torch.from_numpy(chosen.targets),
        to_inputs=chosen.pool.preprocess.normalized,
        corruptions={name: own.get(name) for name in settings.corruptions},
        severities=settings.severities,
        scorer=session.scorer,
        ids=chosen.ids,
        batch_size=session.config.data.batch_size,
        confidence=session.config.compare.confidence,
        seed=session.config.seed,
        ranks=ProcessGroup(),
        on_progress=session.observer.progress,
    )
    session.folder.write_text(path.with_suffix(".csv"), shift_csv(found))
    worst = found.worst
    session.folder.audit(
        "shift",
        f"{len(found.significant)} of {len(found.points)} points are worse",
        reason=f"worst: {worst.corruption} {worst.severity}" if worst else "",
        inputs=chosen.data_hash,
    )
    session.folder.write_record(path, found, schema=SHIFT_SCHEMA)
    return found


def compare_on(session: Session, other: Path | None, data: str | None) -> Site:
    """Return a comparison that is not part of the run: of two runs, or on other data.

    Args:
        session: The run whose pruned network is the second of the pair.
        other: A second run, whose pruned network takes that place; this run's is the first.
        data: A data source in place of the test data; its examples need no labels.
    """
    config = session.config
    test = session.split("test")
    if data is not None:
        test = load_data(
            data,
            preprocess=test.pool.preprocess,
            classes=ClassList(session.class_names, "the run") if session.class_names else None,
            root=Path(),
            may_lack_classes=True,
        )
    first, second = session.model, cut.tune(session)
    if other is not None:
        first, second = second, load_run(other, root=config.root).to(session.device)
    source = data or config.data.test or config.data.source or ""
    return site.compare_on(session, first, second, test, source)


def _cost(session: Session) -> CostSide:
    metrics = cut.stage_metrics(session)
    return CostSide(
        params_baseline=metrics.cost_before.params,
        params_pruned=metrics.cost_after.params,
        flops_baseline=metrics.cost_before.flops,
        flops_pruned=metrics.cost_after.flops,
        size_bytes_baseline=metrics.cost_before.size_bytes,
        size_bytes_pruned=metrics.cost_after.size_bytes,
        not_counted=metrics.cost_before.not_counted,
    )


def gate(session: Session) -> GateResult:
    """Return what the gates of the config say about the comparison."""
    path = cut.stage_folder(session) / "gate.json"
    if path.is_file():
        return session.folder.read_record(GateResult, path, schema=GATE_SCHEMA)
    comparison = compare(session)
    arrays = session.folder.read_npz(path.with_name("predictions.npz"))
    _tell_readings(session, [str(each) for each in arrays["ids"]], comparison.data_hash)
    limits = session.config.gates.limits()
    under_shift = shift(session) if "max_shift_drop" in limits else None
    result = check_gates(comparison, limits, shift=under_shift)
    if session.config.gates.site:
        result = with_site(result, site.gates(session))
    readings.note(
        session.folder,
        "judged",
        "passed" if result.passed else "failed",
        {
            "limits": {
                **{each.name: each.limit for each in result.gates},
                readings.CONFIDENCE: comparison.confidence,
            }
        },
    )
    failed = "; ".join(g.sentence for g in result.failed)
    session.folder.audit(
        "gate",
        "passed" if result.passed else "failed",
        reason=failed,
        inputs=session.folder.digests(path.with_name("comparison.json")),
    )
    session.folder.write_record(path, result, schema=GATE_SCHEMA)
    return result


def with_site(result: GateResult, on_site: GateResult | None) -> GateResult:
    """Return both judgements as one; limits on the site's data are named `site.NAME`."""
    if on_site is None:
        return result
    more = (
        replace(gate, name=f"site.{gate.name}", sentence=f"on the site's data, {gate.sentence}")
        for gate in on_site.gates
    )
    return GateResult(passed=result.passed and on_site.passed, gates=(*result.gates, *more))


def ownership(session: Session) -> Ownership:
    """Return what 1,000 answers of either network cost on this device; kept in the stage."""
    path = cut.stage_folder(session) / "ownership.json"
    if path.is_file():
        return session.folder.read_record(Ownership, path, schema=OWNERSHIP_SCHEMA)
    settings = session.config.ownership
    sizes = session.config.compare.latency_batches
    pairs = [
        measure_pair(
            session.model,
            cut.tune(session).to(session.device),
            session.example_inputs,
            batch_size=size,
            watts_per_core=settings.watts_per_core,
            device_watts=settings.device_watts,
        )
        for size in sizes
    ]
    found = Ownership(pairs=tuple(pairs))
    session.folder.write_record(path, found, schema=OWNERSHIP_SCHEMA)
    return found
