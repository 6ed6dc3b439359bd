"""Additions without their branch: the shortcut stays, and the user's own class with it.

Only the module that executes the addition gets another forward (read by torch.fx); it stays an
instance of its class, with its attributes, names and train flag. The modules inside the shortcut
and the rest of the network are not touched.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from srinit.errors import SurgeryError
from srinit.units.leave import called_in, leave_out


@dataclass(frozen=True, slots=True)
class _Reading:
    """The code of one forward as torch.fx reads it, in one mode."""

    graph: fx.Graph  # not changed; branches are left out of copies
    asks: bool  # the code reads the train flag
    constants: dict[str, Any] = field(default_factory=dict)  # tensors that the code made


class Readings:
    """The sites read so far, so that each is read once however many branches it has."""

    def __init__(self) -> None:
        self.sites: dict[Any, list[tuple[nn.Module, tuple[_Reading, ...]]]] = {}  # by class
        self.made: dict[type[nn.Module], tuple[_Reading, ...]] = {}  # by the class of the result
        self.cuts: dict[Any, tuple[tuple[_Reading, ...], list[_Mode]]] = {}  # without a branch


def without_branch(
    site: nn.Module,
    parts: Collection[str],
    *,
    given: Collection[str] = (),
    gated: tuple[int, ...] | None = None,
    readings: Readings | None = None,
) -> nn.Module:
    """Return a module like `site` whose forward leaves out the branch through `parts`.

    Args:
        site: Module whose own forward executes the addition; not touched, its submodules and
            parameters are shared with the result.
        parts: The submodules (by their names in `site`) that only the branch uses.
        given: Names of the arguments that tensors are passed for; others keep their defaults
            where the code asks for their values.
        gated: Shape of the sum (with any batch) where it is a gated one that goes as a whole.
        readings: Sites read before; further ones are added to it.

    Returns:
        An instance of a subclass of the site's class; `parts` are still registered in it.

    Raises:
        SurgeryError: The code cannot be read, or has no addition whose one side is `parts`.
    """
    shell = shallow_copy(site)
    own = type(site)
    known = Readings() if readings is None else readings
    found = _read(site, shell, given, known)
    for name, value in ((n, v) for reading in found for n, v in reading.constants.items()):
        if name not in shell._buffers:  # the shell is not the one that was read
            shell.register_buffer(name, value, persistent=False)
    key = (id(found), frozenset(parts), gated)
    if key not in known.cuts:
        known.cuts[key] = (found, [_Mode.of(shell, one, parts, gated) for one in found])
    modes = known.cuts[key][1]
    forward = _forward(modes[0].network, modes[-1].network)
    body = {"forward": forward, "__module__": own.__module__, "__doc__": own.__doc__}
    shell.__class__ = type(own.__name__, (own,), body)
    if isinstance(shell, fx.GraphModule):  # its copies are made from its graph
        vars(shell).update(_graph=modes[0].network.graph, _code=modes[0].network.code)
    still_read = frozenset().union(*(mode.after for mode in modes))
    for name in sorted(frozenset().union(*(mode.before for mode in modes)) - still_read):
        _forget(shell, name)
    differ = modes[0].network.code != modes[-1].network.code
    known.made[type(shell)] = tuple(
        _Reading(mode.network.graph, asks=differ, constants=mode.constants)
        for mode in (modes if differ else modes[:1])
    )
    return shell


def _forget(shell: nn.Module, name: str) -> None:
    """Let a parameter go that only the branch read; modules shared with the site are copied."""
    *path, last = name.split(".")
    owner = shell
    for step in path:
        child = owner._modules[step]
        assert child is not None
        owner._modules[step] = owner = shallow_copy(child)
    if last in owner._parameters:
        owner._parameters[last] = None


def shallow_copy(module: nn.Module) -> nn.Module:
    """Return another object with the same attributes, submodules and parameters."""
    shell = module.__class__.__new__(module.__class__)
    tables = {"_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"}
    for key, value in vars(module).items():
        shared = key not in tables and not is_hook_table(key)
        shell.__dict__[key] = value if shared else value.copy()
    shell.__dict__.pop("forward", None)
    return shell


def is_hook_table(key: str) -> bool:
    """Tell whether an attribute of a module is one of the tables of its hooks."""
    return key.endswith("_hooks") or "_hooks_" in key


def drop(module: nn.Module, parts: Collection[str]) -> None:
    """Unregister submodules, in place; the names of the others stay."""
    for part in parts:
        path, _, last = part.rpartition(".")
        module.get_submodule(path)._modules.pop(last)


@dataclass(frozen=True, slots=True)
class _Mode:
    """One forward without the branch, and what is read with it and without it."""

    network: fx.GraphModule
    before: frozenset[str]  # parameters read with the branch
    after: frozenset[str]  # and without it
    constants: dict[str, Any]

    @classmethod
    def of(
        cls,
        shell: nn.Module,
        reading: _Reading,
        parts: Collection[str],
        gated: tuple[int, ...] | None,
    ) -> _Mode:
        """Return a reading without a branch."""
        graph = copy.deepcopy(reading.graph)
        read = _attributes(graph)
        leave_out(shell, graph, frozenset(parts), gated=gated)
        return cls(fx.GraphModule(shell, graph), read, _attributes(graph), reading.constants)


class _Reader(fx.Tracer):
    """Reads one forward; every submodule it calls is one step."""

    proxy_buffer_attributes = True  # a buffer is read when the code runs, not once and for all

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _read(
    site: nn.Module, shell: nn.Module, given: Collection[str], known: Readings
) -> tuple[_Reading, ...]:
    """Return the code of a site: of one mode, or of both where it asks for the mode."""
    if type(site) in known.made:
        return known.made[type(site)]
    read = known.sites.setdefault((type(site), frozenset(given)), [])
    for other, readings in read:
        if other is site or (
            not any(r.constants for r in readings) and same_signature(other, site)
        ):
            return readings
    first = _reading(shell, given, training=False)
    found = (first, _reading(shell, given, training=True)) if first.asks else (first,)
    read.append((site, found))
    return found


def same_signature(one: nn.Module, other: nn.Module) -> bool:
    """Tell whether two modules differ in nothing but the values of their tensors.

    Such modules run the same code. Attributes that are neither modules nor tensors nor plain
    values must be the same object; hooks do not count.
    """
    mine, theirs = vars(one), vars(other)
    if type(one) is not type(other) or mine.keys() != theirs.keys():
        return False
    for key, value in mine.items():
        if key in ("_modules", "_parameters", "_buffers"):
            if value.keys() != theirs[key].keys():
                return False
            if not all(map(_same_parts, value.values(), theirs[key].values())):
                return False
        elif not is_hook_table(key) and not _same(value, theirs[key]):
            return False
    return True


def _same_parts(one: object, other: object) -> bool:
    """Tell whether two registered modules or tensors are alike; the code is given no values."""
    if isinstance(one, nn.Module) and isinstance(other, nn.Module):
        return same_signature(one, other)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype
    return one is other


def _same(one: object, other: object) -> bool:
    if isinstance(one, tuple | list) and type(one) is type(other) and len(one) == len(other):
        return all(map(_same, one, other))
    plain = isinstance(one, str | int | float | set | torch.dtype) and type(one) is type(other)
    return one is other or (plain and bool(one == other))


def _reading(shell: nn.Module, given: Collection[str], *, training: bool) -> _Reading:
    """Return the code of one mode; tensors that it makes become buffers of the shell."""
    before, own = shell.training, type(shell)
    asked: list[bool] = []
    shell.training = training
    shell.__class__ = _watched(own, asked)
    try:
        graph = _graph(shell, given)
    finally:
        shell.__class__ = own
        shell.training = before
    constants = {n: v for n, v in vars(shell).items() if n.startswith("_tensor_constant")}
    for name, value in constants.items():  # made by the code; go where the module goes
        del vars(shell)[name]
        shell.register_buffer(name, value, persistent=False)
    return _Reading(graph, bool(asked), constants)


def _attributes(graph: fx.Graph) -> frozenset[str]:
    """Return the parameters and buffers that the code reads itself, those of no called module."""
    called = called_in(graph.nodes)
    read = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    return frozenset(n for n in read if not any(n.startswith(f"{name}.") for name in called))


def _watched(own: type[nn.Module], asked: list[bool]) -> type[nn.Module]:
    """Return a subclass that notes whether somebody reads the train flag."""

    def training(self: nn.Module) -> bool:
        asked.append(True)
        return bool(vars(self)["training"])

    return type(
        own.__name__, (own,), {"training": property(training), "__module__": own.__module__}
    )


def _graph(shell: nn.Module, given: Collection[str]) -> fx.Graph:
    if isinstance(shell, fx.GraphModule):  # is code that was read already
        return copy.deepcopy(shell.graph)
    try:
        try:
            return _Reader().trace(shell)
        except Exception:
            return _Reader().trace(shell, concrete_args=_defaults(shell, given))
    except Exception as error:  # the module's own code runs on stand-ins and may do anything
        raise SurgeryError(
            f"the forward of {type(shell).__name__} cannot be read by torch.fx: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from None


def _defaults(shell: nn.Module, given: Collection[str]) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(shell.forward).parameters.items()
        if parameter.default is not parameter.empty and name not in given
    }


def _forward(evaluating: fx.GraphModule, training: fx.GraphModule) -> Callable[..., Any]:
    """Return the forward; one that asks for the mode where the two differ."""
    one: Callable[..., Any] = type(evaluating).forward
    other: Callable[..., Any] = type(training).forward
    if evaluating.code == training.code:
        return one

    def forward(self: nn.Module, *args: object, **kwargs: object) -> Any:
        return other(self, *args, **kwargs) if self.training else one(self, *args, **kwargs)

    return forward
