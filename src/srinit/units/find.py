"""Finds what may be removed from a network, and says of every near-miss what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import nn

from srinit import modules
from srinit.errors import ModelError
from srinit.specs import describe
from srinit.state import preserves
from srinit.units.branches import branches
from srinit.units.bypass import PassThroughFor, Rewritten
from srinit.units.choose import Candidate, candidates, choose
from srinit.units.describe import locked, locked_unit, whole_unit
from srinit.units.facts import Facts, within
from srinit.units.fingerprint import fingerprint
from srinit.units.merges import find_merges
from srinit.units.near import near_misses, shared
from srinit.units.patterns import Pattern, covered, matching
from srinit.units.plain import plain_units
from srinit.units.records import Kind, LockedUnit, Unit, UnitMap
from srinit.units.rule import Stream
from srinit.units.structure import provided
from srinit.units.taps import tap_of
from srinit.units.trace import Call, record
from srinit.units.verify import run, verify

FUSED = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
"""Modules whose fused path, switched off while recording, may give outputs of another shape."""
Level = Literal["block", "sublayer", "stage"]
Rule = Callable[[str, nn.Module], bool]
"""A user's own rule: from name and module to whether it is a unit."""


@preserves
def find_units(
    model: nn.Module,
    example_inputs: Any,
    *,
    keep: Iterable[Pattern] = (),
    level: Level = "block",
    include_plain: bool = False,
    select: Iterable[Pattern] | None = None,
    rule: Rule | None = None,
    passthrough: PassThroughFor | None = None,
) -> UnitMap:
    """Return the removable units of a network, and its near-misses with what locks them.

    One forward is recorded and the units are found in it, so any module will do; then the
    network is run without them. The model, its modes, hooks and the random state are the same
    afterwards, also when it raises.

    Args:
        model: Any module.
        example_inputs: What it takes: a tensor, a tuple (arguments) or a dict (keywords); a
            batch of two or more.
        keep: Units to protect, and all units inside modules to protect: names, globs
            ("layer4.*"), classes, or "class:NAME".
        level: "block"; "sublayer" for the halves of blocks (attention, feed-forward); "stage"
            for whole runs of blocks that keep their shape.
        include_plain: Offer runs of convolution, norm and activation that keep the shape.
        select: Offer only these modules (written like `keep`), also those the rule does not
            find; one that is named exactly is offered even if its output is tapped.
        rule: Your own rule in place of the skip path: which modules are units.
        passthrough: Your own stand-ins for removed units; pass the same to `apply_plan`.

    Raises:
        ModelError: The model does not run on the inputs, or has lazy parts without weights.
        ConfigError: A pattern in `keep` or `select` matches no submodule.

    Example:
        >>> import torch
        >>> from torch.nn import TransformerEncoder, TransformerEncoderLayer
        >>> layer = TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = TransformerEncoder(layer, 3, enable_nested_tensor=False)
        >>> units = find_units(model, torch.zeros(2, 4, 8), keep=["layers.0"])
        >>> units.names, units.locked[0].reason
        (('layers.1', 'layers.2'), 'kept')
    """
    named = dict(model.named_modules())
    protected = matching(keep, named, argument="keep")
    selected = None if select is None else matching(select, named, argument="select")
    exact = {pattern for pattern in select or () if pattern in named}
    try:
        trace = record(model, example_inputs)
        fused = any(isinstance(module, FUSED) for module in named.values())
        expected = run(model, example_inputs) if fused else trace.result
    except Exception as error:  # the model's own code may fail in any way
        shapes = [tuple(tensor.shape) for tensor in modules.tensors(example_inputs)]
        raise ModelError(
            f"the model does not run on the example inputs {shapes}: "
            f"{type(error).__name__}: {error}"
        ) from error
    facts = Facts(model, trace)
    found = _Found(facts)
    if rule is not None or selected is not None:
        found.by_word(_wanted(facts, selected, rule))
    if rule is None:
        found.by_rule(level)
    if include_plain:
        found.add(plain_units(facts, outside=[found.calls[name] for name in found.calls]))
    if selected is not None:
        found.only(selected)
    else:
        found.near()
    found.lock_providers_and_taps(free=exact)
    found.lock_kept(protected)
    failed = verify(
        model,
        example_inputs,
        found.units,
        expected,
        passthrough=passthrough,
        rewritten=found.rewritten,
    )
    for name, text in failed.items():
        detail = f"without it the network fails: {text}"
        found.locks[name] = locked(found.units.pop(name), "verification failed", detail)
    return found.map(describe(example_inputs))


def _wanted(facts: Facts, selected: list[str] | None, rule: Rule | None) -> list[str]:
    names = list(facts.named) if selected is None else selected
    wanted = [name for name in names if name and (rule is None or rule(name, facts.named[name]))]
    return [n for n in wanted if not any(within(n, other) for other in wanted if other != n)]


class _Found:
    """The units of one network while they are being chosen."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.units: dict[str, Unit] = {}
        self.locks: dict[str, LockedUnit] = {}
        self.calls: dict[str, Call] = {}
        self.sources: dict[str, int] = {}
        self.sinks: dict[str, int] = {}
        self.rewritten = Rewritten()

    def by_rule(self, level: Level) -> None:
        """Add what the skip-path rule finds, and the branches outside of it."""
        facts = self.facts
        choice = choose(facts, candidates(facts))
        merges = find_merges(facts)
        kinds: dict[str, Kind] = dict.fromkeys(choice.units, "block")
        chosen: Mapping[str, Candidate] = choice.units
        if level == "stage":
            stages = {
                name: candidate
                for name, candidate in choice.above.items()
                if not any(name != other and within(name, other) for other in choice.above)
            }
            inner = {n: c for n, c in chosen.items() if not any(within(n, s) for s in stages)}
            chosen = {**inner, **stages}
            kinds |= dict.fromkeys(stages, "stage")
        elif level == "sublayer":
            chosen = self._halves(choice.units, choice.below)
            kinds |= dict.fromkeys(choice.below, "sublayer")
        for name, candidate in chosen.items():
            if not self._overlaps(name):
                self._whole(candidate, kinds[name])
        for lock in shared(facts, self.units):
            self.locks[lock.name] = lock
        calls = list(self.calls.values())
        calls += [call for call in facts.trace.calls if call.name in self.locks]
        self._branches(merges, calls, "branch" if level != "sublayer" else "sublayer")

    def _halves(
        self, units: Mapping[str, Candidate], below: Mapping[str, Candidate]
    ) -> dict[str, Candidate]:
        """Return units with one addition whole, and of the others what is a module of its own."""
        single = {
            name: candidate
            for name, candidate in units.items()
            if len(candidate.stream.merges) == 1 and not any(within(other, name) for other in below)
        }
        return {**single, **below}

    def _branches(self, merges: list[Any], calls: list[Call], kind: Kind) -> None:
        units, locks = branches(
            self.facts, merges, outside=calls, kind=kind, rewritten=self.rewritten
        )
        by_name = {merge.site.name: merge for merge in merges}
        for unit in units:
            if unit.name in self.units or self._overlaps(unit.name):
                continue
            self.units[unit.name] = unit
            merge = by_name.get(unit.name)
            if merge is not None:
                self.calls[unit.name] = merge.site
                if merge.site.inputs and merge.site.outputs:
                    self.sources[unit.name] = merge.site.inputs[0][1]
                    self.sinks[unit.name] = merge.site.outputs[0][1]
        for lock in locks:
            self.locks.setdefault(lock.name, lock)

    def _whole(self, candidate: Candidate, kind: Kind) -> None:
        self.units[candidate.name] = whole_unit(self.facts, candidate, kind)
        self.calls[candidate.name] = candidate.call
        self.sources[candidate.name] = candidate.stream.source
        self.sinks[candidate.name] = candidate.stream.sink

    def _overlaps(self, name: str) -> bool:
        taken = (*self.units, *self.locks)
        return any(within(name, other) or within(other, name) for other in taken)

    def by_word(self, names: Iterable[str]) -> None:
        """Add modules the user names, if they keep the shape of something they take."""
        facts = self.facts
        choice = candidates(facts)
        for name in names:
            candidate = choice.get(name)
            call = facts.call(name)
            if candidate is None and call is not None and facts.counts[name] == 1:
                stream = _kept_shape(facts, call)
                candidate = Candidate(name, call, stream) if stream is not None else None
            if candidate is not None and candidate.name not in self.units:
                self._whole(candidate, "block")

    def add(self, units: Iterable[Unit]) -> None:
        """Add units found in another way."""
        for unit in units:
            self.units.setdefault(unit.name, unit)

    def only(self, selected: list[str]) -> None:
        """Leave only what was selected; say of the rest of it why it cannot go."""
        self.units = {n: u for n, u in self.units.items() if covered(n, selected)}
        self.locks = {n: u for n, u in self.locks.items() if n in selected}
        for name in selected:
            if any(within(name, n) or within(n, name) for n in (*self.units, *self.locks)):
                continue
            times = self.facts.counts[name]
            call = self.facts.call(name)
            if call is None:
                lock = locked_unit(self.facts, name, "never called", "it is never called")
            elif times > 1:
                lock = locked_unit(self.facts, name, "shared", f"called {times} times")
            else:
                detail = "none of its outputs has the shape of one of its inputs"
                lock = locked_unit(self.facts, name, "shape change", detail)
            self.locks[name] = lock

    def near(self) -> None:
        """Add the near-misses."""
        also = [name for unit in self.units.values() for name in unit.also]
        for lock in near_misses(self.facts, [*self.units, *self.locks, *also]):
            self.locks[lock.name] = lock

    def lock_providers_and_taps(self, *, free: Iterable[Any] = ()) -> None:
        """Lock units that later parts need, and those whose output is collected elsewhere."""
        everyone = [(self.calls[name], source) for name, source in self.sources.items()]
        for name in list(self.units):
            unit, call, sink = self.units[name], self.calls.get(name), self.sinks.get(name)
            if call is None or sink is None:
                continue
            made = ""
            if unit.how != "branch":
                made = provided(self.facts, call, unit.output, sink)
            if made:
                detail = f"it computes {made} that later parts use; nothing could take its place"
                self.locks[name] = locked(self.units.pop(name), "provider", detail)
                continue
            reader = tap_of(self.facts, call, sink, everyone)
            if reader and name not in free:
                detail = (
                    f"its output is also used by {reader}, which would get that of the unit "
                    f"before it; to allow that, write select=[..., {name!r}]"
                )
                self.locks[name] = locked(self.units.pop(name), "tap", detail)

    def lock_kept(self, protected: list[str]) -> None:
        """Lock what the user protects."""
        for name in list(self.units):
            gone = (name, *self.units[name].also)
            if any(covered(part, protected) for part in gone):
                detail = "protected by keep; take it out of keep to free it"
                self.locks[name] = locked(self.units.pop(name), "kept", detail)

    def map(self, inputs: Any) -> UnitMap:
        """Return the records, in order of execution."""
        facts = self.facts
        last = len(facts.trace.calls)

        def place(name: str) -> tuple[int, str]:
            call = facts.call(name)
            return (last if call is None else call.number, name)

        order = sorted([*self.units, *self.locks], key=place)
        positions = {name: position for position, name in enumerate(order)}
        network = fingerprint(facts.model)
        return UnitMap(
            removable=tuple(
                replace(self.units[name], position=positions[name], network=network)
                for name in order
                if name in self.units
            ),
            locked=tuple(
                replace(self.locks[name], position=positions[name])
                for name in order
                if name in self.locks
            ),
            params=modules.count_params(facts.model),
            flops=sum(op.flops for op in facts.trace.ops) // facts.trace.batch,
            inputs=inputs,
            note="" if self.units else _why_none(facts.model),
        )


def _kept_shape(facts: Facts, call: Call) -> Stream | None:
    """Return a stream from the first input to the first output of the same shape and dtype."""
    trace = facts.trace
    for out_path, sink in call.outputs:
        for in_path, source in call.inputs:
            same = trace.shapes[source] == trace.shapes[sink]
            if same and trace.dtypes[source] == trace.dtypes[sink]:
                return Stream(source, sink, frozenset(), in_path, out_path)
    return None


def _why_none(model: nn.Module) -> str:
    return (
        f"no unit was found: {type(model).__name__} has no module whose output is its input plus "
        "a branch. Networks of plain layers have none by this rule; include_plain=True offers "
        "runs of convolution, norm and activation that keep the shape."
    )
