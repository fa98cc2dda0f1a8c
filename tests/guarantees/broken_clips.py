"""The twelve broken videos that guarantee G3 speaks of, a good one, and the writer that makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from refeval.cases import ClipSpec

Frames = NDArray[np.uint8]

#: What every clip of this module should have been.
EXPECTED = ClipSpec(width=64, height=48, frames=8, fps=Fraction(8))


def moving_frames(
    *, width: int = EXPECTED.width, height: int = EXPECTED.height, count: int = EXPECTED.frames, step: int = 2
) -> Frames:
    """A coarse coloured pattern that moves ``step`` pixels to the right per frame, shape (T, H, W, 3)."""
    tiles = np.random.default_rng(5).integers(40, 216, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    picture = tiles.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return np.stack([np.roll(picture, step * i, axis=1) for i in range(count)])


def write_video(
    path: Path,
    frames: Sequence[Frames] | Frames,
    *,
    fps: Fraction = EXPECTED.fps,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    container: str = "mp4",
    quality: int = 10,
    ticks: Sequence[int] | None = None,
    options: Mapping[str, str] | None = None,
    header_first: bool = False,
) -> None:
    """Write a video as other programs may write it.

    Args:
        path: the file.
        frames: uint8 RGB, all of one size.
        fps: frames per second, or ticks per second where ``ticks`` is given.
        codec: name of an encoder.
        pixels: pixel format.
        container: name of a muxer.
        quality: crf.
        ticks: time of every frame in units of ``1 / fps``; the default is 0, 1, 2 and so on.
        options: further encoder options.
        header_first: put the index of an MP4 before its data ("faststart").
    """
    movflags = {"movflags": "faststart"} if header_first else {}
    with av.open(str(path), "w", format=container, options=movflags) as output:
        stream = output.add_stream(codec, rate=fps, options={"crf": str(quality), **(options or {})})
        stream.pix_fmt = pixels
        stream.height, stream.width = frames[0].shape[:2]
        stream.codec_context.time_base = 1 / fps
        for tick, array in zip(ticks or range(len(frames)), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(array, "rgb24")
            frame.pts, frame.time_base = tick, 1 / fps
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def write_good_clip(path: Path, *, spec: ClipSpec = EXPECTED) -> None:
    """A clip that has nothing wrong with it."""
    frames = moving_frames(width=spec.width, height=spec.height, count=spec.frames)
    write_video(path, frames, fps=spec.fps)


def write_audio(path: Path) -> None:
    """Half a second of silence in an MP4 without a picture."""
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())


def cut_before_index(path: Path) -> None:
    """A writer that died: all the pictures, but the index (``moov``) at the end was never written."""
    write_good_clip(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"moov") - 4])


def cut_in_pictures(path: Path) -> None:
    """A download that broke off: the index is complete, the last pictures are not there."""
    write_video(path, moving_frames(), header_first=True)
    data = path.read_bytes()
    path.write_bytes(data[: -(len(data) - data.rindex(b"mdat")) // 10])


def flip_bytes(path: Path) -> None:
    """A disk that went bad: bytes differ in the middle of the pictures; index and size are right."""
    write_video(path, moving_frames(), header_first=True)
    data = bytearray(path.read_bytes())
    middle = (data.rindex(b"mdat") + len(data)) // 2
    data[middle : middle + 40] = bytes(byte ^ 0xA5 for byte in data[middle : middle + 40])
    path.write_bytes(data)


def _zero_bytes(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("<html><title>404 Not Found</title></html>\n" * 20)


def _one_frame(path: Path) -> None:
    write_video(path, moving_frames(count=1))


def _black(path: Path) -> None:
    write_video(path, np.zeros_like(moving_frames()))


def _frozen(path: Path) -> None:
    write_video(path, moving_frames(step=0))


def _wrong_fps(path: Path) -> None:
    write_video(path, moving_frames(), fps=Fraction(24))


def _wrong_size(path: Path) -> None:
    write_video(path, moving_frames(width=48, height=64))


def _wrong_length(path: Path) -> None:
    write_video(path, moving_frames(count=7))


#: Writers by name.
BROKEN: dict[str, Callable[[Path], None]] = {
    "zero-byte": _zero_bytes,
    "text": _text,
    "truncated-without-moov": cut_before_index,
    "truncated-faststart": cut_in_pictures,
    "flipped-bytes": flip_bytes,
    "audio-only": write_audio,
    "one-frame": _one_frame,
    "black": _black,
    "frozen": _frozen,
    "wrong-fps": _wrong_fps,
    "wrong-size": _wrong_size,
    "wrong-length": _wrong_length,
}

#: A part of the reason that each of them must be given, by name.
REASONS: dict[str, str] = {
    "zero-byte": "the file is empty",
    "text": "not a readable video",
    "truncated-without-moov": "not a readable video",
    "truncated-faststart": "decoding stops after 3 frames",
    "flipped-bytes": "is damaged",
    "audio-only": "no video stream",
    "one-frame": "the clip has 1 frame",
    "black": "every frame is black",
    "frozen": "the clip is frozen",
    "wrong-fps": "the rate is 24",
    "wrong-size": "the size is 48x64, expected 64x48",
    "wrong-length": "the clip has 7 frames, expected 8",
}
