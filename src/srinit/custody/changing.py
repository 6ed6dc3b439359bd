"""What a verb would change of a run, decided and said before anything moves.

A run that is sealed is never changed, nor is a run whose judgement is known judged by something
else: what would change them makes a new run beside them, with all that still holds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from srinit.config import Config
from srinit.custody import overrides
from srinit.custody.depends import Meaning, Parts
from srinit.custody.overrides import Override
from srinit.records import record
from srinit.store import RunFolder, audit
from srinit.store.files import write_bytes, write_text
from srinit.store.seal import AUDIT, read_checked
from srinit.store.sums import read_sums

FROM_CONFIG = "run"  # as a verb: whatever is given a config, and no run
HEADS = ("config.yaml", "env.json", "inputs.lock.json")


@record
class Change:
    """What a verb does to a run that was there before."""

    run: str
    verb: str
    overrides: tuple[Override, ...]  # new ones
    redone: dict[str, str]  # parts that are there and are made anew, with the reason
    makes_new_run: bool
    why_new: str = ""
    undone: Override | None = None  # the plan's edit by hand, which it does not follow any more

    def __bool__(self) -> bool:
        return bool(self.overrides or self.redone)

    def words(self, place: str) -> list[str]:
        """Return what is done, where and why, a line each; `place` is the run that is worked in."""
        lines = []
        if self.makes_new_run:
            lines.append(f"{self.run} {self.why_new}: it stays as it is, and this makes {place}")
        if self.overrides:
            lines.append("changed: " + "; ".join(each.words() for each in self.overrides))
        if self.redone:
            parts = (f"{n} ({why})" if why else n for n, why in self.redone.items())
            lines.append("made anew: " + ", ".join(parts))
        if self.undone is not None:
            place = "stays there" if self.makes_new_run else "is set aside"
            lines.append(f"the plan that was edited by hand {place}: {self.undone.words()}")
        moved = [each.key for each in self.overrides if each.moves_judgement and each.judged]
        if moved:
            lines.append(
                f"the judgement was known when {', '.join(moved)} changed; that is on record, and "
                "promotion asks for --override and a reason"
            )
        return lines


def change_of(
    folder: RunFolder,
    before: Config,
    after: Config,
    parts: Parts,
    *,
    verb: str,
    redo: Collection[str] = (),
    meaning: Meaning | None = None,
    edit: Override | None = None,
) -> Change:
    """Return what a verb would change.

    Args:
        folder: The run.
        before: Its config, with all changes so far.
        after: The config that the verb asks for.
        parts: What rests on what.
        verb: Its name, for the record.
        redo: Parts that the verb makes anew in any case.
        meaning: What keys mean, by what other keys say.
        edit: Of the plan by hand.
    """
    judged = was_judged(folder)
    new = tuple(
        Override(key=key, before=old, after=value, verb=verb, judged=judged)
        for key, (old, value) in overrides.differences(before, after).items()
    )
    if edit is not None:
        new = (*new, replace(edit, judged=judged))
    meaning = meaning or Meaning()
    stale = parts.stale(
        [*(each.key for each in new), *meaning.otherwise],
        in_rounds=before.prune.in_rounds or after.prune.in_rounds,
        trained_trials=after.plan.trial_steps > 0,
        unread=meaning.unread,
    )
    wanted = {**parts.with_later(redo), **stale}
    there = {parts.of(name) for name in folder.files()}
    redone = {
        name: _why(wanted[name], there, parts)
        for name in parts.names
        if name in wanted and name in there
    }
    edited = overrides.edit_of(overrides.of_run(folder.path), before)
    undone = edited if edit is None and after.plan.remove != before.plan.remove else None
    sealed = folder.was_sealed
    moved = judged and any(each.moves_judgement for each in new)
    why = "is sealed" if sealed else "has been judged" if moved else ""
    if not why and undone is not None and verb == FROM_CONFIG:
        why = "holds a plan that was edited by hand"
    return Change(
        run=str(folder.path),
        verb=verb,
        overrides=new,
        redone=redone,
        makes_new_run=bool(why and (new or redone)),
        why_new=why,
        undone=undone,
    )


def _why(reason: str, there: Collection[str | None], parts: Parts) -> str:
    """Return a reason without the parts that the run does not have."""
    causes = reason.split(", ")
    return ", ".join(each for each in causes if each in there or each not in parts.names)


def new_run(
    folder: RunFolder, change: Change, config: Config, parts: Parts, inputs: Mapping[str, str]
) -> RunFolder:
    """Return a new run beside `folder` with all of it that the change leaves as it is.

    Every file is read once, and copied if its hash is the recorded one. Hashes of `inputs` that are
    named for the first time are recorded.

    Raises:
        IntegrityError: A file is not what was written.
    """
    digests = read_sums(folder.path / "SHA256SUMS")
    kept = [
        name
        for name in digests
        if (part := parts.of(name)) is not None and part not in change.redone
    ]

    def fill(made: RunFolder) -> None:
        for name in (*HEADS, *kept):
            if name in digests:
                content = read_checked(folder.path, name, digests[name])
            else:
                content = (folder.path / name).read_bytes()
            write_bytes(made.path / name, content)
        lock = json.loads((folder.path / "inputs.lock.json").read_bytes())
        lock = {**inputs, **lock}
        text = json.dumps(lock, indent=2, ensure_ascii=False)
        write_text(made.path / "inputs.lock.json", text + "\n")
        head = json.loads((folder.path / "run.json").read_bytes())
        own = json.loads((made.path / "run.json").read_bytes())
        body = {**own, "root": head.get("root", "."), "made_from": folder.path.name}
        body["judged"] = was_judged(folder)
        write_text(made.path / "run.json", json.dumps(body, indent=2, ensure_ascii=False) + "\n")
        _write(made, folder, change)
        made.cover()
        made.audit(
            "begin",
            f"made from {folder.path.name} by {change.verb}",
            reason="; ".join(change.words("this run")),
            inputs={**lock, "made_from": str(folder.path.absolute())},
        )

    return RunFolder.create(folder.path.absolute().parent, config.name, fill=fill)


def archive(folder: RunFolder, redone: Collection[str], parts: Parts, number: int) -> None:
    """Move the files of some parts to `superseded/NN`, so that others can be made.

    It may be called again where it was interrupted; what has been moved stays where it is.
    """
    names = [name for name in folder.files() if parts.of(name) in redone]
    target = folder.path / "superseded" / f"{number:02d}"
    if not names:
        return
    folder.refuse_links(target, *(folder.path / name for name in names))
    told = {"parts": sorted(redone), "files": len(names)}
    folder.audit("set aside", f"intended: to superseded/{target.name}", inputs=told)
    folder.forget(lambda name: parts.of(name) in redone)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).rename(target / name)
    for name in ("rounds", "rejected", "export", "report"):
        _remove_empty(folder.path / name)
    folder.cover()
    folder.audit("set aside", f"done: to superseded/{target.name}", inputs=told)


def was_judged(folder: RunFolder) -> bool:
    """Return whether a run, or one that it was made from, was compared on test data.

    Also where the comparison was set aside since: what was known then is known.
    """
    patterns = ("rounds/*/comparison.json", "superseded/*/rounds/*/comparison.json")
    if any(True for pattern in patterns for _ in folder.path.glob(pattern)):
        return True
    if any(True for _ in folder.path.glob("rounds/*/predictions.npz")):
        return True
    if any(entry["verb"] == "compare" for entry in audit.read(folder.path / AUDIT).entries):
        return True
    return bool(json.loads((folder.path / "run.json").read_bytes()).get("judged"))


def discard(folder: RunFolder) -> None:
    """Remove a run that was made a moment ago, and in which nothing came about."""
    shutil.rmtree(folder.path, ignore_errors=True)


def _write(made: RunFolder, folder: RunFolder, change: Change) -> None:
    changes = (*overrides.of_run(folder.path), *change.overrides)
    if changes:
        write_text(made.path / overrides.FILE, overrides.to_json(changes))


def _remove_empty(folder: Path) -> None:
    if not folder.is_dir():
        return
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
    if not any(folder.iterdir()):
        folder.rmdir()


def refused_for(change: Change) -> str:
    """Return why a verb that only acts on a run does not take what would change it."""
    keys = ", ".join(each.key for each in change.overrides)
    return (
        f"srinit {change.verb} takes {change.run} as it is; --set {keys} would have it judged by "
        "something else. Begin a new run with those settings."
    )
