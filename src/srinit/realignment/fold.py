"""Fold: a linear map of what the last map before a run of removed units puts out.

It becomes part of that map's weight, so nothing is added to the network. Where the weight may not
change because it is used elsewhere as well, the map is one factor and shift per channel, which the
normalization behind it takes up. Source of the first: ReplaceMe, https://arxiv.org/abs/2505.02819.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from srinit.realignment.equations import Geometry
from srinit.realignment.maps import LinearMap
from srinit.realignment.networks import Networks


def geometry_behind(each: LinearMap, own: Geometry, channels: int) -> Geometry | None:
    """Return how the folded map reads a map's outputs; None where there is none for it.

    Args:
        each: The map before the run.
        own: How it reads its inputs.
        channels: Of its outputs.
    """
    if each.is_shared:
        if own.kernel is None:
            return None
        return Geometry(groups=channels, kernel=(1, 1), is_1d=own.is_1d)
    kernel = None if own.kernel is None else (1, 1)
    return Geometry(own.groups, kernel, is_1d=own.is_1d, has_bias=own.has_bias)


def applied(raw: Tensor, change: Tensor, geometry: Geometry) -> Tensor:
    """Return what a folded map adds to a map's outputs, channels in their usual place."""
    own = change.shape[-1] - int(geometry.has_bias)
    weight = change[..., :own].reshape(-1, own).to(raw.dtype)
    bias = change[..., own].reshape(-1).to(raw.dtype) if geometry.has_bias else None
    if geometry.kernel is None:
        return F.linear(raw, weight, bias)
    if geometry.is_1d:
        return F.conv1d(raw, weight[:, :, None], bias, groups=geometry.groups)
    return F.conv2d(raw, weight[:, :, None, None], bias, groups=geometry.groups)


def folded(
    networks: Networks, each: LinearMap, change: Tensor, geometry: Geometry
) -> dict[str, Tensor]:
    """Return what changes of a network's tensors where a map's outputs are mapped further.

    Args:
        networks: Both networks.
        each: The map before the run.
        change: What is added to the identity, and the shift, (groups, outputs, inputs), float64.
        geometry: How the folded map reads the outputs.
    """
    own = change.shape[-1] - int(geometry.has_bias)
    turn, shift = change[..., :own], change[..., own:].reshape(-1)
    if each.is_shared:
        return _in_norm(networks, each, turn.reshape(-1), shift)
    weight = networks.tensors[each.name].detach().double()
    is_transposed = geometry.kernel is None and networks.reads_weight_directly(each)
    rows = (weight.T if is_transposed else weight).reshape(geometry.groups, own, -1)
    moved = (turn @ rows).reshape(weight.T.shape if is_transposed else weight.shape)
    changes = {each.name: moved.T if is_transposed else moved}
    bias = networks.bias(each)
    if bias is not None and geometry.has_bias:
        key, norm = bias
        scale = 1.0 if norm is None else networks.norm_scale(norm).double()
        if networks.reads(each.op, key):  # it is part of what is mapped further
            before = networks.tensors[key].detach().double().reshape(geometry.groups, own, 1)
            shift = shift + (turn @ before).reshape(-1)
        changes[key] = shift * scale
    return changes


def _in_norm(networks: Networks, each: LinearMap, turn: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """Return the changes of the normalization behind a map."""
    index = networks.norm(each)
    assert index is not None
    keys = networks.norm_keys(index)
    scale, mean = networks.norm_scale(index).double(), networks.tensors[keys["running_mean"]]
    return {
        keys["weight"]: networks.tensors[keys["weight"]].detach().double() * turn,
        keys["bias"]: scale * (shift + turn * mean.double()),
    }
