"""The pictures that a judge sees, and the request around them: pure functions.

Source: OpenS2V-Nexus eval/get_naturalscore.py at 210eb08. The pixels, the JPEG bytes and the structure of the
request are the same.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from refeval.clips import Clip, Frame, FrameRule, Linspace, Stride

FRAMES = 16
LONG_SIDE = 512
JPEG_QUALITY = 95
OFFICIAL_FRAMES = Stride(FRAMES)
STRICT_FRAMES = Linspace(FRAMES)


def judge_pictures(clip: Clip, rule: FrameRule) -> tuple[bytes, ...]:
    """The frames of a rule as JPEG files, in order."""
    return tuple(jpeg(resize_frame(frame)) for frame in clip.take(rule))


def resize_frame(frame: Frame) -> Frame:
    """Bring the longer side to 512 pixels, up or down; the other one is cut to a whole number.

    Args:
        frame: uint8 RGB, shape (H, W, 3).
    """
    height, width = frame.shape[:2]
    longer = max(height, width)
    size = (max(width * LONG_SIDE // longer, 1), max(height * LONG_SIDE // longer, 1))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def jpeg(frame: Frame) -> bytes:
    """A frame as a JPEG file; OpenCV's own quality, which is said here so that it stays.

    Args:
        frame: uint8 RGB, shape (H, W, 3).
    """
    done, content = cv2.imencode(
        ".jpg", np.ascontiguousarray(frame[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert done, "OpenCV encodes any uint8 picture of this size"
    return content.tobytes()


def pictures_sha256(pictures: Sequence[bytes]) -> str:
    """sha256 (hex) over the sha256 of every picture, in order."""
    return hashlib.sha256(b"".join(hashlib.sha256(picture).digest() for picture in pictures)).hexdigest()


def chat_request(model: str, pictures: Sequence[bytes], text: str) -> dict[str, Any]:
    """The official request: one message of the user, the pictures first, then the text; nothing else is set."""
    urls = [f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" for picture in pictures]
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content.append({"type": "text", "text": text})
    return {"model": model, "stream": False, "messages": [{"role": "user", "content": content}]}
