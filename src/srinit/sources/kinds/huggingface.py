"""Hugging Face data sets that lie in a local folder; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srinit.errors import DataError, require
from srinit.sources.kinds.loaded import Loaded
from srinit.sources.kinds.parquet import from_tables, parquet, pick_columns


def hugging_face(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the images of `FOLDER` or `FOLDER:SPLIT`.

    The folder is what `Dataset.save_to_disk` wrote, or a copy of a repository with parquet files
    named after their split (`data/train-00000-of-00001.parquet`).

    Raises:
        DataError: No such folder or split, or columns without images and labels.
    """
    drive = Path(name).drive  # of Windows, with a colon of its own
    place, _, part = name.removeprefix(drive).partition(":")
    folder = (root / f"{drive}{place}").absolute()
    if not folder.is_dir():
        raise DataError(
            f"hf:{name}: the folder {folder} does not exist; nothing is downloaded. "
            "Fetch the data set first, for example with `hf download`."
        )
    if any((folder / marker).is_file() for marker in ("state.json", "dataset_dict.json")):
        return _saved(folder, part, classes, where=f"hf:{name}")
    inner = folder / "data" if list((folder / "data").glob("*.parquet")) else folder
    found = list(inner.glob(f"{part}*.parquet"))
    if not found:
        have = sorted({path.name.partition("-")[0] for path in inner.glob("*.parquet")})
        raise DataError(
            f"hf:{name}: {inner} holds no {part}*.parquet, and is no saved data set "
            f"(found splits: {', '.join(have) or 'none'})."
        )
    return parquet(str(inner / f"{part}*.parquet"), root, classes)


def _saved(folder: Path, part: str, classes: Sequence[str] | None, *, where: str) -> Loaded:
    require("datasets", "hf", f"for {where}")
    import datasets

    try:
        found: Any = datasets.load_from_disk(str(folder))
    except Exception as error:  # Arrow, JSON and datasets have errors of their own
        raise DataError(f"{where} is damaged: {type(error).__name__}: {error}") from None
    if isinstance(found, datasets.DatasetDict):
        if part not in found:
            raise DataError(f"{where}: name one of its splits, {folder.name}:{next(iter(found))}.")
        found = found[part]
    image, label = pick_columns(found.column_names, where)
    feature = found.features[label]
    if isinstance(found.features[image], datasets.Image):
        found = found.cast_column(image, datasets.Image(decode=False))
    table = found.select_columns([image, label]).with_format("arrow")[:]
    declared = getattr(feature, "names", None)
    return from_tables([table], [folder.name], classes, where=where, declared=declared)
