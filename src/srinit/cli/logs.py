"""`srinit compare` on two prediction logs, and the number of images that an A/B test needs."""

from __future__ import annotations

from pathlib import Path

from srinit.cli.options import Common
from srinit.cli.output import Result
from srinit.display import command

OUTSIDE = 3
SMALLEST = 1e-6  # margin: some 10^12 images would have to be labeled


def compare(
    first: Path, second: Path | None, common: Common, *, margin: float, plan_margin: float | None
) -> Result:
    """Return the comparison of two logs, or the plan of a test for a run or two logs."""
    from srinit.errors import ConfigError

    if not SMALLEST <= (margin if plan_margin is None else plan_margin) <= 1:
        raise ConfigError(
            f"the margin is a fraction of {SMALLEST:g} or more, such as 0.01 for one point."
        )
    if first.is_file() and second is None:
        raise ConfigError(f"{first} is a log; name the log of the other model too.")
    if common.dry_run:
        return Result(verb="compare", data={"dry_run": True}, text="would read the logs")
    if plan_margin is not None:
        return _planned(first, second, plan_margin)
    return _compared(first, _second(second), margin)


def _second(path: Path | None) -> Path:
    assert path is not None
    return path


def _compared(first: Path, second: Path, margin: float) -> Result:
    from srinit import records
    from srinit.cli.render import facts_table, percent, points
    from srinit.monitor import compare_logs, read_log

    found = compare_logs(read_log(first), read_log(second), margin=margin)
    rate, anytime = found.agreement, found.anytime
    facts = {
        "images": f"{found.paired} in both, {found.only_first} and {found.only_second} in one",
        "same answer": f"{percent(rate.rate)} ({percent(rate.low)} to {percent(rate.high)})",
        "latency": f"{found.latency_ms[0]:.2f} -> {found.latency_ms[1]:.2f} ms (medians)",
    }
    if found.score is not None:
        score = found.score
        facts["loss"] = (
            f"{points(score.drop)} points ({points(score.low)} to {points(score.high)}) on "
            f"{found.labeled} labeled images, p = {found.p_value:.3g}"
        )
    facts["at any time"] = (
        f"{anytime.what} {points(anytime.low)} to {points(anytime.high)} points: "
        f"{anytime.decision} the margin of {points(margin)}"
    )
    beyond = anytime.decision == "beyond" and found.score is not None
    return Result(
        verb="compare",
        data={"first": str(first), "second": str(second), "comparison": records.plain(found)},
        text=facts_table(facts),
        next=command("compare", first, second, "--plan-margin", f"{margin:g}"),
        exit_code=OUTSIDE if beyond else 0,
    )


def _planned(first: Path, second: Path | None, margin: float) -> Result:
    from srinit import records
    from srinit.errors import ConfigError
    from srinit.monitor import plan_test

    discordant = _of_logs(first, _second(second)) if first.is_file() else _of_run(first)
    if discordant is None:
        raise ConfigError("planning needs labels: how often is exactly one model right?")
    plan = plan_test(margin, discordant=discordant)
    text = (
        f"To show a loss below {_points(margin)} where exactly one model is right on "
        f"{100 * discordant:.2f} % of the images: {plan.num_examples} labeled images that both "
        f"answer (power {100 * plan.power:g} %, looked at once at the end), about "
        f"{plan.num_sequential} if one looks all the time."
    )
    return Result(verb="compare", data={"plan": records.plain(plan)}, text=text)


def _points(fraction: float) -> str:
    return "one point" if fraction == 0.01 else f"{100 * fraction:g} points"


def _of_logs(first: Path, second: Path) -> float | None:
    from srinit.monitor import compare_logs, read_log

    found = compare_logs(read_log(first), read_log(second))
    return _share(found.lost, found.gained, found.labeled) if found.labeled else None


def _of_run(path: Path) -> float | None:
    from srinit.runs import RunFiles, artifacts
    from srinit.runs.files import round_numbers
    from srinit.store import RunFolder

    files = RunFiles(RunFolder.open(path), max(round_numbers(path), default=1))
    found = files.get(artifacts.COMPARISON)
    if found is None:
        return None
    return _share(found.lost, found.gained, found.num_examples)


def _share(lost: int, gained: int, total: int) -> float:
    """Return the discordant share; one is added, so that none seen is not none there."""
    return min(1.0, (lost + gained + 1) / total)
