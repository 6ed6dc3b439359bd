"""What people marked in images: masks and boxes, read from the files of common tools."""

from srinit.annotations.masks import Mask, largest, paired, prepared, read_mask, values_of

__all__ = ["Mask", "largest", "paired", "prepared", "read_mask", "values_of"]
