"""One registered model: its runs, its versions, its aliases, and how they move without a gap.

An alias move is written down before it begins (a tag on the registered model) and deleted when
it is complete. Whoever opens the registry after a crash finishes what was written down, so that
`champion` is either the old or the new version, and `previous` is what was served before.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srinit.errors import ConfigError, IntegrityError, RegistryError
from srinit.records import record
from srinit.registry import notes
from srinit.registry.sums import check_version
from srinit.registry.turn import turn

CHAMPION, CANDIDATE, PREVIOUS = "champion", "candidate", "previous"
EXPERIMENT = "srinit"
KEY, DIGEST, RUN, GATE, REPLACED, PENDING = (
    "srinit.key", "srinit.sums_sha256", "srinit.run", "srinit.gate", "srinit.replaced",
    "srinit.pending",
)  # fmt: skip
FOLDER = "version"  # of the artifacts of an MLflow run
MAX_TEXT = 500  # of a parameter


@record
class Version:
    """One version of the model, as the registry tells of it."""

    model: str
    version: int
    mlflow_run: str
    digest: str  # SHA-256 of the list of its files' hashes
    run: str  # the run folder it was made from
    gate: str  # "passed", "overridden" or "unpruned"
    replaced: int | None = None  # the version that it took the place of


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
            metrics: By name, "stage.metric".
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
        """Compare a local database with what srinit left in it.

        Raises:
            IntegrityError: An alias or a version was changed since.
        """
        if self.folder is not None:
            notes.check(self.folder, self.model, **self._state())

    def _note(self, *, moving: bool = False) -> None:
        if self.folder is not None:
            notes.write(self.folder, self.model, **self._state(), moving=moving)

    def _state(self) -> dict[str, Any]:
        """Return the aliases and the versions' hashes, as the registry has them."""
        model = self._model()
        aliases = (
            {name: int(number) for name, number in dict(model.aliases).items()} if model else {}
        )
        found = self.client.search_model_versions(f"name = '{self.model}'") if model else ()
        versions = {int(body.version): dict(body.tags).get(DIGEST, "") for body in found}
        return {"aliases": aliases, "versions": versions}

    def register(
        self, folder: Path, digest: str, *, mlflow_run: str, run: str, gate: str
    ) -> Version:
        """Return the version of a folder; made if no version has the same content.

        The files are uploaded, read back and hashed before the version exists.

        Args:
            folder: Its files, with their `SHA256SUMS`.
            digest: Hash of that list; see `sign_version`.
            mlflow_run: The MLflow run that it belongs to.
            run: The run folder it was made from.
            gate: "passed", "overridden" or "unpruned".
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
            tags={DIGEST: digest, RUN: run, GATE: gate},
            await_creation_for=0,
        )
        self._note()
        return _version(made)

    def versions(self) -> list[Version]:
        """Return all versions of the model, oldest first."""
        found = self.client.search_model_versions(f"name = '{self.model}'")
        return sorted((_version(body) for body in found), key=lambda version: version.version)

    def version(self, number: int) -> Version:
        """Return one version."""
        return _version(self.client.get_model_version(self.model, str(number)))

    def alias(self, name: str) -> Version | None:
        """Return the version that an alias names; None if it names none."""
        model = self._model()
        number = dict(model.aliases).get(name) if model else None
        return self.version(int(number)) if number is not None else None

    def set_candidate(self, version: Version) -> None:
        """Let `candidate` name a version."""
        self._note(moving=True)
        self.client.set_registered_model_alias(self.model, CANDIDATE, str(version.version))
        self._note()

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

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep others from moving aliases for a while; nothing moves on a server without it.

        A local store is locked whole by `open_registry`.

        Raises:
            UnsafeError: Another process is moving them.
        """
        if self.folder is not None or self._model() is None:
            yield
            return
        with turn(self.client, self.model):
            yield

    def promote(self, version: Version) -> Version | None:
        """Let `champion` name a version, and `previous` the one that it replaces; return that."""
        old = self.alias(CHAMPION)
        if old is not None and old.version == version.version:
            return None
        self._move("promote", old, version)
        return old

    def way_back(self) -> tuple[Version, Version]:
        """Return the champion and the version that `rollback` would return to.

        Raises:
            ConfigError: There is no champion, or nothing before it.
        """
        champion, previous = self.alias(CHAMPION), self.alias(PREVIOUS)
        if champion is None:
            raise ConfigError(
                f"{self.model} has no champion in {self.uri}; srinit promote RUN makes one."
            )
        if previous is None or previous.version == champion.version:
            raise ConfigError(
                f"version {champion.version} of {self.model} is champion and nothing was before "
                "it; there is no way further back."
            )
        return champion, previous

    def rollback(self) -> tuple[Version, Version]:
        """Return (former champion, new champion): `champion` names the previous version again.

        Every file of that version is hashed before anything moves. Afterwards `previous` names
        what that version once replaced, so that a second rollback never returns to the bad one.

        Raises:
            IntegrityError: A file of the previous version is not what was registered.
        """
        champion, previous = self.way_back()
        self.verify(previous)
        self._move("rollback", champion, previous)
        return champion, previous

    def recover(self) -> str:
        """Finish a move that a crash left half-done; return its verb, or "" if there was none."""
        model = self._model()
        text = dict(model.tags).get(PENDING) if model else None
        if not text:
            return ""
        try:
            body = json.loads(text)
            old = None if body["from"] is None else int(body["from"])
            self._finish(str(body["verb"]), old, int(body["to"]))
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(
                f"{self.model} in {self.uri}: the tag {PENDING} is damaged: {text[:80]!r}. Delete "
                "it, check the aliases, and repeat."
            ) from None
        return str(body["verb"])

    def _move(self, verb: str, old: Version | None, new: Version) -> None:
        number = old.version if old is not None else None
        pending = json.dumps({"verb": verb, "from": number, "to": new.version})
        self.client.set_registered_model_tag(self.model, PENDING, pending)
        self._finish(verb, number, new.version)

    def _finish(self, verb: str, old: int | None, new: int) -> None:
        """Move the aliases; each step may be repeated."""
        self._note(moving=True)
        if verb == "promote":
            if old is not None:
                self.client.set_model_version_tag(self.model, str(new), REPLACED, str(old))
                self.client.set_registered_model_alias(self.model, PREVIOUS, str(old))
            self.client.set_registered_model_alias(self.model, CHAMPION, str(new))
        else:
            self.client.set_registered_model_alias(self.model, CHAMPION, str(new))
            before = self.version(new).replaced
            if before is not None and before != old:
                self.client.set_registered_model_alias(self.model, PREVIOUS, str(before))
            else:
                self.client.delete_registered_model_alias(self.model, PREVIOUS)
        self.client.delete_registered_model_tag(self.model, PENDING)
        champion = self.alias(CHAMPION)
        if champion is None or champion.version != new:
            found = None if champion is None else champion.version
            raise RegistryError(
                f"champion of {self.model} was to be version {new}, but is {found}: somebody else "
                "moved it at the same time. Look at the registry, and repeat."
            )
        self._note()

    def _model(self) -> Any:
        found = self.client.search_registered_models(f"name = '{self.model}'")
        return found[0] if found else None

    def _read_back(self, mlflow_run: str, place: str, digest: str) -> None:
        with tempfile.TemporaryDirectory(prefix="srinit-") as name:
            self._read(mlflow_run, place, digest, Path(name))

    def _read(self, mlflow_run: str, place: str, digest: str, target: Path) -> Path:
        try:
            folder = Path(self.client.download_artifacts(mlflow_run, place, str(target)))
        except OSError as error:
            raise IntegrityError(
                f"the files of {place} of MLflow run {mlflow_run} cannot be read: {error}."
            ) from None
        if target.absolute() not in folder.absolute().parents:
            raise RegistryError(f"the registry handed out {folder} instead of a copy; refused.")
        check_version(folder, digest)
        return folder


def _version(body: Any) -> Version:
    tags = dict(body.tags)
    if DIGEST not in tags:
        raise IntegrityError(
            f"version {body.version} of {body.name} was not registered by srinit (no tag "
            f"{DIGEST}); its files cannot be checked, so it is not used."
        )
    replaced = tags.get(REPLACED)
    return Version(
        model=str(body.name),
        version=int(body.version),
        mlflow_run=str(body.run_id),
        digest=tags[DIGEST],
        run=tags.get(RUN, ""),
        gate=tags.get(GATE, ""),
        replaced=int(replaced) if replaced else None,
    )
