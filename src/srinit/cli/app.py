"""The verbs, in the order in which they are used."""

from __future__ import annotations

from typing import Annotated

import typer

from srinit import __version__
from srinit.cli import alternatives, cut, look, operate, reports, start
from srinit.cli.help import Verbs
from srinit.cli.run import run

app = typer.Typer(
    name="srinit",
    cls=Verbs,
    help=(
        "Remove whole layers from trained PyTorch networks, with evidence. "
        "Start with `srinit demo`, or `srinit init DIR` for your own model."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

START, LOOK, CUT, OPERATE = "Start", "Look", "Cut, check, hand over", "Operate"
app.command(rich_help_panel=START)(start.demo)
app.command(rich_help_panel=START)(start.init)
app.command(rich_help_panel=START)(start.doctor)
app.command(rich_help_panel=LOOK)(look.inspect)
app.command(rich_help_panel=LOOK)(look.baseline)
app.command(rich_help_panel=LOOK)(look.scan)
app.command(rich_help_panel=CUT)(run)
app.command(rich_help_panel=CUT)(cut.plan)
app.command(rich_help_panel=CUT)(cut.prune)
app.command(rich_help_panel=CUT)(cut.finetune)
app.command(rich_help_panel=CUT)(cut.compare)
app.command(rich_help_panel=CUT)(cut.export)
app.command(rich_help_panel=CUT)(alternatives.alternatives)
app.command(rich_help_panel=CUT)(reports.report)
app.command(rich_help_panel=CUT)(cut.seal)
app.command(rich_help_panel=CUT)(cut.verify)
app.command(rich_help_panel=OPERATE)(operate.promote)
app.command(rich_help_panel=OPERATE)(operate.rollback)
app.command(rich_help_panel=OPERATE)(operate.monitor)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"srinit {__version__}")
        raise typer.Exit


@app.callback()
def _application(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Keep the help text of the application itself."""
