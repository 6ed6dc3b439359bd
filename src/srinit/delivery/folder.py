"""The Hugging Face folder of a run: foreseen before the work, written at its end."""

from __future__ import annotations

from torch import nn

from srinit.comparison import Comparison
from srinit.config.sections import ExportSection
from srinit.errors import ConfigError, ModelError
from srinit.finetune import TuneLog
from srinit.gates import GateResult
from srinit.hugging_face import (
    CardFacts,
    FolderFiles,
    FolderOutlook,
    foresee_folder,
    is_of_transformers,
    model_card,
    write_folder,
)
from srinit.hugging_face.outlook import probe
from srinit.plan import PrunePlan
from srinit.runs import RunFiles, artifacts
from srinit.runs.records import CutMetrics
from srinit.sources import DataSet
from srinit.steps.base import FOLDER, Base
from srinit.steps.table import step
from srinit.steps.task import Execution
from srinit.units import UnitMap

NAME = FOLDER.rpartition("/")[2]
CHECKED_EXAMPLES = 8


FOLDER_KEYS = {"export_settings": ("export.huggingface", "export.shard_size")}


@step(artifacts.FOLDER_OUTLOOK, part="folder outlook", keys=FOLDER_KEYS)
def folder_outlook(
    model: nn.Module,
    units: UnitMap,
    example_inputs: object,
    export_settings: ExportSection,
    execution: Execution,
) -> FolderOutlook | None:
    """Return whether the config can follow cuts at all, said before anything is measured.

    Raises:
        ConfigError: It cannot, and the folder is required.
    """
    asked = probe(units.removable)
    if not asked or not is_wanted(model, export_settings):
        return None
    found = foresee_folder(model, asked, example_inputs, others=units.removable)
    return _told(found, export_settings, execution)


@step(artifacts.PLANNED_FOLDER, part="planned folder", keys=FOLDER_KEYS)
def planned_folder(
    model: nn.Module,
    plan: PrunePlan,
    example_inputs: object,
    export_settings: ExportSection,
    execution: Execution,
) -> FolderOutlook | None:
    """Return whether the config can follow this plan, said before it is carried out.

    Raises:
        ConfigError: It cannot, and the folder is required.
    """
    if not plan.remove or not is_wanted(model, export_settings):
        return None
    gone = [removal.unit for removal in plan.remove]
    return _told(foresee_folder(model, gone, example_inputs), export_settings, execution)


def is_wanted(model: nn.Module, settings: ExportSection) -> bool:
    """Return whether a network is to be written as a folder: one of transformers, as configured."""
    return settings.huggingface != "none" and is_of_transformers(model)


def _told(found: FolderOutlook, settings: ExportSection, execution: Execution) -> FolderOutlook:
    if found.possible:
        return found
    if settings.huggingface == "required":
        raise ConfigError(f"export.huggingface is required, and {found.words()}")
    execution.observer.say(found.words())
    return found


@step(
    artifacts.FOLDER,
    part="folder",
    says=("export", lambda found: found.folder or "no Hugging Face folder"),
    reason=lambda found: found.reason,
    keys={"base": ("export.huggingface", "export.shard_size")},
)
def hugging_face(
    tuned: nn.Module,
    test: DataSet,
    round_plan: PrunePlan,
    comparison: Comparison,
    gates: GateResult,
    base: Base,
    files: RunFiles,
    execution: Execution,
) -> FolderFiles | None:
    """Return the folder that was written, and read again; None where none is asked for.

    Raises:
        ConfigError: It cannot be written, and is required.
    """
    if not is_wanted(tuned, base.export):
        return None
    place = files.path(artifacts.FOLDER).with_name(NAME)
    files.folder.refuse_links(place)
    inputs, _ = next(iter(test.batches(CHECKED_EXAMPLES)))
    facts = CardFacts(
        name=base.run,
        source=base.source,
        network=type(tuned).__name__,
        score=base.score,
        plan=round_plan,
        comparison=comparison,
        gates=gates,
        recovery=_recovery(files.read(artifacts.CUT), files.read(artifacts.TUNE_LOG)),
        base_card="" if base.folder is None else base.folder.card(),
        versions=base.versions(),
    )
    try:
        found = write_folder(
            tuned,
            place,
            inputs=inputs,
            card=model_card(facts),
            base=base.folder,
            shard_size=base.export.shard_size,
        )
    except ModelError as error:
        files.folder.record(place)  # of an earlier attempt
        if base.export.huggingface == "required":
            raise ConfigError(f"export.huggingface is required: {error}") from error
        execution.observer.say(str(error))
        return FolderFiles(folder="", network=type(tuned).__name__, files={}, reason=str(error))
    files.folder.record(place)
    for note in found.notes:
        execution.observer.say(f"{NAME}: {note}")
    return found


def _recovery(cut: CutMetrics, log: TuneLog) -> str:
    chosen = None if cut.compensation is None else cut.compensation.choice
    first = f"compensation without training ({chosen.chosen})" if chosen is not None else ""
    trained = f"{log.steps} steps of training" if log.steps else "no training"
    return ", ".join(part for part in (first, trained) if part)
