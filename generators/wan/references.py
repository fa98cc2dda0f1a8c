"""Reference images on their way to the VAE: letterboxed onto white, matted, turned into pixels.

Letters of shapes: H and W are height and width in pixels.

Source: RefAlign @6f91526 examples/wanvideo/model_inference/Wan2.1-T2V-1.3B_subject.py:18-126 and
diffsynth/pipelines/wan_video_new6.py:81-87; Phantom-Wan (sbalani/Phantom-cog @9a9be62) generate.py:248-278; VACE
@48eb44f vace/models/wan/wan_vace.py:220-241. Differs: a side that would come out with 0 pixels, on which the official
scripts fail, gets one.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from refeval.cases import ReferenceKind
from refeval.generators.wan.matting import Matting

_WHITE = (255, 255, 255)
_FULL_8_BITS = 255


def letterbox(image: Image.Image, width: int, height: int) -> Image.Image:
    """Fit an image into the middle of a white canvas, keeping its aspect ratio: RefAlign's inference, and Phantom.

    LANCZOS; the side that does not fill the canvas is truncated to whole pixels; the left and upper margins are
    the smaller ones where a margin is odd.

    Args:
        image: mode RGB, any size.
        width: of the canvas, pixels.
        height: of the canvas, pixels.

    Returns:
        Mode RGB, ``width`` x ``height``.
    """
    ratio = image.width / image.height
    wide = ratio > width / height
    size = (width, int(width / ratio)) if wide else (int(height * ratio), height)
    return _centred(image.resize(_without_zero(size), Image.Resampling.LANCZOS), width, height)


def letterbox_training(image: Image.Image, width: int, height: int) -> Image.Image:
    """As :func:`letterbox`, but as RefAlign trains: BILINEAR with antialiasing, sizes rounded to the nearest pixel.

    Source: RefAlign @6f91526 diffsynth/trainers/__pycache__ (``crop_and_resize``, recovered from bytecode).

    Args:
        image: mode RGB, any size.
        width: of the canvas, pixels.
        height: of the canvas, pixels.

    Returns:
        Mode RGB, ``width`` x ``height``.
    """
    scale = min(width / image.width, height / image.height)
    size = (round(image.width * scale), round(image.height * scale))
    return _centred(image.resize(_without_zero(size), Image.Resampling.BILINEAR), width, height)


def _without_zero(size: tuple[int, int]) -> tuple[int, int]:
    """A thousand times wider than high is still one pixel high."""
    return max(size[0], 1), max(size[1], 1)


def _centred(image: Image.Image, width: int, height: int) -> Image.Image:
    canvas = Image.new("RGB", (width, height), _WHITE)
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas


def composite_on_white(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Lay what a mask shows over white.

    Args:
        image: mode RGB.
        mask: mode L of the same size; 255 keeps a pixel, 0 makes it white, values between mix.

    Returns:
        Mode RGB, same size.

    Raises:
        ValueError: the sizes differ.
    """
    return Image.composite(image, Image.new("RGB", image.size, _WHITE), mask)


def without_background(image: Image.Image, kind: ReferenceKind, matting: Matting | None) -> Image.Image:
    """A letterboxed reference with its subject on white.

    Args:
        image: mode RGB, already letterboxed: RefAlign looks for the subject on the white canvas.
        kind: a background reference is never matted, it is returned as it is.
        matting: finds the subject; None: nothing is matted (Phantom, VACE, and RefAlign's benchmark script).

    Returns:
        Mode RGB, same size.
    """
    if matting is None or kind is ReferenceKind.BACKGROUND:
        return image
    return composite_on_white(image, matting.soft_mask(image))


def to_pixels(image: Image.Image, dtype: torch.dtype) -> Tensor:
    """What the VAE encodes: ``level * (2 / 255) - 1``, computed in ``dtype``.

    RefAlign computes it in bfloat16, where the 256 levels fall together to fewer values; Phantom in float32.

    Args:
        image: mode RGB.
        dtype: floating point.

    Returns:
        (3, 1, H, W) of ``dtype``, -1 to 1: one image as a video of one frame, on the CPU.
    """
    return frames_to_pixels(torch.from_numpy(np.array(image.convert("RGB"))[None]), dtype)


def frames_to_pixels(frames_thw3: Tensor, dtype: torch.dtype) -> Tensor:
    """As :func:`to_pixels`, for the frames of a clip.

    Args:
        frames_thw3: uint8 RGB.
        dtype: floating point.

    Returns:
        (3, T, H, W) of ``dtype``, -1 to 1, on the device of the frames.
    """
    return frames_thw3.permute(3, 0, 1, 2).to(dtype) * (2 / _FULL_8_BITS) - 1


def letterbox_tensor(image: Image.Image, width: int, height: int) -> Tensor:
    """As :func:`letterbox`, but as VACE does it: on values, bilinear and without antialiasing.

    Args:
        image: mode RGB, any size.
        width: of the canvas, pixels.
        height: of the canvas, pixels.

    Returns:
        float32 (3, height, width), -1 to 1; the canvas is 1. ``unsqueeze(1)`` makes it a video of one frame.
    """
    values = (_levels(image).float() / _FULL_8_BITS - 0.5) / 0.5
    scale = min(height / image.height, width / image.width)
    size = _without_zero((int(image.height * scale), int(image.width * scale)))
    resized = functional.interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    canvas = torch.ones(3, height, width)
    canvas[:, top : top + size[0], left : left + size[1]] = resized
    return canvas


def _levels(image: Image.Image) -> Tensor:
    """The levels of an RGB image: uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
