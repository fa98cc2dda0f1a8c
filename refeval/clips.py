"""Clips: decoding and encoding video, and the frames that the official scripts look at.

A clip is a sequence of uint8 RGB frames, shape (T, H, W, 3). It is decoded once: either streamed frame by
frame, or loaded when somebody takes frames by index.

Source of the index rules: OpenS2V-Nexus eval/get_*.py at 210eb08.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from refeval.errors import BadInput, MissingPrerequisite, UnusableClip

if TYPE_CHECKING:
    from refeval.health import HealthCheck

Frame = NDArray[np.uint8]
DECODERS = ("pyav", "decord")
# Bytes must be the same in every run: x264 gives other bytes for another number of threads, and its
# macroblock tree gives other bytes for the same frames now and then (a third of the runs with x264 165).
_ENCODER = {"preset": "medium", "threads": "2", "mbtree": "0"}
# A damaged header can announce any length; memory beyond this many frames is taken as they come.
_BELIEVED_LENGTH = 1024


class FrameRule(Protocol):
    """Which frames of a clip a metric looks at."""

    def indices(self, count: int) -> list[int]:
        """Frame indices for a clip of ``count`` frames; they may repeat."""


@dataclass(frozen=True)
class AllFrames:
    """Every frame, in order."""

    def indices(self, count: int) -> list[int]:
        """See :class:`FrameRule`."""
        return list(range(count))


@dataclass(frozen=True)
class Linspace:
    """``number`` frames evenly spaced from first to last, truncated; a shorter clip repeats frames."""

    number: int = 32

    def indices(self, count: int) -> list[int]:
        """See :class:`FrameRule`."""
        return [int(i) for i in np.linspace(0, count - 1, self.number, dtype=int)]


@dataclass(frozen=True)
class Stride:
    """The judge's frames: ``number`` from the start at stride ``count // number``, so the tail is never seen."""

    number: int = 16

    def indices(self, count: int) -> list[int]:
        """See :class:`FrameRule`."""
        step = max(count // self.number, 1)
        return [i * step for i in range(self.number) if i * step < count]


class Clip:
    """A decoded or decodable clip.

    Iterating a clip that is not loaded decodes it and keeps nothing, so memory stays at one frame;
    :meth:`take` and ``len`` load it once and keep it.

    Attributes:
        fps: frames per second (the average where the rate varies).
        width: pixels.
        height: pixels.
    """

    def __init__(self, stream: _Stream, *, check: HealthCheck | None = None) -> None:
        self._stream = stream
        self._check = check
        self._watched = False
        self.fps = stream.fps
        self.width = stream.width
        self.height = stream.height

    @classmethod
    def from_frames(cls, frames: Frame, fps: Fraction | float) -> Clip:
        """A clip of frames in memory.

        Args:
            frames: uint8 RGB, shape (T, H, W, 3).
            fps: frames per second.

        Raises:
            BadInput: another shape or dtype.
        """
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
            raise BadInput(
                f"frames of shape {frames.shape} and dtype {frames.dtype}",
                cure="give uint8 RGB frames of shape (T, H, W, 3), T >= 1",
            )
        clip = cls(_MemoryStream(frames, Fraction(fps).limit_denominator(100_000)))
        clip.frames = frames
        return clip

    def __iter__(self) -> Iterator[Frame]:
        if "frames" in self.__dict__:
            return iter(self.frames)
        return self._watch(self._stream.decode())

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def frames(self) -> Frame:
        """Every frame, uint8 RGB, shape (T, H, W, 3).

        Raises:
            UnusableClip: the clip cannot be decoded or is not healthy.
        """
        # One array of the announced length: a list that is stacked at the end would take the memory twice.
        announced = min(self._stream.announced, _BELIEVED_LENGTH)
        frames: Frame = np.empty((0, self.height, self.width, 3), np.uint8)
        count = 0
        for frame in self:
            if count == len(frames):
                grown = np.empty((max(announced, 2 * count, 1), *frame.shape), np.uint8)
                grown[:count] = frames
                frames = grown
            frames[count] = frame
            count += 1
        return frames[:count]

    def take(self, rule: FrameRule) -> Frame:
        """The frames of a rule, uint8 RGB, shape (K, H, W, 3)."""
        return self.frames[rule.indices(len(self))]

    def _watch(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        # Every pass has its own copy: a pass that was broken off must not count.
        check = copy(self._check) if not self._watched else None
        for frame in frames:
            if check:
                check.see(frame)
            yield frame
        if check:
            check.finish(fps=self.fps)
            self._watched = True


def open_clip(path: Path, *, decoder: str = "pyav", check: HealthCheck | None = None) -> Clip:
    """Open a video file; frames are decoded when they are asked for.

    Args:
        path: any container and codec that the decoder knows.
        decoder: ``pyav`` or ``decord``; both give the same frames for 8-bit H.264, HEVC and VP9 of even size.
        check: sees every frame of the first complete pass and raises when the clip is not healthy.

    Raises:
        UnusableClip: empty, not a video, or without a picture. Damage inside raises while decoding.
        MissingPrerequisite: decord is asked for and not installed.
        BadInput: unknown decoder.
    """
    _refuse_unknown(decoder)
    if path.stat().st_size == 0:
        raise UnusableClip("the file is empty (0 bytes)")
    stream: _Stream = _PyavStream(path) if decoder == "pyav" else _DecordStream(path)
    return Clip(stream, check=check)


def decoder_version(decoder: str) -> str:
    """Name and versions of a decoder, for manifests and task keys.

    Raises:
        BadInput: unknown decoder.
        MissingPrerequisite: it is not installed.
    """
    _refuse_unknown(decoder)
    if decoder == "pyav":
        libraries = av.library_versions
        return f"pyav {av.__version__} libavcodec {'.'.join(map(str, libraries['libavcodec']))}"
    return f"decord {_import_decord().__version__}"


def _refuse_unknown(decoder: str) -> None:
    if decoder not in DECODERS:
        raise BadInput(f"unknown decoder '{decoder}'", details=(("known", ", ".join(DECODERS)),))


def encode_clip(frames: Iterable[Frame], fps: Fraction, *, crf: int = 10) -> bytes:
    """Encode frames as H.264 in MP4 (yuv420p); the same frames give the same bytes in every run.

    Load and number of cores do not matter. x264 chooses its code by the processor: those with AVX2 agree.

    Args:
        frames: uint8 RGB frames of shape (H, W, 3), H and W even, all of one size.
        fps: written exactly.
        crf: x264 quality, 0 (lossless) to 51; RefAlign's clips use 5, Wan's 10.

    Raises:
        BadInput: no frames, odd sizes, or frames of differing sizes.
    """
    buffer = io.BytesIO()
    options = {"crf": str(crf), **_ENCODER}
    size: tuple[int, ...] | None = None
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            if size is None:
                size = frame.shape
                stream.height, stream.width = _even_size(size)
            if frame.shape != size:
                raise BadInput(f"frames of differing sizes: {frame.shape} after {size}")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        if size is None:
            raise BadInput("a clip of no frames cannot be written")
        container.mux(stream.encode())
    return buffer.getvalue()


def _even_size(shape: tuple[int, ...]) -> tuple[int, int]:
    height, width = shape[:2]
    if height % 2 or width % 2:
        cure = "render at an even width and height: H.264 stores colour at half size, and nothing is resized silently"
        raise BadInput(f"a clip of {width}x{height} cannot be written", cure=cure)
    return height, width


class _Stream(Protocol):
    """Where the frames of a clip come from. ``announced``: frame count by the header, 0 if it has none."""

    fps: Fraction
    width: int
    height: int
    announced: int

    def decode(self) -> Iterator[Frame]: ...


class _MemoryStream:
    def __init__(self, frames: Frame, fps: Fraction) -> None:
        self.frames = frames
        self.fps = fps
        self.announced, self.height, self.width = frames.shape[:3]

    def decode(self) -> Iterator[Frame]:
        return iter(self.frames)


class _PyavStream:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with av.open(str(path), metadata_errors="replace") as container:
                if not container.streams.video:
                    raise UnusableClip("no video stream in the file")
                video = container.streams.video[0]
                if not video.codec_context:
                    raise UnusableClip("the video stream is of an unknown codec")
                rate = video.average_rate or video.guessed_rate
                if not rate or not video.width or not video.height:
                    raise UnusableClip("the video stream has no size or frame rate")
                self.fps = Fraction(rate)
                self.width, self.height = video.width, video.height
                self.announced = video.frames
        except av.FFmpegError as error:
            raise UnusableClip(f"not a readable video: {_reason(error)}") from error

    def decode(self) -> Iterator[Frame]:
        count = discarded = 0
        try:
            with av.open(str(self.path), metadata_errors="replace") as container:
                video = container.streams.video[0]
                # With threads in the decoder it depends on their number which damage is reported.
                video.thread_type = "NONE"
                for packet in container.demux(video):
                    # An edit list marks frames that are decoded but not shown; the header counts them.
                    discarded += packet.is_discard
                    for frame in packet.decode():
                        if frame.is_corrupt:
                            raise UnusableClip(f"frame {count} is damaged")
                        yield self._picture(frame)
                        count += 1
        except av.FFmpegError as error:
            raise UnusableClip(f"decoding stops after {count} frames: {_reason(error)}") from error
        expected = self.announced - discarded
        if not count:
            raise UnusableClip("no frame can be decoded")
        if count < expected:
            raise UnusableClip(f"the file is cut short: {count} of {expected} frames can be decoded")

    def _picture(self, frame: av.VideoFrame) -> Frame:
        if (frame.width, frame.height) != (self.width, self.height):
            raise UnusableClip(
                f"the size changes from {self.width}x{self.height} to {frame.width}x{frame.height} inside the clip"
            )
        return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


class _DecordStream:
    def __init__(self, path: Path) -> None:
        decord = _import_decord()
        try:
            self.reader = decord.VideoReader(str(path), num_threads=1)
            self.announced = len(self.reader)
            self.height, self.width = self.reader[0].shape[:2]
        except (decord.DECORDError, RuntimeError) as error:
            # Its text has the time and the path in it, and a reason must be the same in every run.
            raise UnusableClip("not a readable video for decord") from error
        self.error = decord.DECORDError
        self.fps = Fraction(self.reader.get_avg_fps()).limit_denominator(1001)

    def decode(self) -> Iterator[Frame]:
        index = 0
        try:
            self.reader.seek(0)
            for index in range(self.announced):
                yield self.reader[index].asnumpy()
        except self.error as error:
            raise UnusableClip(f"decoding stops after {index} frames") from error


def _import_decord() -> Any:
    try:
        import decord
    except ImportError as error:
        raise MissingPrerequisite("decoder 'decord' is not installed", cure="pip install decord") from error
    return decord


def _reason(error: av.FFmpegError) -> str:
    return error.strerror or type(error).__name__
