"""The steps of a run, as pure functions, and what they work with."""
