"""A run on disk: every file of it is a row of one table, read and written through one door."""

from srinit.runs.files import RunFiles
from srinit.runs.kinds import Artifact

__all__ = ["Artifact", "RunFiles"]
