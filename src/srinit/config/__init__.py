"""The config file: its sections, and how it is read."""

from srinit.config.load import load_config, parse_yaml
from srinit.config.sections import Config

__all__ = ["Config", "load_config", "parse_yaml"]
