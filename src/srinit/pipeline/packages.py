"""The edge package of a run that is there: judged, made or taken as it is, never without a word."""

from __future__ import annotations

from pathlib import Path

from srinit.custody.beside import beside
from srinit.delivery import packaging
from srinit.edge import Package
from srinit.errors import ConfigError, UnsafeError
from srinit.pipeline.runner import Runner
from srinit.runs import artifacts


def package(runner: Runner, *, override: bool = False, reason: str = "") -> tuple[Path, Package]:
    """Return the folder of the edge package, and what is known of it.

    It lies in the run until that is sealed, then beside it.

    Args:
        runner: Of the run; the steps that are missing are taken.
        override: Make it although a gate failed.
        reason: Why; goes on record, and into the package.

    Raises:
        UnsafeError: A gate failed or nothing was judged, and `override` is not given.
        ConfigError: An override without a reason.
        ModelError: There can be no package of such a network.
    """
    if override and not reason.strip():
        raise ConfigError('an override needs a reason, which goes on record: --reason "..."')
    place = runner.files.path(artifacts.PACKAGE).with_name("package")
    why = packaging.refusal(runner.path, runner.get(artifacts.GATES), runner.value("outcome"))
    if why and not override:
        runner.folder.audit("package", "refused", reason=why)
        raise UnsafeError(why)
    kept = runner.files.get(artifacts.PACKAGE)
    if kept is not None and kept.gate == ("overridden" if why else "passed"):
        runner.folder.check_recorded(besides=runner.path / "report")
        return place, kept
    sealed = runner.folder.was_sealed
    runner.folder.refuse_links(place)
    if sealed:
        place = beside(runner.path) / "package"
    there = packaging.Made(
        exports=runner.get(artifacts.EXPORTS),
        int8=runner.get(artifacts.INT8),
        gates=runner.get(artifacts.GATES),
        predictions=runner.get(artifacts.PREDICTIONS),
        round_plan=runner.value("round_plan"),
    )
    packer = runner.resources.make_packer()
    made = packaging.packed(place, there, packer, runner.files, override=reason if why else "")
    if not sealed:
        for path in (place, place.with_suffix(".zip")):
            runner.folder.record(path)
        runner.files.write(artifacts.PACKAGE, made)
    inputs = {**runner.files.digests(artifacts.EXPORTS), "zip": made.zip_sha256}
    runner.folder.audit("package", f"written, gate {made.gate}", reason=made.reason, inputs=inputs)
    return place, made
