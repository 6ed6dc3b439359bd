"""What a user installs: the wheel in a fresh environment, and what the Dockerfile names."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import srinit

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "srinit"


def _ran(*words: str | Path, **options: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    _ran(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target, cwd=ROOT)
    (made,) = target.glob("*.whl")
    return made


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"srinit-{srinit.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == there


@pytest.mark.slow
def test_the_wheel_works_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are those of this environment, whose own srinit it does not see."""
    _ran(sys.executable, "-m", "venv", tmp_path / "fresh")
    python = tmp_path / "fresh" / "bin" / "python"
    _ran(python, "-m", "pip", "install", "--no-deps", "--no-index", "-q", wheel)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(_ran(python, "-c", where).strip())
    # Links of a folder that a link names are not followed: the editable install stays unseen.
    (packages / "dependencies.pth").write_text(_ran(sys.executable, "-c", where))
    home = tmp_path / "fresh"
    place = _ran(python, "-c", "import srinit; print(srinit.__file__)", cwd=tmp_path).strip()
    assert Path(place).is_relative_to(home)
    command = home / "bin" / "srinit"
    assert _ran(command, "--version") == f"srinit {srinit.__version__}\n"
    assert "handwritten digits" in _ran(command, "demo", "--help")
    _ran(command, "init", tmp_path / "poc")
    assert (tmp_path / "poc" / "srinit.yaml").read_text() == (
        SOURCE / "template" / "files" / "srinit.yaml"
    ).read_text()
    page = (
        "from srinit.report.text import Translator; from srinit.report.page import asset;"
        "print(Translator(('ja', 'en'))('title').ja, len(asset('page.css')))"
    )
    assert _ran(python, "-c", page, cwd=tmp_path).startswith("モデル")


def test_the_first_version_is_in_the_changelog() -> None:
    assert f"\n## {srinit.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_dockerfile_copies_what_there_is_and_the_build_lets_through() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, flags=re.M)
        for name in line.split()[:-1]
    }
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    let_through = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(let_through)
    install = (ROOT / "docs" / "install.md").read_text("utf-8")
    targets = set(re.findall(r"--target (\w+)", install))
    assert targets == {"cpu", "gpu"} == set(re.findall(r"FROM base AS (\w+)", text))
