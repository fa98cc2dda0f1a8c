"""Clips that are drawn while training goes on: as files of the training's folder, and as one picture each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from refeval.clips import Frame, Linspace, encode_clip
from refeval.documents import write_bytes, write_document
from refeval.training.observation import Observer, StepReport

if TYPE_CHECKING:
    from refeval.training.worlds import DrawnClip

_SHOWN = Linspace(6)
_GAP = 4
_DOCUMENT = "clips.json"


class ClipFiles(Observer):
    """Writes clips with :func:`write_clips`.

    Args:
        folder: of the training.
        fps: of the clips.
    """

    def __init__(self, folder: Path, fps: float) -> None:
        self._folder = folder
        self._fps = fps

    def step(self, report: StepReport) -> None:
        """Nothing is written of a step alone."""

    def clips(self, step: int, drawn: Sequence[DrawnClip]) -> None:
        """Write them."""
        write_clips(self._folder, step, drawn, self._fps)

    def lacks_clips(self, step: int) -> bool:
        """Whether their document, which is written last, is not there."""
        return not (_folder_of(self._folder, step) / _DOCUMENT).is_file()


def write_clips(folder: Path, step: int, drawn: Sequence[DrawnClip], fps: float) -> Path:
    """Write ``clips/step-NNNNNN/``: each clip, its references, and last ``clips.json``, which names them.

    Every file is whole or absent; the same clips give the same bytes, and replace those that are there.

    Args:
        folder: of the training.
        step: after which they were drawn.
        drawn: of even width and height.
        fps: of the clips.

    Returns:
        The folder of the step.

    Raises:
        BadInput: an odd width or height.
        DiskFull: no space.
    """
    target = _folder_of(folder, step)
    rate = Fraction(fps).limit_denominator(100_000)
    rows = []
    for number, one in enumerate(drawn, start=1):
        references = [f"{number:02d}-reference-{place}.png" for place in range(1, len(one.sample.references) + 1)]
        for name, picture in zip(references, one.sample.references, strict=True):
            write_bytes(target / name, _png(picture))
        video = f"{number:02d}.mp4"
        write_bytes(target / video, encode_clip(one.frames, rate))
        rows.append({"key": one.sample.key, "prompt": one.sample.prompt, "references": references, "video": video})
    write_document(target / _DOCUMENT, {"step": step, "clips": rows})
    return target


def strip(drawn: DrawnClip) -> Frame:
    """A clip as one picture: its references, a gap, and six frames from first to last.

    Returns:
        uint8 RGB (H, W, 3), H of the clip.
    """
    height = drawn.frames.shape[1]
    frames = drawn.frames[_SHOWN.indices(len(drawn.frames))]
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    return np.hstack([*(_as_high(picture, height) for picture in drawn.sample.references), gap, *frames])


def _folder_of(training: Path, step: int) -> Path:
    return training / "clips" / f"step-{step:06d}"


def _as_high(picture: Frame, height: int) -> Frame:
    if len(picture) == height:
        return picture
    width = max(1, round(picture.shape[1] * height / len(picture)))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def _png(picture: Frame) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
