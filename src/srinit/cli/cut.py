"""The verbs that work on a run folder: plan, prune, finetune, compare, export, report, verify."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srinit.cli.options import Common, RunPath, pair, verb
from srinit.cli.output import Result
from srinit.cli.progress import RichObserver
from srinit.display import command, quoted

if TYPE_CHECKING:
    from srinit.comparison import Comparison

GATE_FAILED = 3
TARGETS = ("max_drop", "params", "flops", "latency", "units")
SHARE = "up to 1 a fraction of the unpruned network's (0.7)"


@verb
def plan(
    run: RunPath,
    common: Common,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Largest drop of a unit, a fraction (0.02 is 2 points).", show_default=False
        ),
    ] = None,
    params: Annotated[
        float | None,
        typer.Option(
            help=f"Parameters that may remain: {SHARE}, above 1 a count.", show_default=False
        ),
    ] = None,
    flops: Annotated[
        float | None,
        typer.Option(
            help=f"FLOPs of one example that may remain (a multiply-add counts 2): {SHARE}, "
            "above 1 a count.",
            show_default=False,
        ),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            metavar="<float|ms>",
            help=f"Latency that may remain: {SHARE}, or a time (3.2ms).",
            show_default=False,
        ),
    ] = None,
    units: Annotated[
        int | None, typer.Option(min=1, help="So many units go.", show_default=False)
    ] = None,
    remove: Annotated[
        str | None, typer.Option(help="Units that go, separated by commas.", show_default=False)
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(help="Plan by the times of another device (times.json).", show_default=False),
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(help="Only write networks to time on another device.", show_default=False),
    ] = None,
    edited: Annotated[
        bool, typer.Option("--edited", help="Take plan.json as you edited it; needs --reason.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; goes on record.", show_default=False)] = "",
) -> Result:
    """Choose the units that go, for a target; the scan must be done."""
    from srinit.config import check_targets
    from srinit.errors import ConfigError
    from srinit.store import RunFolder

    given = {"max_drop": max_drop, "params": params, "flops": flops, "latency": latency}
    given["units"] = units
    targets: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if remove is not None:
        targets["remove"] = [name.strip() for name in remove.split(",") if name.strip()]
    targets = check_targets(targets)
    RunFolder.open(run)  # said before anything heavy is imported
    from srinit import records
    from srinit.cli.tables import plan_table
    from srinit.pipeline import replanning, start
    from srinit.runs import artifacts

    if candidates is not None:
        return _candidates(run, candidates, common)
    edit = replanning.edited(run, reason) if edited else None
    if edit is not None:
        if targets:
            raise ConfigError("--edited takes what plan.json removes; give no target beside it.")
        targets = {"remove": edit.after}
    asked: dict[str, Any] = {"verb": "plan", "redo": ("plan",), "edit": edit}
    asked["check"] = replanning.check_names
    pairs = [*common.overrides, *_target_pairs(targets)]
    if measured is not None:
        if not measured.is_file():
            raise ConfigError(f"{measured} is not there: predict.py --time writes it.")
        pairs.append(pair("plan.measured", str(measured.absolute())))
    if common.dry_run:
        lines = start.foresee(run, pairs, **asked)
        return _dry("plan", run, "builds and times the network after every removal", lines)
    with (
        RichObserver() as observer,
        start.open_run(run, observer, pairs, **asked) as runner,
    ):
        observer.step("plan")
        made = replanning.replan(runner)
        runner.get(artifacts.PLANNED_FOLDER)
    here = runner.path
    return Result(
        verb="plan",
        data={"run": str(here), "plan": records.plain(made)},
        text=plan_table(made),
        next=command("prune", here),
    )


def _candidates(run: Path, folder: Path, common: Common) -> Result:
    from srinit.pipeline import candidates, start

    if common.dry_run:
        return _dry("plan", run, f"writes networks of the plan's ranking into {folder}")
    with (
        RichObserver() as observer,
        start.open_run(run, observer, common.overrides, verb="plan") as runner,
    ):
        observer.step("candidates")
        count = candidates.write(runner, folder)
    return Result(
        verb="plan",
        data={"run": str(runner.path), "candidates": str(folder), "networks": count},
        text=f"wrote {count} networks into {folder}; on the device: python predict.py --time "
        "times.json",
        next=command("plan", runner.path, "--measured", "times.json"),
    )


@verb
def prune(run: RunPath, common: Common) -> Result:
    """Carry out the plan: surgery, recalibration, a look at validation data; or all rounds."""
    from srinit import records
    from srinit.cli.render import round_table
    from srinit.pipeline import rounds, start
    from srinit.runs import artifacts

    if common.dry_run:
        lines = start.foresee(run, common.overrides, verb="prune")
        return _dry("prune", run, "removes the units of plan.json on a copy", lines)
    with (
        RichObserver() as observer,
        start.open_run(run, observer, common.overrides, verb="prune") as runner,
    ):
        observer.step("prune")
        if runner.config.prune.in_rounds:
            rounds.carry_out(runner)
        metrics = runner.get(artifacts.CUT)
    return Result(
        verb="prune",
        data={"run": str(runner.path), "round": records.plain(metrics)},
        text=round_table(metrics),
        next=command("finetune", runner.path),
    )


@verb
def finetune(run: RunPath, common: Common) -> Result:
    """Fine-tune the pruned network, or let your own command do it; resumable at any step."""
    from srinit import records
    from srinit.cli.render import tune_table
    from srinit.pipeline import rounds, start
    from srinit.runs import artifacts

    if common.dry_run:
        lines = start.foresee(run, common.overrides, verb="finetune")
        return _dry("finetune", run, "trains the pruned network as the config says", lines)
    with (
        RichObserver() as observer,
        start.open_run(run, observer, common.overrides, verb="finetune") as runner,
    ):
        observer.step("fine-tune")
        if runner.config.prune.in_rounds:
            rounds.carry_out(runner)
        log = runner.get(artifacts.TUNE_LOG)
    return Result(
        verb="finetune",
        data={"run": str(runner.path), "tune": records.plain(log)},
        text=tune_table(log),
        next=command("compare", runner.path),
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
        float,
        typer.Option(help="Of two prediction logs: the loss that is acceptable (0.01 is 1 point)."),
    ] = 0.01,
    plan_margin: Annotated[
        float | None,
        typer.Option(
            help="Only say how many images an A/B test of this margin needs (0.01 is 1 point).",
            show_default=False,
        ),
    ] = None,
) -> Result:
    """Compare networks on data: baseline and pruned of RUN, the pruned ones of RUN and B, or logs.

    RUN and B may be prediction logs (.jsonl) of two models on the same images.
    """
    if run.is_file() or plan_margin is not None:
        from srinit.cli import logs

        return logs.compare(run, other, common, margin=margin, plan_margin=plan_margin)
    from srinit.store import RunFolder

    RunFolder.open(run)
    from srinit import records
    from srinit.cli.render import comparison_table, field_tables, gate_table, robustness_table
    from srinit.custody import overrides
    from srinit.pipeline import others, start
    from srinit.runs import artifacts

    pairs = [*common.overrides, *([f"shift.examples={shift}"] if shift else [])]
    if common.dry_run:
        lines = start.foresee(run, pairs, verb="compare")
        return _dry("compare", run, "reads the test data once with each network", lines)
    with (
        RichObserver() as observer,
        start.open_run(run, observer, pairs, verb="compare") as runner,
    ):
        observer.step("compare")
        own, gates = other is None and data is None, None
        under_shift = None
        if own:
            runner.get(artifacts.PLAN_TIMES)
            runner.get(artifacts.READINGS)
            on_site = runner.get(artifacts.SITE)
            comparison: Comparison | None = runner.get(artifacts.COMPARISON)
            gates = runner.get(artifacts.GATES)
        else:
            on_site = others.compare_runs(runner, other, data)
            comparison = on_site.comparison
        if other is None:
            under_shift = runner.get(artifacts.SHIFT)
    edit = overrides.edit_of(overrides.of_run(runner.path), runner.config)
    parts: list[Any] = []
    if comparison is not None:
        parts.append(comparison_table(comparison))
    parts += [gate_table(gates)] if gates is not None else []
    parts += field_tables(on_site, apart=own)
    parts += [robustness_table(under_shift)] if under_shift is not None else []
    parts += [f"{edit.words()}."] if edit is not None else []
    return Result(
        verb="compare",
        data={
            "run": str(runner.path),
            "comparison": records.plain(comparison),
            "gates": records.plain(gates),
            "shift": records.plain(under_shift),
            "site": records.plain(on_site),
            "edit": records.plain(edit),
        },
        text=parts[0],
        extra=parts[1:],
        next=command("export", runner.path),
        exit_code=GATE_FAILED if gates is not None and not gates.passed else 0,
    )


@verb
def export(
    run: RunPath,
    common: Common,
    package: Annotated[
        bool,
        typer.Option("--package", help="Also the edge package: it answers without torch."),
    ] = False,
    override: Annotated[
        bool, typer.Option("--override", help="Package although a gate failed; needs --reason.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; goes on record.", show_default=False)] = "",
) -> Result:
    """Write ONNX, torch.export and Hugging Face files, checked against PyTorch on examples."""
    from srinit import records
    from srinit.cli.int8 import int8_parts
    from srinit.cli.render import facts_table
    from srinit.pipeline import packages, start
    from srinit.runs import artifacts

    if common.dry_run:
        lines = start.foresee(run, common.overrides, verb="export")
        what = "writes ONNX and torch.export files" + (", and the edge package" * package)
        return _dry("export", run, what, lines)
    place, made = None, None
    with (
        RichObserver() as observer,
        start.open_run(run, observer, common.overrides, verb="export") as runner,
    ):
        observer.step("export")
        found = runner.get(artifacts.EXPORTS)
        folder = runner.get(artifacts.FOLDER)
        eight = runner.get(artifacts.INT8) if runner.config.export.int8 else None
        if package:
            observer.step("package")
            place, made = packages.package(runner, override=override, reason=reason)
    facts = {
        file.file: f"{file.size_bytes:,} bytes; within {file.max_difference:.1e} of PyTorch on "
        f"{file.num_examples} examples"
        for file in found.files
    } | {f"{name}: failed": why for name, why in found.failed.items()}
    if folder is not None:
        facts[folder.folder or "huggingface"] = folder.words()
    nothing = not found.files and not (folder is not None and folder.folder)
    data = {
        "run": str(runner.path),
        "export": records.plain(found),
        "int8": records.plain(eight),
        "huggingface": records.plain(folder),
    }
    if place is not None and made is not None:
        facts |= {
            f"{place}/{each.file}": f"{each.num_equal} of {each.num_examples} answers are the "
            f"run's, confidence within {each.max_confidence_difference:.1e}"
            for each in made.answers
        }
        data |= {"package": {"folder": str(place), **records.plain(made)}}
    return Result(
        verb="export",
        data=data,
        text=facts_table(facts),
        extra=[] if eight is None else int8_parts(eight),
        next=command("report", runner.path)
        if place is None
        else f"python {quoted(place / 'predict.py')} --self-test",
        exit_code=4 if found.failed and nothing else 0,
    )


@verb
def seal(
    run: RunPath,
    common: Common,
    key: Annotated[
        Path | None,
        typer.Option(help="Private key (Ed25519) that signs the seal.", show_default=False),
    ] = None,
) -> Result:
    """Finish a run that was made verb by verb, and sign its seal by a key, if one is given."""
    from srinit import records
    from srinit.pipeline import sealing, start
    from srinit.store import RunFolder

    folder = RunFolder.open(run)
    if common.dry_run:
        return _dry("seal", run, "seals what is there, and signs the seal")
    text = []
    if not folder.was_sealed:
        with (
            RichObserver() as observer,
            start.open_run(run, observer, common.overrides, verb="seal", only_acts=True) as runner,
        ):
            result = sealing.seal(runner)
        text.append(result.words())
    found = sealing.sign(run, key)
    text.append(f"sealed: {found.files} files, root {found.root}")
    if found.signed_by:
        text.append(f"signed by the key {found.signed_by}; its public half checks it")
    passed = sealing.passed(run)
    return Result(
        verb="seal",
        data={"run": str(run), **records.plain(found)},
        text="\n".join(text),
        next=command("verify", run, *(["--key", "PUB"] if key is not None else [])),
        exit_code=0 if passed else GATE_FAILED,
    )


@verb
def verify(
    run: RunPath,
    common: Common,
    key: Annotated[
        Path | None,
        typer.Option(help="Public key that the seal must be signed by.", show_default=False),
    ] = None,
) -> Result:
    """Hash every file of a finished run again, its audit log and its registered versions."""
    from srinit import records
    from srinit.store import RunFolder

    RunFolder.open(run)
    if common.dry_run:
        return _dry("verify", run, "hashes every file again")
    from srinit.operations import verification

    found = verification.verify(run, common.overrides, key=key)
    text = (
        f"{found.files} files are what their hashes say; the audit log is unbroken "
        f"({found.audit_entries} entries).\nroot: {found.root}\n"
        f"data (beside the signatures of the report): {found.data}"
    )
    if found.signed_by:
        text += f"\nsigned by the key {found.signed_by}"
    if found.note:
        text += f"\n{found.note}"
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


def _target_pairs(targets: dict[str, Any]) -> list[str]:
    """Return the targets as `--set` pairs that take the place of all that the config names."""
    if not targets:
        return []
    given = {**dict.fromkeys(TARGETS), "remove": [], **targets}
    if "units" not in targets:
        given["contiguous"] = False
    return [f"plan.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()]


def _dry(name: str, run: Path, what: str, lines: Sequence[str] = ()) -> Result:
    text = "\n".join([f"would do: {what}", *lines])
    data = {"dry_run": True, "run": str(run), "changes": list(lines)}
    return Result(verb=name, data=data, text=text)
