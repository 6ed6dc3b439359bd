"""The verb that writes reports: of one run, or of several side by side."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from srinit.cli.options import Common, RunPath, verb
from srinit.cli.output import Result
from srinit.display import command, quoted

LANGUAGES: tuple[Literal["ja", "en"], ...] = ("ja", "en")


@verb
def report(
    run: RunPath,
    common: Common,
    others: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN ...]", help="Further runs: all of them side by side."),
    ] = None,
    lang: Annotated[str, typer.Option(help="Languages, the first is shown: ja,en.")] = "ja,en",
) -> Result:
    """Write the report of a run, or several runs side by side: an HTML file that opens from disk.

    The report of one run lies in its folder; the comparison of several beside the first one.
    """
    languages = _languages(lang)
    if others:
        return _beside([run, *others], common, languages)
    from srinit.custody.beside import report_folder
    from srinit.report import load_report_input, write_report
    from srinit.report.reading import seal_of
    from srinit.store import RunFolder, sha256_file
    from srinit.store.seal import refuse_inside

    folder = RunFolder.open(run)
    place = report_folder(folder) if common.out is None else common.out
    refuse_inside(place)
    if common.dry_run:
        return _dry([run], place / "report.html")
    with folder.lock():
        folder.check_recorded(besides=run / "report")
        found = load_report_input(run)
        if place.parent != run:
            found = replace(found, files_at=f"{_way(run, place)}/", seal=seal_of(run))
        if place.parent == run:
            folder.refuse_links(place / "report.html")
        path = write_report(found, place, languages=languages)
        if place.parent == run:
            folder.record(place)
        folder.audit("report", f"written to {path}", inputs={path.name: sha256_file(path)})
    return Result(
        verb="report",
        data={"run": str(run), "report": str(path)},
        text=f"wrote {path}",
        next=f"open {quoted(path)}"
        + ("" if folder.was_sealed else f"; then {command('seal', run)}"),
    )


def _beside(runs: list[Path], common: Common, languages: list[Literal["ja", "en"]]) -> Result:
    from srinit.report import load_report_input, write_side_by_side
    from srinit.store import RunFolder
    from srinit.store.seal import refuse_inside

    folders = [RunFolder.open(run) for run in runs]
    place = common.out or runs[0].absolute().parent / "side_by_side"
    refuse_inside(place)
    if common.dry_run:
        return _dry(runs, place / "side_by_side.html")
    for folder in folders:
        folder.check_recorded(besides=folder.path / "report")
    links = [_way(folder.path / "report", place) + "/report.html" for folder in folders]
    inputs = [load_report_input(run) for run in runs]
    path = write_side_by_side(inputs, place, links, languages=languages)
    return Result(
        verb="report",
        data={"runs": [str(run) for run in runs], "report": str(path)},
        text=f"wrote {path}",
        next=f"open {quoted(path)}",
    )


def _way(target: Path, start: Path) -> str:
    return Path(os.path.relpath(target.absolute(), start.absolute())).as_posix()


def _languages(lang: str) -> list[Literal["ja", "en"]]:
    from srinit.errors import ConfigError

    wanted = [part.strip() for part in lang.split(",")]
    if not set(wanted) <= set(LANGUAGES):
        raise ConfigError(f"--lang {lang!r}: the languages are ja and en.")
    return sorted((code for code in LANGUAGES if code in wanted), key=wanted.index)


def _dry(runs: list[Path], page: Path) -> Result:
    data = {"dry_run": True, "run": str(runs[0]), "runs": [str(run) for run in runs], "changes": []}
    return Result(verb="report", data=data, text=f"would do: writes {page}")
