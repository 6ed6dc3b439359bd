"""Pictures and features of a run, as they are stored beside its report."""

from __future__ import annotations

from typing import Literal

from srinit.records import record

PICTURES_SCHEMA = "srinit.pictures/1"
Variant = Literal["baseline", "lowest", "highest", "pruned"]


@record
class Picture:
    """One small image."""

    media: Literal["image/png", "image/jpeg"]
    base64: str
    width: int
    height: int


@record
class Explanation:
    """How one network sees one example."""

    variant: Variant
    prediction: str  # class name
    probability: float
    gradient: Picture  # Guided Backpropagation, or plain gradients (`Pictures.gradient`)
    cam: Picture | None  # Grad-CAM over the input; None where no layer has a spatial output


@record
class Example:
    """One example explained."""

    position: int  # in the data
    label: str
    picture: Picture
    explanations: tuple[Explanation, ...]


@record
class CutPoint:
    """The stream right behind a cut: mean over channels of the activations, one example."""

    removed: tuple[str, ...]  # units cut here, in order
    unit: str  # the next unit that stays, by its name before the cut; "" behind the last
    baseline: Picture
    pruned: Picture


@record
class Thumb:
    """An example on which the two networks differ."""

    position: int
    label: str
    baseline: str  # what the unpruned network says
    pruned: str
    picture: Picture


@record
class Projection:
    """Penultimate features in two principal components, each network's own, aligned."""

    labels: tuple[int, ...]  # class index per point
    baseline: tuple[tuple[float, float], ...]
    pruned: tuple[tuple[float, float], ...]
    explained_baseline: float  # share of the variance in the two components
    explained_pruned: float
    num_features: int


@record
class Similarity:
    """Linear CKA of one unit's output in both networks."""

    unit: str  # name before the cut
    cka: float | None  # unbiased estimate; about 1: same representation


@record
class Overlay:
    """What two networks call in one image, drawn into it."""

    position: int  # in the data
    label: str  # class of the part
    picture: Picture
    baseline: Picture  # right, missed and falsely called places in three colors
    pruned: Picture
    score_baseline: float  # of the image, in [0, 1]
    score_pruned: float


@record
class Pictures:
    """What `make_pictures` hands on."""

    examples: tuple[Example, ...] = ()
    gradient: Literal["guided", "plain"] = "guided"
    cam: Literal["grad_cam", "tokens"] = "grad_cam"  # tokens: activation times gradient
    scheme: str = ""
    lowest: str = ""  # unit re-initialized in the variant "lowest"
    highest: str = ""
    cut_points: tuple[CutPoint, ...] = ()
    newly_wrong: tuple[Thumb, ...] = ()
    newly_right: tuple[Thumb, ...] = ()
    projection: Projection | None = None
    similarity: tuple[Similarity, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    num_features_examples: int = 0  # examples behind projection and similarity
    missing: tuple[str, ...] = ()  # what could not be drawn: keys of the texts that say why
