"""One registered model: its runs, its versions, its aliases, and how they move without a gap.

A move tags the new version with what it replaces, and then moves one alias in one call, so that
`champion` is the old or the new version at every moment. Every move names the version that it
expects to replace, and has a number: where both do not hold any more, nothing moves. MLflow
offers no compare-and-swap, so between the last look and the call another program may move it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from srinit.errors import ConfigError, IntegrityError, RegistryError, UnsafeError
from srinit.registry.sums import check_version
from srinit.registry.version import (
    DIGEST,
    GATE,
    LEFT,
    MOVE,
    MOVED,
    REPLACED,
    RUN,
    WEIGHTS,
    Move,
    Version,
    version_of,
)

CHAMPION, CANDIDATE = "champion", "candidate"
EXPERIMENT = "srinit"
KEY = "srinit.key"
LOG = "srinit.log."  # tag of the model, a run: entries and head of its audit log
FOLDER = "version"  # of the artifacts of an MLflow run
MAX_TEXT = 500  # of a parameter


class Registry:
    """The versions and aliases of one model; made by `open_registry`.

    Args:
        client: An `MlflowClient`.
        model: Name of the registered model.
        uri: Where it is, for messages.
        folder: Of a local store, which this process has for itself; None for a server.
    """

    def __init__(self, client: Any, model: str, *, uri: str, folder: Path | None) -> None:
        self.client, self.model, self.uri, self.folder = client, model, uri, folder

    def log_run(
        self,
        key: str,
        *,
        name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        folder: Path,
        files: Sequence[str],
        tags: Mapping[str, str],
    ) -> str:
        """Return the id of the MLflow run with this key, logged whole; an old one is completed.

        Args:
            key: What tells runs apart, such as the hash of a run folder's list of hashes.
            name: Shown by MLflow.
            params: Written as text.
            metrics: By name, "step.metric".
            folder: Where the artifacts lie.
            files: The artifacts, relative to it; they keep their names.
            tags: Further tags.
        """
        experiment = self._experiment()
        found = self.client.search_runs([experiment], f"tags.`{KEY}` = '{key}'")
        if found and found[0].info.status == "FINISHED":
            return str(found[0].info.run_id)
        run_id = (
            found[0].info.run_id
            if found
            else self.client.create_run(
                experiment, run_name=name, tags={**tags, KEY: key}
            ).info.run_id
        )
        known = found[0].data.params if found else {}
        for title, value in params.items():
            if title not in known:  # a parameter cannot be written twice
                self.client.log_param(run_id, title, str(value)[:MAX_TEXT])
        for title, number in metrics.items():
            self.client.log_metric(run_id, title, float(number), step=0)
        for file in files:
            self.client.log_artifact(run_id, str(folder / file), file.rpartition("/")[0] or None)
        self.client.set_terminated(run_id, "FINISHED")
        return str(run_id)

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        place = None if self.folder is None else (self.folder / "artifacts").absolute().as_uri()
        return str(self.client.create_experiment(EXPERIMENT, artifact_location=place))

    def check(self) -> None:
        """Check that `champion` of a local store is where srinit left it.

        Raises:
            IntegrityError: It is elsewhere, or a tag was edited.
        """
        last = self.last_moves() if self.folder is not None and self._model() else ()
        if not last:
            return
        champion = self.alias(CHAMPION)
        found = None if champion is None else champion.version
        allowed = {version.version for version in last}
        for version in last:
            if version.move is not None and not version.move.done:
                allowed.add(version.move.expected or 0)
        if (found or 0) not in allowed:
            raise IntegrityError(
                f"champion of {self.model} in the registry {self.folder} is version {found}, but "
                f"srinit left it at {last[-1].version}; the database was edited or damaged. "
                "Restore it from a backup, or put the alias back with MLflow."
            )

    def last_moves(self) -> tuple[Version, ...]:
        """Return the version of the last move; several where processes tried at once."""
        found = [version for version in self.versions() if version.move is not None]
        newest = max((v.move.number for v in found if v.move is not None), default=0)
        return tuple(v for v in found if v.move is not None and v.move.number == newest)

    def interrupted(self) -> Version | None:
        """Return the champion if a crash came between its move and the note that it was done."""
        champion = self.alias(CHAMPION)
        if champion is None or champion.move is None or champion.move.done:
            return None
        return champion if champion in self.last_moves() else None

    def finish(self, version: Version) -> None:
        """Note that the last move to a version is done, and which version a rollback left."""
        move = version.move
        if move is None:
            return
        if move.verb == "rollback":
            self.client.set_model_version_tag(self.model, str(move.expected), LEFT, "yes")
        self.client.set_model_version_tag(self.model, str(version.version), MOVED, str(move.number))

    def note_log(self, root: str, entries: int, head: str) -> None:
        """Keep how long the audit log of a run is, and its head, so that no end is cut off."""
        key = f"{LOG}{root[:32]}"
        self.client.set_registered_model_tag(self.model, key, f"{entries}:{head}")

    def noted_log(self, root: str) -> tuple[int, str] | None:
        """Return what `note_log` kept of the run with this root; None for nothing."""
        model = self._model()
        text = dict(model.tags).get(f"{LOG}{root[:32]}") if model else None
        if text is None:
            return None
        number, _, head = text.partition(":")
        return (int(number) if number.isdigit() else 0), head

    def register(
        self, folder: Path, digest: str, *, mlflow_run: str, run: str, gate: str, weights: str = ""
    ) -> Version:
        """Return the version of a folder; made if no version has the same content.

        The files are uploaded, read back and hashed before the version exists.

        Args:
            folder: Its files, with their `SHA256SUMS`.
            digest: Hash of that list; see `sign_version`.
            mlflow_run: The MLflow run that it belongs to.
            run: The run folder it was made from.
            gate: "passed", "overridden" or "unpruned".
            weights: SHA-256 of its weights.
        """
        check_version(folder, digest)
        for version in self.versions():
            if version.digest == digest:
                return version
        place = f"{FOLDER}/{digest[:16]}"
        self.client.log_artifacts(mlflow_run, str(folder), place)
        self._read_back(mlflow_run, place, digest)
        if not self._model():
            self.client.create_registered_model(self.model)
        made = self.client.create_model_version(
            self.model,
            source=f"runs:/{mlflow_run}/{place}",
            run_id=mlflow_run,
            tags={DIGEST: digest, RUN: run, GATE: gate, WEIGHTS: weights},
            await_creation_for=0,
        )
        return version_of(made)

    def versions(self) -> list[Version]:
        """Return all versions of the model, oldest first."""
        found = self.client.search_model_versions(f"name = '{self.model}'")
        return sorted((version_of(body) for body in found), key=lambda version: version.version)

    def version(self, number: int) -> Version:
        """Return one version."""
        return version_of(self.client.get_model_version(self.model, str(number)))

    def alias(self, name: str) -> Version | None:
        """Return the version that an alias names; None if it names none."""
        model = self._model()
        number = dict(model.aliases).get(name) if model else None
        return self.version(int(number)) if number is not None else None

    def set_candidate(self, version: Version) -> None:
        """Let `candidate` name a version."""
        self.client.set_registered_model_alias(self.model, CANDIDATE, str(version.version))

    def fetch(self, version: Version, target: Path) -> Path:
        """Return the folder of a version, read from the registry and hashed again.

        Raises:
            IntegrityError: A file is missing, changed or added.
        """
        return self._read(
            version.mlflow_run, f"{FOLDER}/{version.digest[:16]}", version.digest, target
        )

    def verify(self, version: Version) -> int:
        """Hash the files of a version again, as they lie in the registry; return how many.

        Raises:
            IntegrityError: A file is missing, changed or added.
        """
        with tempfile.TemporaryDirectory(prefix="srinit-") as name:
            folder = self.fetch(version, Path(name))
            return check_version(folder, version.digest)

    def promote(self, version: Version, *, expected: int | None) -> Version:
        """Let `champion` name a version in place of the one that is expected there.

        Args:
            version: The new champion.
            expected: The number of the champion that it replaces; None for none.

        Raises:
            UnsafeError: Another version is champion; nothing moved.
        """
        number = str(version.version)
        self._expect(expected)
        before = "none" if expected is None else str(expected)
        self.client.set_model_version_tag(self.model, number, REPLACED, before)
        if version.rolled_back:
            self.client.set_model_version_tag(self.model, number, LEFT, "no")
        return self._move("promote", version, expected)

    def rollback_target(self) -> tuple[Version, Version]:
        """Return the champion and the version that `rollback` would return to.

        That is the one it replaced, or what that one replaced, and so on, without those that a
        rollback left: it never returns to a bad one.

        Raises:
            ConfigError: There is no champion, or nothing before it.
        """
        champion = self.alias(CHAMPION)
        if champion is None:
            raise ConfigError(
                f"{self.model} has no champion in {self.uri}; srinit promote RUN makes one."
            )
        seen, version = {champion.version}, champion
        while version.replaced is not None and version.replaced not in seen:
            version = self.version(version.replaced)
            seen.add(version.version)
            if not version.rolled_back:
                return champion, version
        raise ConfigError(
            f"version {champion.version} of {self.model} is champion and nothing was before "
            "it; there is no way further back."
        )

    def rollback(self, *, expected: int) -> tuple[Version, Version]:
        """Return (former champion, new champion): what it replaced is champion again.

        Every file of that version is hashed before anything moves.

        Args:
            expected: The number of the champion that is left.

        Raises:
            IntegrityError: A file of the version before is not what was registered.
            UnsafeError: Another version is champion; nothing moved.
        """
        champion, previous = self.rollback_target()
        self._expect(expected)
        self.verify(previous)
        return champion, self._move("rollback", previous, expected)

    def _expect(self, expected: int | None) -> None:
        champion = self.alias(CHAMPION)
        found = None if champion is None else champion.version
        if found != expected:
            raise UnsafeError(
                f"champion of {self.model} is version {found} now, not {expected} as when this "
                "began; somebody else moved it. Nothing was moved; look at it, and repeat."
            )

    def _move(self, verb: str, version: Version, expected: int | None) -> Version:
        last = self.last_moves()
        before = last[-1].move.number if last and last[-1].move is not None else 0
        move = Move(number=before + 1, verb=verb, expected=expected, done=False)
        number = str(version.version)
        self.client.set_model_version_tag(self.model, number, MOVE, move.text())
        self._expect(expected)
        others = [v.version for v in self.last_moves() if v.version != version.version]
        if others:
            raise UnsafeError(
                f"version {others[0]} of {self.model} is being made champion at the same time; "
                "nothing was moved. Repeat the command."
            )
        self.client.set_registered_model_alias(self.model, CHAMPION, number)
        champion = self.alias(CHAMPION)
        if champion is None or champion.version != version.version:
            found = None if champion is None else champion.version
            raise RegistryError(
                f"champion of {self.model} was to be version {number}, but is {found}: somebody "
                "else moved it at the same time. Look at the registry, and repeat."
            )
        self.finish(champion)
        return self.version(version.version)

    def _model(self) -> Any:
        found = self.client.search_registered_models(f"name = '{self.model}'")
        return found[0] if found else None

    def _read_back(self, mlflow_run: str, place: str, digest: str) -> None:
        with tempfile.TemporaryDirectory(prefix="srinit-") as name:
            self._read(mlflow_run, place, digest, Path(name))

    def _read(self, mlflow_run: str, place: str, digest: str, target: Path) -> Path:
        try:
            folder = Path(self.client.download_artifacts(mlflow_run, place, str(target)))
        except Exception as error:
            ours = self.folder is not None and type(error).__module__.startswith("mlflow")
            if not ours and not isinstance(error, OSError):
                raise
            raise IntegrityError(
                f"the files of {place} of MLflow run {mlflow_run} cannot be read: {error}."
            ) from None
        if target.absolute() not in folder.absolute().parents:
            raise RegistryError(f"the registry handed out {folder} instead of a copy; refused.")
        check_version(folder, digest)
        return folder
