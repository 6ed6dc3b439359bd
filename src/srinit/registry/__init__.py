"""The model registry: versions in MLflow, their hashes, promotion and the way back."""

from srinit.registry.client import open_registry
from srinit.registry.registry import CANDIDATE, CHAMPION, Registry
from srinit.registry.sums import check_version, sign_version
from srinit.registry.version import Move, Version

__all__ = [
    "CANDIDATE",
    "CHAMPION",
    "Move",
    "Registry",
    "Version",
    "check_version",
    "open_registry",
    "sign_version",
]
