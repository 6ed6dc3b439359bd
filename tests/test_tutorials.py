"""The tutorials are followed: every command of a page is run in its order, on fewer pictures."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import processes
from srinit import cli
from srinit.report.text import Language, Translator

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "tutorials"
SMALLER = {  # what is made small of make.py and of the config, so that a test has time for it
    r"COUNTS = .*": 'COUNTS = {"train": (60, 30, 30), "site": (120, 20, 20), "line": (40, 4, 4)}',
    r"EPOCHS = 16": "EPOCHS = 1",
    r"(max_\w+): 0\.\d+": r"\1: 0.9",
    r"flops: 0.85 ": "flops: 0.85, trial_examples: 0, beside: [] ",
    r"package: true ": "package: true, torch_export: false ",
    r"name: line\n": "name: line\nscan: { scheme: permuted, half_width: 0.3 }\n"
    "report: { pictures: 0 }\ncompare: { latency_batches: [1] }\n",
}
ALARM = 3  # the exit code of a gate that says no, or of an alarm
IN_A_NEW_PROCESS = "monitor"  # as a user's is, in which nothing else was imported before


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the language and the text of every block of code."""
    text = (PAGES / page).read_text("utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S)


def smaller(text: str) -> str:
    found = 0
    for pattern, replacement in SMALLER.items():
        text, times = re.subn(pattern, replacement, text)
        found += times
    assert found, "nothing was made smaller"
    return text


def follow(line: str, codes: dict[str, int]) -> None:
    """Run one command of a page in the current folder."""
    first, *words = shlex.split(line)
    if first == "srinit" and words[0] == IN_A_NEW_PROCESS:
        code = subprocess.run([sys.executable, "-m", "srinit", *words], check=False).returncode
    elif first == "srinit":
        code = cli.run(words)
    elif first == "python":
        code = processes.run(*words, cwd=Path.cwd()).returncode
    else:
        code = subprocess.run([first, *words], check=False).returncode
    codes[line] = code
    assert code == 0 or (first == "srinit" and words[0] == "monitor" and code == ALARM), line


def commands(page: str) -> list[str]:
    return [line for kind, text in blocks(page) if not kind for line in text.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_way_to_the_edge_can_be_followed_word_by_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example = tmp_path / "examples" / "inspection"
    example.mkdir(parents=True)
    for name in ("make.py", "model.py"):
        text = (ROOT / "examples" / "inspection" / name).read_text("utf-8")
        (example / name).write_text(smaller(text) if name == "make.py" else text)
    codes: dict[str, int] = {}
    for kind, text in blocks("edge.md"):
        if kind == "yaml":
            (tmp_path / "line" / "srinit.yaml").write_text(smaller(text))
            continue
        for line in text.splitlines():
            follow(line, codes)
    assert len(codes) == len(commands("edge.md"))
    told = capsys.readouterr().err
    assert "compare: " in told
    assert not re.search(r"^(hugging face|shift|site)\b", told, flags=re.M)  # nothing to do there
    assert (tmp_path / "preds.jsonl").read_text().count("\n") == 48
    for line in commands("sign.md"):
        follow(line, codes)
    shutil.rmtree(tmp_path / "runs")  # not kept with the last runs of pytest


@pytest.mark.parametrize("name", ["edge", "sign"])
def test_both_languages_of_a_tutorial_give_the_same_commands(name: str) -> None:
    assert blocks(f"{name}.md") == blocks(f"{name}.ja.md") != []


@pytest.mark.parametrize(("page", "language"), [("sign.md", "en"), ("sign.ja.md", "ja")])
def test_the_page_for_signers_explains_every_word_of_the_report(
    page: str, language: Language
) -> None:
    text = (PAGES / page).read_text("utf-8")
    say = Translator((language,))
    missing = [key for key in WORDS if say(key).of(language) not in text]
    assert missing == []


GATES = (
    "max_drop", "max_class_recall_drop", "max_missed_defect_increase", "max_missed_defect_rate",
    "max_missed_object_increase", "max_false_reject_increase", "max_cost_increase",
    "max_shift_drop", "min_agreement",
    "max_latency_ratio", "max_perplexity_ratio", "max_params_ratio",
)  # fmt: skip
EXPLAINED = {
    "section": ("layers", "compare", "explanations", "money", "provenance"),
    "decision": ("cut", "figures", "tested", "untested", "conditions", "back", "gates"),
    "gate": ("limit", "measured", "bound", "result", *GATES),
    "sign": ("made", "checked", "approved", "run"),
    "cause.kind": ("data", "loss", "recipe", "time", "busy", "size", "target"),
    "talking_points": ("title",),
    "shift": ("title",),
    "site": ("title",),
    "cut": ("locked",),
    "roi": ("break_even_miss_rate",),
}
WORDS = [f"{part}.{key}" for part, keys in EXPLAINED.items() for key in keys]


def test_the_page_for_signers_knows_every_gate() -> None:
    from srinit.config.judging import GatesSection

    limits = {name for name in GatesSection.model_fields if name.startswith(("max_", "min_"))}
    assert set(GATES) == limits


@pytest.mark.slow
def test_the_notebook_for_research_runs_from_top_to_bottom() -> None:
    code = (
        "import nbformat, sys; from nbclient import NotebookClient;"
        "notebook = nbformat.read(sys.argv[1], 4);"
        "NotebookClient(notebook, timeout=200, kernel_name='python3').execute();"
        "shown = [o for c in notebook.cells for o in c.get('outputs', [])];"
        "assert any('<svg' in o.get('data', {}).get('text/html', '') for o in shown)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(PAGES / "research.ipynb")],
        env=processes.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
