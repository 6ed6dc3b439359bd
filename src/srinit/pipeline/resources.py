"""What a config names: network, data, score, settings; loaded when a step first asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from srinit import modules, sources
from srinit.config import Config
from srinit.errors import ConfigError, DataError, ModelError, is_out_of_memory
from srinit.evaluate import LOSSES, SCORERS, Loss, Scorer, find_scorer, labeled_by, scored
from srinit.functions import load_function
from srinit.gates import check_class_names
from srinit.observer import Observer, Silent
from srinit.pipeline.network import load_network
from srinit.sources import DataSet
from srinit.steps.base import Base, base_of_run, tokenizer_of
from srinit.steps.compensating import Compensator
from srinit.steps.packaging import Packer
from srinit.steps.planning import Planner
from srinit.steps.quantizing import Quantizer
from srinit.steps.recovery import Recovery
from srinit.steps.task import Bench, Evaluator, Execution, Task
from srinit.steps.trials import Trials

NUM_EXAMPLE_INPUTS = 2  # enough to tell the batch dimension from the others
INPUTS = ("model", "data", "score")
ERRORS = ("roi.missed_defect_cost", "roi.false_reject_cost", "roi.defect_share")
KEYS: dict[str, tuple[str, ...]] = {
    "model": INPUTS,
    "data": (*INPUTS, "seed"),  # which splits them
    "scorer": ("score",),
    "task": (*ERRORS, "compare.confidence"),
    "bench": ("compare.latency_batches",),
    "scan_goal": (),  # a scan serves every target
    "trials": ("plan", "compensate.method", "prune.recalibrate", "compare.confidence"),
    "planner": (
        "plan",
        "units.keep",
        "compare.latency_batches",
        "compare.confidence",
        "compensate.method",
        "prune.recalibrate",
    ),
    "compensator": ("compensate", "prune", "compare.confidence"),
    "recovery": ("finetune",),
    "site": ("data.site",),
    "quantizer": (
        "export.int8",
        "gates",
        "compare.latency_batches",
        "compare.confidence",
        *ERRORS,
    ),
    "packer": ("export.package", "export.license"),
    "corruptions": ("shift.corruptions",),
    "base": ("model", "export"),
}
"""The keys of the config that an argument of a step rests on; sections rest on themselves."""


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
        return find_scorer(
            self.config.score,
            load=lambda name, root: load_function(name.removeprefix("py:"), root),
            root=self.config.root,
        )

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
        self._check_named(found)
        if self.config.score == "agreement":
            self._label(found)
        else:
            self._label_unlabeled(found)
        self._stand_in(found)
        return found

    def _label_unlabeled(self, data: dict[str, DataSet]) -> None:
        """Let the unpruned network label the examples without labels that choose layers.

        Raises:
            DataError: Training or test data have no labels.
        """
        used = ("train", "calibration", "validation", "test")  # the site's own are never asked for
        bare = {name: data[name] for name in used if name in data and _is_unlabeled(data[name])}
        for name in ("train", "test"):
            if name in bare:
                raise DataError(
                    f"data.{name} has no labels; only calibration and validation examples can do "
                    "without. Write score: agreement to compare answers instead of labels."
                )
        if bare:
            self._label(bare)
            self.observer.say(
                f"{', '.join(bare)}: without labels; layers are chosen by agreement with the "
                "unpruned network's answers; scores there are agreement, class counts its answers."
            )

    def _stand_in(self, data: dict[str, DataSet]) -> None:
        """Let calibration examples stand in for validation, where nothing is stopped by those."""
        settings = self.config.finetune
        own = settings.command is not None or settings.fn is not None
        is_trained = own or ("train" in data and settings.epochs > 0)
        if "validation" not in data and "calibration" in data and not is_trained:
            data["validation"] = data["calibration"]
            self.observer.say(
                "no validation data: calibration examples stand in, as nothing is trained that "
                "they could stop."
            )

    def _check_named(self, data: dict[str, DataSet]) -> None:
        """Check that the classes that gates name are some."""
        names = next((each.class_names for each in data.values() if each.class_names), ())
        settings = self.config.data
        if names and self.config.score == "top1":
            check_class_names(
                self.config.gates.limits(),
                names,
                defect_class=settings.defect_classes or None,
                costs=settings.costs,
            )

    def _label(self, data: dict[str, DataSet]) -> None:
        """Put the unpruned network's predictions in the place of all labels."""
        for pool in {id(each.pool): each.pool for each in data.values()}.values():
            used = sorted({i for each in data.values() if each.pool is pool for i in each.indices})
            batches = DataSet(pool, tuple(used)).batches(self.config.data.batch_size)
            labels = [target.numpy() for _, target in labeled_by(self.model, batches)]
            pool.relabel(used, np.concatenate(labels))

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
        )

    @property
    def quantizer(self) -> Quantizer | None:
        """Makes and judges int8; None where the config wants none."""
        if not self.config.export.int8:
            return None
        return Quantizer(
            model=self.model,
            calibration=self.split("calibration"),
            test=self.split("test"),
            task=self.task,
            bench=self.bench,
            gates=self.config.gates,
            execution=self.execution,
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
        """Check that the model runs on the data, and that its output is what the score needs.

        Raises:
            ModelError: It does not run, or has no head; where it would run with another number of
                channels, that is said.
            DataError: The number of classes differs.
        """
        model, inputs = self.model, self.example_inputs
        try:
            with modules.untouched(model), torch.inference_mode():
                output = modules.call(model, inputs)
        except (RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            shapes = [tuple(t.shape) for t in modules.tensors(inputs)]
            raise ModelError(
                f"the model does not run on the data (inputs {shapes}): "
                f"{self._other_channels() or self._reason(error)}"
            ) from error
        score = self.config.score
        logits = scored(output, score) if score in SCORERS else modules.logits_of(output)
        names = self.class_names
        if score != "top1":
            return
        if logits.ndim > 2:
            raise DataError(
                f"score: top1 needs class scores (B, C), and the model returns "
                f"{tuple(logits.shape)}. Set score: to one of {', '.join(SCORERS)} or py:FILE.py:"
                "FUNCTION, or name a network with one output an example (hf: model.args.auto)."
            )
        if logits.ndim == 2 and names and logits.shape[1] != len(names):
            raise DataError(
                f"the data has {len(names)} classes ({', '.join(names[:12])}), but the model has "
                f"{logits.shape[1]} outputs. Name the right data, or the classes in data.classes."
            )

    @staticmethod
    def _reason(error: Exception) -> str:
        first = (str(error) or type(error).__name__).splitlines()[0]
        return f"{first}. Check data.preprocess: size, crop and channels."

    def _other_channels(self) -> str:
        """Return what to do where the model runs on images with another number of channels."""
        if not self.split("calibration").pool.holds_images:
            return ""
        given = self.example_inputs.shape[1]
        other = 1 if given == 3 else 3
        probe = self.example_inputs[:, :1].expand(-1, other, -1, -1)
        try:
            with modules.eval_mode(self.model), torch.inference_mode():
                modules.call(self.model, probe)
        except (RuntimeError, TypeError, ValueError):
            return ""
        return (
            f"it takes images of {other} channel{'s' if other > 1 else ''} and gets {given}. Write "
            f"data.preprocess.channels: {other} ({'gray' if other == 1 else 'RGB'}), with "
            f"{other} value{'s' if other > 1 else ''} of mean and std."
        )


def _is_unlabeled(data: DataSet) -> bool:
    targets = data.targets
    return targets.ndim == 1 and len(targets) > 0 and bool((targets < 0).all())
