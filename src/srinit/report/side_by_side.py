"""Two or more runs side by side: what was cut, accuracy, latency, criteria, on one offline page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from srinit import store
from srinit.errors import ConfigError
from srinit.gates import Gate
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.acceptance import criteria_rows
from srinit.report.data import ReportInput
from srinit.report.decision import Decision, decide
from srinit.report.figures import headline, speed_range, speed_text
from srinit.report.fingerprint import fingerprint
from srinit.report.page import content_hash, tight
from srinit.report.text import LANGUAGES, Language, LocalizedText, Translator, join, untranslated


@record
class SideRow:
    """One line of the table: what it is, and a cell for every run."""

    title: LocalizedText
    cells: tuple[LocalizedText, ...]
    marks: tuple[str, ...] = ()  # "yes" or "no" a run, where a criterion is met or not


@record
class SideBySideRuns:
    """What the page shows."""

    names: tuple[str, ...]
    links: tuple[str, ...]  # the report of every run, from the page
    decisions: tuple[Decision, ...]
    doubts: tuple[LocalizedText, ...]  # why the runs are not to be compared
    rows: tuple[SideRow, ...]
    criteria: tuple[SideRow, ...]
    blocks: tuple[SideRow, ...]  # every block that goes in one of them


def side_by_side(
    reports: Sequence[ReportInput], say: Translator, links: Sequence[str] = ()
) -> SideBySideRuns:
    """Return the runs beside one another, in the order given.

    Raises:
        ConfigError: There are fewer than two.
    """
    if len(reports) < 2:
        raise ConfigError(f"side by side needs two runs or more, not {len(reports)}.")
    return SideBySideRuns(
        names=_names(reports),
        links=tuple(links),
        decisions=tuple(decide(report, say) for report in reports),
        doubts=tuple(_doubts(reports, say)),
        rows=tuple(_rows(reports, say)),
        criteria=tuple(_criteria(reports, say)),
        blocks=tuple(_blocks(reports, say)),
    )


def write_side_by_side(
    reports: Sequence[ReportInput],
    folder: Path,
    links: Sequence[str],
    *,
    languages: Sequence[Language] = LANGUAGES,
) -> Path:
    """Write `side_by_side.html` into `folder`; return its path.

    Args:
        reports: Of the runs, in the order in which they stand.
        folder: Made if it is missing; a file of the same name is replaced.
        links: To the report of every run, relative to the folder.
        languages: "ja", "en" or both; the first is shown when the page opens.

    Raises:
        ConfigError: There are fewer than two runs, or there is no such language.
        ResourceError: The disk refuses the write.
    """
    page = folder / "side_by_side.html"
    store.write_text(page, render_side_by_side(reports, links, languages))
    return page


def render_side_by_side(
    reports: Sequence[ReportInput],
    links: Sequence[str],
    languages: Sequence[Language] = LANGUAGES,
) -> str:
    """Return the page as HTML: no script, nothing fetched, names escaped."""
    say = Translator(languages)
    style = tight(files("srinit.report").joinpath("page.css").read_text("utf-8"))
    environment = Environment(
        loader=PackageLoader("srinit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: say.pick(value) if isinstance(value, LocalizedText) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("side_by_side.html.j2").render(
        say=say,
        first=say.languages[0],
        languages=say.languages,
        style=Markup(style),
        style_hash=content_hash(style),
        runs=side_by_side(reports, say, links),
    )


def _names(reports: Sequence[ReportInput]) -> tuple[str, ...]:
    """Return a name for every run: its folder; where two are alike, the path as it was given."""
    short = [Path(report.run).name or report.name for report in reports]
    return tuple(
        name if short.count(name) == 1 else report.run
        for name, report in zip(short, reports, strict=True)
    )


def _doubts(reports: Sequence[ReportInput], say: Translator) -> list[LocalizedText]:
    """Return what makes the runs no comparison of like with like."""
    found = [report.comparison for report in reports if report.comparison is not None]
    doubts = []
    if len({comparison.data_hash for comparison in found}) > 1:
        doubts.append(say("beside.other_data"))
    if len({report.sensitivity.unit_map.params for report in reports}) > 1:
        doubts.append(say("beside.other_network"))
    devices = {(p.baseline.device, p.baseline.threads) for c in found for p in c.latency}
    machines = {str((report.environment or {}).get("processor")) for report in reports}
    if len(devices) > 1 or len(machines) > 1:
        doubts.append(say("beside.other_device"))
    return doubts


def _rows(reports: Sequence[ReportInput], say: Translator) -> list[SideRow]:
    def row(title: LocalizedText, cells: Sequence[LocalizedText]) -> SideRow:
        return SideRow(title=title, cells=tuple(cells))

    rows = [
        row(say("provenance.created"), [fmt.date(report.created) for report in reports]),
        row(say("decision.cut"), [_cut(report, say) for report in reports]),
    ]
    shown = [{figure.key: figure for figure in headline(report, say)} for report in reports]
    keys = list(dict.fromkeys(key for figures in shown for key in figures if key != "speed"))
    for key in keys:
        title = next(figures[key].title for figures in shown if key in figures)
        cells = [
            join(
                [
                    join([figures[key].before, figures[key].after], ja=" → ", en=" → "),
                    _with_range(figures[key].change, figures[key].range),
                ],
                ja="、", en="; ",
            )
            if key in figures
            else untranslated(fmt.NOTHING)
            for figures in shown
        ]  # fmt: skip
        rows.append(row(title, cells))
    rows += [
        row(say("figure.speed", batch=batch), [_latency(report, batch, say) for report in reports])
        for batch in _batches(reports)
    ]
    digests = [fingerprint(report.files)[:12] if report.files else "" for report in reports]
    rows.append(row(say("beside.data"), [untranslated(text or fmt.NOTHING) for text in digests]))
    return rows


def _cut(report: ReportInput, say: Translator) -> LocalizedText:
    units = report.sensitivity.unit_map
    total = len(units.removable) + len(units.locked)
    return say("beside.cut", removed=str(len(report.plan.names)), total=str(total))


def _with_range(change: LocalizedText, spread: LocalizedText | None) -> LocalizedText:
    if spread is None:
        return change
    return LocalizedText(ja=f"{change.ja}（{spread.ja}）", en=f"{change.en} ({spread.en})")


def _batches(reports: Sequence[ReportInput]) -> list[str]:
    sizes = {
        pair.baseline.batch_size
        for report in reports
        for pair in (report.comparison.latency if report.comparison else ())
    }
    return [str(size) for size in sorted(sizes)]


def _latency(report: ReportInput, batch: str, say: Translator) -> LocalizedText:
    pairs = report.comparison.latency if report.comparison else ()
    for pair in pairs:
        if str(pair.baseline.batch_size) == batch:
            times = [
                untranslated(fmt.milliseconds(t.median_ms)) for t in (pair.baseline, pair.pruned)
            ]
            words = _with_range(speed_text(pair, say), speed_range(pair, say))
            return join([join(times, ja=" → ", en=" → "), words], ja="、", en="; ")
    return untranslated(fmt.NOTHING)


def _criteria(reports: Sequence[ReportInput], say: Translator) -> list[SideRow]:
    """Return a row for every criterion of any run; the worst case is what is judged."""
    found = [
        {gate.name: row for gate, row in zip(_gates(r), criteria_rows(r, say), strict=True)}
        for r in reports
    ]
    names = list(dict.fromkeys(name for rows in found for name in rows))
    return [
        SideRow(
            title=next(rows[name].name for rows in found if name in rows),
            cells=tuple(
                say(
                    "beside.criterion",
                    measured=rows[name].measured,
                    worst=rows[name].worst,
                    limit=rows[name].limit,
                )
                if name in rows
                else untranslated(fmt.NOTHING)
                for rows in found
            ),
            marks=tuple(
                ("yes" if rows[name].passed else "no") if name in rows else "" for rows in found
            ),
        )
        for name in names
    ]


def _gates(report: ReportInput) -> tuple[Gate, ...]:
    return report.gates.gates if report.gates else ()


def _blocks(reports: Sequence[ReportInput], say: Translator) -> list[SideRow]:
    """Return every block that goes in one of the runs, in the order of the network."""
    places = {
        unit.name: (unit.position, number)
        for number, report in enumerate(reports)
        for unit in report.sensitivity.unit_map.removable
    }
    gone = {name for report in reports for name in report.plan.names}
    return [
        SideRow(
            title=untranslated(name),
            cells=tuple(
                say("cut.gone")
                if name in report.plan.names
                else say("cut.kept")
                if name in report.sensitivity.unit_map.names
                else untranslated(fmt.NOTHING)
                for report in reports
            ),
            marks=tuple("gone" if name in report.plan.names else "" for report in reports),
        )
        for name in sorted(gone, key=lambda name: places.get(name, (0, 0)))
    ]
