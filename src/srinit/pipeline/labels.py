"""Labels that the data lack, and data that stand in for others: said, and put in their place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from srinit.config import Config
from srinit.config.base import OF_PARTS
from srinit.errors import DataError
from srinit.evaluate import labeled_by
from srinit.gates import check_class_names
from srinit.observer import Observer
from srinit.sources import DataSet

Data = dict[str, DataSet]


def complete(
    data: Data, config: Config, model: Callable[[], nn.Module], observer: Observer
) -> None:
    """Check and complete the data sets of a run, in place.

    Args:
        data: By name.
        config: Of the run.
        model: Gives the unpruned network, where its answers stand in for labels.
        observer: Told what was put in the place of what.

    Raises:
        ConfigError: Gates name classes that are none.
        DataError: Training or test data have no labels.
    """
    _check_named(data, config)
    if config.score == "agreement":
        _label(data, config, model)
    else:
        _label_unlabeled(data, config, model, observer)
    _stand_in(data, config, observer)


def _label_unlabeled(
    data: Data, config: Config, model: Callable[[], nn.Module], observer: Observer
) -> None:
    """Let the unpruned network label the examples without labels that choose layers."""
    used = ("train", "calibration", "validation", "test")  # the site's own are never asked for
    bare = {name: data[name] for name in used if name in data and _is_unlabeled(data[name])}
    for name in ("train", "test"):
        if name in bare:
            raise DataError(
                f"data.{name} has no labels; only calibration and validation examples can do "
                "without. Write score: agreement to compare answers instead of labels."
            )
    if bare:
        _label(bare, config, model)
        observer.say(
            f"{', '.join(bare)}: without labels; layers are chosen by agreement with the "
            "unpruned network's answers; scores there are agreement, class counts its answers."
        )


def _stand_in(data: Data, config: Config, observer: Observer) -> None:
    """Let calibration examples stand in for validation, where nothing is stopped by those."""
    settings = config.finetune
    own = settings.command is not None or settings.fn is not None
    fits = config.score == "anomaly"  # what is normal is learned, and nothing stops that
    is_trained = own or ("train" in data and settings.epochs != 0 and not fits)
    if "validation" not in data and "calibration" in data and not is_trained:
        data["validation"] = data["calibration"]
        observer.say(
            "no validation data: calibration examples stand in, as nothing is trained that "
            "they could stop."
        )


def _check_named(data: Data, config: Config) -> None:
    """Check that the classes that gates name are some."""
    names = next((each.class_names for each in data.values() if each.class_names), ())
    if names and config.score in OF_PARTS:
        check_class_names(
            config.gates.limits(),
            names,
            defect_class=config.data.defect_classes or None,
            costs=config.data.costs,
        )


def _label(data: Data, config: Config, model: Callable[[], nn.Module]) -> None:
    """Put the unpruned network's predictions in the place of all labels."""
    for pool in {id(each.pool): each.pool for each in data.values()}.values():
        used = sorted({i for each in data.values() if each.pool is pool for i in each.indices})
        batches = DataSet(pool, tuple(used)).batches(config.data.batch_size)
        found = [target.numpy() for _, target in labeled_by(model(), batches)]
        pool.relabel(used, np.concatenate(found))


def _is_unlabeled(data: DataSet) -> bool:
    targets = data.targets
    return targets.ndim == 1 and len(targets) > 0 and bool((targets < 0).all())
