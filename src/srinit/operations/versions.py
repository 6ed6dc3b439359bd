"""What a version of a network is made of: weights, recipe, judgement, and a few answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from srinit import artifact, modules, store
from srinit.config import Config
from srinit.errors import IntegrityError, ModelError, is_out_of_memory
from srinit.pipeline.network import base_of, load_network
from srinit.pipeline.runner import Runner
from srinit.plan import PrunePlan
from srinit.registry import sign_version
from srinit.store.seal import Seal

SMOKE = "smoke.safetensors"
KEPT = (artifact.WEIGHTS, artifact.RECIPE, "gate.json", "comparison.json")
TOLERANCE = 1e-3  # of a logit, relative and absolute: another processor rounds differently


def pruned_version(runner: Runner, seal: Seal, folder: Path) -> str:
    """Write the version of the run's pruned network into `folder`; return its digest.

    What is written are the bytes that have the hashes of the seal, read once.

    Raises:
        IntegrityError: A file of the run is not what was sealed.
    """
    place = runner.files.round_folder.relative_to(runner.path).as_posix()
    for name in KEPT:
        if f"{place}/{name}" in seal.digests:
            store.write_bytes(folder / name, seal.read(f"{place}/{name}"))
    _write_smoke(runner, runner.load(folder), folder)
    return sign_version(folder)


def weights_of(folder: Path) -> str:
    """Return the SHA-256 of the weights of a version."""
    return artifact.read_recipe(folder).weights_sha256


def unpruned_version(runner: Runner, folder: Path) -> str:
    """Write the version of the unpruned network, the first way back; return its digest."""
    plan = PrunePlan(
        remove=(), ranking=(), prefixes=(), target={}, criterion="none",
        note="the unpruned network",
    )  # fmt: skip
    artifact.save_pruned(
        folder,
        runner.resources.model,
        plan,
        base=base_of(runner.config),
        preprocessing=runner.config.data.preprocess.model_dump(mode="json"),
        metadata={"class_names": list(runner.resources.class_names)},
    )
    _write_smoke(runner, runner.resources.model, folder)
    return sign_version(folder)


def _write_smoke(runner: Runner, model: nn.Module, folder: Path) -> None:
    """Keep some test inputs and the network's answers to them, computed on the CPU."""
    count = runner.config.registry.smoke_examples
    if not count:
        return
    inputs, _ = next(iter(runner.resources.split("test").batches(count)))
    place = modules.device_of(model)
    try:
        answers = _answers(model.cpu(), inputs)
    finally:
        model.to(place)
    parts = {**_flat(inputs), "answers": answers}
    content = to_safetensors({k: v.contiguous() for k, v in parts.items()})
    store.write_bytes(folder / SMOKE, content)


def load_version(folder: Path, config: Config) -> nn.Module:
    """Return the network of a version, on the CPU.

    Code is only run if the config of the run, which the user wrote, names the same.
    """
    ours = artifact.read_recipe(folder).base.get("source") == config.model.source
    base = partial(load_network, config, bare=True)
    return artifact.load_pruned(folder, base=base if ours else None)


def smoke_test(model: nn.Module, folder: Path) -> int:
    """Ask a loaded version the kept questions; return how many it answered as it once did.

    Zero if the version keeps none.

    Raises:
        ModelError: It does not run, or answers differently.
        IntegrityError: The kept questions cannot be read.
    """
    path = folder / SMOKE
    if not path.is_file():
        return 0
    try:
        parts = parse_safetensors(path.read_bytes())
        wanted = parts.pop("answers")
    except (SafetensorError, KeyError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}.") from None
    try:
        found = _answers(model, _nested(parts))
    except (RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise ModelError(f"the version does not run on its smoke set: {reason}.") from error
    if found.shape != wanted.shape or not torch.allclose(
        found, wanted, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
    ):
        raise ModelError(
            "the version answers its smoke set differently than when it was registered; the "
            "installed torch or the model's code is another."
        )
    return len(wanted)


def _answers(model: nn.Module, inputs: Any) -> Tensor:
    with modules.untouched(model), torch.inference_mode():
        return modules.logits_of(modules.call(model, inputs)).float().clone()


def _flat(inputs: Any) -> dict[str, Tensor]:
    if isinstance(inputs, Tensor):
        return {"inputs": inputs}
    if isinstance(inputs, Mapping):
        return {f"inputs.{name}": value for name, value in inputs.items()}
    return {f"inputs.{number}": value for number, value in enumerate(inputs)}


def _nested(parts: Mapping[str, Tensor]) -> Any:
    if set(parts) == {"inputs"}:
        return parts["inputs"]
    named = {name.partition(".")[2]: value for name, value in parts.items()}
    if all(name.isdigit() for name in named):
        return tuple(named[str(number)] for number in range(len(named)))
    return named
