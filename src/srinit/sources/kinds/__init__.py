"""The kinds of data sources, one file each; `KINDS` names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from srinit.sources.kinds.boxes import boxes
from srinit.sources.kinds.folder import folder, some_classes, unlabeled_images
from srinit.sources.kinds.huggingface import hugging_face
from srinit.sources.kinds.loaded import Loaded
from srinit.sources.kinds.masks import masks
from srinit.sources.kinds.npz import npz
from srinit.sources.kinds.parquet import parquet
from srinit.sources.kinds.python import python
from srinit.sources.kinds.table import table

Reader = Callable[[str, Path, Sequence[str] | None], Loaded]

KINDS: dict[str, Reader] = {
    "folder": folder,
    "images": unlabeled_images,
    "csv": table,
    "parquet": parquet,
    "npz": npz,
    "hf": hugging_face,
    "py": python,
}
"""Each takes the name after the prefix, the folder relative paths start from, the class names."""

MARKED: dict[str, Callable[..., Loaded]] = {
    "masks": masks,
    "coco": partial(boxes, "coco"),
    "yolo": partial(boxes, "yolo"),
    "voc": partial(boxes, "voc"),
}
"""Sources whose targets lie in the images; they take preprocessing and settings as well."""

__all__ = ["KINDS", "MARKED", "Loaded", "Reader", "some_classes"]
