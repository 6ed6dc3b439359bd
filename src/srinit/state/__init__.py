"""What a network holds besides its weights: found by walking it, and put back after a forward."""

from srinit.state.preserve import (
    Preserved,
    check_initialized,
    is_uninitialized,
    preserved,
    preserves,
)
from srinit.state.reach import HOOK_TABLES, Held, held_by

__all__ = [
    "HOOK_TABLES",
    "Held",
    "Preserved",
    "check_initialized",
    "held_by",
    "is_uninitialized",
    "preserved",
    "preserves",
]
