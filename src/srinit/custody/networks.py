"""The pruned network of another run, from the files that it was sealed with and no others.

A recipe may name code (`py:`). It is followed only for a run whose recipe and weights are those of
its seal, and only if the file of the code is the one that the run was made with.
"""

from __future__ import annotations

import json
import re
import tempfile
from functools import partial
from pathlib import Path

from torch import nn

from srinit import artifact
from srinit.display import command
from srinit.errors import IntegrityError, ModelError, UnsafeError
from srinit.store import RunFolder, sha256_file, write_bytes
from srinit.store.seal import Seal

RECIPE = re.compile(r"rounds/[0-9]+/recipe\.json")


def load_run(run: Path, *, root: Path) -> nn.Module:
    """Return the pruned network that a run delivered, on the CPU.

    Args:
        run: The run folder.
        root: Where code lies that the run's own folder does not have any more.

    Raises:
        ModelError: It holds no pruned network.
        UnsafeError: It is no run, or names code and is not sealed.
        IntegrityError: It, or the code that it names, is not what it was sealed with.
    """
    if not run.is_dir():
        raise ModelError(f"run:{run}: {run} does not exist; run it first.")
    folder = RunFolder.open(run)
    if not folder.was_sealed:
        return _unsealed(folder)
    seal = folder.checked()
    rounds = sorted(name for name in seal.digests if RECIPE.fullmatch(name))
    if not rounds:
        raise ModelError(f"run:{run}: {run} holds no pruned model yet; run it first.")
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        place = Path(name)
        for file in (artifact.RECIPE, artifact.WEIGHTS):
            write_bytes(place / file, seal.read(f"{rounds[-1].rpartition('/')[0]}/{file}"))
        source = str(artifact.read_recipe(place).base.get("source", ""))
        if source.startswith("run:"):
            own = Path(str(json.loads(seal.read("run.json")).get("root", ".")))
            runs = partial(load_run, root=root)
            return artifact.load_pruned(place, trust_code=True, root=own, runs=runs)
        if not source.startswith("py:"):
            return artifact.load_pruned(place)
        return artifact.load_pruned(place, trust_code=True, root=_root(seal, source, root))


def _unsealed(folder: RunFolder) -> nn.Module:
    """Return the network of a run that is at work; code that it names is not followed."""
    rounds = sorted(folder.path.glob("rounds/[0-9]*/recipe.json"))
    if not rounds:
        raise ModelError(
            f"run:{folder.path}: {folder.path} holds no pruned model yet; run it first."
        )
    for file in (artifact.RECIPE, artifact.WEIGHTS):
        folder.check(rounds[-1].with_name(file))
    source = str(artifact.read_recipe(rounds[-1].parent).base.get("source", ""))
    if source.startswith("py:"):
        raise UnsafeError(
            f"{folder.path} is not sealed, and the code that it names ({source}) is not run; "
            f"finish it first: {command('seal', folder.path)}."
        )
    return artifact.load_pruned(rounds[-1].parent)


def _root(seal: Seal, source: str, root: Path) -> Path:
    """Return the folder in which the code lies that a run was made with."""
    name = source.removeprefix("py:")
    file = name.rpartition(":")[0]
    own = Path(str(json.loads(seal.read("run.json")).get("root", ".")))
    digest = json.loads(seal.read("inputs.lock.json")).get(name)
    if digest is None:
        raise UnsafeError(
            f"{seal.folder} names code that it was not made with ({source}); it is not run."
        )
    for place in (own, root):
        path = place / file
        if path.is_file():
            if sha256_file(path) != digest:
                raise IntegrityError(
                    f"{path} was changed since {seal.folder} was made; it is not run. Put back the "
                    "file that the run was made with."
                )
            return place
    return own
