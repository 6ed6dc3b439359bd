"""What a terminal says first and last: errors at once, and the verdict of the page at the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Task

from report_run import RUN
from srinit.cli import run as call
from srinit.cli.app import app
from srinit.cli.progress import RichObserver, _Left
from srinit.cli.render import folded
from srinit.cli.verdict import language, verdict_of
from srinit.errors import ConfigError
from srinit.report import load_report_input
from srinit.report.page import render

SLOWEST = 2.0  # CPU seconds of an answer to a mistake; importing torch alone takes longer


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = call(list(arguments))
    shown = capsys.readouterr()
    return code, shown.out + shown.err


@pytest.mark.parametrize("code", ["ja", "en"])
def test_the_verdict_says_the_words_of_the_page(code: str) -> None:
    words, body = verdict_of(RUN, code)
    page = re.sub(r"<[^>]+>", "", render(load_report_input(RUN), (code,)))  # type: ignore[arg-type]
    lines = words.splitlines()
    assert lines[0].startswith("NO-GO: ")
    for line in lines[1:]:
        assert re.sub(r"^ *(\d\. )?", "", line).removesuffix(":") in page.replace("&#39;", "'")
    assert body["verdict"] == "no"
    assert body["conditions"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_is_that_of_the_locale_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("LANG", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language(None) == expected
    assert language("ja") == "ja"
    with pytest.raises(ConfigError, match="the languages are ja and en"):
        language("fr")


def mistakes(folder: Path) -> dict[str, list[str]]:
    broken, wrong, away = (folder / f"{name}.yaml" for name in ("broken", "wrong", "away"))
    broken.write_text("model: [", "utf-8")
    wrong.write_text("name: x\nmodel: {source: 3}\n", "utf-8")
    away.write_text(
        "model: {source: 'py:gone.py:make'}\ndata: {source: 'folder:gone'}\nplan: {params: 0.5}\n",
        "utf-8",
    )
    return {
        "there is no such file": ["run", "-c", str(folder / "missing.yaml")],
        "is not YAML": ["scan", "-c", str(broken)],
        "model": ["run", "-c", str(wrong)],
        "does not exist": ["run", "-c", str(away)],
        "nothing": ["prune", str(folder / "nothing")],
    }


@pytest.mark.parametrize(
    "expected", ["there is no such file", "is not YAML", "does not exist", "nothing"]
)
def test_a_mistake_is_answered_before_anything_heavy_is_imported(
    tmp_path: Path, expected: str
) -> None:
    code = (
        "import sys, time\nfrom srinit.cli import run\n"
        "code = run(sys.argv[1:])\n"
        "print(code, 'torch' in sys.modules, time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *mistakes(tmp_path)[expected]],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    status, heavy, seconds = done.stdout.split()[-3:]
    assert int(status) > 0
    assert expected in done.stderr
    assert heavy == "False"
    assert float(seconds) < SLOWEST


def test_help_never_cuts_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = said(capsys, "--help")
    assert "..." not in text.split("Commands:")[1]
    words = " ".join(text.split())
    for command in app.registered_commands:
        assert command.callback is not None
        first = (command.callback.__doc__ or "").split("\n\n")[0]
        assert " ".join(first.split()) in words


def test_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    from srinit import __version__

    assert said(capsys, "--version") == (0, f"srinit {__version__}\n")


@pytest.mark.parametrize("verb", ["plan", "prune", "finetune", "compare", "verify", "promote"])
def test_out_is_refused_where_it_would_do_nothing(
    capsys: pytest.CaptureFixture[str], verb: str, tmp_path: Path
) -> None:
    code, text = said(capsys, verb, str(RUN), "--out", str(tmp_path))
    assert code == 2
    assert f"srinit {verb} has no use for --out" in " ".join(text.split())


@pytest.mark.parametrize(
    ("verb", "given"), [("report", str(RUN)), ("init", "new"), ("doctor", None)]
)
def test_set_is_refused_where_it_would_do_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    given: str | None,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = said(capsys, verb, *([given] if given else []), "--set", "roi.currency=USD")
    assert code == 2
    assert f"srinit {verb} has no use for --set" in " ".join(text.split())
    assert not list(tmp_path.iterdir())


def test_a_finished_bar_has_no_time_left() -> None:
    def bar(completed: float) -> Any:
        return Task(
            id=0,  # type: ignore[arg-type]
            description="", total=10, completed=completed, _get_time=lambda: 1.0,
            finished_time=1.0 if completed == 10 else None,
        )  # fmt: skip

    assert str(_Left().render(bar(10))) == ""
    assert str(_Left().render(bar(1))).endswith(" left")
    assert any(isinstance(column, _Left) for column in RichObserver()._bars.columns)


def test_a_long_list_of_classes_is_folded_to_the_worst() -> None:
    rows = list(range(100))
    shown, more = folded(rows, lambda row: -row)
    assert list(shown) == list(range(99, 89, -1))
    assert more == 90
    assert folded(rows[:12], lambda row: -row) == (rows[:12], 0)
