"""Writers of images with 16 bits a sample, which Pillow reads but cannot write."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int64]  # H W C


def png(samples: Samples) -> bytes:
    """Return a PNG of 16 bits a sample; odd rows are filtered against their left neighbor."""
    height, width, bands = samples.shape
    rows = []
    for number, row in enumerate(samples.astype(">u2").reshape(height, -1)):
        data = np.frombuffer(row.tobytes(), np.uint8)
        left = np.concatenate([np.zeros(2 * bands, np.uint8), data[: -2 * bands]])
        rows.append(b"\1" + (data - left).tobytes() if number % 2 else b"\0" + data.tobytes())
    color = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    head = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", head),
            (b"IDAT", zlib.compress(b"".join(rows))),
            (b"IEND", b""),
        )
    )


def tiff(
    samples: Samples,
    *,
    order: str = "<",
    planar: int = 1,
    deflate: bool = False,
    photometric: int | None = None,
    extra: int | None = None,
) -> bytes:
    """Return a TIFF of 16 bits a sample."""
    height, width, bands = samples.shape
    words = samples.astype(order + "u2")
    planes = [words[..., k].tobytes() for k in range(bands)] if planar == 2 else [words.tobytes()]
    planes = [zlib.compress(plane) for plane in planes] if deflate else planes
    places = [8 + sum(map(len, planes[:k])) for k in range(len(planes))]
    color = photometric if photometric is not None else (1 if bands < 3 else 2)
    tags = {
        256: ("H", [width]), 257: ("H", [height]), 258: ("H", [16] * bands),
        259: ("H", [8 if deflate else 1]), 262: ("H", [color]), 273: ("I", places),
        277: ("H", [bands]), 278: ("H", [height]), 279: ("I", [len(p) for p in planes]),
        284: ("H", [planar]), **({} if extra is None else {338: ("H", [extra])}),
    }  # fmt: skip
    body, data = b"", b"".join(planes)
    for tag, (kind, values) in tags.items():
        value = struct.pack(order + kind * len(values), *values)
        if len(value) > 4:
            data, value = data + value, struct.pack(order + "I", 8 + len(data))
        body += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(values))
        body += value.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(order + "I", 8 + len(data))
    return head + data + struct.pack(order + "H", len(tags)) + body + struct.pack(order + "I", 0)


def ppm(samples: Samples, largest: int, *, plain: bool = False) -> bytes:
    """Return a portable graymap or pixmap whose head says `largest`."""
    height, width, bands = samples.shape
    kind = {(1, True): 2, (3, True): 3, (1, False): 5, (3, False): 6}[bands, plain]
    head = f"P{kind}\n# made by a camera\n{width} {height}\n{largest}\n".encode()
    if plain:
        return head + b"# samples\n" + " ".join(map(str, samples.ravel().tolist())).encode()
    return head + samples.astype(">u2").tobytes()
