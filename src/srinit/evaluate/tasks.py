"""Every score by its name: of examples alone, and of tasks that read more out of an output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from srinit.errors import ConfigError
from srinit.evaluate.anomaly import Anomaly
from srinit.evaluate.detection import Detection
from srinit.evaluate.reading import PartTask
from srinit.evaluate.scorers import SCORERS, Scorer
from srinit.evaluate.segmentation import Segmentation

TASKS: dict[str, PartTask] = {
    "defect_iou": Segmentation("iou"),
    "defect_dice": Segmentation("dice"),
    "objects": Detection(),
    "anomaly": Anomaly(),
}
"""Scores that say of whole parts whether they are good, and count what was missed in them."""


def find_scorer(name: str, *, load: Callable[[str, Path], Any], root: Path = Path()) -> Scorer:
    """Return a scorer by its name in `SCORERS` or `TASKS`, or the user's: `py:FILE.py:FUNCTION`.

    Args:
        name: Its name.
        load: Finds the user's function; `srinit.functions.load_function`.
        root: Folder that relative paths start from.

    Raises:
        ConfigError: There is no scorer of that name.
    """
    if name.startswith("py:"):
        found: Scorer = load(name, root)
        return found
    known: dict[str, Scorer] = {**SCORERS, **TASKS}
    if name not in known:
        raise ConfigError(f"there is no score {name!r}; known are {', '.join(known)}, py:...")
    return known[name]
