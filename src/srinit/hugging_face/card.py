"""The model card of the folder: what was cut, what it cost, how both were measured.

Layout: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from srinit.comparison import Comparison
from srinit.config.yaml import dump_yaml, parse_yaml
from srinit.errors import ConfigError
from srinit.gates import GateResult
from srinit.plan import PrunePlan
from srinit.records import Interval

FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
INHERITED = ("license", "license_name", "license_link", "language", "pipeline_tag")
HUB = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class CardFacts:
    """What a card tells."""

    name: str  # of the run
    source: str  # of the unpruned network, as the config names it
    network: str  # class of transformers
    score: str  # what is scored
    plan: PrunePlan
    comparison: Comparison
    gates: GateResult
    recovery: str  # what was done after the cut, a sentence
    base_card: str = ""  # text of the base's card
    versions: str = ""  # of the packages


def model_card(facts: CardFacts) -> str:
    """Return the text of README.md, in English."""
    front = dump_yaml(_front(facts))
    sections = [
        ("What was removed", _removed(facts)),
        ("Evaluation", _evaluation(facts)),
        ("Use", _use(facts)),
        ("How it was made", _made(facts)),
    ]
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections)
    return f"---\n{front}---\n\n# {facts.name}\n\n{_summary(facts)}\n\n{body}\n"


def _front(facts: CardFacts) -> dict[str, Any]:
    found: dict[str, Any] = inherited(facts.base_card)
    name = facts.source.removeprefix("hf:")
    if facts.source.startswith("hf:") and HUB.fullmatch(name):
        found["base_model"] = name
    return {**found, "library_name": "transformers", "tags": ["pruned", "layer-pruning", "srinit"]}


def inherited(card: str) -> dict[str, Any]:
    r"""Return what a card says of license, language and use in its head.

    Example:
        >>> inherited("---\nlicense: apache-2.0\ntags: [a]\n---\n# Net\n")
        {'license': 'apache-2.0'}
    """
    head = FRONT.match(card)
    if head is None:
        return {}
    try:
        body = parse_yaml(head[1].encode(), where="the card")
    except ConfigError:
        return {}
    return {key: body[key] for key in INHERITED if body.get(key)}


def _summary(facts: CardFacts) -> str:
    cost = facts.comparison.cost
    size = ""
    if cost is not None:
        size = (
            f" Parameters: {cost.params_baseline:,} before, {cost.params_pruned:,} now "
            f"({_percent(cost.params_pruned / cost.params_baseline)}); FLOPs of an example (one "
            f"multiply-add counts 2): {cost.flops_baseline:,} before, {cost.flops_pruned:,} now."
        )
    count = len(facts.plan.remove)
    layers = "layer" if count == 1 else "layers"
    return f"`{facts.network}`, {count} {layers} smaller than its base.{size}"


def _removed(facts: CardFacts) -> str:
    if not facts.plan.remove:
        return "Nothing."
    named = "\n".join(f"- `{name}`" for name in facts.plan.names)
    return (
        f"{named}\n\nRanked by {facts.plan.criterion}. The names are those of the base; the layers "
        f"that are left are numbered anew. After the cut: {facts.recovery}."
    )


def _evaluation(facts: CardFacts) -> str:
    found = facts.comparison
    share = _percent(found.confidence, 0)
    rows = [
        "| | base | this network | difference |",
        "|---|---|---|---|",
        f"| {facts.score}, mean of {found.num_examples:,} test examples | "
        f"{_number(found.score.baseline)} | {_number(found.score.pruned)} | "
        f"lost {_between(found.score)} |",
    ]
    told = [f"Intervals cover {share}. Both networks answered the same examples."]
    perplexity = found.perplexity
    if perplexity is not None:
        rows.append(
            f"| perplexity, {perplexity.num_tokens:,} tokens of {perplexity.num_documents:,} "
            f"documents | {perplexity.baseline:.3f} | {perplexity.pruned:.3f} | "
            f"ratio {_between(perplexity.ratio)} |"
        )
        told.append(f"The interval of the ratio: {perplexity.method}.")
    gates = [f"- {'passed' if g.passed else 'FAILED'}: {g.sentence}" for g in facts.gates.gates]
    if gates:
        told += ["\nLimits that were set before:\n\n" + "\n".join(gates)]
    return "\n".join(rows) + "\n\n" + "\n".join(told)


def _use(facts: CardFacts) -> str:
    return (
        f"```python\nfrom transformers import {facts.network}\n\nmodel = {facts.network}"
        '.from_pretrained("FOLDER")\n```\n\nNothing but transformers is needed. Layers were '
        "removed; what the evaluation above does not show may have changed more than what it shows."
    )


def _made(facts: CardFacts) -> str:
    return (
        f"With {facts.versions}, from `{facts.source}`. The run folder beside this one holds the "
        "plan, every measurement and the hashes of all files; `srinit verify RUN` checks them."
    )


def _between(found: Interval) -> str:
    if found.value is None:
        return "unknown"
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _percent(fraction: float, digits: int = 1) -> str:
    return f"{100 * fraction:.{digits}f} %"
