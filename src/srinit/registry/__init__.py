"""The model registry: versions in MLflow, their hashes, promotion and the way back."""

from srinit.registry.client import open_registry
from srinit.registry.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry, Version
from srinit.registry.sums import check_version, sign_version

__all__ = [
    "CANDIDATE",
    "CHAMPION",
    "PREVIOUS",
    "Registry",
    "Version",
    "check_version",
    "open_registry",
    "sign_version",
]
