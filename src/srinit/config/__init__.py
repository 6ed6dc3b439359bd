"""The config file: its sections, and how it is read."""

from srinit.config.inputs import BoxesSection, DataSection, MasksSection, PreprocessSection
from srinit.config.load import check_targets, load_config
from srinit.config.outputs import RoiInputs
from srinit.config.recovery import LoraSettings, RecipeSettings
from srinit.config.sections import Config
from srinit.config.yaml import dump_yaml, parse_yaml

__all__ = [
    "BoxesSection",
    "Config",
    "DataSection",
    "LoraSettings",
    "MasksSection",
    "PreprocessSection",
    "RecipeSettings",
    "RoiInputs",
    "check_targets",
    "dump_yaml",
    "load_config",
    "parse_yaml",
]
