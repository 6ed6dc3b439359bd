"""Where raw examples lie: image files, encoded images, pixel arrays, arrays of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from srinit.pixels.deep import Bits, scaled_image
from srinit.pixels.images import MAX_FILE_BYTES, open_image

UNLABELED = -1  # target of an example that nobody labeled


class Examples(Protocol):
    """Raw examples behind a data set."""

    @property
    def names(self) -> Sequence[str]:
        """A path or a row for every example, for people."""
        ...

    @property
    def targets(self) -> npt.NDArray[Any]:
        """Class index of every example, `UNLABELED`, or a target array of its own each."""
        ...

    def content(self, index: int) -> bytes:
        """Return the stored bytes of an example: what its hash is of."""
        ...


@runtime_checkable
class ImageExamples(Examples, Protocol):
    """Examples that are images; they are preprocessed and may be augmented."""

    def image(self, index: int, bits: Bits) -> Image.Image:
        """Return an example as an image of 8 bits a sample.

        Args:
            index: Of the example.
            bits: Bits in use of samples that have more than 8.

        Raises:
            ValueError: It cannot be read, or its samples do not fit `bits`.
        """
        ...


@runtime_checkable
class TensorExamples(Examples, Protocol):
    """Examples that are ready as they are, such as tokens; no preprocessing touches them."""

    def tensors(self, indices: Sequence[int]) -> Any:
        """Return the inputs of some examples: a tensor, or a dict of tensors, batch first."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Images in files under one folder."""

    root: Path
    names: Sequence[str]  # relative to the root
    targets: npt.NDArray[Any]

    def content(self, index: int) -> bytes:
        """Return the bytes of the file.

        Raises:
            ValueError: The file cannot be read, or is absurdly large.
        """
        path = self.root / self.names[index]
        try:
            if not path.is_file():  # a pipe would never end
                raise ValueError("no file" if path.exists() else "there is no such file")
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError(f"the file is larger than {MAX_FILE_BYTES:,} bytes")
            return path.read_bytes()
        except OSError as error:
            raise ValueError(error.strerror or type(error).__name__) from None

    def image(self, index: int, bits: Bits) -> Image.Image:
        """Return the decoded image."""
        return open_image(self.content(index), bits)


@dataclass(frozen=True)
class MarkedImages(ImageFiles):
    """Images whose targets lie in them, and the class of each as a whole (0: good)."""

    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class EncodedImages:
    """Encoded images held in memory."""

    encoded: Sequence[bytes]
    names: Sequence[str]
    targets: npt.NDArray[np.int64]

    def content(self, index: int) -> bytes:
        """Return the encoded bytes."""
        return self.encoded[index]

    def image(self, index: int, bits: Bits) -> Image.Image:
        """Return the decoded image."""
        return open_image(self.encoded[index], bits)


@dataclass(frozen=True)
class PixelArrays:
    """Images as bytes, or as samples of 16 bits, in one array (N, H, W) or (N, H, W, C)."""

    array: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    names: Sequence[str]
    targets: npt.NDArray[Any]

    def content(self, index: int) -> bytes:
        """Return the pixels' bytes."""
        return bytes(self.array[index].tobytes())

    def image(self, index: int, bits: Bits) -> Image.Image:
        """Return the image."""
        pixels = self.array[index]
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[..., 0]
        if pixels.dtype == np.uint8:
            return Image.fromarray(pixels)
        return scaled_image(pixels[..., :3] if pixels.ndim == 3 else pixels, bits)


@dataclass(frozen=True)
class Arrays:
    """Inputs of any kind, one array or several by name; the first dimension is the example."""

    arrays: Mapping[str, npt.NDArray[Any]]  # {"": array} stands for a single tensor
    names: Sequence[str]
    targets: npt.NDArray[Any]

    def content(self, index: int) -> bytes:
        """Return the bytes of the example's part of every array."""
        return b"".join(array[index].tobytes() for array in self.arrays.values())

    def tensors(self, indices: Sequence[int]) -> Tensor | dict[str, Tensor]:
        """Return the inputs of some examples, a tensor or a dict of tensors."""
        rows = np.asarray(indices, dtype=np.int64)
        found = {name: torch.from_numpy(array[rows]) for name, array in self.arrays.items()}
        return found[""] if set(found) == {""} else found
