"""The verbs to start with: demo, init, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srinit.cli.options import Common, pair, verb
from srinit.cli.output import Result
from srinit.cli.progress import RichObserver
from srinit.cli.verdict import Lang, language
from srinit.display import command, quoted


@verb
def demo(common: Common, lang: Lang = None) -> Result:
    """Run the whole flow on handwritten digits: real data, nothing to download, minutes."""
    from srinit.cli.run import finished
    from srinit.demo.prepare import prepare
    from srinit.pipeline import run
    from srinit.store.seal import refuse_inside

    language(lang)
    folder = (common.out or Path("srinit-demo")).absolute()
    refuse_inside(folder)
    if common.dry_run:
        text = f"trains a small network on handwritten digits in {folder}, then runs every step"
        return Result(verb="demo", data={"dry_run": True, "folder": str(folder)}, text=text)
    with RichObserver() as observer:
        observer.step("train a network")
        seed = common.seed or 0
        config = prepare(folder, seed=seed, observer=observer)
        pairs = [*common.overrides, pair("out", str(folder / "runs"))]
        result = run.run_file(config, pairs, observer=observer)
    return finished("demo", result, config, lang)


@verb
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    common: Common,
) -> Result:
    """Write a proof-of-concept template: config, checklist, README (ja and en)."""
    from srinit.store.seal import refuse_inside
    from srinit.template import write_template

    refuse_inside(folder)
    if common.dry_run:
        return Result(
            verb="init", data={"dry_run": True}, text=f"would write a template to {folder}"
        )
    files, config = write_template(folder), folder / "srinit.yaml"
    return Result(
        verb="init",
        data={"folder": str(folder), "files": [str(file) for file in files]},
        text="\n".join(f"wrote {file}" for file in files),
        next=f"edit {quoted(config)}, then: {command('inspect', '-c', config)}",
    )


@verb
def doctor(common: Common) -> Result:
    """Check the environment: versions, devices, optional packages, known traps and fixes."""
    from srinit import records
    from srinit.cli.render import facts_table
    from srinit.doctor import examine

    findings = examine()
    problems = [f for f in findings if f.problem]
    facts = {finding.name: finding.text for finding in findings}
    return Result(
        verb="doctor",
        data={"checks": records.plain(findings)},
        text=facts_table(facts),
        extra=[f"problem: {f.name}: {f.fix}" for f in problems],
        next="srinit demo" if not problems else "",
        exit_code=4 if problems else 0,
    )
