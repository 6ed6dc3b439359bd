"""Logs a finished run to MLflow: the params, metrics and artifacts of every stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srinit.pipeline import cut, judge, look
from srinit.pipeline.session import Session
from srinit.registry import Registry
from srinit.store import sha256_file
from srinit.store.seal import SUMS

FILES = (
    "config.yaml", "env.json", "inputs.lock.json", "audit.jsonl", SUMS, "units.json", "plan.json",
    "plan_latency.json", "baseline/metrics.json", "baseline/predictions.npz",
    "scan/sensitivity.json", "scan/sensitivity.csv", "export/export.json", "report/report.html",
    "result.json",
)  # fmt: skip


def log_run(session: Session, registry: Registry) -> str:
    """Return the id of the MLflow run that holds this run; logged once for the same content."""
    path = session.path
    return registry.log_run(
        sha256_file(path / SUMS),
        name=path.name,
        params=params(session.config.model_dump(mode="json", exclude={"root", "roi"})),
        metrics=metrics(session),
        folder=path,
        files=[name for name in (*FILES, *_of_stages(path)) if (path / name).is_file()],
        tags={"srinit.run": str(path.absolute())},
    )


def _of_stages(path: Path) -> list[str]:
    """Return the records of every stage of pruning; weights are kept by versions alone."""
    found = (p for kind in ("*.json", "*.npz") for p in path.glob(f"stages/*/{kind}"))
    return sorted(p.relative_to(path).as_posix() for p in found)


def params(body: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return a config as flat names and texts.

    Example:
        >>> params({"seed": 0, "plan": {"flops": 0.7}})
        {'seed': '0', 'plan.flops': '0.7'}
    """
    found: dict[str, str] = {}
    for name, value in body.items():
        if isinstance(value, Mapping):
            found |= params(value, f"{prefix}{name}.")
        elif value is not None:
            found[prefix + name] = str(value)
    return found


def metrics(session: Session) -> dict[str, float]:
    """Return the numbers of every stage that is done, by "stage.metric"."""
    before, stage = look.baseline(session), cut.stage_metrics(session)
    compared, sensitivity = judge.compare(session), look.scan(session)
    found: dict[str, float | None] = {
        "baseline.score": before.score,
        "baseline.params": before.params,
        "baseline.flops": before.flops,
        "scan.units": len(sensitivity.units),
        "scan.redundant": sum(unit.decision == "redundant" for unit in sensitivity.units),
        "plan.removed": len(stage.removed),
        "prune.score_cut": stage.score_cut,
        "prune.score_compensated": stage.score_compensated,
        "prune.params": stage.cost_after.params,
        "prune.flops": stage.cost_after.flops,
        "compare.baseline": compared.score.baseline,
        "compare.pruned": compared.score.pruned,
        "compare.drop": compared.score.drop,
        "compare.drop_low": compared.score.low,
        "compare.drop_high": compared.score.high,
        "compare.agreement": compared.agreement.rate,
    }
    if (cut.stage_folder(session) / "tune.json").is_file():
        tuned = cut.tune_log(session)
        found |= {
            "finetune.steps": tuned.steps,
            "finetune.score_before": tuned.score_before,
            "finetune.score_after": tuned.score_after,
        }
    for pair in compared.latency:
        size = pair.baseline.batch_size
        found[f"compare.latency_ms_baseline_{size}"] = pair.baseline.median_ms
        found[f"compare.latency_ms_pruned_{size}"] = pair.pruned.median_ms
    gates = judge.gate(session)
    found["gate.passed"] = float(gates.passed)
    for gate in gates.gates:
        found[f"gate.{gate.name}.bound"] = gate.bound
    return {name: float(value) for name, value in found.items() if value is not None}
