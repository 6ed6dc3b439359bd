"""Provenance: what a number depends on, and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srinit.custody.overrides import EDIT
from srinit.display import quoted
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.decision import device_text
from srinit.report.fingerprint import fingerprint
from srinit.report.prose import device_words, edit_text, scheme_text
from srinit.report.scores import criterion_name
from srinit.report.text import LocalizedText, Translator, join, untranslated


@record
class FileRow:
    """One data file behind the numbers."""

    path: str
    href: str
    sha256: str
    size: str


@record
class Provenance:
    """What the section shows."""

    facts: tuple[tuple[LocalizedText, LocalizedText], ...]
    files: tuple[FileRow, ...]
    inputs: tuple[tuple[str, str], ...]  # name and SHA-256
    config: str
    command: str
    limits: tuple[LocalizedText, ...]
    date: LocalizedText
    run_id: str  # the run's folder
    fingerprint: str  # of the data files; empty where none are known


def provenance_view(report: ReportInput, say: Translator) -> Provenance:
    """Return the facts, the files and the limits of what was measured."""
    return Provenance(
        facts=tuple(_facts(report, say)),
        files=tuple(
            FileRow(
                path=file.path,
                href=report.files_at + file.path,
                sha256=file.sha256,
                size=fmt.scaled(file.size_bytes, "B"),
            )
            for file in report.files
        ),
        config=report.config_text,
        inputs=tuple(report.inputs.items()),
        command=_command(report),
        limits=tuple(_limits(report, say)),
        date=fmt.date(report.created),
        run_id=Path(report.run).name or report.name,
        fingerprint=fingerprint(report.files) if report.files else "",
    )


def _command(report: ReportInput) -> str:
    """Return what carries the run out again; paths in its config start from the folder it had."""
    if not report.config_text or not report.root:
        return ""
    source = quoted(f"{report.run}/config.yaml")
    copied = quoted(f"{report.root}/{report.name}-again.yaml")
    return f"cp {source} {copied}\nsrinit run -c {copied}"


def _criterion(criterion: str, say: Translator) -> LocalizedText:
    name = criterion_name(criterion, say)
    return (
        name
        if name.en == criterion
        else LocalizedText(ja=f"{name.ja}（{criterion}）", en=f"{name.en} ({criterion})")
    )


def _target(target: Mapping[str, Any], say: Translator) -> LocalizedText:
    """Return what was asked for; fractions as shares, and the keys as they stand in the config."""
    words = []
    for key in ("params", "flops", "latency"):
        value = target.get(key)
        if isinstance(value, int | float):
            if value <= 1:
                words.append(say(f"target.{key}", value=fmt.percent(value)))
            else:
                shown = fmt.milliseconds(value) if key == "latency" else fmt.fixed(value)
                words.append(say(f"target.count.{key}", value=shown))
    if isinstance(target.get("units"), int):
        key = "run" if target.get("contiguous") else "units"
        words.append(say(f"target.{key}", value=fmt.fixed(target["units"])))
    if target.get("keep_first") or target.get("keep_last"):
        first, last = target.get("keep_first") or 0, target.get("keep_last") or 0
        words.append(say("target.ends", first=fmt.fixed(first), last=fmt.fixed(last)))
    if isinstance(target.get("max_drop"), int | float):
        words.append(say("target.max_drop", value=fmt.points(target["max_drop"], signed=False)))
    if target.get("remove"):
        words.append(say("target.remove", names=", ".join(map(str, target["remove"]))))
    return join(words) if words else untranslated(fmt.NOTHING)


def _facts(report: ReportInput, say: Translator) -> list[tuple[LocalizedText, LocalizedText]]:
    scan, environment = report.sensitivity, report.environment or {}
    rows = [
        ("created", fmt.date(report.created)),
        ("model", untranslated(report.model_source or fmt.NOTHING)),
        *([("weights", untranslated(report.weights))] if report.weights else []),
        *(
            (f"data_{key}", untranslated(value))
            for key, value in (report.data_sources or {}).items()
        ),
        ("seed", untranslated(str(report.seed))),
        *([] if scan.is_off else [("scheme", scheme_text(scan.scheme, scan.scale, say))]),
        ("scan", _scan(report, say)),
        ("criterion", _criterion(report.plan.criterion, say)),
        ("target", _target(report.plan.target, say)),
        ("device", device_words(report.device or fmt.NOTHING)),
    ]
    for key in ("srinit", "python", "system", "processor", "cpu_cores", "torch_threads"):
        if environment.get(key) not in (None, ""):
            rows.append((key, untranslated(str(environment[key]))))
    packages = environment.get("packages")
    if isinstance(packages, dict):
        listed = ", ".join(f"{name} {version}" for name, version in packages.items())
        rows.append(("packages", untranslated(listed)))
    if report.comparison is not None and report.comparison.data_hash:
        rows.append(("test_hash", untranslated(report.comparison.data_hash)))
    changes = [each.words() for each in report.overrides if each.key != EDIT]
    if changes:
        rows.append(("overrides", untranslated("; ".join(changes))))
    for each in report.overrides:
        if each.key == EDIT:
            state = "edit_text" if each == report.edit else "edit_undone"
            text = say(f"provenance.{state}", what=edit_text(each, say), reason=each.reason)
            rows.append(("edit", text))
    if report.readings is not None:
        num, not_known = str(len(report.readings.earlier)), report.readings.not_known
        rows.append(
            ("test_readings", say("provenance.readings_text", num=num, not_known=not_known))
        )
    return [(say(f"provenance.{key}"), value) for key, value in rows]


def _scan(report: ReportInput, say: Translator) -> LocalizedText:
    scan = report.sensitivity
    if scan.is_off:
        return say("provenance.scan_off")
    return say(
        "provenance.scan_text",
        num=fmt.fixed(scan.num_examples),
        units=str(len(scan.units)),
        confidence=fmt.percent(scan.confidence, 0),
        stopped=say(f"scan_stop.{scan.stopped_by}")
        if say.has(f"scan_stop.{scan.stopped_by}")
        else untranslated(scan.stopped_by),
    )


def _limits(report: ReportInput, say: Translator) -> list[LocalizedText]:
    found = report.comparison
    limits = [say("limit.no_scan" if report.sensitivity.is_off else "limit.drop")]
    limits.append(say("limit.flops"))
    if found is not None and found.cost is not None and found.cost.not_counted:
        limits.append(say("limit.not_counted", names=", ".join(found.cost.not_counted)))
    if found is not None:
        num, share = fmt.fixed(found.num_examples), fmt.percent(found.confidence, 0)
        limits.append(say("limit.interval", num=num, confidence=share))
        limits.append(say("limit.seed"))
    if found is not None and found.latency:
        limits.append(say("limit.latency", device=device_text(report)))
    return limits
