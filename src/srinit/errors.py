"""Every error that srinit raises on purpose, and the exit code each one stands for.

::

    PruneError                     1
    |- ConfigError                 2   usage: config file, arguments, plan
    |  `- PlanError                2   a plan that names unknown or locked units, or cannot be met
    |- GateFailedError             3   the run worked, the pruned network did not pass
    |- UnusableError               4   model or data cannot be used
    |  |- ModelError               4   cannot be built, called or loaded
    |  |  |- CheckpointError       4   weights do not fit, or are damaged
    |  |  |- ReinitError           4   a unit has nothing that can be drawn again
    |  |  |- SurgeryError          4   a unit cannot be removed
    |  |  `- CompensationError     4   a cut network cannot be compensated
    |  |- DataError                4   missing, empty, unreadable, overlapping
    |  |- RegistryError            4   the model registry cannot be reached or refuses
    |  `- MissingExtraError        4   an optional package is not installed
    |- ResourceError               5   memory or disk
    `- UnsafeError                 6   refused: pickle, foreign folder, code from an artifact
       `- IntegrityError           6   a file is not what its hash says
"""

from __future__ import annotations

from typing import Any


class PruneError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(PruneError, ValueError):
    """The config file or the arguments are wrong; all problems are listed together."""

    exit_code = 2


class PlanError(ConfigError):
    """A plan names units that do not exist or are locked, or its target cannot be met."""


class GateFailedError(PruneError):
    """The run itself worked; a quality gate says no."""

    exit_code = 3


class UnusableError(PruneError):
    """A model, data set or package cannot be used as it is."""

    exit_code = 4


class ModelError(UnusableError):
    """The model cannot be built, called or loaded."""


class CheckpointError(ModelError):
    """Weights do not fit the model, or the file is damaged."""


class ReinitError(ModelError):
    """A unit has nothing that can be drawn again, so its drop cannot be measured."""


class SurgeryError(ModelError):
    """A unit cannot be removed from this model."""


class CompensationError(ModelError):
    """What a cut lost cannot be made up for in closed form."""


class DataError(UnusableError):
    """Data is missing, empty, unreadable, overlapping, or does not fit the model."""


class RegistryError(UnusableError):
    """The model registry cannot be reached, refuses, or holds something unexpected."""


class MissingExtraError(UnusableError, ImportError):
    """An optional package is not installed; the message holds the install command."""


class ResourceError(PruneError):
    """Memory or disk is exhausted."""

    exit_code = 5


class UnsafeError(PruneError):
    """Refused for safety: a pickle, a folder that is not ours, code that came with an artifact."""

    exit_code = 6


class IntegrityError(UnsafeError):
    """A file is not what its recorded hash says."""


FULL_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
    "bad_alloc", "alloc_failed",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device's or the host's memory is exhausted.

    PyTorch has a class for it on GPUs; the CPU's allocator, oneDNN and cuBLAS raise a
    `RuntimeError` that tells it in words.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"))
        True
        >>> is_out_of_memory(RuntimeError("could not create a primitive"))
        True
        >>> is_out_of_memory(RuntimeError("could not create a primitive descriptor for a matmul"))
        False
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    if not isinstance(error, RuntimeError):
        return False
    bare = text.strip() == "could not create a primitive"  # oneDNN, without room for its code
    return bare or any(words in text for words in FULL_MEMORY)


def as_names(names: Any, argument: str) -> tuple[str, ...]:
    """Return names as a tuple.

    Args:
        names: A list of names; None is an empty one.
        argument: What they were given as, for the error.

    Raises:
        TypeError: A text, which would be read letter by letter, or no list of texts.

    Example:
        >>> as_names(["block1"], "remove")
        ('block1',)
    """
    if names is None:
        return ()
    if isinstance(names, str):
        raise TypeError(f"{argument} is a list of names, found a text: write [{names!r}].")
    try:
        found = tuple(names)
    except TypeError:
        raise TypeError(f"{argument} is a list of names, found {type(names).__name__}.") from None
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"{argument} is a list of names, found {type(name).__name__} in it.")
    return found


def require(module: str, extra: str, purpose: str) -> None:
    """Raise `MissingExtraError` unless `module` can be imported.

    Args:
        module: Top-level import name.
        extra: The extra of srinit that installs it.
        purpose: What it is needed for, as the end of "... is needed ...".
    """
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(
            f"{module} is needed {purpose} and is not installed: "
            f"python3 -m pip install 'srinit[{extra}]'"
        )
