"""Names of classes: when two are the same, when they only look so, and in which order they stand.

Folders, lists and configs come from systems that write the same letter differently: macOS and many
network drives take accents and voicing marks apart (Unicode form NFD), most others do not (NFC).
Names are compared and kept as NFC. Names that differ in more than that, but look alike (white
space, case, width, invisible characters), are never taken for each other, nor let pass as two.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from srinit.errors import DataError

MAX_DIGITS = 4000  # of a number in a name; Python converts no longer ones
SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # choose between forms of a letter


class ClassList(tuple[str, ...]):
    """Class names in the order of the outputs, and where they come from, for messages."""

    origin: str

    def __new__(cls, names: Iterable[str], origin: str) -> ClassList:
        """Return the names, which keep their origin."""
        made = super().__new__(cls, names)
        made.origin = origin
        return made


def origin(classes: object) -> str:
    """Return where a list of classes comes from: data.classes, unless it says otherwise."""
    return classes.origin if isinstance(classes, ClassList) else "data.classes"


def canonical(name: str) -> str:
    r"""Return a name in Unicode form NFC, in which class names are compared.

    Example:
        >>> canonical("Spa\u0308ne") == "Spa\u0308ne", canonical("Spa\u0308ne") == "Sp\xe4ne"
        (False, True)
    """
    return unicodedata.normalize("NFC", name)


def look(name: str) -> str:
    """Return what a reader sees of a name: without case, width, white space, invisible signs.

    Example:
        >>> look("OK ") == look("ok") == look("ＯＫ")
        True
    """
    text = SELECTORS.sub("", unicodedata.normalize("NFKC", name)).casefold()
    seen = (letter for letter in text if unicodedata.category(letter) not in ("Cf", "Cc"))
    return unicodedata.normalize("NFC", "".join("".join(seen).split()))


def spelled(name: str) -> str:
    r"""Return a name so that every character can be told: quoted, with escapes where needed.

    Example:
        >>> print(spelled("OK "), spelled("\uff11"))
        'OK ' '１' (written '\uff11')
    """
    return repr(name) if name.isascii() else f"{name!r} (written {name!a})"


def difference(one: str, other: str) -> str:
    """Return in what two names differ that look alike; empty if they do not look alike."""
    if look(one) != look(other):
        return ""
    if canonical(one) == canonical(other):
        return "the Unicode form of their letters (NFC, NFD)"
    if "".join(one.split()) == "".join(other.split()):
        return "white space"
    if one.casefold() == other.casefold():
        return "case"
    return "width, case, white space or invisible characters"


def check_distinct(
    names: Iterable[str], where: str, classes: Sequence[str] | str | None = None
) -> None:
    """Raise where two names look alike and `classes` does not list both.

    Raises:
        DataError: Both are spelled out.

    Example:
        >>> check_distinct(["OK", "OK "], "parts.csv")
        Traceback (most recent call last):
        ...
        srinit.errors.DataError: parts.csv: 'OK' and 'OK ' differ only in white space. If they ...
    """
    listed = set() if classes is None or isinstance(classes, str) else set(map(canonical, classes))
    first: dict[str, str] = {}
    for name in sorted(set(names)):
        twin = first.setdefault(look(name), name)
        if twin == name or {canonical(twin), canonical(name)} <= listed:
            continue
        raise DataError(
            f"{where}: {spelled(twin)} and {spelled(name)} differ only in "
            f"{difference(twin, name)}. If they are one class, give them one name; if they are "
            "two, list both in data.classes."
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean ...?' with the nearest known name; empty where there is none.

    Example:
        >>> nearest("scrach", ["ok", "scratch"])
        "; did you mean 'scratch'?"
        >>> nearest("OK ", ["OK"])
        "; did you mean 'OK'? It differs in white space: 'OK ' is not 'OK'"
    """
    folded = {look(each): each for each in known}
    near = difflib.get_close_matches(look(name), folded, n=1, cutoff=0.0)
    if not near:
        return ""
    other = folded[near[0]]
    why = difference(name, other)
    more = f" It differs in {why}: {spelled(name)} is not {spelled(other)}" if why else ""
    return f"; did you mean {other!r}?{more}"


def unlisted(name: str, classes: Sequence[str], where: str = "classes") -> str:
    """Return that a name is none of the classes, with the nearest that is."""
    return f"is not in {where} {list(classes)[:12]}{nearest(name, classes)}"


def natural_key(path: Path | str) -> list[tuple[int, int | str]]:
    """Return a sort key under which img2 comes before img10: that of timm.

    Full-width digits are digits too, as in timm's own key,
    https://github.com/huggingface/pytorch-image-models/blob/main/timm/utils/misc.py.

    Example:
        >>> sorted(["img10", "img2", "img３"], key=natural_key)
        ['img2', 'img３', 'img10']
    """
    parts = re.split(r"(\d+)", str(path).lower())
    return [
        (1, int(part)) if part.isdecimal() and len(part) < MAX_DIGITS else (0, part)
        for part in parts
    ]


def in_order(found: Iterable[str], classes: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Return class names, as NFC, in the order of the model's outputs.

    Two orders are in use: plain sorting (torchvision's `ImageFolder`) and natural sorting (timm's).
    Where they differ, or depend on how the letters are written, the order must be said, since a
    wrong one goes unnoticed.

    Args:
        found: The names that the source has.
        classes: The order: a list of names, "alphabetical" or "natural"; None if all agree.
        where: The source, for messages.

    Raises:
        DataError: Names look alike, or the order is not clear and was not chosen.

    Example:
        >>> in_order(["ok", "ng"], None, "parts")
        ('ng', 'ok')
    """
    raw = sorted(set(found))
    check_distinct(set(map(canonical, raw)), where, classes)
    if classes is not None and not isinstance(classes, str):
        return tuple(map(canonical, classes))
    names = set(map(canonical, raw))
    plain, natural = _sorted(raw), _sorted(raw, natural=True)
    forms = {_sorted({unicodedata.normalize(form, name) for name in names}, natural=by)
             for form in ("NFC", "NFD") for by in (False, True)}  # fmt: skip
    ties = len({tuple(natural_key(name)) for name in names}) < len(names)
    if classes == "alphabetical" or (classes is None and forms == {plain} and not ties):
        return plain
    if classes == "natural" and not ties:
        return natural
    if classes == "natural":
        raise DataError(
            f"{where}: the natural order of the {len(names)} classes is not clear, since some are "
            f"the same number ({', '.join(natural[:4])} ...). Write data.classes: a list of names."
        )
    raise DataError(
        f"{where}: the order of the {len(plain)} classes is not clear. Write data.classes: "
        f"alphabetical ({', '.join(plain[:4])} ...; torchvision's ImageFolder) or data.classes: "
        f"natural ({', '.join(natural[:4])} ...; timm), as in training, or a list of names."
    )


def _sorted(names: Iterable[str], *, natural: bool = False) -> tuple[str, ...]:
    """Return names as NFC, each once, sorted as they are written."""
    key = (lambda name: (natural_key(name), name)) if natural else (lambda name: ([], name))
    return tuple(dict.fromkeys(canonical(name) for name in sorted(names, key=key)))
