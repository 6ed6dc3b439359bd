"""Draws the pictures of a run while its networks are in memory; the report shows them later."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import islice

from torch import Tensor, nn

from srinit import modules, records
from srinit.comparison.records import Comparison
from srinit.evaluate import Outcomes, evaluate
from srinit.plan import PrunePlan
from srinit.report import explain, images
from srinit.report.feature_similarity import BATCH, NUM_FEATURES, compare_features, cut_points
from srinit.report.samples import class_name, inputs_of, pixels_of
from srinit.report.variants import explained, make_networks
from srinit.runs.pictures import PICTURES_SCHEMA, Pictures, Thumb
from srinit.sensitivity.records import Sensitivity
from srinit.sources import DataSet

NUM_THUMBS = 12
MAX_BYTES = 2_500_000  # of all pictures, encoded


def make_pictures(
    baseline: nn.Module,
    pruned: nn.Module,
    *,
    sensitivity: Sensitivity,
    plan: PrunePlan,
    data: DataSet,
    comparison: Comparison | None = None,
    num_examples: int = 4,
    seed: int = 0,
) -> Pictures:
    """Return what the report shows of the inside of two networks; neither is changed.

    For some examples Guided Backpropagation and Grad-CAM of four networks: the baseline, the
    baseline with its lowest-drop and with its highest-drop removable unit re-initialized, and
    the pruned one (as in SR-init, figure 3, https://arxiv.org/abs/2303.07677). For the cuts the
    feature maps behind them; for both networks a map of the penultimate features and the
    similarity of every unit that stayed; the examples on which they differ.

    Args:
        baseline: The unpruned network.
        pruned: The network after the cut (and fine-tuning).
        sensitivity: The scan: says which units, and by which scheme they were drawn again.
        plan: What was removed.
        data: Examples; positions in `comparison` refer to it.
        comparison: Names the examples that are newly wrong and newly right.
        num_examples: Examples explained.
        seed: Of the re-initialized units.

    Returns:
        A record of small encoded images; `missing` says what could not be drawn, and why.
    """
    if len(data) == 0 or not _is_image(data):
        return Pictures(missing=("no_images",))
    if data.targets.ndim != 1:
        return Pictures(missing=("places",))
    missing: list[str] = []
    wrong = comparison.newly_wrong if comparison else ()
    right = comparison.newly_right if comparison else ()
    chosen = _choose(data, wrong, num_examples)
    networks, ends = make_networks(baseline, pruned, sensitivity, data, chosen, seed, missing)
    examples, guided = explained(networks, data, chosen, missing)
    projection, similarity = compare_features(baseline, pruned, plan, sensitivity, data, missing)
    found = Pictures(
        examples=examples,
        gradient="guided" if guided else "plain",
        cam="tokens" if _works_on_tokens(baseline, data, chosen) else "grad_cam",
        scheme=sensitivity.scheme,
        lowest=ends[0],
        highest=ends[1],
        cut_points=cut_points(baseline, pruned, plan, sensitivity, data, chosen, missing),
        newly_wrong=_thumbs(baseline, pruned, data, wrong),
        newly_right=_thumbs(baseline, pruned, data, right),
        projection=projection,
        similarity=similarity,
        num_features_examples=min(NUM_FEATURES, len(data)),
        missing=tuple(dict.fromkeys(missing)),
    )
    return _within(found)


def _is_image(data: DataSet) -> bool:
    inputs = inputs_of(data, [0])
    return isinstance(inputs, Tensor) and inputs.ndim == 4 and inputs.shape[1] in (1, 3)


def _works_on_tokens(baseline: nn.Module, data: DataSet, chosen: Sequence[int]) -> bool:
    image = modules.to_device(inputs_of(data, chosen[:1]), modules.device_of(baseline))
    return explain.is_token_model(baseline, image)


def _choose(data: DataSet, wrong: Sequence[int], count: int) -> list[int]:
    """Return positions: newly wrong ones first (up to half), then one of each class in turn."""
    chosen = list(wrong[: count // 2])
    targets = data.targets.tolist()
    seen = {targets[position] for position in chosen}
    fresh: list[int] = []
    for position, label in enumerate(targets):
        if label not in seen:
            seen.add(label)
            fresh.append(position)
    rest = (position for position in range(len(targets)) if position not in fresh)
    more = (position for position in [*fresh, *rest] if position not in chosen)
    return [*chosen, *islice(more, count - len(chosen))]


def _thumbs(
    baseline: nn.Module, pruned: nn.Module, data: DataSet, positions: Sequence[int]
) -> tuple[Thumb, ...]:
    shown = [position for position in positions if position < len(data)][:NUM_THUMBS]
    if not shown:
        return ()
    batches = list(data.subset(shown).batches(BATCH))
    one, other = evaluate(baseline, batches), evaluate(pruned, batches)
    names = data.class_names
    return tuple(
        Thumb(
            position=position,
            label=class_name(names, int(data.targets[position])),
            baseline=_answer(names, one, index),
            pruned=_answer(names, other, index),
            picture=images.encoded(pixels_of(data, position)),
        )
        for index, position in enumerate(shown)
    )


def _answer(names: Sequence[str], outcomes: Outcomes, index: int) -> str:
    found = int(outcomes.predictions[index])
    return "–" if found < 0 else class_name(names, found)


def _within(found: Pictures) -> Pictures:
    """Return the pictures without the last examples and thumbs if all together are too large."""
    while _size(found) > MAX_BYTES:
        missing = tuple(dict.fromkeys([*found.missing, "too_large"]))
        if len(found.examples) > 1:
            found = dataclasses.replace(found, examples=found.examples[:-1], missing=missing)
        elif found.newly_wrong or found.newly_right:
            found = dataclasses.replace(
                found,
                newly_wrong=found.newly_wrong[: len(found.newly_wrong) // 2],
                newly_right=found.newly_right[: len(found.newly_right) // 2],
                missing=missing,
            )
        else:
            break
    return found


def _size(found: Pictures) -> int:
    return len(records.to_json(found, schema=PICTURES_SCHEMA))
