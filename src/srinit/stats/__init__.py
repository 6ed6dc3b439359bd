"""Intervals, paired tests, anytime-valid sequences: numpy and scipy, no torch."""
