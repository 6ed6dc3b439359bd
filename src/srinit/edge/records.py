"""What is known of an edge package: its files, what they were checked on, whether it may go out."""

from __future__ import annotations

from srinit.records import record

INT8_WITHIN = 0.02  # the same for int8, whose kernels round differently on other processors
ANSWERS_WITHIN = 1e-4  # of a confidence; PyTorch and onnxruntime round differently


@record
class Answers:
    """How a model file answers, against the network of the run, on the same test examples."""

    file: str
    num_examples: int
    num_equal: int  # answers of the same class
    max_confidence_difference: float


@record
class Package:
    """The edge package of a run; without files if it was refused."""

    gate: str  # "passed", "overridden" or "refused"
    reason: str  # of the override, or of the refusal
    files: dict[str, str]  # SHA-256 by name
    size_bytes: int
    zip_sha256: str
    answers: tuple[Answers, ...]


def refused(reason: str) -> Package:
    """Return the record of a package that was not made.

    Example:
        >>> refused("a gate failed").gate
        'refused'
    """
    return Package(gate="refused", reason=reason, files={}, size_bytes=0, zip_sha256="", answers=())
