"""The networks whose views of the same examples are compared, and those views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.copying import detached_copy
from srinit.errors import ConfigError, ReinitError
from srinit.reinit import Call, reinitialized
from srinit.report import explain, images
from srinit.report.samples import class_name, inputs_of, pixels_of
from srinit.rng import seed_for
from srinit.runs.pictures import Example, Explanation, Variant
from srinit.sensitivity.records import Sensitivity
from srinit.sources import DataSet
from srinit.units.records import Unit

Networks = Sequence[tuple[Variant, nn.Module]]


def make_networks(
    baseline: nn.Module,
    pruned: nn.Module,
    sensitivity: Sensitivity,
    data: DataSet,
    chosen: Sequence[int],
    seed: int,
    missing: list[str],
) -> tuple[Networks, tuple[str, str]]:
    """Return the networks that are explained and the names of the re-initialized units."""
    named = sensitivity.unit_map
    known = [
        (row.reinit_drop, row.unit)
        for row in sensitivity.units
        if row.reinit_drop is not None and row.unit in named.names
    ]
    if len(known) < 2:
        missing.append("scan_off" if sensitivity.is_off else "no_scan")
        return [("baseline", baseline), ("pruned", pruned)], ("", "")
    lowest, highest = min(known)[1], max(known)[1]
    reference = modules.to_device(inputs_of(data, chosen), modules.device_of(baseline))
    variants: list[tuple[Variant, nn.Module]] = [("baseline", baseline)]
    for variant, name in (("lowest", lowest), ("highest", highest)):
        try:
            network = _redrawn(baseline, named[name], sensitivity, reference, seed)
        except (ReinitError, ConfigError):  # a scheme of the user's own is not known here
            missing.append("no_redraw")
            continue
        variants.append(("lowest" if variant == "lowest" else "highest", network))
    variants.append(("pruned", pruned))
    return variants, (lowest, highest)


def _redrawn(
    baseline: nn.Module, unit: Unit, sensitivity: Sensitivity, reference: Any, seed: int
) -> nn.Module:
    """Return a copy of the baseline with one unit re-initialized as in the scan."""
    network = detached_copy(baseline, reference)[0]
    calls: list[Call] = []
    module = network.get_submodule(unit.name)
    handle = module.register_forward_pre_hook(
        lambda _module, args, kwargs: calls.append(Call(args=args, kwargs=kwargs)),
        with_kwargs=True,
    )
    try:
        with modules.untouched(network), torch.no_grad():
            modules.call(network, reference)
    finally:
        handle.remove()
    fresh = reinitialized(
        module,
        seed=seed_for(seed, unit.name, "picture"),
        scheme=sensitivity.scheme,
        scale=sensitivity.scale,
        parts=tuple(part.removeprefix(f"{unit.name}.") for part in unit.parts),
        reference=calls[0] if sensitivity.scheme == "matched" else None,
    )
    parent, last = modules.parent_of(network, unit.name)
    parent._modules[last] = fresh
    return network


def explained(
    networks: Networks, data: DataSet, chosen: Sequence[int], missing: list[str]
) -> tuple[tuple[Example, ...], int]:
    """Return the explained examples and how many ReLUs were guided in the first network."""
    names, found, guided = data.class_names, [], 0
    for position in chosen:
        image = inputs_of(data, [position])
        pixels = pixels_of(data, position)
        device = modules.device_of(networks[0][1])
        target = int(_probabilities(networks[0][1], image.to(device)).argmax())
        views = []
        for variant, network in networks:
            inputs = image.to(modules.device_of(network))
            probabilities = _probabilities(network, inputs)
            gradient, count = explain.guided_gradient(network, inputs, target)
            guided = max(guided, count)
            cam = _cam(network, inputs, target, missing)
            answer = int(probabilities.argmax())
            views.append(
                Explanation(
                    variant=variant,
                    prediction=class_name(names, answer),
                    probability=float(probabilities[answer]),
                    gradient=images.encoded(images.gradient_image(gradient.cpu().numpy())),
                    cam=None
                    if cam is None
                    else images.encoded(images.overlay(pixels, cam.cpu().numpy())),
                )
            )
        found.append(
            Example(
                position=position,
                label=class_name(names, int(data.targets[position])),
                picture=images.encoded(pixels),
                explanations=tuple(views),
            )
        )
    return tuple(found), guided


def _cam(network: nn.Module, inputs: Tensor, target: int, missing: list[str]) -> Tensor | None:
    try:
        scale = max(images.SHARP // max(inputs.shape[-2:]), 1)
        cam = explain.grad_cam(network, inputs, target, scale=scale)
    except ImportError:
        missing.append("no_captum")
        return None
    if cam is None:
        missing.append("no_cam")
    return cam


def _probabilities(network: nn.Module, inputs: Tensor) -> Tensor:
    with modules.untouched(network), torch.no_grad():
        logits = modules.logits_of(modules.call(network, inputs))
    return logits.float().softmax(1)[0].nan_to_num(0.0)
