"""Small videos whose frames show their numbers, and rows of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refeval.training.recipe import DataSettings
from tests.guarantees.broken_clips import write_video

WIDTH, HEIGHT, BITS = 80, 32, 10
#: Of the size of the videos, so that a clip shows their pixels.
SMALL = DataSettings(width=WIDTH, height=HEIGHT, frames=5, fps=25)


def numbered_frames(count: int) -> NDArray[np.uint8]:
    """Frames that show their numbers as bars, white for a bit that is set; the lowest is on the left."""
    bits = np.arange(count)[:, None] >> np.arange(BITS) & 1
    bars = np.repeat(bits, WIDTH // BITS, axis=1).astype(np.uint8) * 255
    return np.broadcast_to(bars[:, None, :, None], (count, HEIGHT, WIDTH, 3)).copy()


def numbers(frames: Iterable[NDArray[np.uint8]]) -> list[int]:
    """The numbers that frames of any size show."""
    found = []
    for frame in frames:
        bars = frame.astype(float).mean((0, 2)).reshape(BITS, -1).mean(1)
        found.append(int(((bars > 128) << np.arange(BITS)).sum()))
    return found


def write_numbered(path: Path, count: int, *, fps: Fraction | int = 25, **how: Any) -> None:
    """A video of numbered frames."""
    write_video(path, numbered_frames(count), fps=Fraction(fps), **how)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def row_content(**changes: Any) -> dict[str, Any]:
    """A row of ``a.mp4`` and ``a.png`` beside the file."""
    return {
        "video": "a.mp4",
        "prompt": "A thing.",
        "pair": "regular",
        "references": [{"image": "a.png"}],
        **changes,
    }


def write_image(path: Path, size: Sequence[int] = (20, 10), colour: Sequence[int] = (10, 200, 30)) -> None:
    """A picture of one colour; size is width and height."""
    Image.new("RGB", tuple(size), tuple(colour)).save(path)


def run_lengths(inside: NDArray[np.bool_]) -> list[int]:
    """Those of a mask, column by column, outside first."""
    runs, now = [0], False
    for pixel in inside.T.reshape(-1):
        if bool(pixel) != now:
            runs.append(0)
            now = not now
        runs[-1] += 1
    return runs
