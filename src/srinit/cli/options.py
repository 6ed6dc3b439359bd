"""The options that every verb has, written once."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from srinit.cli import early
from srinit.cli.output import Result, emit

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="The YAML config file.", show_default=False)
]
RunPath = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="A run folder, e.g. runs/demo.", show_default=False),
]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every verb is told; the fields are the options."""

    as_json: Annotated[
        bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")
    ] = False
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 ...", show_default=False)
    ] = None
    seed: Annotated[int | None, typer.Option(help="Seed of the run.", show_default=False)] = None
    out: Annotated[Path | None, typer.Option(help="Folder to write into.", show_default=False)] = (
        None
    )
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="A.B=C",
            help="Override one key of the config; repeatable.",
            show_default=False,
        ),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and how long it takes.")
    ] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of a failure.")
    ] = False

    @property
    def overrides(self) -> list[str]:
        """The `--set` pairs, with the options that stand for one of them."""
        pairs = list(self.set_ or ())
        if self.device is not None:
            pairs.append(pair("device", self.device))
        if self.seed is not None:
            pairs.append(f"seed={self.seed}")
        if self.out is not None:
            pairs.append(pair("out", str(self.out.absolute())))
        return pairs


def pair(key: str, text: str) -> str:
    """Return a `--set` pair whose value stays the text that it is, `#` and `: ` included."""
    return f"{key}={json.dumps(text, ensure_ascii=False)}"


def verb(function: Callable[..., Result]) -> Callable[..., None]:
    """Turn `function(..., common) -> Result` into a command with the common options."""
    hints = typing.get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "common"
    ]
    common_hints = typing.get_type_hints(Common, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=common_hints[field.name],
        )
        for field in fields(Common)
    ]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        common = Common(**{field.name: given.pop(field.name) for field in fields(Common)})
        early.check(function.__name__, given, common)
        result = function(**given, common=common)
        emit(result, as_json=common.as_json)
        raise typer.Exit(result.exit_code)

    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    command.__signature__ = inspect.Signature([*keyword, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*keyword, *shared)}
    del command.__wrapped__
    return command
