"""What monitoring found, in words and as a page that draws the windows with their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from srinit.monitor import DriftReport, Finding
from srinit.monitor.diagnosis import Diagnosis
from srinit.monitor.drift import INPUT, LINES, RATES, TRENDS
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.charts import Axis, Line, line_chart
from srinit.report.page import asset, content_hash, tight
from srinit.report.text import LANGUAGES, Language, LocalizedText, Translator, join, untranslated

SHARES = ("class_share", "class_trend", *RATES)
SCRIPT = """for (const input of document.querySelectorAll("input[name=lang]"))
  input.addEventListener("change", () => { document.documentElement.lang = input.value; });
"""
SHOWN = 60  # rows of a table of windows; the figures show all


@record
class Figure:
    """One quantity, window by window."""

    title: LocalizedText
    beyond: bool
    plot: Markup
    rows: tuple[tuple[str, ...], ...]


@record
class Words:
    """What there is to say, in sentences."""

    alarm: bool
    verdict: LocalizedText
    reason: tuple[LocalizedText, ...]
    cause: LocalizedText | None
    todo: tuple[LocalizedText, ...]
    evidence: tuple[LocalizedText, ...]
    lines: tuple[LocalizedText, ...]


def words(
    found: DriftReport,
    diagnosis: Diagnosis | None,
    lines: Mapping[str, Any] | None,
    doubled: int,
    say: Translator,
) -> Words:
    """Return what monitoring found in words, the cause and what to do included."""
    cause: LocalizedText | None = None
    todo: tuple[LocalizedText, ...] = ()
    evidence: tuple[LocalizedText, ...] = ()
    if diagnosis is not None:
        cause = say("monitor.cause", cause=say(f"monitor.causes.{diagnosis.cause}"))
        keys = [f"todo.{diagnosis.cause}", f"rollback.{diagnosis.rollback}"]
        if diagnosis.log and diagnosis.cause != "log":
            keys.append("todo.log")
        todo = tuple(say(f"monitor.{key}") for key in keys)
        evidence = _evidence(found, diagnosis, say)
    return Words(
        alarm=found.alarm,
        verdict=say("monitor.alarm" if found.alarm else "monitor.fine"),
        reason=_reasons(found, say),
        cause=cause,
        todo=todo,
        evidence=evidence,
        lines=_lines(lines, doubled, say),
    )


def _reasons(found: DriftReport, say: Translator) -> tuple[LocalizedText, ...]:
    number = found.windows_before + len(found.windows)
    reasons = []
    if found.alarm:
        reasons.append(say("monitor.beyond", names=_names(found.causes, say)))
        if found.first_alarm is not None:
            reasons.append(say("monitor.since", window=fmt.fixed(found.first_alarm + 1)))
    elif number:
        counts = {"confirm": str(found.confirm), "windows": fmt.fixed(number)}
        reasons.append(say("monitor.none_beyond", size=fmt.fixed(found.window), **counts))
    else:
        reasons.append(say("monitor.unjudged"))
    if found.unconfirmed:
        names = _names(found.unconfirmed, say)
        reasons.append(say("monitor.unconfirmed", confirm=str(found.confirm), names=names))
    if found.examples_left:
        reasons.append(say("monitor.left", num=fmt.fixed(found.examples_left)))
    if found.not_watched:
        reasons.append(say("monitor.not_watched", names=_names(found.not_watched, say)))
    return tuple(reasons)


def _names(names: Sequence[str], say: Translator) -> LocalizedText:
    return join([say(f"monitor.quantity.{name}") for name in dict.fromkeys(names)])


def _evidence(
    found: DriftReport, diagnosis: Diagnosis, say: Translator
) -> tuple[LocalizedText, ...]:
    facts = []
    for name in found.causes:
        seen = [f for window in found.windows for f in window.findings if f.quantity == name]
        beyond = [each for each in seen if each.beyond]
        if beyond:
            facts.append(fact(beyond[-1], say))
    if diagnosis.images != "moved":
        key = "images_still" if diagnosis.images == "still" else "images_unknown"
        facts.append(say(f"monitor.fact.{key}"))
    facts.append(
        say(
            f"monitor.fact.agreement_{diagnosis.agreement}",
            now=fmt.percent(diagnosis.agreement_now),
            before=fmt.percent(diagnosis.agreement_before),
            num=fmt.fixed(diagnosis.agreement_examples),
        )
    )
    return tuple(facts)


def fact(finding: Finding, say: Translator) -> LocalizedText:
    """Return one finding as people compare it: before and now; else its distance and limit."""
    name = say(f"monitor.quantity.{finding.quantity}")
    if finding.before is None or finding.now is None:
        shown = fmt.percent if finding.quantity in LINES else _plain
        effect, limit = shown(finding.effect), shown(finding.limit)
        return say("monitor.fact.bare", name=name, effect=effect, limit=limit)
    shown = fmt.percent if finding.quantity in SHARES else _plain
    values = {"before": shown(finding.before), "now": shown(finding.now), "name": name}
    if finding.about:
        return say("monitor.fact.class", about=finding.about, **values)
    return say("monitor.fact.moved", **values)


def _plain(value: float) -> str:
    return fmt.fixed(value, 3)


def _lines(
    lines: Mapping[str, Any] | None, doubled: int, say: Translator
) -> tuple[LocalizedText, ...]:
    """Return what became of every line; what did not occur is not told."""
    counts: dict[str, int | Mapping[str, int]] = {"images_doubled": doubled}
    if lines is not None:
        counts = {k: v for k, v in lines.items() if k not in ("problems", "left_out")}
    told = []
    for key, count in counts.items():
        number = sum(count.values()) if isinstance(count, Mapping) else count
        if not number:
            continue
        text = join([say(f"monitor.line.{key}"), untranslated(fmt.fixed(number))], ja=" ", en=": ")
        if isinstance(count, Mapping):
            models = ", ".join(f"{name[:12]} ({fmt.fixed(n)})" for name, n in count.items())
            text = join([text, untranslated(models)], ja="：", en=": ")
        told.append(text)
    told += [untranslated(problem) for problem in (lines or {}).get("problems", ())]
    return tuple(told)


def watched_figures(found: DriftReport, say: Translator) -> tuple[Figure, ...]:
    """Return a figure a quantity, those of the alarm first."""
    names = list(dict.fromkeys(f.quantity for w in found.windows for f in w.findings))
    names.sort(key=lambda name: (name not in found.causes, name not in INPUT))
    return tuple(_figure(name, found, say) for name in names)


def _figure(name: str, found: DriftReport, say: Translator) -> Figure:
    places = range(found.windows_before + 1, found.windows_before + 1 + len(found.windows))
    rows = [
        (number, window, window.of(name))
        for number, window in zip(places, found.windows, strict=True)
    ]
    seen = [(number, window, each) for number, window, each in rows if each is not None]
    kind = "evidence" if name in TRENDS else "share" if name in LINES else "effect"
    top = max([max(each.effect, each.limit) for _, _, each in seen] + [1e-3])
    x_values = tuple(float(number) for number, _, _ in seen)
    whole = tuple(float(number) for number in places)
    ticks = whole if len(whole) <= 12 else ()
    plot = line_chart(
        [
            Line(
                label=say(f"monitor.{kind}"),
                x=x_values,
                y=tuple(each.effect for _, _, each in seen),
                color=0,
                marks=len(seen) <= SHOWN,
            ),
            Line(
                label=say("monitor.limit"),
                x=x_values,
                y=tuple(each.limit for _, _, each in seen),
                color=3,
                marks=False,
            ),
        ],
        Axis(label=say("monitor.axis"), low=whole[0] - 0.5, high=whole[-1] + 0.5, ticks=ticks),
        Axis(label=say(f"monitor.{kind}"), low=0.0, high=1.05 * top, digits=2),
    )
    return Figure(
        title=say(f"monitor.quantity.{name}"),
        beyond=any(each.beyond for _, _, each in seen),
        plot=plot,
        rows=tuple(
            (
                str(number),
                _moment(window.begins),
                fmt.fixed(each.window_examples),
                _plain(each.effect),
                _plain(each.limit),
                fmt.significant(each.before) if each.before is not None else fmt.NOTHING,
                fmt.significant(each.now) if each.now is not None else fmt.NOTHING,
                "yes" if each.beyond else "",
            )
            for number, window, each in seen[-SHOWN:]
        ),
    )


def _moment(seconds: float | None) -> str:
    if not seconds:
        return fmt.NOTHING
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def render_monitoring(
    result: Mapping[str, Any],
    found: DriftReport,
    diagnosis: Diagnosis | None,
    *,
    languages: Sequence[Language] = LANGUAGES,
) -> str:
    """Return the page as HTML; like the report's it asks nothing of anybody.

    Args:
        result: What was watched: `run`, `watched`, `order`, `lines`, `doubled`, ...
        found: The windows.
        diagnosis: What is behind an alarm.
        languages: The first is shown when the page opens.
    """
    say = Translator(languages)
    style = tight(asset("page.css"))
    environment = Environment(
        loader=PackageLoader("srinit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: say.pick(value) if isinstance(value, LocalizedText) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("monitoring.html.j2").render(
        say=say,
        fmt=fmt,
        first=say.languages[0],
        languages=say.languages,
        language_set=tuple(languages) != LANGUAGES,
        result=result,
        words=words(found, diagnosis, result["lines"], result["doubled"], say),
        figures=watched_figures(found, say),
        style=Markup(style),
        script=Markup(SCRIPT),
        style_hash=content_hash(style),
        script_hash=content_hash(SCRIPT),
    )
