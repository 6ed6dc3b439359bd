"""The verbs that work on a run folder: plan, prune, finetune, compare, export, report, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from srinit.cli.options import Common, RunPath, verb
from srinit.cli.output import Result
from srinit.cli.progress import RichObserver
from srinit.display import command, quoted

GATE_FAILED = 3
LANGUAGES: tuple[Literal["ja", "en"], ...] = ("ja", "en")
Fraction = Annotated[
    float | None,
    typer.Option(help="May remain: a fraction up to 1, or a count above.", show_default=False),
]


@verb
def plan(
    run: RunPath,
    common: Common,
    max_drop: Annotated[
        float | None,
        typer.Option(help="Largest drop of a unit, a fraction (0.02).", show_default=False),
    ] = None,
    params: Fraction = None,
    flops: Fraction = None,
    latency: Fraction = None,
    remove: Annotated[
        str | None, typer.Option(help="Units that go, separated by commas.", show_default=False)
    ] = None,
    edited: Annotated[
        bool, typer.Option("--edited", help="Take plan.json as you edited it; needs --reason.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; goes on record.", show_default=False)] = "",
) -> Result:
    """Choose the units that go, for a target; the scan must be done."""
    from srinit import records
    from srinit.cli.fitted import plan_table
    from srinit.config import check_targets
    from srinit.pipeline import cut, start

    given = {"max_drop": max_drop, "params": params, "flops": flops, "latency": latency}
    targets: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if remove is not None:
        targets["remove"] = tuple(name.strip() for name in remove.split(",") if name.strip())
    check_targets(targets)
    with RichObserver() as observer, start.reopen(run, observer, common.overrides) as session:
        if common.dry_run:
            return _dry("plan", run, "builds and times the network after every removal")
        observer.stage("plan")
        if edited:
            made = cut.take_edited(session, reason)
        else:
            start.set_aside(session)
            made = cut.plan(session, targets or None)
    return Result(
        verb="plan",
        data={"run": str(run), "plan": records.plain(made)},
        text=plan_table(made),
        next=command("prune", run),
    )


@verb
def prune(run: RunPath, common: Common) -> Result:
    """Carry out the plan: surgery, recalibration, a look at validation data; or all stages."""
    from srinit import records
    from srinit.cli.draw import stage_table
    from srinit.pipeline import cut, staged, start

    with RichObserver() as observer, start.reopen(run, observer, common.overrides) as session:
        if common.dry_run:
            return _dry("prune", run, "removes the units of plan.json on a copy")
        observer.stage("prune")
        if session.config.prune.staged:
            staged.carry_out(session)
        else:
            cut.prune(session)
        metrics = cut.stage_metrics(session)
    return Result(
        verb="prune",
        data={"run": str(run), "stage": records.plain(metrics)},
        text=stage_table(metrics),
        next=command("finetune", run),
    )


@verb
def finetune(run: RunPath, common: Common) -> Result:
    """Fine-tune the pruned network, or let your own command do it; resumable at any step."""
    from srinit import records
    from srinit.cli.draw import tune_table
    from srinit.pipeline import cut, staged, start

    with RichObserver() as observer, start.reopen(run, observer, common.overrides) as session:
        if common.dry_run:
            return _dry("finetune", run, "trains the pruned network as the config says")
        observer.stage("fine-tune")
        if session.config.prune.staged:
            staged.carry_out(session)
        cut.tune(session)
        log = cut.tune_log(session)
    return Result(
        verb="finetune",
        data={"run": str(run), "tune": records.plain(log)},
        text=tune_table(log),
        next=command("compare", run),
    )


@verb
def compare(
    run: RunPath,
    common: Common,
    other: Annotated[
        Path | None,
        typer.Argument(metavar="[B]", help="A second run; default: the run's own baseline."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data to compare on, e.g. folder:site; default: the run's test data."),
    ] = None,
    shift: Annotated[
        int,
        typer.Option(
            help="Also compare on so many corrupted test images: noise, blur, light ...",
            show_default=False,
            min=0,
        ),
    ] = 0,
    margin: Annotated[
        float, typer.Option(help="Of two prediction logs: the loss that is acceptable.")
    ] = 0.01,
    plan_margin: Annotated[
        float | None,
        typer.Option(help="Only say how many images an A/B test needs.", show_default=False),
    ] = None,
) -> Result:
    """Compare networks on data: baseline and pruned of RUN, the pruned ones of RUN and B, or logs.

    RUN and B may be prediction logs (.jsonl) of two models on the same images.
    """
    if run.is_file() or plan_margin is not None:
        from srinit.cli import logs

        return logs.compare(run, other, common, margin=margin, plan_margin=plan_margin)
    from srinit import records
    from srinit.cli.draw import comparison_table, gate_table, shift_table, site_tables
    from srinit.pipeline import judge, site, start

    with RichObserver() as observer, start.reopen(run, observer, common.overrides) as session:
        if common.dry_run:
            return _dry("compare", run, "reads the test data once with each network")
        observer.stage("compare")
        own, gates = other is None and data is None, None
        on_site = site.site(session) if own else judge.compare_on(session, other, data)
        comparison = judge.compare(session) if own or on_site is None else on_site.comparison
        under_shift = judge.shift(session, shift or None) if other is None else None
        if own:
            gates = judge.gate(session)
    parts: list[Any] = []
    if comparison is not None:
        parts.append(comparison_table(comparison))
    parts += [gate_table(gates)] if gates is not None else []
    parts += site_tables(on_site, apart=own)
    parts += [shift_table(under_shift)] if under_shift is not None else []
    return Result(
        verb="compare",
        data={
            "run": str(run),
            "comparison": records.plain(comparison),
            "gates": records.plain(gates),
            "shift": records.plain(under_shift),
            "site": records.plain(on_site),
        },
        text=parts[0],
        extra=parts[1:],
        next=command("export", run),
        exit_code=GATE_FAILED if gates is not None and not gates.passed else 0,
    )


@verb
def export(run: RunPath, common: Common) -> Result:
    """Write ONNX and torch.export files, checked against PyTorch on real examples."""
    from srinit import records
    from srinit.cli.draw import facts_table
    from srinit.pipeline import finish, start

    with RichObserver() as observer, start.reopen(run, observer, common.overrides) as session:
        if common.dry_run:
            return _dry("export", run, "writes ONNX and torch.export files")
        observer.stage("export")
        found = finish.export(session)
    facts = {
        file.file: f"{file.size_bytes:,} bytes; within {file.max_difference:.1e} of PyTorch on "
        f"{file.num_examples} examples"
        for file in found.files
    } | {f"{name}: failed": reason for name, reason in found.failed.items()}
    return Result(
        verb="export",
        data={"run": str(run), "export": records.plain(found)},
        text=facts_table(facts),
        next=command("report", run),
        exit_code=4 if found.failed and not found.files else 0,
    )


@verb
def report(
    run: RunPath,
    common: Common,
    lang: Annotated[str, typer.Option(help="Languages, the first is shown: ja,en.")] = "ja,en",
) -> Result:
    """Write the report: one HTML file that opens from disk."""
    from srinit.errors import ConfigError
    from srinit.report import load_report_input, write_report
    from srinit.store import RunFolder

    wanted = [part.strip() for part in lang.split(",")]
    languages = [code for code in LANGUAGES if code in wanted]
    languages.sort(key=wanted.index)
    if not set(wanted) <= set(LANGUAGES):
        raise ConfigError(f"--lang {lang!r}: the languages are ja and en.")
    folder = RunFolder.open(run)
    if common.dry_run:
        return _dry("report", run, "writes report/report.html")
    with folder.lock():
        folder.check_recorded(besides=run / "report")
        path = write_report(load_report_input(run), run / "report", languages=languages)
        folder.record(run / "report")
    return Result(
        verb="report",
        data={"run": str(run), "report": str(path)},
        text=f"wrote {path}",
        next=f"open {quoted(path)}",
    )


@verb
def verify(run: RunPath, common: Common) -> Result:
    """Hash every file of a finished run again, its audit log and its registered versions."""
    from srinit import records
    from srinit.store import RunFolder

    RunFolder.open(run)
    if common.dry_run:
        return _dry("verify", run, "hashes every file again")
    from srinit.pipeline import operate

    found = operate.verify(run, common.overrides)
    text = f"{found.files} files are what their hashes say; the audit log is unbroken."
    if found.versions:
        text += (
            f"\n{len(found.versions)} versions in {found.registry}: {found.version_files} files."
        )
    return Result(
        verb="verify",
        data={"run": str(run), **records.plain(found)},
        text=text,
        next=command("report", run),
    )


def _dry(name: str, run: Path, what: str) -> Result:
    return Result(verb=name, data={"dry_run": True, "run": str(run)}, text=f"would do: {what}")
