"""Sections of what goes in: the model, the data, how images become inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from srinit.class_names import unlisted
from srinit.config.base import SPLITS, Section, SourceSection, composed

Split = Literal["train", "calibration", "validation", "test"]
Limited = Literal["train", "calibration", "validation", "test", "site"]
Side = Annotated[int, Field(ge=1, le=16384)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]

DEFAULT_SPLIT = {"train": 0.4, "calibration": 0.2, "validation": 0.1, "test": 0.3}


class ModelSection(SourceSection):
    """The trained network; `model: SOURCE` is short for `model: {source: SOURCE}`."""

    source: str = Field(
        min_length=1,
        description="timm:NAME, torchvision:NAME, detector:NAME (of torchvision), hf:FOLDER, "
        "py:FILE.py:FACTORY or run:RUN",
    )
    args: dict[str, Any] = Field(default={}, description="keyword arguments of the factory")
    weights: str | None = Field(
        default=None, description=".safetensors, or .pt/.pth holding a state dict"
    )
    weights_sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="hash that the weights file must have; another one is refused",
    )
    allow_download: bool = Field(
        default=False, description="let timm, torchvision or transformers fetch what `args` ask for"
    )


class PreprocessSection(Section):
    """How an image becomes the network's input, as in training; saved with the pruned model."""

    size: Side | tuple[Side, Side] | None = Field(
        default=None, description="resize: the shorter side, or [height, width]"
    )
    crop: Side | tuple[Side, Side] | None = Field(
        default=None, description="crop the middle after resizing: a square, or [height, width]"
    )
    channels: Literal[1, 3] = Field(default=3, description="1: grayscale, 3: RGB")
    mean: tuple[float, ...] = Field(
        default=(0.485, 0.456, 0.406),
        description="subtracted after `scale`, one value a channel; the default is ImageNet's",
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.229, 0.224, 0.225), description="divided by, one value a channel"
    )
    scale: float = Field(
        default=255.0, gt=0, description="pixels 0 ... 255 are divided by it; 1 leaves them"
    )
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] = Field(
        default="bilinear", description="of resizing, with anti-aliasing as Pillow does it"
    )
    bits: Literal[8, 10, 12, 14, 16] = Field(
        default=8,
        description="bits in use of images, gray or color, with more than 8 bits a sample",
    )

    @model_validator(mode="after")
    def _one_value_a_channel(self) -> PreprocessSection:
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(
                f"mean and std need one value per channel ({self.channels}), "
                f"found {len(self.mean)} and {len(self.std)}"
            )
        return self


class AugmentSection(Section):
    """Random changes of training images; off unless asked for: a mirrored part may be a defect."""

    crop_padding: int = Field(
        default=0, ge=0, le=1024, description="pixels padded before a random crop"
    )
    flip: bool = Field(default=False, description="flip half of the images left to right")


class TextSection(Section):
    """How texts (text:FILE) become rows of tokens, by the model's own tokenizer."""

    length: int = Field(default=512, ge=2, le=1 << 20, description="tokens of a row")
    packed: bool = Field(
        default=False,
        description="fill every row with document after document; else each holds one document or "
        "a part of it, padded, with a mask",
    )
    field: str = Field(
        default="text", min_length=1, description="key of JSON lines, column of parquet files"
    )
    unit: Literal["paragraph", "line", "file"] = Field(
        default="paragraph", description="what a document is in plain text"
    )
    chat_template: bool = Field(
        default=False,
        description="write messages, or a text as a user's message, by the tokenizer's template",
    )
    tokenizer: str | None = Field(
        default=None, min_length=1, description="folder of another tokenizer than the model's"
    )


class MasksSection(Section):
    """How masks (masks:IMAGES:MASKS) belong to images, and what is a defect in an answer."""

    suffix: str = Field(
        default="", description="what a mask's name has behind its image's, such as _mask"
    )
    missing: Literal["refuse", "good"] = Field(
        default="refuse", description="an image without a mask is refused, or a good part"
    )
    min_area: int = Field(
        default=1,
        ge=1,
        description="called spots of fewer pixels of the input are no defects; real ones always",
    )


class BoxesSection(Section):
    """How objects (coco:, yolo:, voc:) belong to images, and what a detection is."""

    missing: Literal["refuse", "good"] = Field(
        default="refuse",
        description="an image without a file of boxes is refused, or one without objects",
    )
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="detections that are less sure do not count"
    )


class DataSection(SourceSection):
    """Where examples come from, and which are for what; `data: SOURCE` is short for its source."""

    source: str | None = Field(
        default=None,
        description="folder:DIR, csv:FILE, parquet:FILE, npz:FILE, hf:FOLDER, text:FILE, "
        "masks:IMAGES:MASKS, coco:FILE, yolo:DIR, voc:DIR or py:FILE.py:FUNCTION; shared out "
        "by `split`",
    )
    train: str | None = Field(default=None, description="source of the fine-tuning examples")
    calibration: str | None = Field(
        default=None,
        description="source that chooses the layers; `train` draws it out of the training data",
    )
    allow_train_calibration_overlap: bool = Field(
        default=False, description="let training and calibration data share images"
    )
    validation: str | None = Field(default=None, description="source that stops fine-tuning")
    test: str | None = Field(default=None, description="source that is read once, to compare")
    site: str | None = Field(
        default=None,
        description="source of the site's own examples, labeled or not (images:DIR), that are "
        "compared on their own",
    )
    split: dict[Split, Share] = Field(
        default={},
        description="shares of `source` and of each class in it, by content hash; they add up to "
        "at most 1. Without it: train 0.4, calibration 0.2, validation 0.1, test 0.3, less those "
        "named above",
    )
    limit: dict[Limited, Count] = Field(
        default={}, description="at most so many examples, class by class, drawn by content hash"
    )
    classes: list[str] | Literal["alphabetical", "natural"] | None = Field(
        default=None,
        description="class names in the order of the model's outputs; or their order: "
        "alphabetical (torchvision's ImageFolder), natural (timm: 2 before 10)",
    )
    defect_class: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="the class that means defective, or a list of them; names missed defects",
    )
    costs: dict[str, dict[str, Amount]] | None = Field(
        default=None,
        description="what errors cost, in roi.currency: {true class: {predicted class: cost of "
        "one}}; what is left out costs nothing. Default: roi.missed_defect_cost and "
        "roi.false_reject_cost",
    )
    preprocess: PreprocessSection = Field(default=PreprocessSection(), description="of images")
    masks: MasksSection = Field(default=MasksSection(), description="of defects")
    boxes: BoxesSection = Field(default=BoxesSection(), description="of objects")
    text: TextSection = Field(default=TextSection(), description="of texts")
    augment: AugmentSection = Field(default=AugmentSection(), description="of training images")
    batch_size: int = Field(default=64, ge=1, le=65536, description="examples a batch")

    @field_validator("classes", "defect_class", "costs")
    @classmethod
    def _composed(cls, value: object) -> object:
        return composed(value)

    @model_validator(mode="after")
    def _sets_fit_together(self) -> DataSection:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        if self.source is not None and not self.split:
            object.__setattr__(self, "split", self._default_split())
        return self

    def _problems(self) -> Iterator[str]:
        given = [name for name in SPLITS if getattr(self, name)]
        if self.source is None and not given:
            yield "names no examples; write data.source, or data.calibration, data.test ..."
        if self.split and self.source is None:
            yield "split shares out data.source, which is not given"
        if sum(self.split.values()) > 1 + 1e-9:
            yield f"split adds up to {sum(self.split.values()):g}, more than 1"
        for name in given:
            if name in self.split:
                yield f"{name} is named, and has a share of split; keep one of the two"
        no_train = "train" not in (*given, *self.split) and (self.source is None or self.split)
        if self.calibration == "train" and no_train:
            yield "calibration: train needs training data; write data.train"
        if isinstance(self.classes, list):
            if len(set(self.classes)) != len(self.classes) or not self.classes:
                yield "classes should be different names, one at least"
            else:
                yield from self._not_in(self.classes)
        if self.costs is not None and not any(
            v > 0 for r in self.costs.values() for v in r.values()
        ):
            yield "costs are all zero; write what errors cost, or leave costs out"

    def _not_in(self, classes: list[str]) -> Iterator[str]:
        for name in self.defect_classes:
            if name not in classes:
                yield f"defect_class {name!r} {unlisted(name, classes)}"
        if len(set(self.defect_classes)) == len(classes):
            yield "defect_class names every class; leave the good one out"
        for actual, row in (self.costs or {}).items():
            for name in (actual, *row):
                if name not in classes:
                    yield f"costs: {name!r} {unlisted(name, classes)}"

    @property
    def defect_classes(self) -> tuple[str, ...]:
        """The classes that mean defective, by name; empty where none is named."""
        found = self.defect_class
        return (found,) if isinstance(found, str) else tuple(found or ())

    def _default_split(self) -> dict[str, float]:
        left = {k: v for k, v in DEFAULT_SPLIT.items() if not getattr(self, k)}
        return {name: share / sum(left.values()) for name, share in left.items()}
