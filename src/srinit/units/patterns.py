"""How users name units: exact names, globs, classes."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping

from torch import nn

from srinit.errors import ConfigError
from srinit.recording import within

Pattern = str | type[nn.Module]
CLASS = "class:"


def matching(
    patterns: Iterable[Pattern], named: Mapping[str, nn.Module], *, argument: str
) -> list[str]:
    """Return the modules that patterns name, in the order of the model.

    Args:
        patterns: Names, globs ("layer4.*"), classes, or "class:NAME".
        named: The modules of the model.
        argument: What the patterns were given as, for the error.

    Raises:
        ConfigError: A pattern names no module; the nearest name is offered.
        TypeError: `patterns` is one pattern in place of a list.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
        >>> matching(["class:ReLU"], dict(model.named_modules()), argument="keep")
        ['1']
    """
    if isinstance(patterns, str | type):
        name = repr(patterns) if isinstance(patterns, str) else patterns.__name__
        raise TypeError(f"{argument} is a list of names or classes: write [{name}].")
    found: set[str] = set()
    problems = []
    for pattern in patterns:
        hits = {name for name, module in named.items() if name and _fits(pattern, name, module)}
        if not hits:
            problems.append(_unknown(pattern, named))
        found |= hits
    if problems:
        raise ConfigError(f"{argument} names no submodule: " + "; ".join(problems))
    return [name for name in named if name in found]


def covered(name: str, protected: Iterable[str]) -> bool:
    """Tell whether a unit is one of the protected modules or lies inside one."""
    return any(within(name, outer) for outer in protected)


def _fits(pattern: Pattern, name: str, module: nn.Module) -> bool:
    if isinstance(pattern, type):
        return isinstance(module, pattern)
    if pattern.startswith(CLASS):
        return type(module).__name__ == pattern.removeprefix(CLASS)
    return fnmatch.fnmatchcase(name, pattern)


def _unknown(pattern: Pattern, named: Mapping[str, nn.Module]) -> str:
    if isinstance(pattern, type):
        return f"there is no {pattern.__name__} in it"
    if pattern.startswith(CLASS):
        there = {type(module).__name__ for module in named.values()}
        near = difflib.get_close_matches(pattern.removeprefix(CLASS), there, n=1, cutoff=0.0)
        return f"{pattern!r} (nearest class: {CLASS}{near[0]})" if near else repr(pattern)
    near = difflib.get_close_matches(pattern, [name for name in named if name], n=1, cutoff=0.0)
    return f"{pattern!r} (nearest: {near[0]!r})" if near else repr(pattern)
