"""The list of verbs in the help text: every description whole, wrapped where the line ends."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

WHOLE = 10_000  # characters of a description; all are shorter


class Verbs(TyperGroup):
    """A group of commands whose descriptions are never cut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one paragraph for every verb."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(WHOLE))
            for name, command in found
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
