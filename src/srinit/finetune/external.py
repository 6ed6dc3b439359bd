"""The user's own training in place of ours: a command or a function, with a checked contract."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from srinit import store
from srinit.errors import CheckpointError, ConfigError, ModelError
from srinit.networks import load_weights, read_weights
from srinit.rng import isolated_rng

SHOWN_LINES = 5


def run_command(
    template: str, model: nn.Module, folder: Path, *, cwd: Path, timeout: float | None = None
) -> None:
    """Let the user's command train: it reads {weights}, writes {out}; both are safetensors.

    The command is split as a shell splits words, and run without a shell. The weights it wrote
    are loaded into `model`, strictly.

    Args:
        template: E.g. "python train.py --init {weights} --save {out}".
        model: The network after the cut; gets the trained weights.
        folder: Where the two files go.
        cwd: Working directory of the command.
        timeout: Seconds; None waits.

    Raises:
        ConfigError: The template lacks a placeholder.
        ModelError: The command cannot be started or fails; its last lines are shown.
        CheckpointError: It wrote nothing, or weights that do not fit.
    """
    for placeholder in ("{weights}", "{out}"):
        if placeholder not in template:
            raise ConfigError(f"finetune.command lacks {placeholder}: {template!r}.")
    weights, out = folder / "to_train.safetensors", folder / "trained.safetensors"
    state = {name: value.cpu().clone().contiguous() for name, value in model.state_dict().items()}
    store.write_bytes(weights, save(state))
    out.unlink(missing_ok=True)
    words = [
        word.replace("{weights}", str(weights.absolute())).replace("{out}", str(out.absolute()))
        for word in _split(template)
    ]
    try:
        done = subprocess.run(
            words, cwd=cwd, capture_output=True, encoding="utf-8", errors="replace",
            timeout=timeout, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"finetune.command could not run: {error}") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()[-SHOWN_LINES:]
        raise ModelError(
            f"finetune.command failed with exit code {done.returncode}"
            + (":\n  " + "\n  ".join(lines) if lines else ", and printed nothing.")
        )
    if not out.is_file():
        raise CheckpointError(f"finetune.command ended well but wrote no {out}.")
    trained = read_weights(out)
    _check_finite(trained, f"finetune.command wrote weights ({out}) that")
    load_weights(model, trained, where=f"what finetune.command wrote ({out})")


def _split(template: str) -> list[str]:
    if os.name == "nt":  # there a backslash parts folders, and escapes nothing
        template = template.replace("\\", "\\\\")
    try:
        return shlex.split(template)
    except ValueError as error:
        raise ConfigError(
            f"finetune.command cannot be split into words ({error}): {template!r}."
        ) from None


def _check_finite(state: Mapping[str, Tensor], what: str) -> None:
    bad = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise CheckpointError(f"{what} hold NaN or infinity, first in {bad[0]!r}.")


def run_function(
    function: Callable[[nn.Module, Any, Any], Any],
    model: nn.Module,
    train: object,
    validation: object,
    *,
    seed: int = 0,
) -> None:
    """Let the user's function train `model` in place: `function(model, train, validation)`.

    It starts from the global random state that `seed` gives; the caller's is restored.

    Raises:
        ModelError: It raises, or leaves other parameters than it was given.
        CheckpointError: It leaves NaN or infinity in the weights.
    """
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    try:
        with isolated_rng(seed):
            function(model, train, validation)
    except Exception as error:
        raise ModelError(f"finetune.fn failed: {type(error).__name__}: {error}") from error
    after = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if after != shapes:
        changed = sorted(set(shapes.items()) ^ set(after.items()))
        raise ModelError(f"finetune.fn changed the network itself, first at {changed[0][0]}.")
    _check_finite(model.state_dict(), "finetune.fn left weights that")
