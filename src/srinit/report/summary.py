"""The first page as Markdown, in each language that is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from srinit.report import formats as fmt
from srinit.report.acceptance import gate_text
from srinit.report.data import ReportInput
from srinit.report.decision import decide
from srinit.report.figures import headline
from srinit.report.justification import LOSSES, justification_view
from srinit.report.layers import layers_view
from srinit.report.money import money_view
from srinit.report.provenance import provenance_view
from srinit.report.rounds import rounds_view
from srinit.report.text import LANGUAGES, Language, LocalizedText, Translator
from srinit.report.worse import worse_view

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def summary_markdown(report: ReportInput, languages: Sequence[Language] = LANGUAGES) -> str:
    """Return the summary, one part a language; names in it are escaped."""
    return "\n---\n\n".join(
        _part(report, Translator((code,), wording=report.wording), code) for code in languages
    )


def plain(text: str) -> str:
    r"""Return text that Markdown leaves as it is, on one line.

    Example:
        >>> plain("<img> *x*")
        '\\<img\\> \\*x\\*'
    """
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _part(report: ReportInput, say: Translator, code: Language) -> str:
    def t(text: LocalizedText) -> str:
        return plain(text.of(code))

    decision = decide(report, say)
    lines = [f"# {t(say('title'))}: {plain(report.name)}", ""]
    lines += [f"**{t(decision.word)}** ({t(decision.meaning)}) {t(decision.reason)}", ""]
    lines += [
        f"{number}. {t(line)}" for number, line in enumerate(decision.talking_points, start=1)
    ]
    lines += ["", *_figures(report, say, code), ""]
    if report.gates is not None and report.gates.gates:
        lines += [f"## {t(say('decision.gates'))}", ""]
        for gate in report.gates.gates:
            state = say("gate.passed" if gate.passed else "gate.failed")
            lines.append(f"- **{t(state)}** {t(gate_text(gate, say, report.roi.currency))}")
        lines.append("")
    no = "_no" if decision.verdict == "no" else ""
    lists = (
        ("tested", decision.tested),
        ("untested", decision.untested),
        (f"conditions{no}", decision.conditions),
        ("back", decision.rollback),
    )
    for key, items in lists:
        if items:
            lines += [
                f"## {t(say(f'decision.{key}'))}",
                "",
                *(f"- {t(item)}" for item in items),
                "",
            ]
    if worse := worse_view(report, say):
        lines += [f"## {t(say('worse.title'))}", "", *(f"- {t(line)}" for line in worse), ""]
    lines += [f"## {t(say('decision.cut'))}", "", *_cut(report, say, code), ""]
    lines += _evidence(report, say, code)
    lines += _rounds(report, say, code)
    money = money_view(report, say)
    if money.headline is not None:
        lines += [f"## {t(say('section.money'))}", "", t(money.headline), ""]
    origin = provenance_view(report, say)
    lines += [f"{t(say('sign.run'))}: `{_code(origin.run_id)}`", ""]
    if origin.fingerprint:
        lines += [f"{t(say('sign.data'))}: `{origin.fingerprint}`", ""]
    lines += [t(fmt.date(report.created)), "", "[report.html](report.html)", "", *_data(report, t)]
    return "\n".join(lines)


def _figures(report: ReportInput, say: Translator, code: Language) -> list[str]:
    def t(text: LocalizedText | None) -> str:
        return plain(text.of(code)) if text else ""

    keys = ("before", "after", "change", "range")
    head = " | ".join(t(say(f"page.{key}")) for key in keys)
    lines = [f"| | {head} |", "|---|---|---|---|---|"]
    for figure in headline(report, say):
        cells = (figure.title, figure.before, figure.after, figure.change, figure.range)
        lines.append("| " + " | ".join(t(text) for text in cells) + " |")
    return lines


def _cut(report: ReportInput, say: Translator, code: Language) -> list[str]:
    names = ", ".join(f"`{name}`" for name in map(_code, report.plan.names))
    if not names:
        return [plain(say("cut.none").of(code))]
    return [names, "", "```", _code(layers_view(report, say).command), "```"]


def _evidence(report: ReportInput, say: Translator, code: Language) -> list[str]:
    view = justification_view(report, say)
    if not view.rows:
        return []
    t = _plain_in(code)
    known = {loss.kind for row in view.rows for loss in row.losses}
    kinds = LOSSES if known else ()
    basis = () if known else ("basis",)
    head = [t(say("layers.unit")), *(t(say(f"proof.{kind}")) for kind in (*kinds, *basis))]
    lines = [f"## {t(say('proof.title'))}", "", t(view.lead), "", f"| {' | '.join(head)} |"]
    lines.append("|" + "---|" * len(head))
    for row in view.rows:
        losses = {loss.kind: f"{loss.value} {loss.range}".strip() for loss in row.losses}
        cells = [f"`{_code(row.name)}`".replace("|", "¦")]
        cells += [plain(losses.get(kind, "–")) for kind in kinds]
        cells += ["; ".join(t(line) for line in row.basis) for _ in basis]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *([t(view.note)] if view.note else []), ""]


def _rounds(report: ReportInput, say: Translator, code: Language) -> list[str]:
    view = rounds_view(report, say)
    if report.outcome is None or not view.rows:
        return []
    t = _plain_in(code)
    head = ("start", "cut", "compensated", "tuned", "change")
    titles = [t(say("rounds.round")), *(t(say(f"rounds.{key}")) for key in head)]
    lines = [f"## {t(say('compare.recovery'))}", "", t(view.lead), "", f"| {' | '.join(titles)} |"]
    lines.append("|" + "---|" * len(titles))
    for row in view.rows:
        cells = [
            f"{row.number} {t(row.state) if row.state else ''}".strip(),
            *row.scores,
            t(row.loss) if row.loss else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for row in view.rows:
        for why in row.why:
            lines += ["", f"{t(say('rounds.why', number=str(row.number)))} {t(why)}"]
    return [*lines, ""]


def _data(report: ReportInput, t: Callable[[LocalizedText], str]) -> list[str]:
    """Return links to the records behind the numbers."""
    paths = [file.path for file in report.files if PurePosixPath(file.path).suffix == ".json"]
    links = (f"[{plain(path)}](<../{path}>)" for path in paths if not set("<>\n") & set(path))
    return [f"{t(Translator()('page.source'))}: {', '.join(links)}", ""] if paths else []


def _plain_in(code: Language) -> Callable[[LocalizedText], str]:
    return lambda text: plain(text.of(code))


def _code(text: str) -> str:
    """Return text for a code span: no backticks and no line ends."""
    return " ".join(text.replace("`", "'").split())
