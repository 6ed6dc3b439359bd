"""Which examples are for what: reproducible by content, and never in two sets at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srinit.class_names import ClassList
from srinit.config import BoxesSection, DataSection, MasksSection
from srinit.errors import ConfigError, DataError
from srinit.sources import strata
from srinit.sources.agreement import check_classes, keys
from srinit.sources.dataset import DataSet
from srinit.sources.kinds import KINDS, MARKED, Loaded, some_classes
from srinit.sources.overlap import check_overlap
from srinit.sources.pool import Pool
from srinit.sources.preprocess import Preprocess, preprocess_from
from srinit.sources.rows import in_rows
from srinit.texts import TextReading, text_documents

SPLITS = ("train", "calibration", "validation", "test")
SITE = "site"  # compared on its own; may lack classes, and labels
TEXT = "text"  # a source whose documents become rows after they were shared out
FROM_TRAIN = "train"  # as the source of calibration data: drawn out of the training data


class Marks(NamedTuple):
    """How masks and boxes belong to images."""

    masks: MasksSection = MasksSection()
    boxes: BoxesSection = BoxesSection()

    def of(self, kind: str) -> MasksSection | BoxesSection:
        """Return the settings of a kind of source."""
        return self.masks if kind == "masks" else self.boxes


def marks_of(settings: DataSection) -> Marks:
    """Return how masks and boxes of a `data` section are read."""
    return Marks(settings.masks, settings.boxes)


def load_data(
    source: str,
    *,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    root: Path | None = None,
    may_lack_classes: bool = False,
    text: TextReading | None = None,
    marks: Marks | None = None,
) -> DataSet:
    """Return the examples a source names, all of them, in the order of the source.

    Args:
        source: `folder:DIR` (one sub-folder a class), `images:DIR` (unlabeled), `csv:FILE`
            (columns path, label), `parquet:FILE`, `npz:FILE`, `hf:FOLDER` (a local Hugging Face
            data set), `text:FILE` (.txt, .jsonl, .parquet), `masks:IMAGES:MASKS`,
            `coco:FILE`, `yolo:DIR`, `voc:DIR` or `py:FILE.py:FUNCTION`.
        preprocess: How images become inputs.
        classes: Class names in the order of the model's outputs, or "alphabetical" or "natural";
            by default the source's own.
        root: Folder that relative paths start from.
        may_lack_classes: Take a folder that has not every one of `classes`.
        text: How texts become rows of tokens.
        marks: How masks and boxes belong to images.

    Raises:
        ConfigError: The source has no known prefix, or is a text without a tokenizer.
        DataError: It is missing, empty, or not what its prefix says.
        UnsafeError: It leads to files outside its folder.
    """
    found = _loaded(
        source,
        preprocess=preprocess,
        classes=classes,
        root=root,
        may_lack_classes=may_lack_classes,
        text=text,
        marks=marks,
    )
    return _as_rows(found, text)


def _as_rows(data: DataSet, text: TextReading | None) -> DataSet:
    return data if text is None else in_rows(data, length=text.length, packed=text.packed)


def _loaded(
    source: str,
    *,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    root: Path | None = None,
    may_lack_classes: bool = False,
    text: TextReading | None = None,
    marks: Marks | None = None,
) -> DataSet:
    """Return what `load_data` does, but documents where those are texts."""
    kind, _, name = source.partition(":")
    known = (*KINDS, *MARKED, TEXT)
    if kind not in known or not name:
        near = difflib.get_close_matches(kind, known, n=1)
        raise ConfigError(
            f"data source {source!r} does not begin with one of {', '.join(f'{k}:' for k in known)}"
            + (f"; did you mean {near[0]}:?" if near else "")
        )
    if kind == TEXT:
        documents, notes = text_documents(name, root or Path(), text or TextReading(None))
        pool = Pool(source, documents, (), preprocess or Preprocess(), notes=notes)
        return DataSet(pool, tuple(range(len(pool))))
    if kind in MARKED:
        loaded = MARKED[kind](
            name, root or Path(), classes, preprocess=preprocess or Preprocess(),
            settings=(marks or Marks()).of(kind),
        )  # fmt: skip
        return _of_loaded(source, loaded, preprocess)
    reader = some_classes if may_lack_classes and kind == "folder" else KINDS[kind]
    return _of_loaded(source, reader(name, root or Path(), classes), preprocess)


def _of_loaded(source: str, loaded: Loaded, preprocess: Preprocess | None) -> DataSet:
    pool = Pool(
        source,
        loaded.examples,
        loaded.class_names,
        preprocess or Preprocess(),
        notes=loaded.notes,
    )
    return DataSet(pool, tuple(range(len(pool))))


def split(data: DataSet, shares: Mapping[str, float], *, seed: int) -> dict[str, DataSet]:
    """Return disjoint parts of `data` of about the given shares, the same share of every class.

    Where an example goes depends on the contents of its class and the seed alone, not on names or
    order; equal images are always on the same side. See `srinit.sources.strata`.

    Args:
        data: What is shared out.
        shares: Fractions in (0, 1] by name (train, calibration, validation, test) that add up to
            at most 1; the rest is left out.
        seed: Of the drawing.

    Raises:
        ConfigError: An unknown name, or shares that are not such fractions.
    """
    total = sum(shares.values())
    if any(not 0 < share <= 1 for share in shares.values()) or total > 1 + 1e-9:
        raise ConfigError(
            f"data.split: shares lie in (0, 1] and add up to at most 1, not {total:g}."
        )
    if unknown := sorted(set(shares) - set(SPLITS)):
        raise ConfigError(f"data.split: {unknown[0]!r} is not one of {', '.join(SPLITS)}.")
    names = sorted(shares, key=SPLITS.index)
    place = strata.places(data, seed=seed, together=True)
    ranges = strata.bounds([shares[name] for name in names])
    return {
        name: data.subset(np.flatnonzero((low <= place) & (place < high)).tolist())
        for name, (low, high) in zip(names, ranges, strict=True)
    }


def limited(data: DataSet, count: int, *, seed: int) -> DataSet:
    """Return `count` examples, the same share of every class, drawn by content hash.

    They stand in their old order; a smaller count gives a part of a larger one's.
    """
    if count >= len(data):
        return data
    place = strata.places(data, seed=seed + 1, together=False)
    order = sorted(range(len(data)), key=lambda position: (place[position], position))
    return data.subset(sorted(order[:count]))


def load_splits(
    settings: DataSection,
    *,
    root: Path,
    seed: int,
    check_images: bool = True,
    tokenizer: Path | None = None,
) -> dict[str, DataSet]:
    """Return the data sets of a config's `data` section, by name; overlap is refused.

    Training and calibration data may overlap where the config says so: `calibration: train`
    draws calibration data out of the training data, `allow_train_calibration_overlap` lets two
    sources share images. Validation and test data never overlap with anything.

    Args:
        settings: The section.
        root: Folder that relative paths start from.
        seed: Of the split.
        check_images: Decode every image first, so that unreadable ones are known before work
            begins; the decoded pixels are kept.
        tokenizer: Folder or GGUF file of the model's tokenizer, for texts. Those are shared out,
            limited and compared by document, and become rows at the end.

    Raises:
        ConfigError: The section names no data, or one set twice.
        DataError: A set is empty, shares an image with another, or has unreadable images.
    """
    text = text_reading(settings, root, tokenizer)
    found = _sources(settings, root, seed, text)
    limits = {str(name): count for name, count in settings.limit.items()}
    found = {
        name: data if (limit := limits.get(name)) is None else limited(data, limit, seed=seed)
        for name, data in sorted(found.items(), key=lambda item: (*SPLITS, SITE).index(item[0]))
    }
    for name, data in found.items():
        if len(data) == 0:
            raise DataError(f"no example is left for {name}; give it a larger share.")
    check_classes(found, keys(settings), settings.defect_class, settings.costs)
    shared = settings.calibration == FROM_TRAIN or settings.allow_train_calibration_overlap
    check_overlap(found, allowed=[("train", "calibration")] if shared else [])
    if check_images:
        for data in found.values():
            data.check_readable()
    return {name: _as_rows(data, text) for name, data in found.items()}


def text_reading(settings: DataSection, root: Path, tokenizer: Path | None) -> TextReading:
    """Return how the texts of a `data` section are read.

    Args:
        settings: The section.
        root: Folder that a relative path starts from.
        tokenizer: That of the model, where the section names no other.
    """
    own = settings.text
    return TextReading(
        tokenizer=tokenizer if own.tokenizer is None else root / own.tokenizer,
        length=own.length,
        packed=own.packed,
        field=own.field,
        unit=own.unit,
        chat_template=own.chat_template,
    )


def _sources(settings: DataSection, root: Path, seed: int, text: TextReading) -> dict[str, DataSet]:
    options: dict[str, Any] = {
        "text": text,
        "preprocess": preprocess_from(settings.preprocess),
        "classes": settings.classes,
        "marks": marks_of(settings),
        "root": root,
    }
    given = {name: getattr(settings, name) for name in SPLITS if getattr(settings, name)}
    from_train = given.get("calibration") == FROM_TRAIN
    if from_train:
        del given["calibration"]
    if settings.source is None and not given:
        raise ConfigError(
            "data names no examples: write data.source and data.split, or data.test ..."
        )
    found: dict[str, DataSet] = {}
    if settings.source is not None:
        if not settings.split:
            raise ConfigError("data.source needs data.split, e.g. {calibration: 0.4, test: 0.4}.")
        shares = {str(name): share for name, share in settings.split.items()}
        found |= split(_loaded(settings.source, **options), shares, seed=seed)
    for name, source in given.items():
        if name in found:
            raise ConfigError(f"data.split has a share for {name}, and data.{name} names another.")
        found[name] = _loaded(source, **options)
    if from_train:
        if "train" not in found or "calibration" in found:
            raise ConfigError("data.calibration: train needs training data, and no share of split.")
        found["calibration"] = found["train"]
    if settings.site is not None:
        name, named = next(
            ((name, data.class_names) for name, data in found.items() if data.class_names), ("", ())
        )
        if named:
            options["classes"] = ClassList(named, keys(settings)[name])
        found[SITE] = _loaded(settings.site, **options, may_lack_classes=True)
    return found
