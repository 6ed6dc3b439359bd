"""Comparisons that are not part of a run: of two runs, or on other data."""

from __future__ import annotations

from pathlib import Path

from srinit.class_names import ClassList
from srinit.comparison import FieldComparison
from srinit.custody import readings
from srinit.custody.networks import load_run
from srinit.pipeline.resources import Resources
from srinit.pipeline.runner import Runner
from srinit.runs import artifacts
from srinit.sources import DataSet, load_data, marks_of, text_reading
from srinit.steps.base import tokenizer_of
from srinit.steps.field_data import compared_on
from srinit.steps.looking import WARNING
from srinit.store import RunFolder


def other_data(source: str, resources: Resources) -> DataSet:
    """Return examples of a source that a command names, prepared as the test data are."""
    names = resources.class_names
    return load_data(
        source,
        preprocess=resources.split("test").pool.preprocess,
        classes=ClassList(names, "the run") if names else None,
        root=Path(),
        may_lack_classes=True,
        marks=marks_of(resources.config.data),
        text=text_reading(
            resources.config.data,
            resources.config.root,
            tokenizer_of(resources.config, source),
        ),
    )


def _noted(runner: Runner, other: Path | None, examples: DataSet, how: str) -> None:
    """Write the look at these examples down beside the runs; say it where they are test data."""
    resources, folders = runner.resources, {runner.path.resolve().parent: runner.folder}
    if other is not None:
        folders.setdefault(other.resolve().parent, RunFolder.open(other))
    for folder in folders.values():
        readings.note_read(folder, examples.ids, examples.data_hash, how)
    shared = len(set(examples.ids) & set(resources.split("test").ids))
    if shared:
        runner.observer.say(
            f"{WARNING} {shared} of these {len(examples)} examples are test data of the run; this "
            "look at them is written down (readings.jsonl), and counts as a reading."
        )


def compare_runs(runner: Runner, other: Path | None, data: str | None) -> FieldComparison:
    """Return a comparison that is not part of the run: of two runs, or on other data.

    Args:
        runner: The run whose pruned network is the second of the pair.
        other: A second run, whose pruned network takes that place; this run's is the first.
        data: A data source in place of the test data; its examples need no labels.
    """
    resources, config = runner.resources, runner.config
    examples = resources.split("test") if data is None else other_data(data, resources)
    first, second = resources.model, runner.get(artifacts.TUNED)
    if other is not None:
        first, second = second, load_run(other, root=config.root).to(resources.device)
    if not resources.execution.ranks.rank:
        _noted(runner, other, examples, "compare --data" if other is None else "compare A B")
    source = data or config.data.test or config.data.source or ""
    return compared_on(first, second, examples, source, resources.task, resources.outcomes_of)
