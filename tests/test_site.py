"""The documentation: its site is built strictly, and asks nothing of anybody."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import processes
import srinit

ROOT = Path(__file__).resolve().parent.parent
FETCHED = r'<(?:script|link|img|iframe)[^>]*?(?:src|href)="(https?:[^"]+)'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    env = processes.environment(SRINIT_DOCS=str(folder / "docs"), NO_MKDOCS_2_WARNING="1")
    script = str(ROOT / "scripts" / "gather_docs.py")
    build = ("-m", "mkdocs", "build", "-f", str(ROOT / "mkdocs.yml"), "-d", str(folder / "site"))
    for command in ((script, str(folder / "docs")), build):
        done = subprocess.run(
            [sys.executable, *command], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return folder / "site"


def test_no_page_of_the_site_fetches_anything(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    found = {page.name: re.findall(FETCHED, page.read_text("utf-8")) for page in pages}
    # Where a page stands is no request.
    assert {name: links for name, links in found.items() if links} == {}


def test_every_public_name_has_its_docstring_on_the_site(site: Path) -> None:
    page = (site / "api.html").read_text("utf-8")
    headings = set(re.findall(r'<h2 id="[^"]*\.(\w+)"', page))
    assert headings >= set(srinit.__all__)


def test_search_knows_both_languages(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    assert set(index["config"]["lang"]) == {"en", "ja"}
    assert any("報告書" in page["title"] for page in index["docs"])


def test_reports_of_the_gallery_are_linked_and_name_no_place_on_a_machine() -> None:
    folder = ROOT / "docs" / "gallery"
    reports = {path.name: path.read_text("utf-8") for path in folder.glob("*.html")}
    assert reports
    text = (folder / "README.md").read_text("utf-8")
    assert set(re.findall(r"\]\(([\w-]+\.html)\)", text)) == set(reports)
    for name, page in reports.items():
        assert not re.findall(r"[\s>'\"](/(?:home|root|tmp|work|Users)/[^<\"\s]*)", page), name
        assert f"<td>{srinit.__version__}" in page, name
