"""Why it is a NO-GO and what would change that: few data, a true loss, too slow, the recipe."""

from __future__ import annotations

from typing import Literal

from srinit.display import command
from srinit.gates import Gate
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report import next_plan
from srinit.report.acceptance import gate_name
from srinit.report.data import ReportInput
from srinit.report.needed import Sample, sample_of
from srinit.report.text import LocalizedText, Translator, join, untranslated

Kind = Literal["data", "loss", "recipe", "time", "busy", "size", "target"]
NEW_DATA = "folder:NEW_TEST_DATA"
TRAINED = 5  # passes over the data that are proposed where there were none
SLOWER = 0.3  # part of the learning rate that is proposed after a divergence


@record
class Cause:
    """One cause with what to do about it."""

    kind: Kind
    todo: LocalizedText


def causes_of(report: ReportInput, say: Translator) -> tuple[Cause, ...]:
    """Return the causes of a NO-GO, one for each criterion not met; the recipe comes first."""
    if report.gates is None:
        return ()
    if not report.plan.remove:
        return (_of_target(report, say),) if report.gates.passed else ()
    failed = report.gates.failed
    found = [_of_gate(gate, report, say) for gate in failed]
    recipe = _recipe(report, say)
    if recipe is not None and any(cause.kind == "loss" for cause in found):
        found.insert(0, recipe)
    return tuple({cause.todo.en: cause for cause in found}.values())


def cause_words(causes: tuple[Cause, ...], say: Translator) -> LocalizedText:
    """Return the causes in a few words, each kind once."""
    kinds = list(dict.fromkeys(cause.kind for cause in causes))
    names = join([say(f"cause.kind.{kind}") for kind in kinds], ja="、", en="; ")
    return say("cause.is", names=names) if kinds else untranslated("")


def _of_gate(gate: Gate, report: ReportInput, say: Translator) -> Cause:
    name = gate_name(gate, say, report.comparison)
    kind = gate.name.removeprefix("site.").partition(".")[0]
    if kind == "max_latency_ratio":
        return _of_time(gate, report, name, say)
    if kind == "max_params_ratio":
        return Cause(kind="size", todo=_with_command("size", next_plan.more(report), name, say))
    sample = sample_of(gate, report)
    if sample is not None and sample.need is not None and _met_as_measured(gate):
        return Cause(kind="data", todo=_more_data(sample, report, name, say))
    return Cause(kind="loss", todo=_with_command("loss", next_plan.fewer(report), name, say))


def _met_as_measured(gate: Gate) -> bool:
    if gate.measured is None:
        return False
    if gate.name.removeprefix("site.").startswith("min_"):
        return gate.measured > gate.limit
    return gate.measured < gate.limit


def _more_data(
    sample: Sample, report: ReportInput, name: LocalizedText, say: Translator
) -> LocalizedText:
    assert sample.need is not None
    part = "site" if sample.what == "site" else "test"
    return say(
        "cause.data",
        name=name,
        what=say(f"cause.what.{sample.what}", name=sample.of),
        have=fmt.fixed(sample.have),
        need=fmt.fixed(sample.need),
        command=command("compare", report.run, "--set", f"data.{part}={NEW_DATA}"),
    )


def _of_time(gate: Gate, report: ReportInput, name: LocalizedText, say: Translator) -> Cause:
    if _met_as_measured(gate):
        return Cause(kind="busy", todo=say("cause.busy", name=name))
    return Cause(kind="time", todo=_with_command("time", next_plan.more(report), name, say))


def _of_target(report: ReportInput, say: Translator) -> Cause:
    return Cause(
        kind="target", todo=_with_command("target", next_plan.fewer(report), untranslated(""), say)
    )


def _with_command(kind: Kind, text: str, name: LocalizedText, say: Translator) -> LocalizedText:
    if not text:
        return say(f"cause.{kind}_end", name=name)
    return say(f"cause.{kind}", name=name, command=text)


def _recipe(report: ReportInput, say: Translator) -> Cause | None:
    """Return what is wrong with fine-tuning, where it did not do its work."""
    tune = report.last.tune if report.last else None
    if tune is None or tune.stopped not in ("diverged", "nothing to do"):
        return None
    key, value = ("lr", float(f"{SLOWER * tune.recipe.peak_lr:.1g}"))
    if tune.stopped == "nothing to do":
        key, value = ("epochs", TRAINED)
    text = command("finetune", report.run, "--set", f"finetune.{key}={value}")
    return Cause(kind="recipe", todo=say(f"cause.recipe.{tune.stopped.split()[0]}", command=text))
