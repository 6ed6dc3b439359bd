"""Texts in Japanese and English: every one exists in both, and both are on the page."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from markupsafe import Markup, escape

from srinit.config.yaml import parse_yaml
from srinit.errors import ConfigError
from srinit.records import record

Language = Literal["ja", "en"]
LANGUAGES: tuple[Language, ...] = ("ja", "en")


@record
class LocalizedText:
    """One text in both languages; on the page it becomes one span each, escaped."""

    ja: str
    en: str

    def of(self, language: Language) -> str:
        """Return the text in one language."""
        return self.ja if language == "ja" else self.en

    def __html__(self) -> Markup:
        return self._spans("span")

    def svg(self) -> Markup:
        """Return the text as what may stand in an SVG `text`."""
        return self._spans("tspan")

    def _spans(self, tag: str) -> Markup:
        if self.ja == self.en:
            return escape(self.ja)
        parts = (f"<{tag} lang={code}>{escape(self.of(code))}</{tag}>" for code in LANGUAGES)
        return Markup("".join(parts))

    def __str__(self) -> str:
        raise TypeError("a LocalizedText has no single language; use .ja, .en or .of(language)")


def untranslated(text: str) -> LocalizedText:
    """Return a text that reads the same in both languages, such as a name or a number."""
    return LocalizedText(ja=text, en=text)


OF_TEXT, OF_SCORES = "of_text.", "of_scores."


class Translator:
    """Looks texts up by key and fills them in.

    Args:
        languages: Those that the page offers; where only one is asked for, both halves of every
            text are in it.
        wording: Sections of texts that take the place of others, the first that has one:
            `OF_TEXT` where the network reads texts, `OF_SCORES` where a score is no accuracy.

    Example:
        >>> say = Translator()
        >>> say("unit.count", n="3").en
        '3 blocks'
        >>> Translator(("en",))("unit.count", n="3").ja
        '3 blocks'
    """

    def __init__(
        self, languages: Sequence[Language] = LANGUAGES, *, wording: Sequence[str] = ()
    ) -> None:
        unknown = [code for code in languages if code not in LANGUAGES]
        if unknown or not languages:
            raise ConfigError(
                f"the report has no language {unknown[0] if unknown else ''!r}; "
                f"write one or both of {', '.join(LANGUAGES)}."
            )
        self.languages, self.wording = tuple(languages), tuple(wording)

    def __call__(self, key: str, **values: object) -> LocalizedText:
        """Return the text of a key with its values (`str` or `LocalizedText`) put in."""
        key = next((part + key for part in self.wording if self.has(part + key)), key)
        ja, en = (_filled(key, code, values) for code in LANGUAGES)
        return self.pick(LocalizedText(ja=ja, en=en))

    def pick(self, text: LocalizedText) -> LocalizedText:
        """Return `text` in the languages that are asked for."""
        if len(self.languages) == 1:
            return untranslated(text.of(self.languages[0]))
        return text

    def has(self, key: str) -> bool:
        """Return whether there is such a text."""
        return key in catalog("ja")


def join(texts: Sequence[LocalizedText], *, ja: str = "、", en: str = ", ") -> LocalizedText:
    """Return several texts as one list."""
    return LocalizedText(ja=ja.join(t.ja for t in texts), en=en.join(t.en for t in texts))


@cache
def catalog(language: Language) -> dict[str, str]:
    """Return all texts of one language by dotted key."""
    source = files("srinit.report").joinpath("locale").joinpath(f"{language}.yaml")
    return dict(_flat("", parse_yaml(source.read_bytes(), where=str(source))))


def _flat(prefix: str, body: object) -> list[tuple[str, str]]:
    if not isinstance(body, dict):
        return [(prefix, str(body).strip())]
    return [
        pair
        for key, value in body.items()
        for pair in _flat(f"{prefix}.{key}" if prefix else str(key), value)
    ]


def _filled(key: str, language: Language, values: dict[str, Any]) -> str:
    template = catalog(language)[key]
    given = {
        name: value.of(language) if isinstance(value, LocalizedText) else value
        for name, value in values.items()
    }
    return string.Formatter().vformat(template, (), given)
