"""A reference image of any mode is opened as the official scripts open it, and a broken one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refeval.errors import BadInput
from refeval.reference_images import open_reference


def _stored(image: Image.Image, file: Path, **options: Any) -> NDArray[np.uint8]:
    image.save(file, **options)
    opened = open_reference(file, "singleobj_1")
    assert opened.mode == "RGB"
    return np.asarray(opened)


def test_modes_become_rgb(tmp_path: Path) -> None:
    grey = Image.new("L", (2, 1), 200)
    assert _stored(grey, tmp_path / "grey.png").tolist() == [[[200] * 3] * 2]
    assert _stored(grey.convert("1"), tmp_path / "bits.png").shape == (1, 2, 3)
    assert _stored(Image.new("RGB", (2, 1), "red").quantize(2), tmp_path / "palette.png").tolist() == [
        [[255, 0, 0]] * 2
    ]
    assert _stored(Image.new("CMYK", (2, 1)), tmp_path / "ink.tif").tolist() == [[[255] * 3] * 2]


def test_transparency_is_dropped_and_orientation_not_applied_as_in_the_official_scripts(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    assert _stored(clear, tmp_path / "clear.png").tolist() == [[[10, 20, 30]] * 2]
    exif = Image.Exif()
    exif[0x0112] = 6
    assert _stored(Image.new("RGB", (4, 2)), tmp_path / "turned.png", exif=exif).shape == (2, 4, 3)


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_sixteen_bits_are_scaled(tmp_path: Path, mode: str) -> None:
    levels = np.array([[0, 257 * 7, 65535]], np.uint16 if mode == "I;16" else np.int32)
    file = tmp_path / ("deep.png" if mode == "I;16" else "deep.tif")
    assert _stored(Image.fromarray(levels), file)[0, :, 0].tolist() == [0, 7, 255]


def test_thirty_two_bits_with_eight_used_stay(tmp_path: Path) -> None:
    levels = np.array([[0, 7, 255]], np.int32)
    assert _stored(Image.fromarray(levels), tmp_path / "deep.tif")[0, :, 0].tolist() == [0, 7, 255]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_an_unreadable_file_names_case_and_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        open_reference(file, "singleobj_1")
    assert "singleobj_1" in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_truncated_image_is_unreadable(tmp_path: Path) -> None:
    file = tmp_path / "short.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:-800])
    with pytest.raises(BadInput, match="readable"):
        open_reference(file, "singleobj_1")
