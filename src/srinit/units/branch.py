"""Additions without their branch: the shortcut stays, and the user's own class with it.

Only the module that executes the addition gets another forward (read by torch.fx); it stays an
instance of its class, with its attributes, names and train flag. The modules inside the shortcut
and the rest of the network are not touched.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from srinit.errors import SurgeryError

ADDITIONS = (operator.add, operator.iadd, operator.sub, torch.add, torch.sub)
METHODS = ("add", "add_", "__add__", "__iadd__")


def without_branch(
    site: nn.Module, parts: Collection[str], *, given: Collection[str] = ()
) -> nn.Module:
    """Return a module like `site` whose forward leaves out the branch through `parts`.

    Args:
        site: Module whose own forward executes the addition; not touched, its submodules and
            parameters are shared with the result.
        parts: The submodules (by their names in `site`) that only the branch uses.
        given: Names of the arguments that tensors are passed for; others keep their defaults
            where the code asks for their values.

    Returns:
        An instance of a subclass of the site's class; `parts` are still registered in it.

    Raises:
        SurgeryError: The code cannot be read, or has no addition whose one side is `parts`.
    """
    shell = shallow_copy(site)
    own = type(site)
    modes = [_rewritten(shell, parts, given, training=False)]
    if modes[0].asks:
        modes.append(_rewritten(shell, parts, given, training=True))
    forward = _forward(modes[0].network, modes[-1].network)
    body = {"forward": forward, "__module__": own.__module__, "__doc__": own.__doc__}
    shell.__class__ = type(own.__name__, (own,), body)
    still_read = frozenset().union(*(mode.after for mode in modes))
    for name in sorted(frozenset().union(*(mode.before for mode in modes)) - still_read):
        _forget(shell, name)
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
    hooks = {key for key in vars(module) if key.endswith("_hooks") or "_hooks_" in key}
    for key, value in vars(module).items():
        shared = key not in tables | hooks
        shell.__dict__[key] = value if shared else value.copy()
    shell.__dict__.pop("forward", None)
    return shell


def drop(module: nn.Module, parts: Collection[str]) -> None:
    """Unregister submodules, in place; the names of the others stay."""
    for part in parts:
        path, _, last = part.rpartition(".")
        module.get_submodule(path)._modules.pop(last)


@dataclass(frozen=True, slots=True)
class _Mode:
    """One forward without the branch, and what was found while it was read."""

    network: fx.GraphModule
    asks: bool  # the code reads the train flag
    before: frozenset[str]  # parameters read with the branch
    after: frozenset[str]  # and without it


class _Reader(fx.Tracer):
    """Reads one forward; every submodule it calls is one step."""

    proxy_buffer_attributes = True  # a buffer is read when the code runs, not once and for all

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _rewritten(
    shell: nn.Module, parts: Collection[str], given: Collection[str], *, training: bool
) -> _Mode:
    """Return the forward of one mode without the branch."""
    before, own = shell.training, type(shell)
    asked: list[bool] = []
    shell.training = training
    shell.__class__ = _watched(own, asked)
    try:
        graph = _graph(shell, given)
    finally:
        shell.__class__ = own
        shell.training = before
    for name, value in list(vars(shell).items()):
        if name.startswith("_tensor_constant"):  # made by the code; goes where the module goes
            del vars(shell)[name]
            shell.register_buffer(name, value, persistent=False)
    read = _attributes(graph)
    _leave_out(shell, graph, frozenset(parts))
    return _Mode(fx.GraphModule(shell, graph), bool(asked), read, _attributes(graph))


def _attributes(graph: fx.Graph) -> frozenset[str]:
    """Return the parameters and buffers that the code reads itself, those of no called module."""
    called = _called(graph.nodes)
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


def _leave_out(shell: nn.Module, graph: fx.Graph, parts: frozenset[str]) -> None:
    """Replace the addition whose one side is `parts` by its other side."""
    weighted = {
        name
        for name in _called(graph.nodes)
        if next(shell.get_submodule(name).parameters(), None) is not None
    }
    roots = [node for node in graph.nodes if node.op == "output" or _acts(node)]
    for node in reversed(list(graph.nodes)):
        if not _is_addition(node):
            continue
        for keep in node.all_input_nodes:
            needed = _needed(roots, node, keep)
            if weighted - _called(needed) == parts:
                node.replace_all_uses_with(keep)
                for step in reversed(list(graph.nodes)):
                    if step not in needed and step.op != "placeholder":
                        graph.erase_node(step)
                return
    raise SurgeryError(
        f"the forward of {type(shell).__name__} has no addition whose one side is "
        f"{', '.join(sorted(parts))}"
    )


def _acts(node: fx.Node) -> bool:
    """Tell whether a step whose result nobody reads still does something."""
    in_place = node.op == "call_method" and str(node.target).endswith("_")
    return not node.users and (in_place or node.target is operator.setitem)


def _is_addition(node: fx.Node) -> bool:
    known = (node.op == "call_function" and node.target in ADDITIONS) or (
        node.op == "call_method" and node.target in METHODS
    )
    return known and len(node.all_input_nodes) == 2


def _called(nodes: Iterable[fx.Node]) -> set[str]:
    return {str(node.target) for node in nodes if node.op == "call_module"}


def _needed(roots: Collection[fx.Node], addition: fx.Node, keep: fx.Node) -> set[fx.Node]:
    """Return the steps that are needed if an addition is replaced by one of its sides."""
    waiting = list(roots)
    seen: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend([keep] if node is addition else node.all_input_nodes)
    return seen - {addition}


def _forward(evaluating: fx.GraphModule, training: fx.GraphModule) -> Callable[..., Any]:
    """Return the forward; one that asks for the mode where the two differ."""
    one: Callable[..., Any] = type(evaluating).forward
    other: Callable[..., Any] = type(training).forward
    if evaluating.code == training.code:
        return one

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return other(self, *args, **kwargs) if self.training else one(self, *args, **kwargs)

    return forward
