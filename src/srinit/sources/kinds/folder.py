"""Image folders: one sub-folder a class, or images that nobody labeled."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from srinit.errors import DataError
from srinit.sources.examples import UNLABELED, ImageFiles
from srinit.sources.images import SUFFIXES
from srinit.sources.kinds.loaded import (
    Loaded,
    in_order,
    natural_key,
    outside,
    raise_outside,
    raise_unreadable_names,
)

ENDINGS = ", ".join(sorted(SUFFIXES))


def folder(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the images under a folder with one sub-folder a class, in natural order.

    Files whose names begin with a dot are skipped, files with other endings noted.

    Raises:
        DataError: No folder, no sub-folders, a class without images, or other class folders
            than `classes`.
        UnsafeError: A link leads out of the folder.
    """
    return _labeled(name, root, classes, all_classes=True)


def some_classes(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the same as `folder`, also where some of `classes` have no folder or no image.

    Raises:
        DataError: No folder, no sub-folders, no image at all, or a class that is not one of
            `classes`.
        UnsafeError: A link leads out of the folder.
    """
    return _labeled(name, root, classes, all_classes=False)


def _labeled(name: str, root: Path, classes: Sequence[str] | None, *, all_classes: bool) -> Loaded:
    base = _folder("folder", name, root)
    found = [p.name for p in base.iterdir() if p.is_dir() and p.name[0] != "."]
    names = _class_folders(base, found, classes, all_classes=all_classes)
    files: list[str] = []
    targets: list[int] = []
    others: Counter[str] = Counter()
    escaped: list[str] = []
    raise_unreadable_names(base, names)
    for index, class_name in enumerate(names):
        paths = _walk(base, base / class_name, others, escaped)
        files += (images := [str(path.relative_to(base)) for path in paths])
        targets += [index] * len(images)
    raise_outside(base, escaped)
    raise_unreadable_names(base, files)
    empty = sorted(set(range(len(names))) - set(targets))
    if not files or (empty and all_classes):
        raise DataError(
            f"{base}: no images of class {', '.join(names[i] for i in empty)} (endings: {ENDINGS})."
        )
    return Loaded(
        ImageFiles(base, files, np.array(targets, dtype=np.int64)), names, _notes(base, others)
    )


def unlabeled_images(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return all images under a folder, whatever its sub-folders; every target is -1.

    Raises:
        DataError: No folder, or no images in it.
        UnsafeError: A link leads out of the folder.
    """
    base = _folder("images", name, root)
    others: Counter[str] = Counter()
    escaped: list[str] = []
    files = [str(path.relative_to(base)) for path in _walk(base, base, others, escaped)]
    raise_outside(base, escaped)
    raise_unreadable_names(base, files)
    if not files:
        raise DataError(f"{base} holds no images (endings: {ENDINGS}).")
    targets = np.full(len(files), UNLABELED, dtype=np.int64)
    names = () if classes is None or isinstance(classes, str) else tuple(classes)
    return Loaded(ImageFiles(base, files, targets), names, _notes(base, others))


def _folder(kind: str, name: str, root: Path) -> Path:
    base = (root / name).absolute()
    if not base.is_dir():
        what = "is a file" if base.exists() else "does not exist"
        raise DataError(f"{kind}:{name}: the folder {base} {what}.")
    return base


def _class_folders(
    base: Path, found: Sequence[str], classes: Sequence[str] | None, *, all_classes: bool
) -> tuple[str, ...]:
    if not found:
        raise DataError(
            f"{base} has no sub-folders; put the images of each class into one. Images that "
            "nobody labeled are named images:DIR."
        )
    names = in_order(found, classes, str(base))
    absent = [name for name in names if name not in found] if all_classes else []
    surplus = [name for name in found if name not in names]
    if absent or surplus:
        raise DataError(
            f"{base}: the {len(found)} class folders do not match the {len(names)} of data.classes "
            f"(missing: {absent[:12]}, not expected: {surplus[:12]})."
        )
    return names


def _walk(base: Path, top: Path, others: Counter[str], escaped: list[str]) -> list[Path]:
    """Return the image files under `top` in natural order; count what is left out."""
    images = []
    for path in _files(top):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in SUFFIXES:
            others[path.suffix.lower() or "no ending"] += 1
        elif (path.is_symlink() or top.is_symlink()) and outside(base, path):
            escaped.append(str(path.relative_to(base)))
        else:
            images.append(path)
    return sorted(images, key=natural_key)


def _files(top: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names)


def _notes(base: Path, others: Counter[str]) -> tuple[str, ...]:
    if not others:
        return ()
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
    return (f"{base}: {sum(others.values())} files that are no images were left out ({kinds})",)
