"""What int8 came to: the networks on the same test data, in turn on the same processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from srinit.comparison import Comparison, Difference
from srinit.gates import GateResult
from srinit.latency import Latency, LatencyPair
from srinit.records import record

SCHEMA = "srinit.int8/2"


@record
class Cell:
    """One network as one runtime answers with it."""

    network: str  # "unpruned" or "pruned"
    numbers: str  # "float32" or "int8"
    runtime: str  # "onnxruntime" or "openvino"
    size_bytes: int  # of its file, or files
    latency: tuple[Latency, ...]  # at every batch size
    # With the unpruned float32 network, whose times are those of the same runtime; None: it is
    # that network.
    comparison: Comparison | None = None
    held_out: Difference | None = None  # of int8: loss on validation data
    method: str = ""  # of int8: "default", or "accuracy-aware" where the default lost too much
    in_float: tuple[str, ...] = ()  # of int8: layers, or their weights, that stayed float32


@record
class Int8:
    """The networks, the judgement of the pruned one in int8, and whether it was exported."""

    processor: str
    instructions: tuple[str, ...]  # that help with int8; empty where unknown
    runtimes: tuple[str, ...]  # with their versions
    calibration_examples: int = 0
    reduced_range: bool = False  # weights of 7 bits, for processors whose sums of 8 would clip
    cells: tuple[Cell, ...] = ()
    failed: dict[str, str] = field(
        default_factory=dict
    )  # runtimes that could not quantize, with the reason
    chosen: str = ""  # the runtime whose int8 is judged, by its loss on validation data and time
    gain: tuple[LatencyPair, ...] = ()  # the pruned network in float32 and in int8, of that runtime
    gates: GateResult | None = None  # of the pruned network in int8
    file: str = ""  # empty: it was not exported
    sha256: str = ""  # of an IR that of the .xml and the .bin, one after the other
    reason: str = ""  # why it was not

    def cell(self, network: str, numbers: str, runtime: str = "") -> Cell:
        """Return one of the networks, by default in the first runtime.

        Raises:
            KeyError: It was not measured.
        """
        for cell in self.cells:
            if (cell.network, cell.numbers) == (network, numbers) and runtime in (
                "",
                cell.runtime,
            ):
                return cell
        raise KeyError(f"{network}, {numbers} {runtime}")


def failed(
    processor: str, instructions: Sequence[str], runtimes: Sequence[str], reason: str
) -> Int8:
    """Return the record of a quantization that did not come about."""
    return Int8(
        processor=processor,
        instructions=tuple(instructions),
        runtimes=tuple(runtimes),
        reason=reason,
    )


def chosen(cells: Sequence[Cell], max_drop: float) -> str:
    """Return the runtime whose pruned int8 network serves the gate best.

    Of those whose loss on held-out examples is surely within `max_drop` the fastest at the
    first batch size; if there are none, the one that loses least.
    """
    found = [c for c in cells if (c.network, c.numbers) == ("pruned", "int8")]
    within = [c for c in found if c.held_out is not None and c.held_out.high <= max_drop]
    if within:
        return min(within, key=lambda cell: cell.latency[0].median_ms).runtime
    return min(found, key=lambda cell: cell.held_out.known if cell.held_out else 0.0).runtime


def verdict(gates: GateResult, gain: Sequence[LatencyPair], unmeasured: Sequence[str]) -> str:
    """Return why int8 is not exported; empty: it is.

    Args:
        gates: Of the pruned network in int8.
        gain: Its times beside those of float32.
        unmeasured: Gates that were not measured for it.
    """
    if not gates.gates and not unmeasured:
        return "there are no gates, so nothing was judged"
    if not gates.passed:
        return "; ".join(gate.sentence for gate in gates.failed)
    if unmeasured:
        return f"{', '.join(unmeasured)}: not measured for int8"
    slower = [str(p.baseline.batch_size) for p in gain if p.ratio.low > 1]
    if slower:
        return f"it is slower than float32 at batch {', '.join(slower)}"
    if not any(pair.ratio.high < 1 for pair in gain):
        return "it is not faster than float32 at any batch size"
    return ""
