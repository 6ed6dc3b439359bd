"""A model card in the layout of the Hugging Face Hub, from what was measured and nothing else.

Layout: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import re
from typing import Any

from srinit.config.yaml import dump_yaml
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.decision import decide
from srinit.report.figures import headline
from srinit.report.provenance import provenance_view
from srinit.report.summary import plain
from srinit.report.text import Translator

HUB = re.compile(r"[\w.-]+/[\w.-]+")
START = """```python
from srinit import load_pruned

model = load_pruned("FOLDER")  # the folder with model.safetensors and recipe.json
```

A recipe that names Python code of its own needs `trust_code=True`, or the network as `base=`."""


def model_card(report: ReportInput) -> str:
    """Return the model card, in English."""
    say = Translator(("en",), wording=report.wording)
    front = dump_yaml(_metadata(report))
    sections = [
        ("Model details", _details(report)),
        ("Uses", _uses(report, say)),
        ("Bias, risks and limitations", _risks(report, say)),
        ("How to get started with the model", START),
        ("Training", _training(report)),
        ("Evaluation", _evaluation(report, say)),
        ("How it was made", _how(report, say)),
    ]
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections if text)
    return f"---\n{front}---\n\n# {plain(report.name)}\n\n{body}\n"


def _metadata(report: ReportInput) -> dict[str, Any]:
    found: dict[str, Any] = {
        "library_name": "pytorch",
        "tags": ["pruning", "layer-pruning", "srinit"],
    }
    base = _hub_name(report.model_source)
    if base:
        found["base_model"] = base
    comparison = report.comparison
    # Only right or wrong by class is the Hub's "accuracy"; other scores stand in the text.
    if comparison is not None and comparison.classes and comparison.score.pruned is not None:
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": comparison.data or "test data", "type": comparison.data or "local"},
            "metrics": [{"type": "accuracy", "value": round(comparison.score.pruned, 6)}],
        }
        found["model-index"] = [{"name": report.name, "results": [result]}]
    return found


def _hub_name(source: str) -> str:
    """Return the name of a source on the Hub; empty where it has none there.

    Example:
        >>> _hub_name("timm:resnet18.a1_in1k"), _hub_name("hf:org/net"), _hub_name("py:net.py:make")
        ('timm/resnet18.a1_in1k', 'org/net', '')
    """
    kind, _, name = source.partition(":")
    if kind == "timm":
        return f"timm/{name}"
    return name if kind == "hf" and HUB.fullmatch(name) else ""


def _details(report: ReportInput) -> str:
    before, after = report.plan.prefixes[0], report.plan.prefixes[len(report.plan.remove)]
    source = plain(report.model_source) or "a trained network"
    names = ", ".join(f"`{name.replace('`', chr(39))}`" for name in report.plan.names)
    lines = [
        f"- Made from: {source}, by removing {len(report.plan.remove)} of its blocks"
        + (f": {names}" if names else ""),
        f"- Parameters: {before.params:,} before, {after.params:,} now",
        f"- FLOPs per example (one multiply-add counts 2): {before.flops:,} before, "
        f"{after.flops:,} now",
    ]
    cost = report.comparison.cost if report.comparison is not None else None
    if cost is not None and cost.not_counted:
        lines.append(f"- Not counted in FLOPs: {', '.join(map(plain, cost.not_counted))}")
    if report.class_names:
        lines.append(f"- Classes: {', '.join(map(plain, report.class_names))}")
    for export in report.exports:
        lines.append(
            f"- {export.format}: `{plain(export.file)}`, {fmt.scaled(export.size_bytes, 'B')}, "
            f"SHA-256 `{export.sha256}`"
        )
    return "\n".join(lines)


def _uses(report: ReportInput, say: Translator) -> str:
    decision = decide(report, say)
    lines = [f"Decision: {plain(decision.word.en)}. {plain(decision.reason.en)}"]
    lines += [f"- {plain(line.en)}" for line in decision.conditions]
    return "\n".join([lines[0], "", *lines[1:]]).rstrip()


def _risks(report: ReportInput, say: Translator) -> str:
    lines = [f"- Not tested: {plain(line.en)}" for line in decide(report, say).untested]
    lines += [f"- {plain(line.en)}" for line in provenance_view(report, say).limits]
    return "\n".join(lines)


def _training(report: ReportInput) -> str:
    tune = report.last.tune if report.last else None
    if tune is None:
        return "The network was not fine-tuned after the cut."
    recipe = tune.recipe
    return (
        f"Fine-tuned after the cut: {tune.steps} steps of {recipe.optimizer}, peak learning rate "
        f"{recipe.peak_lr:g}, weight decay {recipe.decay:g}, batch {recipe.batch_size}, "
        f"{recipe.distill_weight:g} of the loss copies the unpruned network; the best weights on "
        f"validation data (step {tune.best_step}) were kept. Seed {report.seed}."
    )


def _evaluation(report: ReportInput, say: Translator) -> str:
    if report.comparison is None:
        return "Not compared on test data yet."
    lines = ["| | before | after | change | interval |", "|---|---|---|---|---|"]
    for figure in headline(report, say):
        cells = (figure.title, figure.before, figure.after, figure.change)
        texts = [plain(text.en) for text in cells]
        texts.append(plain(figure.range.en) if figure.range else "")
        lines.append("| " + " | ".join(texts) + " |")
    share = fmt.percent(report.comparison.confidence, 0)
    lines += ["", f"Intervals: {share}, on {report.comparison.num_examples:,} test examples."]
    return "\n".join(lines)


def _how(report: ReportInput, say: Translator) -> str:
    facts = provenance_view(report, say).facts
    lines = [f"- {plain(label.en)}: {plain(value.en)}" for label, value in facts]
    if report.sensitivity.is_off:
        return "\n".join([*lines, "- The scan was left out: no re-initialization drop is known"])
    did = "ranked" if report.plan.criterion.startswith("reinit_drop") else "did not rank"
    lines.append(
        "- The scan measured the re-initialization drop (SR-init, "
        f"https://arxiv.org/abs/2303.07677); it {did} the blocks here"
    )
    return "\n".join(lines)
