"""`Reinitializer`: a private copy of a unit, filled with new weights as often as one likes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import ReinitError
from srinit.records import record
from srinit.reinit.matching import Call, Matcher
from srinit.reinit.noise import NOISE, noise_device, noise_of, spread
from srinit.reinit.plain import forgetting, make_plain
from srinit.reinit.proof import Run, constants, named, unread
from srinit.reinit.rules import Rule, Weights, rules_of
from srinit.rng import isolated_rng
from srinit.state import held_by

Scheme = Callable[[nn.Module, torch.Generator], None]
"""Draws the parameters of a module again, in place; the module is a private copy on the CPU or
where the unit lies, with its trained values. The generator lies on the CPU."""


@record
class RuleScheme:
    """A scheme that is a rule for each tensor; the five of `SCHEMES` are of this kind."""

    weights: Weights
    norms: bool  # normalization layers go back to their start
    matched: bool = False  # output statistics are matched to the trained unit's
    whole_block: bool = False  # the block is drawn as a whole, whatever the unit's parts
    note: str

    def __call__(self, unit: nn.Module, noise: torch.Generator) -> None:
        """Draw `unit` again, in place (without matching, which needs inputs)."""
        fill(unit, rules_of(unit, weights=self.weights, norms=self.norms), noise, scale=1.0)


SCHEMES: dict[str, Scheme] = {
    "paper": RuleScheme(
        weights="kaiming",
        norms=True,
        whole_block=True,
        note="Kaiming normal weights, normalization at its start: the published procedure",
    ),
    "default": RuleScheme(weights="own", norms=True, note="each module's own initial distribution"),
    "keep_norm": RuleScheme(
        weights="kaiming", norms=False, note="Kaiming normal weights, normalization kept"
    ),
    "matched": RuleScheme(
        weights="kaiming",
        norms=False,
        matched=True,
        note="re-drawn, then mean and variance of each output channel set to the trained ones",
    ),
    "permuted": RuleScheme(
        weights="shuffle", norms=False, note="the trained weights of each tensor, shuffled"
    ),
}


class Reinitializer:
    """Draws one unit again, many times, into one private copy of it.

    The unit itself is never touched. `draw(seed)` gives the same weights for the same seed, on
    every device: noise is made on the CPU in 32 bits, unless `local_noise`.

    Args:
        unit: Module to copy.
        scheme: A name in `SCHEMES`, or a callable that draws a module again in place.
        scale: Factor on the drawn weights (not on normalization).
        parts: Submodules to draw, by their names in the unit; empty: all of it.
        reference: Inputs of the unit, for `matched`: a tensor, tuple, dict, or a `Call`.
        prepare: Applied to the private copy before anything else, to change its number format.
        local_noise: Make noise on the unit's GPU, which is many times faster; other weights then
            than on another device. A scheme that is a callable has noise of the CPU nevertheless.

    Raises:
        ReinitError: Nothing in the unit can be drawn, or `matched` has no inputs.
    """

    def __init__(
        self,
        unit: nn.Module,
        *,
        scheme: str | Scheme = "default",
        scale: float = 1.0,
        parts: Sequence[str] = (),
        reference: object = None,
        prepare: Callable[[nn.Module], nn.Module] | None = None,
        local_noise: bool = False,
    ) -> None:
        self._scheme = find_scheme(scheme)
        self._scale = scale
        self._parts = tuple(parts) or ("",)
        self._unit = unit  # read, never written
        self._convert = prepare
        self.module = self._fresh()
        self._noise_on = noise_device(self.module) if local_noise else torch.device("cpu")
        roots = self._roots()
        if not any(True for root in roots for _ in root.parameters()):
            raise ReinitError(
                "the unit has no parameters to draw again; there is nothing to measure."
            )
        self._rules: tuple[tuple[Rule, ...], ...] = ()
        self._matcher: Matcher | None = None
        self._checked = False
        if isinstance(self._scheme, RuleScheme):
            self._prepare(self._scheme, reference)

    def _fresh(self) -> nn.Module:
        fresh = _private_copy(self._unit)
        self._is_plain = not make_plain(fresh)
        return fresh if self._convert is None else self._convert(fresh)

    def _roots(self) -> list[nn.Module]:
        return [_part(self.module, part) for part in self._parts]

    def _prepare(self, scheme: RuleScheme, reference: object) -> None:
        roots = self._roots()
        self._rules = tuple(
            rules_of(root, weights=scheme.weights, norms=scheme.norms) for root in roots
        )
        if not any(self._rules):
            raise ReinitError(
                "the unit holds only normalization or constant parameters, which this scheme "
                "keeps; choose scheme='default' or scheme='paper'."
            )
        if scheme.matched:
            if reference is None:
                raise ReinitError(
                    "scheme 'matched' needs inputs of the unit: pass reference=inputs."
                )
            pairs = zip(roots, self._rules, strict=True)
            drawn = {id(root.get_submodule(r.module)) for root, rules in pairs for r in rules}
            leaves = [module for module in self.module.modules() if id(module) in drawn]
            self._matcher = Matcher(self.module, leaves, Call.of(reference))

    def draw(self, seed: int) -> nn.Module:
        """Return the private copy, filled with the weights of `seed`.

        The next call overwrites it. Global random states are as before.

        Raises:
            ReinitError: The draw changed nothing, so that it would measure nothing.
        """
        with torch.no_grad():
            if self._rules:
                with forgetting(self.module):
                    self._fill_rules(torch.Generator(self._noise_on).manual_seed(seed))
                if self._matcher is not None:
                    self._matcher.match()
            else:
                self.module = self._fresh()
                noise = torch.Generator().manual_seed(seed)
                with isolated_rng(seed), forgetting(self.module):
                    for root in self._roots():
                        self._scheme(root, noise)
        if not self._checked:
            self._check_changed()
            self._checked = True
        return self.module

    def draw_many(
        self, draws: Sequence[int], seed: Callable[[int], int]
    ) -> dict[str, Tensor] | None:
        """Return the values of many draws at once, by name, the draws along the first dimension.

        They are in 32 bits; the private copy keeps what it holds. With noise of the CPU they are
        those of `draw(seed(number))`; on a GPU, where a call costs more than what it does, draws
        share generators in blocks, and are others than `draw` gives.

        Args:
            draws: Numbers of the draws, ascending.
            seed: Of the draw of a number.

        Returns:
            None where something else than normal or uniform values is drawn.
        """
        if self._matcher is not None or not self._rules:
            return None
        shapes: dict[str, torch.Size] = {}
        drawn: dict[str, Rule] = {}
        for part, root, rules in zip(self._parts, self._roots(), self._rules, strict=True):
            for rule in rules:
                if rule.kind == "constant":
                    continue
                tensor = getattr(root.get_submodule(rule.module), rule.tensor)
                if rule.kind not in NOISE or rule.zero_row is not None or tensor.is_complex():
                    return None
                name = f"{part}.{rule.name}".strip(".")
                shapes[name], drawn[name] = tensor.shape, rule
        found = noise_of(shapes, drawn, draws, seed, self._noise_on)
        for name, values in found.items():
            spread(values, drawn[name], self._scale)
        return found

    def _fill_rules(self, noise: torch.Generator) -> None:
        if self._matcher is not None:
            self._matcher.reset()
        for part, root, rules in zip(self._parts, self._roots(), self._rules, strict=True):
            if any(rule.kind == "shuffle" for rule in rules):
                _restore(root, _part(self._trained, part))
            fill(root, rules, noise, scale=self._scale)

    @property
    def drawn_layers(self) -> tuple[str, ...]:
        """Names, in the unit, of the modules of which a draw changes more than constants.

        Empty where the scheme is not one of rules for single tensors.
        """
        if not self._rules or self._matcher is not None:
            return ()
        names = [
            f"{part}.{rule.module}".strip(".")
            for part, rules in zip(self._parts, self._rules, strict=True)
            for rule in rules
            if rule.kind != "constant"
        ]
        return tuple(dict.fromkeys(names))

    @cached_property
    def _trained(self) -> nn.Module:
        """The unit, with the weights that it computes with as parameters."""
        return self._unit if self._is_plain else self._fresh()

    def prove(self, run: Run, proven: set[str]) -> list[str]:
        """Raise unless the unit reads every parameter that the last draw changed, or could.

        Args:
            run: Calls a unit with what the network calls it with, always the same.
            proven: Parameters that it is known to read; more are added.

        Returns:
            Parameters that have no effect in this call, such as those of an expert to which
            nothing went: nothing else that the unit reads could have been made from them.

        Raises:
            ReinitError: It does not, so that a drop would say nothing of them.
        """
        trained = self._fresh()
        before, after = dict(trained.named_parameters()), dict(self.module.named_parameters())
        changed = {
            name: after[name].detach()
            for name, value in before.items()
            if not torch.equal(value, after[name])
        }
        left = [name for name in _half_drawn(before, changed) if not self._rules]
        if left:
            raise ReinitError(
                f"the scheme drew a part of their modules, but not {named(left)}, so the drop "
                "would not be that of the unit; draw them too."
            )
        left = unread(trained, {n: v for n, v in changed.items() if n not in proven}, run)
        proven |= changed.keys() - set(left)
        least = min((changed[name].numel() for name in left), default=0)
        if left and (len(left) == len(changed) or constants(trained, run) >= least):
            raise ReinitError(
                f"{len(left)} of {len(changed)} parameters that were drawn again change nothing "
                f"that their modules put out ({named(left)}): the forward pass reads something "
                "else than them, such as a weight that was computed from them once. Put the "
                "weight itself into a parameter."
            )
        return left

    def _check_changed(self) -> None:
        before, after = self._trained.state_dict(), self.module.state_dict()
        same = before.keys() == after.keys()
        if same and all(_equal(value, after[name]) for name, value in before.items()):
            raise ReinitError(
                "drawing the unit again changed none of its values, so its drop cannot be "
                "measured; choose another scheme or scale."
            )


def _equal(before: object, after: object) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return torch.equal(before.to(after.dtype), after)
    return bool(before == after)


def _half_drawn(before: Mapping[str, Tensor], changed: Collection[str]) -> list[str]:
    """Return weights that a draw left as they were, though it changed others of their modules."""
    owners = {name.rpartition(".")[0] for name in changed}
    return [
        name
        for name, value in before.items()
        if name not in changed
        and value.ndim > 1
        and name.rpartition(".")[0] in owners
        and bool((value != value.flatten()[0]).any())
    ]


def _restore(root: nn.Module, trained: nn.Module) -> None:
    for target, value in zip(root.parameters(), trained.parameters(), strict=True):
        target.detach().copy_(value.detach())


def find_scheme(scheme: str | Scheme) -> Scheme:
    """Return the scheme of a name.

    Raises:
        ReinitError: There is none of that name.
    """
    if not isinstance(scheme, str):
        return scheme
    if scheme not in SCHEMES:
        raise ReinitError(f"there is no scheme {scheme!r}; write one of {', '.join(SCHEMES)}.")
    return SCHEMES[scheme]


def fill(unit: nn.Module, rules: Sequence[Rule], noise: torch.Generator, *, scale: float) -> None:
    """Draw the tensors that `rules` name, in place and in their order."""
    own: dict[str, set[str]] = {}
    for rule in rules:
        if rule.kind == "own":
            own.setdefault(rule.module, set()).add(rule.tensor)
            continue
        module = unit.get_submodule(rule.module)
        _fill_one(getattr(module, rule.tensor).detach(), rule, noise, scale)
    for name, tensors in own.items():
        _reset(unit.get_submodule(name), tensors, noise, scale)


def _fill_one(tensor: Tensor, rule: Rule, noise: torch.Generator, scale: float) -> None:
    if rule.kind == "constant":
        tensor.fill_(rule.spread)
        return
    if rule.kind == "shuffle":
        order = torch.randperm(tensor.numel(), generator=noise, device=noise.device)
        order = order.to(tensor.device)
        tensor.copy_((tensor.flatten()[order] * scale).view(tensor.shape))
        return
    is_complex = tensor.is_complex() and rule.kind == "normal"
    dtype = torch.complex64 if is_complex else torch.float32
    values = NOISE[rule.kind](tensor.shape, generator=noise, dtype=dtype, device=noise.device)
    spread(values, rule, scale)
    if rule.zero_row is not None:
        values[rule.zero_row] = 0
    tensor.copy_(values)


def _reset(module: nn.Module, tensors: set[str], noise: torch.Generator, scale: float) -> None:
    """Draw through the module's own `reset_parameters`, on a copy on the CPU in 32 bits."""
    seed = int(torch.randint(2**62, (1,), generator=noise, device=noise.device))
    fresh = copy.deepcopy(module, modules.copies_of_computed(module)).cpu().float()
    with isolated_rng(seed), torch.no_grad():
        fresh.reset_parameters()  # type: ignore[operator]
    for name in sorted(tensors):
        target, value = module._parameters[name], fresh._parameters[name]
        assert target is not None
        assert value is not None
        target.detach().copy_(value.detach() * scale)


def _private_copy(unit: nn.Module) -> nn.Module:
    for held in held_by(unit, hooks=False):
        if isinstance(held.value, nn.Module) and next(held.value.parameters(), None) is not None:
            raise ReinitError(
                f"the unit works with weights of another module ({held}), which drawing the unit "
                "again does not reach; register that module in the unit, or leave the unit out."
            )
    try:
        with torch.no_grad():
            return copy.deepcopy(unit, modules.copies_of_computed(unit))
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ReinitError(f"the unit cannot be copied: {error}") from error


def _part(unit: nn.Module, name: str) -> nn.Module:
    try:
        return unit.get_submodule(name)
    except AttributeError:
        raise ReinitError(f"the unit has no submodule {name!r} to draw again.") from None
