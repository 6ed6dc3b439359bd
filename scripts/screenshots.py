"""Take the screenshots of a report, in both languages, for docs/screenshots.

    python scripts/screenshots.py RUN_FOLDER/report/report.html [TARGET]

Needs Chromium, fonts for Japanese (apt-get install chromium fonts-noto-cjk) and playwright.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import report_browser  # noqa: E402 - the folder of the tests is no package

A4 = (794, 1123)  # CSS pixels
SIZES = {"laptop": (1280, 800), "phone": (390, 844), "a4": A4}


def take(report: Path, target: Path) -> list[Path]:
    """Write one picture for each size and language, one in the dark; return their paths."""
    target.mkdir(parents=True, exist_ok=True)
    wanted = [(size, code, "light") for size in SIZES for code in ("ja", "en")]
    taken = []
    with report_browser.browser() as browser:
        for size, code, scheme in [*wanted, ("laptop", "en", "dark")]:
            width, height = SIZES[size]
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            page.goto(report.resolve().as_uri())
            page.locator(f"label[for=lang-{code}]").click()
            name = f"{size}-{code}" + ("-dark" if scheme == "dark" else "")
            taken.append(_shoot(page, target / f"{name}.png", whole=size != "a4"))
            page.close()
    return taken


def _shoot(page: Any, path: Path, *, whole: bool) -> Path:
    if not whole:  # the sheet for the person who signs, as it is printed
        page.emulate_media(media="print")
    page.screenshot(path=path, full_page=whole)
    return path


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    place = Path(sys.argv[2]) if len(sys.argv) == 3 else ROOT / "docs" / "screenshots"
    for shot in take(Path(sys.argv[1]), place):
        sys.stdout.write(f"{shot} {shot.stat().st_size // 1000} kB\n")
