"""Logs a finished run to MLflow: the params, metrics and artifacts of every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srinit.pipeline.runner import Runner
from srinit.registry import Registry
from srinit.runs import artifacts
from srinit.store import sha256_file
from srinit.store.seal import AUDIT, SUMS


def log_run(runner: Runner, registry: Registry) -> str:
    """Return the id of the MLflow run that holds this run; logged once for the same content."""
    path = runner.path
    return registry.log_run(
        sha256_file(path / SUMS),
        name=path.name,
        params=params(runner.config.model_dump(mode="json", exclude={"root", "roi"})),
        metrics=metrics(runner),
        folder=path,
        files=_files(runner),
        tags={"srinit.run": str(path.absolute())},
    )


def _files(runner: Runner) -> list[str]:
    """Return the files of the table that are there; weights are kept by versions alone."""
    rows = [artifact for artifact in artifacts.ARTIFACTS if artifact.logged]
    patterns = [*artifacts.HEADS, AUDIT, SUMS, *(p for row in rows for p in row.listed)]
    found = {
        path.relative_to(runner.path).as_posix()
        for pattern in patterns
        for path in runner.path.glob(pattern)
        if path.is_file()
    }
    return sorted(found)


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


def metrics(runner: Runner) -> dict[str, float]:
    """Return the numbers of every step that is done, by "cut.metric"."""
    before, cut = runner.get(artifacts.BASELINE), runner.get(artifacts.CUT)
    compared = runner.get(artifacts.COMPARISON)
    sensitivity = runner.get(artifacts.SENSITIVITY)
    found: dict[str, float | None] = {
        "baseline.score": before.score,
        "baseline.params": before.params,
        "baseline.flops": before.flops,
        "scan.units": None if sensitivity.is_off else len(sensitivity.units),
        "scan.redundant": None
        if sensitivity.is_off
        else sum(unit.decision == "redundant" for unit in sensitivity.units),
        "plan.removed": len(cut.removed),
        "prune.score_cut": cut.score_cut,
        "prune.score_compensated": cut.score_compensated,
        "prune.params": cut.cost_after.params,
        "prune.flops": cut.cost_after.flops,
        "compare.baseline": compared.score.baseline,
        "compare.pruned": compared.score.pruned,
        "compare.drop": compared.score.drop,
        "compare.drop_low": compared.score.low,
        "compare.drop_high": compared.score.high,
        "compare.agreement": compared.agreement.rate,
    }
    tuned = runner.files.get(artifacts.TUNE_LOG)
    if tuned is not None:
        found |= {
            "finetune.steps": tuned.steps,
            "finetune.score_before": tuned.score_before,
            "finetune.score_after": tuned.score_after,
        }
    for pair in compared.latency:
        size = pair.baseline.batch_size
        found[f"compare.latency_ms_baseline_{size}"] = pair.baseline.median_ms
        found[f"compare.latency_ms_pruned_{size}"] = pair.pruned.median_ms
    gates = runner.get(artifacts.GATES)
    found["gate.passed"] = float(gates.passed)
    for gate in gates.gates:
        found[f"gate.{gate.name}.bound"] = gate.bound
    return {name: float(value) for name, value in found.items() if value is not None}
