"""Plans in a run folder: `plan.json` is the same twice, what a clock said lies beside it."""

from __future__ import annotations

from pathlib import Path

from srinit.plan import PlanTimes, PrunePlan
from srinit.store import sha256_bytes
from srinit.store.run_folder import RunFolder

PLAN, TIMES = "plan.json", "plan_latency.json"


def write(folder: RunFolder, path: Path, plan: PrunePlan) -> None:
    """Write a plan and, before it, its measured latencies beside it."""
    bare, times = plan.untimed()
    if any(times.latency_ms):
        folder.write_text(path.with_name(TIMES), times.to_json())
    folder.write_text(path, bare.to_json())


def read(folder: RunFolder, path: Path) -> PrunePlan:
    """Return the plan that `write` wrote, with its latencies.

    Raises:
        ConfigError: It is no plan.
        IntegrityError: A file is not the one that was written.
    """
    plan = PrunePlan.from_json(folder.read_bytes(path), where=str(path))
    beside = path.with_name(TIMES)
    if not beside.is_file():
        return plan
    return plan.timed(PlanTimes.from_json(folder.read_bytes(beside), where=str(beside)))


def digest(plan: PrunePlan) -> str:
    """Return the SHA-256 of the file that `write` writes for a plan."""
    return sha256_bytes(plan.untimed()[0].to_json().encode())
