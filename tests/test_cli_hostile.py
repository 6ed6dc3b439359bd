"""What a user can get wrong on the command line: named, with its exit code, no traceback."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from srinit import cli
from srinit.cli import output
from srinit.cli.options import Common
from srinit.config import load_config
from srinit.errors import ConfigError, DataError, UnsafeError
from srinit.sources import load_data
from srinit.store import RunFolder

BAD_NAME = os.fsdecode(b"\xff\xfe")  # of a file, as an archive from another system leaves it
LONG = "a" * 300


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a verb in this process; return its exit code and what it says is wrong."""
    code = cli.run([*arguments, "--json"])
    body = json.loads(capsys.readouterr().out)
    return code, body.get("error", {}).get("message", "")


def images(folder: Path, *classes: str) -> Path:
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(folder / name / "1.png")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A sealed run folder with a file that is made anew, and one that is not."""
    folder = RunFolder.create(tmp_path, "run")
    folder.write_text(folder.path / "plan.json", "{}")
    folder.write_text(folder.path / "report" / "report.html", "page")
    folder.write_text(folder.path / "report" / "pictures.json", "{}")
    folder.seal()
    return folder.path


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["verify", LONG], 6, "does not exist"),
        (["inspect", "-c", LONG], 2, "File name too long"),
        (["init", LONG], 4, "cannot be used: File name too long"),
        (["compare", LONG, LONG], 4, "cannot be used: File name too long"),
        (["demo", "--out", "file/demo"], 5, "Not a directory"),
        (["compare", "run", "--shift", "-5"], 2, "--shift"),
        (["compare", "run", "--plan-margin", "1e-300"], 2, "the margin is a fraction"),
        (["plan", "run", "--flops", "inf"], 2, "flops: Input should be a finite number"),
        (["plan", "run", "--max-drop", "nan"], 2, "max_drop: Input should be a finite number"),
        (["plan", "run", "--params", "-1"], 2, "params: Input should be greater than 0"),
    ],
)
def test_what_no_system_and_no_plan_can_hold_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    found, text = call(capsys, *arguments)
    assert (found, message in text) == (code, True), text


@pytest.mark.parametrize("change", ["batch_size: true", "limit: {train: true}"])
def test_a_truth_is_no_number(tmp_path: Path, change: str) -> None:
    config = tmp_path / "srinit.yaml"
    config.write_text(f"model: timm:resnet18\ndata:\n  test: npz:x.npz\n  {change}\n")
    with pytest.raises(ConfigError, match="true and false are no numbers"):
        load_config(config)


@pytest.mark.parametrize("name", ["a #b", "a: b", "[a", "'a", "null", "良品 部品"])
def test_the_name_of_the_output_folder_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    config = tmp_path / "srinit.yaml"
    config.write_text("model: timm:resnet18\ndata: {test: 'npz:x.npz'}\n")
    found = load_config(config, Common(out=tmp_path / name).overrides)
    assert Path(found.out) == tmp_path / name


def test_names_that_are_not_utf8_are_listed(tmp_path: Path) -> None:
    folder = images(tmp_path / "files", "ng", "ok")
    shutil.copy(folder / "ng" / "1.png", folder / "ng" / f"{BAD_NAME}.png")
    with pytest.raises(DataError, match=r"1 names are not UTF-8; rename.*\n  ng/\\udcff\\udcfe"):
        load_data(f"folder:{folder}")
    with pytest.raises(DataError, match="1 names are not UTF-8"):
        load_data(f"images:{folder}")
    with pytest.raises(DataError, match="1 names are not UTF-8"):
        load_data(f"folder:{images(tmp_path / 'classes', 'ng', BAD_NAME)}")


def test_a_pipe_among_images_is_no_image_and_is_not_waited_for(tmp_path: Path) -> None:
    folder = images(tmp_path / "pipe", "ng", "ok")
    os.mkfifo(folder / "ng" / "2.png")
    with pytest.raises(DataError, match=r"1 unreadable image.*\n.*2\.png: no file"):
        load_data(f"folder:{folder}").check_readable()


def test_a_file_name_that_a_list_of_hashes_cannot_hold_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run")
    (folder.path / "a\nb").write_text("")
    with pytest.raises(UnsafeError, match="which no run writes; remove it"):
        folder.cover()


def test_no_report_is_made_from_a_changed_file(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "report" / "report.html").write_text("made anew in any case")
    (run / "plan.json").write_text('{"edited": 1}')
    code, text = call(capsys, "report", str(run))
    assert code == 6
    assert "plan.json was changed" in text


@pytest.mark.parametrize("encoding", ["ascii", "cp932", "utf-8"])
def test_json_stays_json_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    output.print_json({"name": f"ü 良品 {BAD_NAME}"})
    assert json.loads(raw.getvalue().decode(encoding)) == {"name": f"ü 良品 {BAD_NAME}"}


class Stuck(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, _: str) -> int:
        raise self.error


def test_a_reader_that_left_does_not_undo_the_work(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Stuck(BrokenPipeError()))
    assert cli.run(["verify", str(run), "--json"]) == 0


def test_an_output_that_is_full_is_an_exhausted_resource(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Stuck(OSError(28, "No space left on device")))
    assert cli.run(["verify", str(run), "--json"]) == 5
    assert "standard output cannot be written" in capsys.readouterr().err


def test_pipes_and_closed_streams_end_as_the_verb_does(tmp_path: Path) -> None:
    def shell(text: str) -> SimpleNamespace:
        command = ["bash", "-c", f"set -o pipefail; {text}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        return SimpleNamespace(code=done.returncode, said=done.stderr)

    srinit = f"{sys.executable} -m srinit"
    assert shell(f"{srinit} --help | true").code == 0
    for text in (f"{srinit} verify x >&-", f"{srinit} verify x --json > /dev/full"):
        done = shell(text)
        assert (done.code, "Traceback" in done.said, "Exception" in done.said) == (6, False, False)


def test_an_interrupt_is_said_in_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("srinit.doctor.examine", interrupted)
    code, text = call(capsys, "doctor")
    assert (code, text) == (130, "interrupted; the same command resumes where it stopped")


def test_a_second_interrupt_while_the_first_is_said_ends_quietly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    monkeypatch.setattr(cli, "emit_error", interrupted)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main(["verify", "x"])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended.value.code == 130
