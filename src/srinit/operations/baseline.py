"""What a run's network did on its test data: what operation is compared with."""

from __future__ import annotations

from srinit import artifact
from srinit.custody.beside import beside
from srinit.errors import DataError, PruneError
from srinit.evaluate import PartTask
from srinit.monitor import Observations
from srinit.operations import observe
from srinit.pipeline.runner import Runner
from srinit.runs import artifacts
from srinit.store import RunFolder, audit, sha256_file, write_npz
from srinit.store.files import parse_npz
from srinit.store.seal import AUDIT, read_checked

BASELINE, OBSERVED = "baseline.npz", "baseline observed"


def class_names(runner: Runner) -> tuple[str, ...]:
    """Return the classes of the run's network.

    Raises:
        DataError: It has none.
    """
    recipe = artifact.read_recipe(runner.files.round_folder)
    names = tuple(str(name) for name in recipe.metadata.get("class_names", ()))
    if not names:
        raise DataError("monitoring needs a network with named classes, and this run has none.")
    return names


def baseline(runner: Runner, *, needed: bool) -> Observations:
    """Return what the run's network did on its test data; observed once and kept.

    Args:
        runner: Of the run.
        needed: Raise where the data is gone; else the kept predictions serve.
    """
    path = beside(runner.path) / BASELINE
    digest = _recorded(runner.folder)
    if digest and path.is_file():
        content = read_checked(path.parent, path.name, digest)
        return observe.from_arrays(parse_npz(content, path))
    try:
        test = runner.resources.split("test")
        recorded = runner.files.read(artifacts.COMPARISON).data_hash
        if test.data_hash != recorded:
            raise DataError("the test data is another than at the comparison.")
    except PruneError as error:
        if needed:
            raise
        runner.observer.say(f"only the kept predictions serve as baseline: {error}")
        return _kept(runner)
    found = observe.observe(
        runner.get(artifacts.TUNED),
        test,
        batch_size=runner.config.data.batch_size,
        unpruned=runner.resources.model,
        task=part_task(runner),
    )
    with runner.folder.lock():
        write_npz(path, observe.to_arrays(found))
        inputs = {"test": recorded, BASELINE: sha256_file(path)}
        runner.folder.audit("monitor", OBSERVED, inputs=inputs)
    return found


def part_task(runner: Runner) -> PartTask | None:
    """Return what reads the answers of a network that lie in images; None for classes."""
    scorer = runner.resources.scorer
    return scorer if isinstance(scorer, PartTask) else None


def _recorded(folder: RunFolder) -> str:
    """Return the hash of the kept baseline, as the audit log tells; empty for none."""
    entries = audit.read(folder.path / AUDIT).entries
    found = [e["inputs"].get(BASELINE, "") for e in entries if e["decision"] == OBSERVED]
    return str(found[-1]) if found else ""


def _kept(runner: Runner) -> Observations:
    kept = runner.files.read(artifacts.PREDICTIONS)
    if not len(kept.pruned.predictions):
        raise DataError("monitoring needs a network that chooses one class an example.")
    return Observations(
        prediction=kept.pruned.predictions.clip(min=0),
        confidence=kept.pruned.confidence,
        agrees=(kept.baseline.predictions == kept.pruned.predictions).astype(float),
        right=(kept.pruned.predictions == kept.pruned.targets).astype(float),
    )
