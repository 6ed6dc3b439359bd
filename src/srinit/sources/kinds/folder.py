"""Image folders: one sub-folder a class, or images that nobody labeled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from srinit.class_names import canonical, difference, in_order, origin, spelled
from srinit.errors import DataError
from srinit.pixels.images import SUFFIXES
from srinit.sources.examples import UNLABELED, ImageFiles
from srinit.sources.kinds.loaded import Loaded
from srinit.sources.kinds.walk import Inventory

ENDINGS = ", ".join(sorted(SUFFIXES))


def folder(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the images under a folder with one sub-folder a class, in natural order.

    Links are followed, as torchvision's `ImageFolder` does. What is left out (hidden files, what
    file servers leave behind, other endings) is counted and named in the notes.

    Raises:
        DataError: No folder, no sub-folders, a class without images, other class folders than
            `classes`, class folders that look alike, links that lead nowhere, folders that cannot
            be read.
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
    listed = () if classes is None or isinstance(classes, str) else tuple(classes)
    inventory = Inventory(base)
    found = inventory.class_folders(listed)
    inventory.check(found)
    names = _class_folders(base, found, classes, all_classes=all_classes)
    written = {canonical(each): each for each in found}
    files: list[str] = []
    targets: list[int] = []
    for index, class_name in enumerate(names):
        if class_name in written:
            files += (images := inventory.images(base / written[class_name]))
            targets += [index] * len(images)
    inventory.check(files)
    empty = sorted(set(range(len(names))) - set(targets))
    if not files or (empty and all_classes):
        raise DataError(
            f"{base}: no images of class {', '.join(names[i] for i in empty)} (endings: {ENDINGS})."
        )
    examples = ImageFiles(base, files, np.array(targets, dtype=np.int64))
    return Loaded(examples, names, inventory.notes(files))


def unlabeled_images(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return all images under a folder, whatever its sub-folders; every target is -1.

    Raises:
        DataError: No folder, no images in it, links that lead nowhere, folders that cannot be read.
        UnsafeError: A link leads out of the folder.
    """
    base, files, notes = image_files("images", name, root)
    targets = np.full(len(files), UNLABELED, dtype=np.int64)
    names = () if classes is None or isinstance(classes, str) else tuple(map(canonical, classes))
    return Loaded(ImageFiles(base, files, targets), names, notes)


def image_files(kind: str, name: str, root: Path) -> tuple[Path, list[str], tuple[str, ...]]:
    """Return a folder, the images below it, relative to it, and what was left out.

    Raises:
        DataError: No folder, no images in it, links that lead nowhere, folders that cannot be read.
        UnsafeError: A link leads out of the folder.
    """
    base = _folder(kind, name, root)
    inventory = Inventory(base)
    files = inventory.images(base)
    inventory.check(files)
    if not files:
        raise DataError(f"{base} holds no images (endings: {ENDINGS}).")
    return base, files, inventory.notes(files)


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
    written: dict[str, str] = {}
    for name in found:
        twin = written.setdefault(canonical(name), name)
        if twin != name:
            raise DataError(
                f"{base}: the class folders {spelled(twin)} and {spelled(name)} differ only in "
                f"{difference(twin, name)}; put the images of the class into one of them."
            )
    names = in_order(found, classes, str(base))
    absent = [name for name in names if name not in written] if all_classes else []
    surplus = [name for name in written if name not in names]
    if absent or surplus:
        raise DataError(
            f"{base}: the {len(found)} class folders do not match the {len(names)} of "
            f"{origin(classes)} (missing: {absent[:12]}, not expected: {surplus[:12]})."
            + _look_alike(absent or names, surplus)
        )
    return names


def _look_alike(absent: Sequence[str], surplus: Sequence[str]) -> str:
    """Return what tells a folder from the class that it looks like, where there is such a pair."""
    for name in surplus:
        for other in absent:
            if why := difference(other, name):
                return f" {spelled(other)} and the folder {spelled(name)} differ in {why}."
    return ""
