"""Frames of a video by their numbers.

Videos may be long and cuts short, so where the frames follow one another evenly the decoder starts at a key frame
shortly before the first one that is wanted. Everywhere else frames are counted from the start: a number always means
the same frame.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from refeval.clips import Clip, Frame, open_clip
from refeval.errors import UnusableClip

T = TypeVar("T")

# Some containers keep the times of decoding only; those of pictures are up to so many frames later.
_REORDERED = 20
# In frames; containers that round times to milliseconds are off by less.
_OFF_THE_BEAT = 0.1


def count_frames(path: Path) -> int:
    """How many frames a video shows, counted in its packets without decoding them.

    Raises:
        UnusableClip: not a readable video.
    """
    open_clip(path)
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            return sum(1 for packet in container.demux(video=0) if packet.size and not packet.is_discard)
    except av.FFmpegError as error:
        raise UnusableClip(f"packets cannot be read: {error.strerror}") from error


def read_frames(path: Path, numbers: Sequence[int], change: Callable[[Frame], T]) -> list[T]:
    """Decode frames.

    Args:
        path: of the video.
        numbers: of the frames, from 0, rising, at least one.
        change: makes of a frame, uint8 RGB (H, W, 3), what is kept of it.

    Returns:
        One for each number.

    Raises:
        UnusableClip: not a readable video, or damaged where it is read, or it has fewer frames.
        OSError: no such file.
    """
    found = _from_key_frame(path, numbers, change)
    return _counted(path, numbers, change) if found is None else found


def _counted(path: Path, numbers: Sequence[int], change: Callable[[Frame], T]) -> list[T]:
    wanted = frozenset(numbers)
    frames = enumerate(itertools.islice(open_clip(path), numbers[-1] + 1))
    count, found = 0, []
    for number, frame in frames:
        count = number + 1
        if number in wanted:
            found.append(change(frame))
    if len(found) < len(numbers):
        raise UnusableClip(f"frame {numbers[len(found)]} is wanted, and there are {count}")
    return found


def _from_key_frame(path: Path, numbers: Sequence[int], change: Callable[[Frame], T]) -> list[T] | None:
    """The same from a key frame on; None where times do not tell the numbers of frames, or anything is wrong.

    Whoever counts from the start says what it is.
    """
    clip = open_clip(path)
    wanted, found = frozenset(numbers), []
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            video = container.streams.video[0]
            start, unit = video.start_time, video.time_base
            if start is None or not unit or video.average_rate != video.base_rate:
                return None
            # With threads in the decoder it depends on their number which damage is reported.
            video.thread_type = "NONE"
            container.seek(start + int(max(numbers[0] - _REORDERED, 0) / clip.fps / unit), stream=video)
            # Made once: a frame on its own would set up the conversion each time.
            reformatter = VideoReformatter()
            last = -1
            for frame in container.decode(video=0):
                number = _number(frame, start, unit, clip.fps)
                skipped = number != last + 1 if last >= 0 else number is not None and number > numbers[0]
                if number is None or skipped or not _whole(frame, clip):
                    return None
                last = number
                if number in wanted:
                    rgb = reformatter.reformat(frame, format="rgb24").to_ndarray()
                    found.append(change(rgb.astype(np.uint8, copy=False)))
                if number == numbers[-1]:
                    return found
    except av.FFmpegError:
        return None
    return None


def _number(frame: av.VideoFrame, start: int, unit: Fraction, fps: Fraction) -> int | None:
    """Which frame it is by its time; None if it has none, or lies between two."""
    if frame.pts is None:
        return None
    place = (frame.pts - start) * unit * fps
    number = round(place)
    return number if abs(place - number) < _OFF_THE_BEAT else None


def _whole(frame: av.VideoFrame, clip: Clip) -> bool:
    return not frame.is_corrupt and (frame.width, frame.height) == (clip.width, clip.height)
