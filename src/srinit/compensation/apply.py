"""The cut network with what makes up for the cut: `compensate`, beside `apply_plan`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from srinit import modules
from srinit.compensation.answers import Measure
from srinit.compensation.choose import Chooser, Offer, Progress
from srinit.compensation.records import Compensation
from srinit.distributed import ProcessGroup
from srinit.errors import DataError
from srinit.plan import PrunePlan
from srinit.surgery.remove import remove_with_origins
from srinit.units.bypass import PassThroughFor


def compensate(
    model: nn.Module,
    plan: PrunePlan,
    batches: Iterable[Any],
    *,
    measure: Measure = "probabilities",
    confidence: float = 0.95,
    recalibration: bool = True,
    offer: Offer = "all",
    passthrough: PassThroughFor | None = None,
    ranks: ProcessGroup | None = None,
    on_progress: Progress | None = None,
) -> Compensation:
    """Return the network without a plan's units, and with what makes up for them best.

    No training and no label: the linear maps behind the cut are solved again towards the unpruned
    network's residual stream. Among doing nothing, recalibration, folds and realignment (with
    weaker and stronger penalties, of all maps or some) that is taken whose answers are nearest to
    the unpruned network's on examples that it was not fitted on (a quarter; of fewer than 256 each
    third in turn); "nothing", unless another is surely nearer.

    Args:
        model: The unpruned network; not touched.
        plan: What goes.
        batches: Batches of inputs, or `(inputs, target)` whose targets are not read; from some 20
            examples on, better 1,000. They are kept in memory.
        measure: How answers are compared: "probabilities" for class scores, "squared" for other
            values.
        confidence: Of the interval that decides against "nothing".
        recalibration: Whether new statistics of batch normalization are a candidate.
        offer: Which weights may change: "all" behind a cut; "fold": the last map before a run of
            removed units alone, by a linear map of what it puts out; or "none".
        passthrough: Your own stand-ins for removed units.
        ranks: Processes that share the work (`srinit.distributed.process_group`); all of them must
            call this, with all batches, and get the same.
        on_progress: Called with (candidates done, candidates in all).

    Raises:
        PlanError: The plan names a unit the network does not have.
        SurgeryError: The cut network does not run.
        DataError: There are fewer than six examples.

    Example:
        >>> import torch
        >>> from srinit.plan import Removal
        >>> from srinit.units import find_units
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
        >>> x = torch.randn(16, 4, 8, generator=torch.Generator().manual_seed(0))
        >>> units = find_units(model, x[:2])
        >>> gone = (Removal(unit=units["layers.1"]),)
        >>> plan = PrunePlan(
        ...     remove=gone, ranking=(), prefixes=(), target={}, criterion="", inputs=units.inputs
        ... )
        >>> found = compensate(model, plan, [x[:8], x[8:]], measure="squared")
        >>> len(found.model.layers), len(model.layers), found.choice.num_held_out
        (2, 3, 16)
    """
    inputs = [inputs_of(batch) for batch in batches]
    if not inputs:
        raise DataError("compensation needs examples, and no batch was given.")
    pruned, origins = remove_with_origins(
        model,
        [removal.unit for removal in plan.remove],
        example_inputs=modules.to_device(inputs[0], modules.device_of(model)),
        passthrough=passthrough,
    )
    return compensated(
        model,
        pruned,
        origins,
        inputs,
        measure=measure,
        confidence=confidence,
        recalibration=recalibration,
        offer=offer,
        ranks=ranks,
        on_progress=on_progress,
    )


def compensated(
    model: nn.Module,
    pruned: nn.Module,
    origins: Mapping[str, str],
    batches: list[Any],
    *,
    measure: Measure = "probabilities",
    confidence: float = 0.95,
    recalibration: bool = True,
    offer: Offer = "all",
    ranks: ProcessGroup | None = None,
    on_progress: Progress | None = None,
) -> Compensation:
    """Return what `compensate` returns for a network that is cut already.

    Args:
        model: The unpruned network.
        pruned: The cut one; not changed.
        origins: For keys of its state dict the keys of the same tensors in `model`.
        batches: Inputs without targets.
        measure: See `compensate`.
        confidence: See `compensate`.
        recalibration: See `compensate`.
        offer: See `compensate`.
        ranks: See `compensate`.
        on_progress: See `compensate`.
    """
    chooser = Chooser(
        model,
        pruned,
        origins,
        batches,
        measure=measure,
        confidence=confidence,
        offer_recalibration=recalibration,
        offer=offer,
        ranks=ranks,
    )
    return chooser.choose(on_progress)


def inputs_of(batch: Any) -> object:
    """Return the inputs of a batch of inputs or of `(inputs, target)`."""
    is_pair = isinstance(batch, tuple | list) and len(batch) == 2
    return batch[0] if is_pair else batch
