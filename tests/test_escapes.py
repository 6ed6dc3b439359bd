"""Texts from outside do nothing to a terminal, a shell or a spreadsheet."""

from __future__ import annotations

import ast
import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from rich.console import RenderableType
from torch import nn

from srinit.cli import output, run
from srinit.cli.output import Result, emit, emit_error
from srinit.cli.progress import RichObserver
from srinit.cli.render import facts_table
from srinit.display import CONTROL, command, one_line, printable, quoted
from srinit.errors import ConfigError, ModelError
from srinit.finetune.external import run_command
from srinit.store import csv_text

SOURCE = Path(__file__).parents[1] / "src" / "srinit"
HOSTILE = [
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b2J", "\x07", "a\rb", "\x08\x08", "\x7f", "\x85",
    "\u202egnp.exe", "\u2066x\u2069", "\u2028", "\ufeff", "\udc80", "\x00",
]  # fmt: skip
ROOMS = ("cli", "custody", "pipeline", "registry", "monitor", "template", "demo")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("terminal", [False, True])
def test_no_control_character_reaches_the_terminal(
    text: str, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for console in (output.out, output.err):
        shown = io.StringIO()
        monkeypatch.setattr(console, "_file", shown)
        monkeypatch.setattr(console, "_color_system", None)
        monkeypatch.setattr(console, "_force_terminal", terminal)
        drawn: list[RenderableType] = [text, facts_table({text: text})]
        for part in drawn:
            console.print(part, markup=False)
        monkeypatch.setattr("sys.stderr", shown)
        emit_error(ConfigError(f"a class {text}"), code=2, as_json=False, verbose=True)
        with RichObserver() as observer:
            observer.step(text)
            observer.progress(1, 2, text)
            observer.say(text)
        assert not CONTROL.search(_without_cursor(shown.getvalue())), ascii(shown.getvalue())


def _without_cursor(text: str) -> str:
    """Return what was written, without the bars' own way up, down and to the left."""
    for own in ("\x1b[?25l", "\x1b[?25h", "\x1b[2K", "\x1b[1A", "\r"):
        text = text.replace(own, "")
    return text


@pytest.mark.parametrize("text", ["[red]x[/]", "[/]", "[link=file:///x]y[/]", ":bug:", "\\[b]"])
def test_markup_and_emoji_in_a_name_are_letters(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    emit(Result(verb="x", data={}, text=facts_table({text: text}), next=text), as_json=False)
    emit_error(ConfigError(text), code=2, as_json=False, verbose=False)
    found = capsys.readouterr()
    assert found.out.count(text) == 3
    assert text in found.err


def test_a_name_with_a_line_feed_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    emit(Result(verb="x", data={}, text=facts_table({"class": "ok\nnext: rm"})), as_json=False)
    assert "\nnext" not in capsys.readouterr().out
    assert one_line("a\tb\n") == r"a\tb\n"
    assert printable("a\tb\nキズ Späne 👩‍🔧") == "a\tb\nキズ Späne 👩‍🔧"


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_json_holds_the_same_text_without_control_characters(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    emit(Result(verb="x", data={"name": text}), as_json=True)
    written = capsys.readouterr().out
    assert not CONTROL.search(written)
    assert json.loads(written)["name"] == text


@pytest.mark.parametrize("name", ["it's mine; touch X", "a b", "$(touch X)", "-rf", "キズ", "a`b`"])
def test_commands_to_copy_are_quoted(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command("prune", Path(name)))
    assert words[:2] == ["srinit", "prune"]
    assert len(words) == 3
    assert Path(words[2]) == Path(name)
    assert not words[2].startswith("-")
    assert shlex.split(quoted(name)) == [words[2]]
    assert run(["init", "--", name]) == 0
    told = capsys.readouterr().out.partition("then: ")[2]
    assert shlex.split(told) == ["srinit", "inspect", "-c", f"{words[2]}/srinit.yaml"]
    assert (tmp_path / name / "srinit.yaml").is_file()


def test_commands_are_put_together_in_one_place() -> None:
    """An f-string that begins a command of srinit with a path in it is not quoted."""
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for room in ROOMS
        for path in sorted((SOURCE / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.JoinedStr)
        for before, after in zip(node.values, node.values[1:], strict=False)
        if isinstance(before, ast.Constant)
        and isinstance(after, ast.FormattedValue)
        and re.search(r"srinit [a-z]+ (-\S+ )?$", str(before.value))
    ]
    assert found == []


def test_what_a_command_of_the_users_prints_is_shown_whatever_its_bytes(tmp_path: Path) -> None:
    code = "import sys; sys.stderr.buffer.write(bytes([255, 27]) + b'[31mgone'); sys.exit(3)"
    (tmp_path / "train.py").write_text(code, "utf-8")
    command = f"{shlex.quote(sys.executable)} train.py {{weights}} {{out}}"
    with pytest.raises(ModelError, match=r"failed with exit code 3:\n .*gone"):
        run_command(command, nn.Linear(2, 2), tmp_path, cwd=tmp_path)


def test_every_table_for_a_spreadsheet_has_the_one_writer() -> None:
    with_writers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "csv.writer(" in path.read_text("utf-8") or "DictWriter(" in path.read_text("utf-8")
    }
    assert with_writers == {"store/csvs.py"}
    assert csv_text(["=a"], [["＝b", None, -1, "@c"]]) == "\ufeff'=a\r\n'＝b,,-1,'@c\r\n"
