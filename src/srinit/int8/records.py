"""What int8 came to: four networks on the same test data, in turn on the same processor."""

from __future__ import annotations

from collections.abc import Sequence

from srinit.comparison import Comparison
from srinit.gates import GateResult
from srinit.latency import LatencyPair
from srinit.records import record

SCHEMA = "srinit.int8/1"


@record
class Cell:
    """One of the four networks."""

    network: str  # "unpruned" or "pruned"
    numbers: str  # "float32" or "int8"
    size_bytes: int  # of its ONNX file
    comparison: Comparison | None  # with the unpruned float32 network; None: it is that one


@record
class Int8:
    """The four networks, the judgement of the pruned one in int8, and whether it was exported."""

    processor: str
    instructions: tuple[str, ...]  # that help with int8; empty where unknown
    runtime: str
    calibration_examples: int = 0
    reduced_range: bool = False  # weights of 7 bits, for processors whose sums of 8 would clip
    cells: tuple[Cell, ...] = ()
    gain: tuple[LatencyPair, ...] = ()  # the pruned network in float32, and in int8
    gates: GateResult | None = None  # of the pruned network in int8
    in_float: tuple[str, ...] = ()  # weights of layers that stayed float32
    file: str = ""  # empty: it was not exported
    sha256: str = ""
    reason: str = ""  # why it was not

    def cell(self, network: str, numbers: str) -> Cell:
        """Return one of the four.

        Raises:
            KeyError: It was not measured.
        """
        for cell in self.cells:
            if (cell.network, cell.numbers) == (network, numbers):
                return cell
        raise KeyError(f"{network}, {numbers}")


def failed(processor: str, instructions: Sequence[str], runtime: str, reason: str) -> Int8:
    """Return the record of a quantization that did not come about."""
    return Int8(
        processor=processor, instructions=tuple(instructions), runtime=runtime, reason=reason
    )


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
