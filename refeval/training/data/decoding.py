"""Frames of a video by their numbers.

Videos may be long and cuts short, so the decoder starts at a key frame shortly before the first frame that is wanted,
and the times of frames tell their numbers. A number always means the same frame: the one that is found by counting
from the start. Where times do not tell it, that is what is done.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter

from refeval.clips import Clip, Frame, open_clip
from refeval.errors import UnusableClip

T = TypeVar("T")

# Some containers keep the times of decoding only; those of pictures are up to so many frames later.
_REORDERED = 20
# In frames; what rounding to the video's unit of time may add.
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
            times = _times(container, clip)
            if times is None or numbers[-1] >= len(times):
                return None
            # Made once: a frame on its own would set up the conversion each time.
            reformatter = VideoReformatter()
            last = -1
            for frame in _decoded(container, times.at(max(numbers[0] - _REORDERED, 0))):
                number = times.number(frame.pts)
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


def _decoded(container: InputContainer, time: int) -> Iterator[av.VideoFrame]:
    """Frames from the key frame before a time on."""
    video = container.streams.video[0]
    # With threads in the decoder it depends on their number which damage is reported.
    video.thread_type = "NONE"
    container.seek(time, stream=video)
    return container.decode(video)


def _whole(frame: av.VideoFrame, clip: Clip) -> bool:
    return not frame.is_corrupt and (frame.width, frame.height) == (clip.width, clip.height)


class _Times(Protocol):
    """When each frame is shown, in the video's unit of time."""

    def __len__(self) -> int: ...

    def at(self, number: int) -> int: ...

    def number(self, time: int | None) -> int | None:
        """None where no frame is shown at this time."""


def _times(container: InputContainer, clip: Clip) -> _Times | None:
    """When frames are shown, by the header where it tells, else by all packets, which are read but not decoded."""
    video = container.streams.video[0]
    # The header of these files holds the time of every frame: the average is the usual rate only if none is left out.
    if "mov" in container.format.name and video.frames and video.average_rate == video.base_rate:
        start, unit = video.start_time, video.time_base
        return None if start is None or unit is None else _EvenTimes(start, 1 / (clip.fps * unit), video.frames)
    packets = (packet for packet in container.demux(video) if packet.size and not packet.is_discard)
    times = [packet.pts for packet in packets]
    known = sorted(time for time in times if time is not None)
    return _ListedTimes(known) if len(set(known)) == len(times) else None


class _EvenTimes:
    """Frames that follow one another at one distance."""

    def __init__(self, start: int, distance: Fraction, count: int) -> None:
        self._start, self._distance, self._count = start, distance, count

    def __len__(self) -> int:
        return self._count

    def at(self, number: int) -> int:
        return self._start + int(number * self._distance)

    def number(self, time: int | None) -> int | None:
        if time is None:
            return None
        place = (time - self._start) / self._distance
        number = round(place)
        return number if abs(place - number) < _OFF_THE_BEAT else None


class _ListedTimes:
    """Frames at times of their own, rising."""

    def __init__(self, times: Sequence[int]) -> None:
        self._times = times
        self._numbers = {time: number for number, time in enumerate(times)}

    def __len__(self) -> int:
        return len(self._times)

    def at(self, number: int) -> int:
        return self._times[number]

    def number(self, time: int | None) -> int | None:
        return None if time is None else self._numbers.get(time)
