"""What decoding tells of a source: bits a sample in use, and files of several pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from srinit.pixels.deep import LARGEST, Bits
from srinit.pixels.images import SEVERAL

CHOICES = (10, 12, 14, 16)
UNKNOWN, EIGHT_BITS = -2, -1


class Depths:
    """The largest sample of every image that was decoded, where it had more than 8 bits."""

    def __init__(self, count: int) -> None:
        self._largest = np.full(count, UNKNOWN, dtype=np.int64)
        self._several = np.zeros(count, dtype=bool)

    def see(self, index: int, image: Image.Image) -> None:
        """Note one decoded image."""
        self._largest[index] = image.info.get(LARGEST, EIGHT_BITS)
        self._several[index] = bool(image.info.get(SEVERAL))

    def notes(self, source: str, names: Sequence[str], bits: Bits) -> list[str]:
        """Return, in sentences, what does not fit `bits` or was left out of a file."""
        several = np.flatnonzero(self._several)
        lines = []
        if len(several):
            shown = ", ".join(names[index] for index in several[:3])
            lines.append(
                f"{source}: {len(several)} files hold several pictures, of which the first is read "
                f"({shown})"
            )
        return lines + ([] if bits == 8 else self._of_bits(source, bits))

    def _of_bits(self, source: str, bits: Bits) -> list[str]:
        deep = self._largest[self._largest >= 0]
        plain = int((self._largest == EIGHT_BITS).sum())
        if plain and not len(deep):
            return [
                f"{source}: data.preprocess.bits: {bits} changes nothing: all {plain} images have "
                "8 bits a sample"
            ]
        lines = []
        if plain:
            lines.append(
                f"{source}: {plain} of {plain + len(deep)} images have 8 bits a sample and are "
                f"taken as they are; data.preprocess.bits: {bits} is for the others"
            )
        if len(deep):
            enough = next(n for n in CHOICES if deep.max() < 2**n)
            if enough < bits:
                lines.append(
                    f"{source}: the largest sample of {len(deep)} images is {deep.max()}, which is "
                    f"{enough} bits; with data.preprocess.bits: {bits} they are dark. Write bits: "
                    f"{enough} unless they were so in training"
                )
        return lines
