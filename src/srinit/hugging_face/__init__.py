"""A pruned network of transformers as a folder that `from_pretrained` reads without srinit."""

from srinit.hugging_face.base import BaseFolder, base_folder
from srinit.hugging_face.card import CardFacts, model_card
from srinit.hugging_face.outlook import FolderOutlook, foresee_folder, is_of_transformers
from srinit.hugging_face.write import FolderFiles, write_folder

__all__ = [
    "BaseFolder",
    "CardFacts",
    "FolderFiles",
    "FolderOutlook",
    "base_folder",
    "foresee_folder",
    "is_of_transformers",
    "model_card",
    "write_folder",
]
