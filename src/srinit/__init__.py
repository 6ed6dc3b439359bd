"""Whole-layer pruning for PyTorch with evidence."""

__version__ = "0.1.0.dev0"
