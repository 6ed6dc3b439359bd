"""Looking inside: pictures by which people judge what the networks look at."""

from __future__ import annotations

import math

from markupsafe import Markup

from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.charts import Dots, scatter, square, track
from srinit.report.data import ReportInput
from srinit.report.prose import scheme_name
from srinit.report.text import LocalizedText, Translator, untranslated
from srinit.runs.pictures import Picture, Projection, Similarity

MOST_NAMES = 20  # classes up to which a map names them
LONGEST = 12  # characters of a class name in a map


@record
class Map:
    """The penultimate features of one network."""

    title: LocalizedText
    drawing: Markup


@record
class Alike:
    """How alike one unit's output is in both networks."""

    unit: str
    value: str
    strip: Markup


@record
class Explanations:
    """What the section shows beside the pictures themselves."""

    maps: tuple[Map, ...] = ()
    alike: tuple[Alike, ...] = ()
    missing: tuple[LocalizedText, ...] = ()
    note: LocalizedText | None = None
    has_cam: bool = False  # a heat map is there, and with it its colors
    remains: LocalizedText | None = None  # how far the two maps are apart once they are aligned


def explanations_view(report: ReportInput, say: Translator) -> Explanations:
    """Return the drawings of the section and the reasons for what is missing."""
    pictures = report.pictures
    if pictures is None:
        return Explanations(missing=(say("explanations.missing.all"),))
    return Explanations(
        maps=_maps(pictures.projection, report.class_names, say) if pictures.projection else (),
        alike=tuple(_alike(row) for row in pictures.similarity),
        missing=tuple(say(f"explanations.missing.{key}") for key in pictures.missing),
        has_cam=any(view.cam for shown in pictures.examples for view in shown.explanations),
        remains=_remains(pictures.projection, say) if pictures.projection else None,
        note=None
        if pictures.overlays
        else say(
            f"explanations.note.{pictures.gradient}",
            lowest=pictures.lowest,
            highest=pictures.highest,
            scheme=scheme_name(pictures.scheme, say),
        ),
    )


def small(picture: Picture) -> Markup:
    """Return the attribute that keeps the pixels of a small picture sharp."""
    return Markup(' class="small-image"' if max(picture.width, picture.height) <= 64 else "")


def data_uri(picture: Picture) -> str:
    """Return a picture as the source of an `img`."""
    return f"data:{picture.media};base64,{picture.base64}"


def _maps(projection: Projection, names: tuple[str, ...], say: Translator) -> tuple[Map, ...]:
    frame = square([*projection.baseline, *projection.pruned])
    sides = (
        ("baseline", projection.baseline, projection.explained_baseline),
        ("pruned", projection.pruned, projection.explained_pruned),
    )
    found = []
    for key, points, explained in sides:
        groups = []
        for index in sorted(set(projection.labels)):
            chosen = tuple(
                point
                for point, label in zip(points, projection.labels, strict=True)
                if label == index
            )
            name = names[index] if index < len(names) else str(index)
            if len(names) > MOST_NAMES:
                name = ""
            short = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
            groups.append(Dots(label=untranslated(short), points=chosen, color=index))
        title = say(f"explanations.map.{key}", share=fmt.percent(explained, 0))
        found.append(Map(title=title, drawing=scatter(groups, frame)))
    return tuple(found)


def _remains(projection: Projection, say: Translator) -> LocalizedText:
    """Return how far the two places of an image are apart, in radii (root mean squares) of a map.

    The maps are turned and mirrored onto one another (`features.aligned`), so this is the root of
    the Procrustes residual.
    """
    pairs = zip(projection.baseline, projection.pruned, strict=True)
    apart = [(x - u) ** 2 + (y - v) ** 2 for (x, y), (u, v) in pairs]
    radius = [x**2 + y**2 for x, y in projection.baseline]
    share = math.sqrt(sum(apart) / max(sum(radius), 1e-12))
    return say("explanations.remains", share=fmt.percent(share, 0))


def _alike(row: Similarity) -> Alike:
    return Alike(unit=row.unit, value=fmt.fixed(row.cka, 2), strip=track(0, 1, value=row.cka))
