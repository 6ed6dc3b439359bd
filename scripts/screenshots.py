"""Take the screenshots of a report, in both languages, for docs/screenshots.

    python scripts/screenshots.py RUN_FOLDER/report/report.html [TARGET]

Needs Chromium, fonts for Japanese and poppler (apt-get install chromium fonts-noto-cjk
poppler-utils), and playwright.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import report_browser  # noqa: E402 - the folder of the tests is no package

LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}
PARTS = ("layers", "compare", "explanations", "money")
COLORS = 256  # of a picture, so that the repository stays small
EXACT = 64  # of them kept as they are


def take(report: Path, target: Path) -> list[Path]:
    """Write the pictures of both languages and return their paths."""
    target.mkdir(parents=True, exist_ok=True)
    taken: list[Path] = []
    with report_browser.browser() as browser:
        for code in ("ja", "en"):
            page = _opened(browser, report, code, viewport=LAPTOP)
            taken.append(_view(page, target / f"laptop-{code}.png", LAPTOP))
            # A navigation that stays in sight would lie over a section higher than the screen.
            page.evaluate("document.querySelector('nav').style.position = 'static'")
            for part in PARTS:
                path = target / f"{part}-{code}.png"
                page.locator(f"section:has(> #h-{part})").screenshot(path=path)
                taken.append(path)
            taken.append(_sheet(page, target / f"a4-{code}.png"))
            page = _opened(browser, report, code, viewport=PHONE)
            taken.append(_view(page, target / f"phone-{code}.png", PHONE))
            page = _opened(browser, report, code, viewport=LAPTOP, color_scheme="dark")
            taken.append(_view(page, target / f"dark-{code}.png", LAPTOP))
    for path in taken:
        _reduced(path)
    return taken


def _reduced(path: Path) -> None:
    """Keep a picture's most frequent colors as they are, and others from all over its range.

    Those of a legend are few, but matter.
    """
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    pixels = np.asarray(picture).reshape(-1, 3)
    colors, where, counts = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    frequent = colors[np.argsort(-counts)[:EXACT]]
    others = picture.quantize(COLORS - EXACT, Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = np.concatenate([frequent, np.reshape(others, (-1, 3))]).astype(np.int32)
    parts = np.array_split(colors.astype(np.int32), len(colors) // 4096 + 1)
    nearest = [((p[:, None] - palette) ** 2).sum(2).argmin(1).astype(np.uint8) for p in parts]
    places = np.concatenate(nearest)[where.ravel()].reshape(picture.height, picture.width)
    small = Image.fromarray(places, "P")
    small.putpalette(palette.astype(np.uint8).ravel().tolist())
    small.save(path, optimize=True)


def _opened(browser: Any, report: Path, code: str, **options: Any) -> Any:
    page = browser.new_page(**options)
    page.goto(report.resolve().as_uri())
    page.locator(f"label[for=lang-{code}]").click()
    return page


def _view(page: Any, path: Path, size: dict[str, int]) -> Path:
    """Shoot the first two screens."""
    clip = {"x": 0, "y": 0, "width": size["width"], "height": 2 * size["height"]}
    page.screenshot(path=path, full_page=True, clip=clip)
    return path


def _sheet(page: Any, path: Path) -> Path:
    """Shoot the sheet for the person who signs, as it is printed."""
    with tempfile.TemporaryDirectory() as folder:
        pdf = Path(folder) / "report.pdf"
        page.pdf(path=str(pdf), prefer_css_page_size=True, print_background=True)
        command = ["pdftoppm", "-png", "-r", "96", "-f", "1", "-l", "1", "-singlefile"]
        subprocess.run([*command, str(pdf), str(path.with_suffix(""))], check=True)
    return path


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    place = Path(sys.argv[2]) if len(sys.argv) == 3 else ROOT / "docs" / "screenshots"
    for shot in take(Path(sys.argv[1]), place):
        sys.stdout.write(f"{shot} {shot.stat().st_size // 1000} kB\n")
