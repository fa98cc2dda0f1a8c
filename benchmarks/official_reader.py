"""A video file as an official script reads it: opened by the script itself, frames by index, going back by seeking."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av

from refeval.clips import Frame


class Reader:
    """Frames by index, with the decoder that ours are measured with, on one thread.

    As decord does it: an index before the one that comes next, or behind another key frame, is reached by seeking to
    the key frame before it and decoding all that lies between; an index that a call repeats is decoded once.

    Args:
        path: of the video.
    """

    def __init__(self, path: Path) -> None:
        self._container: Any = av.open(str(path))
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "NONE"
        packets = self._container.demux(self._stream)
        is_key = {packet.pts: packet.is_keyframe for packet in packets if packet.pts is not None}
        self._times = sorted(is_key)
        self._keys = [index for index, time in enumerate(self._times) if is_key[time]]
        self._seek(0)

    def __len__(self) -> int:
        return len(self._times)

    def take(self, indices: Sequence[int]) -> list[Frame]:
        """Frames, uint8 RGB, shape (H, W, 3) each."""
        taken = {index: self._forward_to(index) for index in dict.fromkeys(indices)}
        return [taken[index] for index in indices]

    def jump_to(self, index: int) -> Frame:
        """One frame as OpenCV gives it after a change of position: it seeks whether or not it has to."""
        self._seek(self._key_before(index))
        return self._forward_to(index)

    def _forward_to(self, index: int) -> Frame:
        key = self._key_before(index)
        if index < self._next or key > self._next:
            self._seek(key)
        for frame in self._frames:
            self._next += 1
            if frame.pts == self._times[index]:
                picture: Frame = frame.to_ndarray(format="rgb24")
                return picture
        raise AssertionError(f"the file has no frame {index}")

    def _key_before(self, index: int) -> int:
        return self._keys[bisect_right(self._keys, index) - 1]

    def _seek(self, key: int) -> None:
        self._container.seek(self._times[key], stream=self._stream)
        self._next = key
        self._frames = self._decode()

    def _decode(self) -> Iterator[Any]:
        for packet in self._container.demux(self._stream):
            yield from packet.decode()
