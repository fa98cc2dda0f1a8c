"""Reference images: the official letterboxes on golden images, and what holds for images of any size and mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from refeval.cases import ReferenceKind
from refeval.generators.wan.references import (
    composite_on_white,
    letterbox,
    letterbox_tensor,
    letterbox_training,
    to_pixels,
    without_background,
)

_TARGET = (208, 120)
# Releases of Pillow may round a resampled level the other way.
_LEVEL = 1
_VACE_TARGET = (832, 480)
_VACE_TOLERANCE = 1e-5

Arrays = dict[str, NDArray[Any]]
sides = st.integers(1, 400)
canvases = st.tuples(st.integers(1, 96), st.integers(1, 96))


@pytest.fixture(scope="module")
def official(goldens: Path) -> Arrays:
    return load_file(goldens / "dit" / "ref_preprocess" / "letterbox.safetensors")


def _images(official: Arrays) -> list[Image.Image]:
    return [Image.fromarray(official[f"img{i}"]) for i in range(sum(name.startswith("img") for name in official))]


def _furthest(ours: Image.Image, theirs: NDArray[Any]) -> int:
    return int(np.abs(np.asarray(ours, np.int64) - theirs).max())


def test_letterbox_parity(official: Arrays) -> None:
    for index, image in enumerate(_images(official)):
        assert _furthest(letterbox(image, *_TARGET), official[f"refalign_infer{index}"]) <= _LEVEL


def test_letterbox_training_parity(official: Arrays) -> None:
    for index, image in enumerate(_images(official)):
        assert _furthest(letterbox_training(image, *_TARGET), official[f"refalign_train{index}"]) <= _LEVEL


def test_composite_parity(official: Arrays) -> None:
    letterboxed = Image.fromarray(official["refalign_infer0"])
    composite = composite_on_white(letterboxed, Image.fromarray(official["mask0"]))
    assert _furthest(composite, official["composite0"]) == 0


def test_letterbox_tensor_parity(official: Arrays) -> None:
    for index, image in enumerate(_images(official)):
        ours = letterbox_tensor(image, *_VACE_TARGET)
        pooled = torch.nn.functional.avg_pool2d(ours, 8).numpy()
        centre = ours[:, 208:272, 384:448].numpy()
        assert np.abs(pooled - official[f"vace{index}.pool8"]).max() <= _VACE_TOLERANCE
        assert np.abs(centre - official[f"vace{index}.center"]).max() <= _VACE_TOLERANCE


def _black(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


def _extent(dark: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Margins around what is dark: left, right, top, bottom."""
    ys, xs = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    return int(xs[0]), dark.shape[1] - 1 - int(xs[-1]), int(ys[0]), dark.shape[0] - 1 - int(ys[-1])


@given(sides, sides, canvases)
def test_content_is_centred_on_white_and_fills_one_side(width: int, height: int, canvas: tuple[int, int]) -> None:
    # Bilinear weights of float32 need not add up to exactly 1.
    tensor = letterbox_tensor(_black(width, height), *canvas).permute(1, 2, 0).numpy().round(6)
    boxes = [np.asarray(box(_black(width, height), *canvas)) for box in (letterbox, letterbox_training)]
    for pixels, black, white in ((boxes[0], 0, 255), (boxes[1], 0, 255), (tensor, -1, 1)):
        assert pixels.shape == (canvas[1], canvas[0], 3)
        assert set(np.unique(pixels)) <= {black, white}
        left, right, top, bottom = _extent(pixels[..., 0] == black)
        assert right - left in (0, 1)
        assert bottom - top in (0, 1)
        # Truncation in floating point may cost VACE one pixel of the side that it fills.
        assert left + right <= 1 or top + bottom <= 1


@pytest.mark.parametrize("size", [(5000, 1), (1, 5000)])
def test_extreme_shapes_keep_one_pixel(size: tuple[int, int]) -> None:
    image = _black(*size)
    assert (np.asarray(letterbox(image, 832, 480)) == 0).any()
    assert (np.asarray(letterbox_training(image, 832, 480)) == 0).any()
    assert (letterbox_tensor(image, 832, 480) == -1).any()


def _noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@given(sides, sides)
def test_an_image_of_the_canvas_size_is_untouched(width: int, height: int) -> None:
    image = _noise(width, height)
    assert letterbox_training(image, width, height) == image
    torch.testing.assert_close(letterbox_tensor(image, width, height), to_pixels(image, torch.float32)[:, 0])


@pytest.mark.parametrize("size", [(832, 480), (1280, 720), (720, 1280), _TARGET])
def test_an_image_of_a_published_size_is_untouched(size: tuple[int, int]) -> None:
    assert letterbox(_noise(*size), *size) == _noise(*size)


def test_truncation_in_floating_point_may_cost_a_pixel_as_in_the_official_script() -> None:
    assert letterbox(_black(480, 832), 480, 832).getpixel((479, 0)) == (255, 255, 255)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_pixels_are_computed_in_their_own_precision(dtype: torch.dtype) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = to_pixels(Image.fromarray(np.dstack([levels, levels, 255 - levels])), dtype)
    assert pixels.shape == (3, 1, 16, 16)
    assert pixels.dtype == dtype
    step = torch.tensor(levels, dtype=dtype) * (2 / 255)
    assert torch.equal(pixels[0, 0], step - 1)
    exact = torch.tensor(levels, dtype=torch.float64) * 2 / 255 - 1
    # Both the product, below 2, and the difference are rounded to the precision of the type.
    assert (pixels[0, 0].double() - exact).abs().max() <= 2 * torch.finfo(dtype).eps
    assert torch.equal(pixels[2, 0], pixels[0, 0].flip(0, 1))


def test_a_soft_mask_mixes_with_white() -> None:
    mask = Image.fromarray(np.array([[0, 128, 255]], np.uint8))
    assert np.asarray(composite_on_white(_black(3, 1), mask))[0, :, 0].tolist() == [255, 127, 0]
    with pytest.raises(ValueError, match="match"):
        composite_on_white(_black(4, 1), mask)


class _NothingIsSubject:
    def soft_mask(self, image: Image.Image) -> Image.Image:
        return Image.new("L", image.size)


def test_backgrounds_are_never_matted() -> None:
    image, white = _black(4, 4), Image.new("RGB", (4, 4), "white")
    assert without_background(image, ReferenceKind.PERSON, _NothingIsSubject()) == white
    assert without_background(image, ReferenceKind.OBJECT, _NothingIsSubject()) == white
    assert without_background(image, ReferenceKind.BACKGROUND, _NothingIsSubject()) == image
    assert without_background(image, ReferenceKind.PERSON, None) == image
