"""Who may change what of a run, what that makes stale, and what it says about its test data."""
