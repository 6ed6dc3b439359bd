"""Networks that cannot be looked into: scripted, exported, quantized; said in words."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import fx, nn

from srinit.recording import TraceIndex, within
from srinit.units.describe import class_name, locked_unit
from srinit.units.records import LockedUnit

ADVICE = "search the network it was made from, cut that, and convert the result"


def opaque(module: nn.Module) -> str:
    """Return why nobody can look into a module's own code or weights, or "".

    Example:
        >>> opaque(nn.Linear(1, 1)), opaque(torch.ao.nn.quantized.ReLU6()).partition(":")[0]
        ('', 'it is quantized')
    """
    if isinstance(module, torch.jit.ScriptModule):
        return f"it is compiled by torch.jit: its parts are never called; {ADVICE}"
    home = type(module).__module__
    if isinstance(module, fx.GraphModule) and _is_exported(module):
        return f"it was exported by torch.export: its code calls no modules; {ADVICE}"
    packed = any(isinstance(value, torch.ScriptObject) for value in vars(module).values())
    if packed or home.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")):
        return f"it is quantized: its weights are packed and no parameters; {ADVICE}"
    if any(tensor.is_quantized for tensor in _own_tensors(module)):
        return f"it is quantized: its weights are whole numbers; {ADVICE}"
    return ""


def opaque_parts(model: nn.Module) -> dict[str, str]:
    """Return the outermost modules that cannot be looked into, each with the reason."""
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        if not any(within(name, other) for other in found) and (why := opaque(module)):
            found[name] = why
    return found


def opaque_locks(traced: TraceIndex, taken: Collection[str]) -> list[LockedUnit]:
    """Return the parts of a network that cannot be looked into, outside of `taken`, as locked.

    A quantized layer locks the module around it, whose branch it may be.
    """
    found: dict[str, LockedUnit] = {}
    for name, why in opaque_parts(traced.model).items():
        around = name.rpartition(".")[0] if "quantized" in why else name
        holder = around or name
        known = (*taken, *found)
        if not holder or any(within(holder, n) or within(n, holder) for n in known):
            continue
        where = "" if holder == name else f"of {name} ({class_name(traced, name)}): "
        found[holder] = locked_unit(traced, holder, "opaque", where + why)
    return list(found.values())


def why_none(traced: TraceIndex) -> str:
    """Return why a network has no units."""
    model, trace = traced.model, traced.trace
    kind = type(model).__name__
    parts = opaque_parts(model)
    if parts:
        name, why = next(iter(parts.items()))
        what = f"{kind}" if not name else f"{len(parts)} of its modules, such as {name!r}"
        return f"no unit was found in {kind}: {what} cannot be looked into; {why}."
    if trace.foreign:
        return (
            f"no unit was found in {kind}: its forward reads {trace.foreign} parameters that it "
            "does not register; modules in a plain list, a dict or a closure are not seen. "
            "Register them (nn.ModuleList, nn.ModuleDict)."
        )
    if len(trace.calls) < 2 and any(True for _ in model.children()):
        return (
            f"no unit was found in {kind}: its forward calls none of its modules; {ADVICE} if it "
            "was converted."
        )
    return (
        f"no unit was found: {kind} has no module whose output is its input plus a branch. "
        "Networks of plain layers have none by this rule; include_plain=True offers runs of "
        "convolution, norm and activation that keep the shape."
    )


def _is_exported(module: fx.GraphModule) -> bool:
    nodes = list(module.graph.nodes)
    called = [str(node.target) for node in nodes if node.op == "call_module"]
    own = any(not name.startswith("_guards") for name in called)
    return not own and any(isinstance(node.target, torch._ops.OpOverload) for node in nodes)


def _own_tensors(module: nn.Module) -> list[torch.Tensor]:
    tensors = [*module._parameters.values(), *module._buffers.values()]
    return [tensor for tensor in tensors if tensor is not None]
