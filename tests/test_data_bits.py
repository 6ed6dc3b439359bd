"""Images with more than 8 bits a sample: every bit in use counts, or the image is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deep_files import png, ppm, tiff
from srinit import sources
from srinit.errors import DataError
from srinit.pixels.images import open_image
from srinit.sources import Preprocess

RGB = np.random.default_rng(0).integers(0, 4096, (5, 7, 3))
GRAY = RGB[..., :1]
OPAQUE = np.full((5, 7, 1), 65535)
WITH_ALPHA = np.concatenate([RGB, OPAQUE], axis=2)

READ: dict[str, tuple[Callable[[], bytes], np.ndarray]] = {
    "png gray": (lambda: png(GRAY), GRAY),
    "png gray and alpha": (lambda: png(np.concatenate([GRAY, OPAQUE], axis=2)), GRAY),
    "png rgb": (lambda: png(RGB), RGB),
    "png rgba": (lambda: png(WITH_ALPHA), RGB),
    "tiff gray, big-endian": (lambda: tiff(GRAY, order=">"), GRAY),
    "tiff rgb": (lambda: tiff(RGB), RGB),
    "tiff rgb, big-endian": (lambda: tiff(RGB, order=">"), RGB),
    "tiff rgb, deflate": (lambda: tiff(RGB, deflate=True), RGB),
    "tiff rgb, big-endian, deflate": (lambda: tiff(RGB, order=">", deflate=True), RGB),
    "tiff rgba": (lambda: tiff(WITH_ALPHA, extra=2), RGB),
    "pgm of its own range": (lambda: ppm(GRAY, 4095), GRAY),
    "pgm in a full container": (lambda: ppm(GRAY, 65535), GRAY),
    "ppm of its own range": (lambda: ppm(RGB, 4095), RGB),
    "ppm in a full container": (lambda: ppm(RGB, 65535), RGB),
    "plain pgm": (lambda: ppm(GRAY, 4095, plain=True), GRAY),
    "plain ppm": (lambda: ppm(RGB, 65535, plain=True), RGB),
    "tiff of 32-bit integers": (lambda: saved(GRAY[..., 0].astype(np.int32)), GRAY),
}


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "TIFF")
    return buffer.getvalue()


def plain(bits: int) -> Preprocess:
    return Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3, bits=bits)  # type: ignore[arg-type]


def folder_of(tmp_path: Path, **files: bytes) -> str:
    (tmp_path / "ok").mkdir()
    for name, content in files.items():
        (tmp_path / "ok" / f"{name}.png").write_bytes(content)
    return f"folder:{tmp_path}"


@pytest.mark.parametrize("name", READ)
def test_twelve_bits_of_a_16_bit_image_fill_the_range(name: str, tmp_path: Path) -> None:
    made, samples = READ[name]
    data = sources.load_data(folder_of(tmp_path, a=made()), preprocess=plain(12))
    pixels = data.pool.pixels([0])[0].numpy().transpose(1, 2, 0)
    assert np.array_equal(pixels, np.broadcast_to(samples >> 4, pixels.shape))


@pytest.mark.parametrize("name", READ)
def test_a_16_bit_image_is_refused_until_its_bits_are_said(name: str) -> None:
    content = READ[name][0]()
    with pytest.raises(ValueError, match=r"write data\.preprocess\.bits: 16"):
        open_image(content)
    with pytest.raises(ValueError, match=r"does not fit data\.preprocess\.bits: 10|bits: 10$"):
        open_image(content, 10)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(RGB, planar=2), "separate planes"),
        (tiff(RGB, planar=2, deflate=True), "separate planes"),
        (tiff(WITH_ALPHA, extra=1), "no premultiplied alpha"),
        (tiff(GRAY, photometric=0), "0 for white"),
        (tiff(np.concatenate([GRAY, OPAQUE], axis=2), extra=2), "known format"),
        (saved(np.ones((2, 2), dtype=np.float32)), "floating-point"),
        (saved(np.full((2, 2), -1, dtype=np.int32)), "samples from -1"),
        (ppm(np.minimum(RGB, 1000), 1000), "declares 1000 as its largest sample"),
        (ppm(RGB, 4095)[:-3], "truncated"),
        (ppm(RGB, 1023), "more than its head says"),
        (b"", "the file is empty"),
    ],
)
def test_what_cannot_be_read_without_loss_is_refused_with_the_reason(
    content: bytes, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        open_image(content, 12)


def test_a_file_that_declares_another_range_than_the_config_is_refused(tmp_path: Path) -> None:
    data = sources.load_data(folder_of(tmp_path, a=ppm(RGB, 4095)), preprocess=plain(16))
    with pytest.raises(DataError, match=r"declares 4095 as its largest sample.*bits: 16"):
        data.check_readable()


def test_arrays_of_16_bits_are_images_whose_bits_must_be_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=RGB[None].astype(np.uint16), labels=np.array([0]))
    with pytest.raises(DataError, match=r"write data\.preprocess\.bits: 16"):
        sources.load_data(f"npz:{tmp_path}/a.npz", preprocess=plain(8)).check_readable()
    data = sources.load_data(f"npz:{tmp_path}/a.npz", preprocess=plain(12))
    assert np.array_equal(data.pool.pixels([0])[0].numpy().transpose(1, 2, 0), RGB >> 4)


def test_colors_that_a_function_opened_are_refused_where_pillow_would_cut_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.png").write_bytes(png(RGB))
    (tmp_path / "code.py").write_text(
        "import io\nfrom pathlib import Path\nfrom PIL import Image\n"
        "def data():\n"
        "    content = (Path(__file__).parent / 'a.png').read_bytes()\n"
        "    return [(Image.open(io.BytesIO(content)), 0)]\n"
    )
    data = sources.load_data("py:code.py:data", root=tmp_path, preprocess=plain(12))
    with pytest.raises(DataError, match="more than 8 bits a color, of which Pillow keeps 8"):
        data.check_readable()


def test_bits_that_do_not_fit_the_images_are_told(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray((RGB >> 4).astype(np.uint8)).save(buffer, "PNG")
    source = folder_of(tmp_path, deep=png(RGB), plain=buffer.getvalue())
    mixed = sources.load_data(source, preprocess=plain(16))
    mixed.check_readable()
    one, other = mixed.pool.notes
    assert "1 of 2 images have 8 bits a sample" in one
    assert f"largest sample of 1 images is {RGB.max()}, which is 12 bits" in other
    (tmp_path / "ok" / "deep.png").unlink()
    eight = sources.load_data(source, preprocess=plain(12))
    eight.check_readable()
    assert "bits: 12 changes nothing" in eight.pool.notes[0]


def test_files_of_several_pictures_are_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "ok").mkdir()
    page = Image.fromarray((RGB >> 4).astype(np.uint8))
    page.save(tmp_path / "ok" / "stack.tif", save_all=True, append_images=[page.rotate(180)])
    page.save(tmp_path / "ok" / "one.tif")
    data = sources.load_data(f"folder:{tmp_path}", preprocess=plain(8))
    data.check_readable()
    (note,) = data.pool.notes
    assert "1 files hold several pictures, of which the first is read (ok/stack.tif)" in note
    assert np.array_equal(data.pool.pixels([1])[0], np.asarray(page).transpose(2, 0, 1))


def test_thumbnails_and_pictures_of_deep_images_are_scaled_too(tmp_path: Path) -> None:
    data = sources.load_data(folder_of(tmp_path, a=png(RGB)), preprocess=plain(12))
    assert np.array_equal(np.asarray(data.image(0)), RGB >> 4)
    assert np.array_equal(np.asarray(data.thumbnail(0)), RGB >> 4)
