"""The flow from a config to a gated result, in a run folder, every step resumable."""
