"""A finished run in operation: promoted, watched, rolled back, verified."""
