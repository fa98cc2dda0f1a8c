"""Clips and references of a row, read from their videos and pictures.

Whatever cannot be read, or does not show what the row says, is a :class:`refeval.training.examples.BrokenSample`.

Source: RefAlign @6f91526 diffsynth/trainers/__pycache__ (recovered from bytecode): frames at 25 per second, cover and
centre crop, cut-outs on white. Differs: the start of a clip follows from a number that is given, a clip is cropped and
resized in one step, and a part of a frame keeps the pixels of its video instead of being resized first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refeval.clips import Clip, Frame, open_clip
from refeval.errors import RefevalError
from refeval.reference_images import eight_bits
from refeval.training.data.decoding import count_frames, read_frames
from refeval.training.data.masks import decode_mask
from refeval.training.data.rows import Box, Mask, ReferenceRow, Row
from refeval.training.examples import BrokenSample
from refeval.training.recipe import DataSettings

MIDDLE = 0.5
"""The start of a clip from the middle of its cut; of those that are encoded before the training."""

# In pixels: what rounding may add to the edges of a box.
_OVER_THE_EDGE = 2.0
_SMALLEST_SIDE = 2


def prompts_of(row: Row) -> tuple[str, ...]:
    """The prompts of a row that say something.

    Raises:
        BrokenSample: there are none.
    """
    found = tuple(prompt for prompt in row.prompt if prompt.strip())
    if not found:
        raise BrokenSample("the prompt is empty")
    return found


def read_clip(row: Row, data: DataSettings, *, start: float) -> NDArray[np.uint8]:
    """The clip of a row at the size, length and rate of a training.

    Frame k is the one at ``k * rate of the video / data.fps`` after the first, rounded down: a video of a lower rate
    repeats frames, one of a higher rate leaves some out. Frames are cropped to the row's ``crop``, resized until they
    cover the wanted size (bilinear, antialiased), and what is too much is cut off evenly on both sides.

    Args:
        row: whose clip.
        data: size, length and rate.
        start: where in a cut that is longer the clip begins, 0 (its first frames) to 1 (excluded; its last frames).

    Returns:
        uint8 RGB (T, H, W, 3).

    Raises:
        BrokenSample: a video that cannot be read, a cut that is too short or reaches beyond the end, a crop that does
            not lie in the frame.
    """
    with _broken(row.video):
        clip = open_clip(row.video)
        stride = clip.fps / Fraction(data.fps).limit_denominator(100_000)
        steps = [int(number * stride) for number in range(data.frames)]
        first, end = _cut(row)
        rest = end - first - steps[-1] - 1
        if rest < 0 or first < 0:
            shown = f"{end - first} frames from frame {first} on, at {float(clip.fps):g} a second,"
            raise BrokenSample(f"{shown} are no clip of {data.frames} frames at {data.fps:g} a second")
        begin = first + int(start * (rest + 1))
        region = _covering(_crop(row.crop, clip), data.width / data.height)
        numbers, places = np.unique(np.array(steps) + begin, return_inverse=True)

        def fitted(frame: Frame) -> NDArray[np.uint8]:
            image = Image.fromarray(frame).resize((data.width, data.height), Image.Resampling.BILINEAR, box=region)
            return np.asarray(image)

        found = read_frames(row.video, numbers.tolist(), fitted)
        return np.stack([found[place] for place in places])


def seconds_of(row: Row) -> float:
    """How long the cut of a row is.

    Raises:
        BrokenSample: the video cannot be read.
    """
    with _broken(row.video):
        first, end = _cut(row)
        return float((end - first) / open_clip(row.video).fps)


def _cut(row: Row) -> tuple[int, int]:
    return row.frames or (0, count_frames(row.video))


def _crop(crop: Box | None, clip: Clip) -> Box:
    return (0, 0, clip.width, clip.height) if crop is None else _inside(crop, clip.width, clip.height, "crop")


def _covering(region: Box, ratio: float) -> Box:
    """The largest part of a region, in its middle, whose width is ``ratio`` times its height."""
    left, top, right, bottom = region
    width, height = min(right - left, (bottom - top) * ratio), min(bottom - top, (right - left) / ratio)
    x, y = (left + right - width) / 2, (top + bottom - height) / 2
    # Rounding must not lead out of the frame.
    return x, y, min(x + width, right), min(y + height, bottom)


def read_references(row: Row, references: Sequence[ReferenceRow]) -> list[NDArray[np.uint8]]:
    """Pictures of references, on white. A frame that several of them are parts of is decoded once.

    An EXIF orientation is not applied, as in :func:`refeval.reference_images.open_reference`.

    Args:
        row: of the references; its video is that of a reference that names none.
        references: of this row.

    Returns:
        uint8 RGB (H, W, 3), each of its own size.

    Raises:
        BrokenSample: a picture, frame or mask that cannot be read, or a box that does not lie in its frame.
    """
    frames: dict[tuple[Path, int], Frame] = {}
    found = []
    for reference in references:
        if reference.image is not None:
            found.append(_read_image(reference.image))
            continue
        # The format has no other reference without an image.
        assert reference.frame is not None and reference.box is not None
        place = (reference.video or row.video, reference.frame)
        with _broken(place[0]):
            if reference.frame < 0:
                raise BrokenSample(f"there is no frame {reference.frame}")
            if place not in frames:
                frames[place] = read_frames(place[0], [reference.frame], np.array)[0]
            found.append(_part(frames[place], reference.box, reference.long_side, reference.mask))
    return found


def _read_image(path: Path) -> NDArray[np.uint8]:
    with _broken(path), Image.open(path) as file:
        image = eight_bits(file)
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        white = Image.new("RGBA", image.size, "white")
        return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))


def _part(frame: Frame, box: Box, long_side: int | None, mask: Mask | None) -> NDArray[np.uint8]:
    """What lies in a box, and in a mask."""
    height, width = frame.shape[:2]
    if long_side is not None and long_side < 1:
        raise BrokenSample(f"a frame has no long side of {long_side}")
    scale = 1.0 if long_side is None else max(height, width) / long_side
    measured = (width / scale, height / scale)
    left, top, right, bottom = (round(edge * scale) for edge in _inside(box, *measured, "box"))
    if min(right - left, bottom - top) < _SMALLEST_SIDE:
        raise BrokenSample(f"the box {_listed(box)} is empty")
    part = frame[top:bottom, left:right]
    if mask is None:
        return part
    inside = _fitted_mask(mask, (height, width), measured)[top:bottom, left:right]
    if not inside.any():
        raise BrokenSample(f"the mask has no pixel in the box {_listed(box)}")
    return np.where(inside[..., None], part, np.uint8(255))


def _fitted_mask(mask: Mask, shape: tuple[int, int], measured: tuple[float, float]) -> NDArray[np.bool_]:
    """A mask at the size of its frame."""
    pixels = decode_mask(mask)
    if pixels.shape == shape:
        return pixels
    height, width = pixels.shape
    if abs(width - measured[0]) > 1 or abs(height - measured[1]) > 1:
        raise BrokenSample(f"a mask of {width}x{height} for a frame of {shape[1]}x{shape[0]}")
    return np.asarray(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.NEAREST))


def _inside(box: Box, width: float, height: float, name: str) -> Box:
    """A box without what rounding has laid over the edges."""
    left, top, right, bottom = box
    over = max(-left, -top, right - width, bottom - height)
    if over > _OVER_THE_EDGE or not (left < right and top < bottom):
        raise BrokenSample(f"the {name} {_listed(box)} does not lie in a frame of {width:g}x{height:g}")
    return max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)


def _listed(box: Box) -> str:
    return f"[{', '.join(f'{edge:g}' for edge in box)}]"


@contextlib.contextmanager
def _broken(path: Path) -> Iterator[None]:
    """Whatever goes wrong is the file's fault: decoders raise anything for damaged files."""
    try:
        yield
    except FileNotFoundError as error:
        raise BrokenSample(f"{path}: no such file") from error
    except RefevalError as error:
        raise BrokenSample(f"{path}: {error.what}") from error
    except Exception as error:
        raise BrokenSample(f"{path}: {type(error).__name__}: {error}") from error
