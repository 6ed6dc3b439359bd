"""The one door to the files of a run: by the table, under the prefix of a round."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import nn

from srinit.errors import ModelError
from srinit.runs.kinds import Artifact
from srinit.store import RunFolder

T = TypeVar("T")
ROUNDS, REJECTED = "rounds", "rejected"


class Networks(Protocol):
    """Builds the networks of a run from its files, and writes them."""

    def load(self, folder: Path) -> nn.Module:
        """Return a saved network, on the run's device."""
        ...

    def save(self, folder: Path, model: nn.Module) -> None:
        """Save a network: safetensors and recipe."""
        ...


class NoNetworks:
    """For readers that need records alone."""

    def load(self, folder: Path) -> nn.Module:
        """Refuse."""
        raise ModelError(f"{folder} is read for its records; its network is not built.")

    def save(self, folder: Path, model: nn.Module) -> None:
        """Refuse."""
        raise ModelError(f"{folder} is read for its records; no network is written.")


class RunFiles:
    """Reads and writes what the table names; hashes and schemas are checked.

    Args:
        folder: The run folder.
        round_number: The round of pruning whose files `in_round` speaks of, from 1.
        networks: Builds and writes networks.
        base: Folder inside the run in which files that are not of a round lie, "" for its own; a
            later round looks at its own network there.
        rounds: Folder of the rounds; that of the rejected ones has the same files.
    """

    def __init__(
        self,
        folder: RunFolder,
        round_number: int = 1,
        *,
        networks: Networks | None = None,
        base: str = "",
        rounds: str = ROUNDS,
    ) -> None:
        self.folder = folder
        self.round_number = round_number
        self.networks: Networks = networks or NoNetworks()
        self._base, self._rounds = base, rounds

    @property
    def round_folder(self) -> Path:
        """The folder of the round."""
        return self.folder.path / self._rounds / f"{self.round_number:02d}"

    def path(self, artifact: Artifact[Any]) -> Path:
        """Return where a file is, or will be."""
        if artifact.in_round:
            return self.round_folder / artifact.path
        return self.folder.path / self._base / artifact.path

    def name(self, artifact: Artifact[Any]) -> str:
        """Return the name of a file inside the run."""
        return self.path(artifact).relative_to(self.folder.path).as_posix()

    def has(self, artifact: Artifact[Any]) -> bool:
        """Return whether a file is there.

        Raises:
            IntegrityError: It is gone although its hash is recorded, or the way to it is a link.
        """
        return self.folder.has(self.path(artifact))

    def read(self, artifact: Artifact[T]) -> T:
        """Return what a file holds.

        Raises:
            IntegrityError: The file is not what was written.
            ConfigError: It is not there yet, or is something else.
        """
        return artifact.kind.read(self, self.path(artifact))

    def get(self, artifact: Artifact[T]) -> T | None:
        """Return what a file holds; None where there is none."""
        return self.read(artifact) if self.has(artifact) else None

    def write(self, artifact: Artifact[T], value: T) -> None:
        """Write a file; its hash is recorded.

        Raises:
            IntegrityError: It, or a folder above it, is a link.
        """
        self.folder.refuse_links(self.path(artifact))
        artifact.kind.write(self, self.path(artifact), value)

    def digests(self, artifact: Artifact[Any]) -> dict[str, str]:
        """Return the hash of a file by its name, for the audit log; empty if it is not there."""
        return self.folder.digests(self.path(artifact))


def round_numbers(folder: Path, rounds: str = ROUNDS) -> list[int]:
    """Return the numbers of the rounds that a run folder holds, in order."""
    place = folder / rounds
    return sorted(int(p.name) for p in place.glob("[0-9]*") if p.is_dir() and p.name.isdigit())
