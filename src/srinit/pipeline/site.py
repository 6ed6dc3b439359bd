"""Compares both networks on the site's own data, apart from the test data."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from srinit.comparison import (
    Site,
    Unread,
    compare_outcomes,
    flipped_examples,
    site_csv,
    unlabeled_outcomes,
)
from srinit.errors import DataError
from srinit.evaluate import top1
from srinit.gates import GateResult, check_feasible, check_gates, check_unlabeled
from srinit.pipeline import cut, shared
from srinit.pipeline.session import Session
from srinit.sources import DataSet

SITE_SCHEMA = "srinit.site/2"
GATE_SCHEMA = "srinit.gate/1"
OTHER = ("max_latency_ratio", "max_params_ratio", "max_shift_drop")  # no matter of these data


def site(session: Session) -> Site | None:
    """Return the comparison on `data.site`; None where the config names none.

    Labeled examples are compared as the test data are, and judged by the same limits; of examples
    without labels it is known where the two networks differ, not who is right.
    """
    data = session.data.get("site")
    if data is None:
        return None
    path = cut.stage_folder(session) / "site.json"
    if path.is_file():
        return session.folder.read_record(Site, path, schema=SITE_SCHEMA)
    source = session.config.data.site or ""
    found = compare_on(session, session.model, cut.tune(session), data, source)
    session.folder.write_text(path.with_suffix(".csv"), site_csv(found))
    judged = judge(session, found)
    if judged is not None:
        gate = path.with_name("site_gate.json")
        session.folder.write_record(gate, judged, schema=GATE_SCHEMA)
    session.folder.audit(
        "site",
        f"{len(found.flipped)} different answers listed of {found.num_examples} examples",
        reason="" if judged is None else "; ".join(gate.sentence for gate in judged.failed),
        inputs=found.data_hash,
    )
    session.folder.write_record(path, found, schema=SITE_SCHEMA)
    return found


def gates(session: Session) -> GateResult | None:
    """Return what the limits say of the site's data; None where there is nothing to judge."""
    path = cut.stage_folder(session) / "site_gate.json"
    if site(session) is None or not path.is_file():
        return None
    return session.folder.read_record(GateResult, path, schema=GATE_SCHEMA)


def limits(session: Session) -> dict[str, Any]:
    """Return the limits that speak of errors, which site data can hold or not."""
    given = session.config.gates.limits()
    return {name: limit for name, limit in given.items() if name not in OTHER}


def judge(session: Session, found: Site) -> GateResult | None:
    """Return the limits as the site's data hold them; None where none can be judged."""
    wanted = limits(session)
    if found.comparison is not None:
        return check_gates(found.comparison, wanted) if wanted else None
    assert found.unlabeled is not None
    agreement = {k: v for k, v in wanted.items() if k == "min_agreement"}
    return check_unlabeled(found.unlabeled, agreement) if agreement else None


def check_ahead(session: Session) -> None:
    """Raise `ConfigError` where a gate that counts can never pass on so few site examples."""
    if not session.config.gates.site:
        return
    data, wanted = session.split("site"), limits(session)
    counts = session.counts("site")
    if data.targets.ndim == 1 and not (data.targets >= 0).any():
        counts = {"": len(data)}
        wanted = {name: limit for name, limit in wanted.items() if name == "min_agreement"}
    terms = session.error_terms if "" not in counts else {}
    check_feasible(
        wanted,
        counts,
        confidence=session.config.compare.confidence,
        where="on data.site, gates",
        **terms,
    )


def compare_on(
    session: Session, first: nn.Module, second: nn.Module, data: DataSet, source: str
) -> Site:
    """Return two networks compared on any data, with labels, without, or with some.

    Args:
        session: The run, for scores, classes and what errors mean.
        first: The network before.
        second: The one after.
        data: The examples.
        source: What they are called.

    Raises:
        DataError: Examples without labels, and a score that needs them.
    """
    config, targets = session.config, data.targets
    has_label = targets >= 0 if targets.ndim == 1 else np.ones(len(data), dtype=bool)
    labeled = data.subset(np.flatnonzero(has_label).tolist())
    comparison = unlabeled = None
    flipped: tuple[Any, ...] = ()
    if len(labeled):
        pair = [shared.outcomes(session, net, labeled) for net in (first, second)]
        comparison = compare_outcomes(
            *pair,
            class_names=session.class_names,
            **session.error_terms,
            confidence=config.compare.confidence,
            data=source,
            data_hash=labeled.data_hash,
        )
        flipped = flipped_examples(pair[0], pair[1], labeled.names, session.class_names)
    if len(labeled) < len(data):
        if config.score not in ("top1", "agreement"):
            raise DataError(f"{source} has no labels, and score: {config.score} needs them.")
        pair = [
            shared.outcomes(session, net, data, scorer=top1, served=Unread)
            for net in (first, second)
        ]
        unlabeled = unlabeled_outcomes(
            *pair, class_names=session.class_names, confidence=config.compare.confidence
        )
        flipped = flipped_examples(
            pair[0], pair[1], data.names, session.class_names, labels=targets
        )
    return Site(
        data=source,
        data_hash=data.data_hash,
        num_examples=len(data),
        num_labeled=len(labeled),
        comparison=comparison,
        unlabeled=unlabeled,
        flipped=flipped,
    )
