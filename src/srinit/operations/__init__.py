"""What is done with a finished run: promotion, the way back, monitoring, verification."""

from srinit.pipeline import parts  # noqa: F401  (brings all steps into the table)
