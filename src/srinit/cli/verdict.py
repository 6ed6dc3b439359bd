"""The last block of a run in a terminal: the verdict of the page, in the same words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from srinit.report.decision import Decision
    from srinit.report.text import LocalizedText

Code = Literal["ja", "en"]
CODES: tuple[Code, ...] = ("ja", "en")
Lang = Annotated[
    str | None,
    typer.Option("--lang", help="Language of the verdict: ja or en.", show_default="the locale's"),
]


def language(asked: str | None) -> Code:
    """Return the language that is asked for; by default that of the locale, else English.

    Raises:
        ConfigError: There is no such language.
    """
    from srinit.errors import ConfigError

    if asked is None:
        names = (os.environ.get(key, "") for key in ("LC_ALL", "LC_MESSAGES", "LANG"))
        return "ja" if next(filter(None, names), "").startswith("ja") else "en"
    for code in CODES:
        if asked == code:
            return code
    raise ConfigError(f"--lang {asked!r}: the languages are ja and en.")


def verdict_of(run: Path, asked: str | None) -> tuple[str, dict[str, Any]]:
    """Return the verdict of a finished run as lines, and as it stands in the JSON document."""
    from srinit.report import load_report_input
    from srinit.report.decision import decide
    from srinit.report.text import Translator

    code = language(asked)
    report = load_report_input(run)
    decision = decide(report, Translator((code,), wording=report.wording))
    body = {
        "verdict": decision.verdict,
        "reason": decision.reason.of(code),
        "conditions": [text.of(code) for text in decision.conditions],
    }
    return "\n".join(_lines(decision, code)), body


def _lines(decision: Decision, code: Code) -> list[str]:
    from srinit.report.text import Translator

    def t(text: LocalizedText) -> str:
        return text.of(code)

    say = Translator((code,))
    lines = [f"{t(decision.word)}: {t(decision.meaning)}", t(decision.reason)]
    lines += [f"  {t(line)}" for line in decision.talking_points]
    if decision.conditions:
        key = "conditions_no" if decision.verdict == "no" else "conditions"
        lines.append(f"{t(say(f'decision.{key}'))}:")
        lines += [f"  {number}. {t(text)}" for number, text in enumerate(decision.conditions, 1)]
    return lines
