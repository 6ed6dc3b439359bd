"""What a config names: network, data, score, settings; loaded when a step first asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from srinit import modules, sources
from srinit.comparison.defects import find_defects
from srinit.config import Config
from srinit.delivery.alternatives import Explorer
from srinit.delivery.packaging import Packer
from srinit.delivery.quantizing import Quantizer
from srinit.errors import ConfigError, ModelError
from srinit.evaluate import LOSSES, Loss, PartTask, Scorer, find_scorer
from srinit.functions import load_function
from srinit.gates import ClassOutlook, class_outlooks
from srinit.observer import Observer, Silent
from srinit.pipeline import labels
from srinit.pipeline.fit import check_fit
from srinit.pipeline.network import load_network
from srinit.sources import DataSet
from srinit.steps.base import Base, base_of_run, tokenizer_of
from srinit.steps.compensating import Compensator
from srinit.steps.planning import Planner
from srinit.steps.recovery import Recovery
from srinit.steps.task import Bench, Evaluator, Execution, Task
from srinit.steps.trials import Trials

NUM_EXAMPLE_INPUTS = 2  # enough to tell the batch dimension from the others


class Resources:
    """What steps may ask for by name, beside what other steps left.

    Args:
        config: The validated config.
        observer: Told what happens.
    """

    def __init__(self, config: Config, observer: Observer | None = None) -> None:
        self.config = config
        self.observer: Observer = observer or Silent()
        self.data_told = False  # what the data are was said

    def value(self, name: str) -> Any:
        """Return what an argument of a step stands for.

        Raises:
            ConfigError: It is a data set that the config does not name.
        """
        section = name.removesuffix("_settings")
        if section != name:
            return getattr(self.config, section)
        if name in ("calibration", "validation", "test"):
            return self.split(name)
        if name in ("train", "site"):
            return self.data.get(name)
        return getattr(self, name)

    def of_network(self, model: nn.Module) -> Resources:
        """Return the same with another network, that of an earlier round; no unit is protected.

        Its units have other names than the config speaks of.
        """
        units = self.config.units.model_copy(update={"keep": []})
        other = Resources(self.config.model_copy(update={"units": units}), self.observer)
        other.__dict__ |= {"model": model, "data": self.data, "data_told": True}
        return other

    @cached_property
    def device(self) -> torch.device:
        """The device of the config; "auto" takes the first CUDA device, else the CPU."""
        name = self.config.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"device {name!r} cannot be used: {reason}") from None

    @cached_property
    def model(self) -> nn.Module:
        """The trained network, in evaluation mode, on the device."""
        model = load_network(self.config, on_note=self.observer.say)
        return model.to(self.device).eval()

    @cached_property
    def base(self) -> Base:
        """Where the network comes from, and what the folder that it ends in is named after."""
        return base_of_run(self.config)

    @cached_property
    def scorer(self) -> Scorer:
        """The score of an example that the config names."""
        found = find_scorer(
            self.config.score,
            load=lambda name, root: load_function(name.removeprefix("py:"), root),
            root=self.config.root,
        )
        if isinstance(found, PartTask):
            data = self.config.data
            return found.of_classes(
                self.class_names, {**data.masks.model_dump(), **data.boxes.model_dump()}
            )
        return found

    @cached_property
    def loss(self) -> Loss | None:
        """The loss that the config names; None: the one that belongs to its score."""
        settings = self.config.finetune
        if settings.loss is None:
            return None
        if settings.loss in LOSSES:
            return replace(LOSSES[settings.loss], label_smoothing=settings.label_smoothing)
        found: Loss = load_function(settings.loss.removeprefix("py:"), self.config.root)
        return found

    @cached_property
    def data(self) -> dict[str, DataSet]:
        """The data sets by name: train, calibration, validation, test (those there are)."""
        found = sources.load_splits(
            self.config.data,
            root=self.config.root,
            seed=self.config.seed,
            tokenizer=tokenizer_of(self.config),
        )
        labels.complete(found, self.config, lambda: self.model, self.observer)
        return found

    def split(self, name: str) -> DataSet:
        """Return one data set.

        Raises:
            ConfigError: The config names none.
        """
        if name not in self.data:
            raise ConfigError(
                f"this needs {name} data, which the config does not name: "
                f"write data.{name}, or give it a share in data.split."
            )
        return self.data[name]

    def counts(self, name: str) -> dict[str, int]:
        """Return how many examples of every class a data set holds; without classes, how many."""
        data = self.split(name)
        return data.class_counts or {"": len(data)}

    @property
    def outlooks(self) -> tuple[ClassOutlook, ...]:
        """What can be shown of classes with few test examples."""
        if "test" not in self.data or self.split("test").targets.ndim != 1:
            return ()
        counts, terms = self.split("test").class_counts, self.error_terms
        return class_outlooks(
            counts,
            defects=find_defects(list(counts), terms["defect_class"], terms["costs"]),
            confidence=self.config.compare.confidence,
        )

    @cached_property
    def example_inputs(self) -> Any:
        """Two calibration examples on the device, for tracing, counting and timing."""
        inputs, _ = next(iter(self.split("calibration").batches(NUM_EXAMPLE_INPUTS)))
        return modules.to_device(inputs, self.device)

    @cached_property
    def fitted_model(self) -> nn.Module:
        """The trained network, after it was seen to run on the data."""
        self.check_fit()
        return self.model

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the model's outputs."""
        return self.split("calibration").class_names or self.split("test").class_names

    @property
    def error_terms(self) -> dict[str, Any]:
        """What errors mean here: keyword arguments of `compare_outcomes` and `check_feasible`."""
        data, roi = self.config.data, self.config.roi
        defects, costs = data.defect_classes, data.costs
        if not defects and isinstance(self.scorer, PartTask):
            defects = self.class_names[1:]
        prices = (roi.missed_defect_cost, roi.false_reject_cost)
        if costs is None and defects and None not in prices and any(prices):
            good = [name for name in self.class_names if name not in defects]
            costs = {name: dict.fromkeys(good, prices[0] or 0.0) for name in defects}
            costs |= {name: dict.fromkeys(defects, prices[1] or 0.0) for name in good}
        return {
            "defect_class": defects or None,
            "costs": costs,
            "defect_share": roi.defect_share if defects or costs else None,
        }

    @property
    def task(self) -> Task:
        """What is asked of a network here, and what errors mean."""
        return Task(
            score=self.config.score,
            scorer=self.scorer,
            loss=self.loss,
            class_names=self.class_names,
            error_terms=self.error_terms,
            confidence=self.config.compare.confidence,
        )

    @cached_property
    def execution(self) -> Execution:
        """How work is done: seed, device, batches, and who is told."""
        return Execution(
            seed=self.config.seed,
            device=self.device,
            batch_size=self.config.data.batch_size,
            observer=self.observer,
        )

    @cached_property
    def outcomes_of(self) -> Evaluator:
        """Measures a network on a data set."""
        return Evaluator(self.scorer, self.execution)

    @property
    def bench(self) -> Bench:
        """Times networks on this device."""
        return Bench(self.example_inputs, self.config.compare.latency_batches)

    @property
    def validated(self) -> Callable[[nn.Module], float]:
        """Gives a network's score on validation data."""
        data = self.split("validation")
        return lambda model: self.outcomes_of.fast(model, data, self.example_inputs).score

    @property
    def keep(self) -> list[str]:
        """The units that are protected."""
        return self.config.units.keep

    @cached_property
    def corruptions(self) -> Mapping[str, Any]:
        """The corruptions of test images by name; None for those that the library has."""
        return {
            name: load_function(name.removeprefix("py:"), self.config.root)
            if name.startswith("py:")
            else None
            for name in self.config.shift.corruptions
        }

    @cached_property
    def recovery(self) -> Recovery:
        """How a cut network is trained."""
        return Recovery(
            teacher=self.model,
            train=self.data.get("train"),
            validation=self.data.get("validation"),
            config=self.config,
            task=self.task,
            execution=self.execution,
        )

    @cached_property
    def compensator(self) -> Compensator:
        """What is done after a cut without training."""
        return Compensator(
            teacher=self.model,
            calibration=self.split("calibration"),
            settings=self.config.compensate,
            recalibrates=self.config.prune.recalibrate,
            task=self.task,
            execution=self.execution,
        )

    @cached_property
    def trials(self) -> Trials:
        """Removals tried on copies."""
        return Trials(
            model=self.model,
            calibration=self.split("calibration"),
            example_inputs=self.example_inputs,
            settings=self.config.plan,
            compensator=self.compensator,
            recovery=self.recovery,
        )

    @cached_property
    def planner(self) -> Planner:
        """Makes plans for the targets of the config."""
        return Planner(
            model=self.model,
            settings=self.config.plan,
            keep=self.config.units.keep,
            bench=self.bench,
            trials=self.trials,
            root=self.config.root,
        )

    @property
    def quantizer(self) -> Quantizer | None:
        """Makes and judges int8; None where the config wants none."""
        if not self.config.export.int8:
            return None
        return Quantizer(
            model=self.model,
            calibration=self.split("calibration"),
            validation=self.split("validation"),
            test=self.split("test"),
            task=self.task,
            bench=self.bench,
            gates=self.config.gates,
            execution=self.execution,
        )

    @property
    def explorer(self) -> Explorer | None:
        """Makes and measures alternatives to pruning; None where the config wants none."""
        if not self.config.alternatives.measure:
            return None
        return Explorer(
            model=self.model,
            calibration=self.split("calibration"),
            validation=self.split("validation"),
            task=self.task,
            bench=self.bench,
            gates=self.config.gates,
            settings=self.config.alternatives,
            execution=self.execution,
            load=lambda settings: load_network(
                self.config.model_copy(update={"model": settings}), on_note=self.observer.say
            ),
        )

    @property
    def packer(self) -> Packer | None:
        """Makes the edge package; None where the config wants none."""
        return self.make_packer() if self.config.export.package else None

    def make_packer(self) -> Packer:
        """Return what makes the edge package, whatever the config wants."""
        return Packer(
            test=self.split("test"),
            task=self.task,
            batch_sizes=self.config.compare.latency_batches,
            license=self.config.export.license,
            observer=self.observer,
        )

    def check_fit(self) -> None:
        """Check that the model runs on the data; see `srinit.pipeline.fit`."""
        calibration = self.split("calibration")
        check_fit(
            self.model,
            self.example_inputs,
            score=self.config.score,
            scorer=self.scorer,
            class_names=self.class_names,
            holds_images=calibration.pool.holds_images,
        )
