"""Begins a run, or finds the unfinished one that the same config and inputs belong to."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from srinit import __version__
from srinit.config import Config, dump_yaml, load_config
from srinit.custody import changing, fixed, overrides, pending
from srinit.custody.overrides import Override
from srinit.distributed import process_group
from srinit.errors import ConfigError, IntegrityError, PruneError, UnsafeError
from srinit.observer import Observer
from srinit.pipeline import earlier
from srinit.pipeline.parts import PARTS
from srinit.pipeline.runner import Runner
from srinit.pipeline.sizes import meaning_of
from srinit.runs import RunFiles, processes
from srinit.runs.artifacts import BASELINE_OUTCOMES, DATA_FACTS, HEADS, UNITS
from srinit.runs.inputs import config_of, files_of, inputs_lock
from srinit.store import RunFolder, write_text
from srinit.store.sums import read_sums

PACKAGES = ("torch", "torchvision", "timm", "transformers", "numpy", "scipy", "onnxruntime",
            "openvino", "nncf")  # fmt: skip
FINISHED = "result.json"
LOOKED = {*HEADS, DATA_FACTS.path, BASELINE_OUTCOMES.path}  # nothing came about yet


@contextmanager
def create_run(
    path: Path, overrides: Sequence[str], observer: Observer, *, fresh: bool = False
) -> Iterator[Runner]:
    """Yield the runner of a config file, its folder locked; see `create_run_of`."""
    with create_run_of(load_config(path, overrides), observer, fresh=fresh) as runner:
        yield runner


@contextmanager
def create_run_of(config: Config, observer: Observer, *, fresh: bool = False) -> Iterator[Runner]:
    """Yield the runner of a config, its folder locked against other processes.

    The newest run of the same name goes on if its config and the hashes of its inputs are the
    same. If the config is another, what still holds of that run is taken: in its folder, where it
    is neither sealed nor judged by something else, or in a new numbered one; what is made anew,
    and why, is said before. Else a new folder is made, which is removed again if nothing came
    about in it.

    Under `torchrun` or `accelerate launch` rank 0 does that; the other ranks work on a copy of
    the folder, which is dropped at the end.
    """
    with process_group() as ranks:
        if ranks.rank:
            with processes.copy_of_first(ranks) as (folder, origin):
                yield Runner(config, folder, rank=ranks.rank, origin=origin)
            return
        folder, change = _folder_for(config, observer, fresh=fresh)
        runner = Runner(config, folder, observer)
        runner.change = change
        with processes.kept_by_first(folder, ranks, then=lambda: settle(runner)):
            try:
                yield runner
            except PruneError:
                if set(folder.files()) <= LOOKED:
                    changing.discard(folder)
                raise


def _folder_for(
    config: Config, observer: Observer, *, fresh: bool
) -> tuple[RunFolder, changing.Change | None]:
    """Return the folder that a config is worked on in, and what that changes of it."""
    fingerprint = inputs_lock(config)
    folder = None if fresh else earlier.matching(config, fingerprint)
    if folder is not None:
        observer.say(f"{'finished' if folder.was_sealed else 'resuming'} {folder.path}")
        return folder, None
    found = None if fresh else earlier.changed(config, fingerprint)
    if found is None:
        folder = RunFolder.create(
            Path(config.out),
            config.name,
            fill=lambda made: _write_heads(made, config, fingerprint),
        )
        return folder, None
    folder, change = found
    work = folder
    if change.makes_new_run:
        with folder.lock():
            work = changing.new_run(folder, change, config, PARTS, inputs_lock(config))
    else:
        observer.say(f"going on with {folder.path}")
    for line in change.words(str(work.path)):
        observer.say(line)
    return work, change


@contextmanager
def open_run(
    path: Path,
    observer: Observer,
    pairs: Sequence[str] = (),
    *,
    verb: str,
    redo: Collection[str] = (),
    edit: Override | None = None,
    check: Callable[[Runner], None] | None = None,
    only_acts: bool = False,
) -> Iterator[Runner]:
    """Yield the runner of an existing run folder, locked; several processes as in `create_run_of`.

    A run that is sealed stays as it is: where the verb would change it, the runner is that of a
    new run beside it, which holds what still holds. What is done is said before it starts.

    Args:
        path: The run.
        observer: Told what happens.
        pairs: `--set` pairs.
        verb: Its name, for the record.
        redo: Parts of the run that the verb makes anew; if nothing before them is stale, it sets
            them aside itself, with `settle`, when what takes their place is there.
        edit: Of the plan by hand.
        only_acts: The verb takes the run as it is: nothing in it may be changed by `--set`.
        check: Looks at the run before anything is made or moved, and raises what is wrong.

    Raises:
        UnsafeError: The folder is not ours, or another process uses it.
        ConfigError: Its inputs were changed since the run began.
    """
    folder = RunFolder.open(path)
    _finish(folder)
    config, change = _asked(folder, pairs, verb, redo, edit)
    if only_acts and change:
        raise UnsafeError(changing.refused_for(change))
    _checked(check, Runner(config, folder, observer), change)
    with process_group() as ranks:
        if ranks.rank:
            with processes.copy_of_first(ranks) as (copied, origin):
                yield Runner(config, copied, rank=ranks.rank, origin=origin)
            return
        work = folder
        if change.makes_new_run:
            with folder.lock():
                work = changing.new_run(folder, change, config, PARTS, inputs_lock(config))
        for line in change.words(str(work.path)) if change else ():
            observer.say(line)
        runner = Runner(config, work, observer)
        runner.change = change
        waits = bool(redo) and set(change.redone) <= set(PARTS.with_later(redo))

        def then() -> None:
            if work is folder and _asked(folder, pairs, verb, redo, edit)[1] != change:
                raise UnsafeError(
                    f"{folder.path} was changed by another process; give the command again."
                )
            if not waits:
                settle(runner)

        with processes.kept_by_first(work, ranks, then=then):
            there = work.files()
            try:
                yield runner
            except PruneError:
                if work is not folder and work.files() == there:
                    changing.discard(work)
                raise


def _asked(
    folder: RunFolder,
    pairs: Sequence[str],
    verb: str,
    redo: Collection[str],
    edit: Override | None,
) -> tuple[Config, changing.Change]:
    """Return the config that a verb asks for, and what that changes of the run."""
    fixed.check(folder, load_config(folder.path / "config.yaml"))
    for name in ("config.yaml", "run.json", "inputs.lock.json", overrides.FILE):
        folder.check(folder.path / name)
    before, after = config_of(folder), config_of(folder, pairs)
    _check_inputs(folder, before)
    meaning = meaning_of(before, after, RunFiles(folder).get(UNITS))
    return after, changing.change_of(
        folder,
        before,
        after,
        PARTS,
        verb=verb,
        redo=redo,
        meaning=meaning,
        edit=edit,
    )


def _checked(
    check: Callable[[Runner], None] | None, runner: Runner, change: changing.Change
) -> None:
    """Look at a run as it is, before a verb changes it."""
    runner.change = change
    if check is not None:
        check(runner)


def foresee(
    path: Path,
    pairs: Sequence[str] = (),
    *,
    verb: str,
    redo: Collection[str] = (),
    edit: Override | None = None,
    check: Callable[[Runner], None] | None = None,
) -> list[str]:
    """Return what a verb would change of a run, for `--dry-run`; nothing is written."""
    folder = RunFolder.open(path)
    config, change = _asked(folder, pairs, verb, redo, edit)
    _checked(check, Runner(config, folder), change)
    return change.words(f"a new run {folder.path.with_name(config.name)}-N") if change else []


def settle(runner: Runner) -> None:
    """Put what the verb changes on record, and set aside what that makes stale, if it is there."""
    change, runner.change = runner.change, None
    if change is None:
        return
    if not change.makes_new_run:
        _tell_edited(runner, change)
        pending.settle(runner.folder, change, PARTS, inputs_lock(runner.config))
    runner.enter(1 if "cut" in change.redone else runner.files.round_number)


def _tell_edited(runner: Runner, change: changing.Change) -> None:
    """Say which files that are set aside are not those that were written."""
    folder = runner.folder
    recorded = read_sums(folder.path / "SHA256SUMS")
    for name in folder.files():
        if PARTS.of(name) in change.redone and name in recorded:
            try:
                folder.check(folder.path / name)
            except IntegrityError:
                runner.observer.say(
                    f"{name} was edited by hand or damaged; it is set aside as it is."
                )


def _finish(folder: RunFolder) -> None:
    """Finish a change of a run that a process began and was killed in."""
    if pending.is_pending(folder.path):
        with folder.lock():
            pending.finish(folder, PARTS)


def _check_inputs(folder: RunFolder, config: Config) -> None:
    recorded = json.loads((folder.path / "inputs.lock.json").read_text("utf-8"))
    changed = [
        name
        for name, digest in files_of(inputs_lock(config)).items()
        if recorded.get(name) != digest
    ]
    if changed:
        raise ConfigError(
            f"{folder.path}: {', '.join(changed)} changed since the run began; start a new run."
        )


def _write_heads(folder: RunFolder, config: Config, fingerprint: dict[str, str]) -> None:
    body = config.model_dump(mode="json", exclude={"root"})
    write_text(folder.path / "config.yaml", dump_yaml(body))
    write_text(folder.path / "env.json", _json(environment()))
    write_text(folder.path / "inputs.lock.json", _json(fingerprint))
    head = json.loads((folder.path / "run.json").read_text("utf-8"))
    write_text(folder.path / "run.json", _json({**head, "root": str(config.root)}))
    folder.audit("begin", "run folder made", inputs=fingerprint)


def environment() -> dict[str, Any]:
    """Return versions and hardware: what a number depends on besides the seed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "srinit": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda_devices": devices,
        "packages": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _json(body: Any) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"
