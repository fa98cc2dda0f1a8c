"""Decoding and encoding, with files that the tests write themselves."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck as HypothesisCheck
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refeval.cases import ClipSpec
from refeval.clips import (
    DECODERS,
    AllFrames,
    Clip,
    Linspace,
    Stride,
    decoder_version,
    encode_clip,
    open_clip,
)
from refeval.errors import BadInput, UnusableClip
from refeval.health import HealthCheck
from tests.guarantees.broken_clips import Frames, cut_in_pictures, moving_frames, write_audio, write_video

# The pattern has hard colour edges, and colour is stored at half size: that alone costs up to 10 levels in the
# mean, with any codec (measured 5.9 with lossless H.264). 8-bit 4:4:4 costs 0.4.
_HALF_COLOUR = 12.0
_FULL_COLOUR = 1.5
_RATES = [Fraction(8), Fraction(16), Fraction(24), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25, 2)]


def _error(clip: Clip, frames: Frames) -> float:
    assert clip.frames.shape == frames.shape
    return float(np.abs(clip.frames.astype(int) - frames).mean())


def _which(clip: Clip, frames: Frames) -> list[int]:
    """For every frame of the clip, the frame of the source that it resembles most."""
    return [int(np.abs(frames.astype(int) - frame).mean(axis=(1, 2, 3)).argmin()) for frame in clip]


def _grey_frames(count: int = 8) -> Frames:
    """The moving pattern without colour, which 4:2:0 stores at full size."""
    return moving_frames(count=count)[..., :1].repeat(3, axis=3)


# Encoding


def test_round_trip_without_loss_is_within_rounding(tmp_path: Path) -> None:
    frames = _grey_frames()
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode_clip(frames, Fraction(16), crf=0))
    clip = open_clip(path)
    # RGB to YUV and back rounds twice, each to one level of the narrower 16..235 range.
    assert np.abs(clip.frames.astype(int) - frames).max() <= 2
    assert (clip.width, clip.height, len(clip)) == (64, 48, 8)


def test_round_trip_at_default_quality_keeps_every_frame_in_order(tmp_path: Path) -> None:
    frames = moving_frames(count=12)
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode_clip(iter(frames), Fraction(16)))
    clip = open_clip(path)
    assert _error(clip, frames) < _HALF_COLOUR
    assert _which(clip, frames) == list(range(12))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("fps", _RATES, ids=str)
def test_rate_is_exact(decoder: str, fps: Fraction, tmp_path: Path) -> None:
    _require(decoder)
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode_clip(moving_frames(count=5), fps))
    clip = open_clip(path, decoder=decoder)
    assert clip.fps == fps
    assert len(clip) == 5


@pytest.mark.parametrize("count", [1, 2, 3, 17, 49])
def test_no_frame_is_lost_or_added(count: int, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode_clip(moving_frames(count=count), Fraction(16)))
    assert len(open_clip(path)) == sum(1 for _ in open_clip(path)) == count


def test_encoding_twice_gives_the_same_bytes() -> None:
    frames = moving_frames(count=12)
    assert encode_clip(frames, Fraction(16)) == encode_clip(frames, Fraction(16))


@pytest.mark.parametrize("size", [(64, 48), (320, 192)], ids=str)
def test_bytes_do_not_depend_on_what_lies_in_memory(size: tuple[int, int]) -> None:
    frames = moving_frames(width=size[0], height=size[1], count=12)
    expected = encode_clip(frames, Fraction(16))
    rng = np.random.default_rng(0)
    for _ in range(30):
        ballast = [rng.bytes(int(length)) for length in rng.integers(1, 60_000, 30)]
        assert encode_clip(frames, Fraction(16)) == expected
        del ballast


def test_bytes_do_not_depend_on_cores_or_threads() -> None:
    code = (
        "import hashlib, os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from fractions import Fraction; from refeval.clips import encode_clip;"
        "from tests.guarantees.broken_clips import moving_frames;"
        "print(hashlib.sha256(encode_clip(moving_frames(width=320, height=192, count=20), Fraction(16))).hexdigest())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    here = encode_clip(moving_frames(width=320, height=192, count=20), Fraction(16))
    assert child.stdout.strip() == hashlib.sha256(here).hexdigest()


@pytest.mark.parametrize("size", [(65, 48), (64, 47), (65, 47)], ids=str)
def test_odd_sizes_are_refused(size: tuple[int, int]) -> None:
    width, height = size
    with pytest.raises(BadInput, match=f"{width}x{height} cannot be written"):
        encode_clip(moving_frames(width=width, height=height), Fraction(8))


def test_a_clip_of_no_frames_is_refused() -> None:
    with pytest.raises(BadInput, match="no frames"):
        encode_clip([], Fraction(8))


def test_frames_of_differing_sizes_are_refused() -> None:
    frames = [*moving_frames(count=2), *moving_frames(width=32, count=1)]
    with pytest.raises(BadInput, match="differing sizes"):
        encode_clip(frames, Fraction(8))


# Decoding what other programs write


@pytest.mark.parametrize(
    ("codec", "pixels", "container"),
    [
        ("libx264", "yuv420p", "mp4"),
        ("libx264", "yuv420p10le", "mp4"),
        ("libx265", "yuv420p", "mp4"),
        ("libx265", "yuv420p10le", "mp4"),
        ("libvpx-vp9", "yuv420p", "webm"),
        ("libsvtav1", "yuv420p", "mp4"),
        ("libsvtav1", "yuv420p10le", "webm"),
        ("libx264", "yuv420p", "matroska"),
    ],
)
def test_other_codecs_are_decoded(codec: str, pixels: str, container: str, tmp_path: Path) -> None:
    frames = moving_frames(count=9)
    path = _write(tmp_path, frames, codec=codec, pixels=pixels, container=container)
    clip = open_clip(path)
    assert (clip.width, clip.height, clip.fps) == (64, 48, 8)
    assert clip.frames.dtype == np.uint8
    assert _error(clip, frames) < _HALF_COLOUR
    assert _which(clip, frames) == list(range(9))


def test_odd_sizes_are_decoded(tmp_path: Path) -> None:
    frames = moving_frames(width=65, height=47)
    assert _error(open_clip(_write(tmp_path, frames, pixels="yuv444p", quality=1)), frames) < _FULL_COLOUR


def test_odd_sizes_with_half_colour_are_decoded(tmp_path: Path) -> None:
    frames = moving_frames(width=65, height=47)
    assert _error(open_clip(_write(tmp_path, frames, codec="libvpx-vp9")), frames) < _HALF_COLOUR


def test_a_varying_rate_gives_every_stored_frame_once(tmp_path: Path) -> None:
    frames = moving_frames(count=12)
    ticks = [0, 1, 2, 10, 11, 30, 31, 40, 41, 42, 43, 44]
    path = tmp_path / "clip.mp4"
    write_video(path, frames, fps=Fraction(24), ticks=ticks)
    clip = open_clip(path)
    assert _which(clip, frames) == list(range(12))
    assert clip.fps == 12 / Fraction(45, 24)


def test_frames_hidden_by_an_edit_list_are_left_out(tmp_path: Path) -> None:
    frames = moving_frames(count=12)
    path = tmp_path / "clip.mp4"
    write_video(path, frames, ticks=range(-3, 9))
    assert _which(open_clip(path), frames) == list(range(3, 12))


def test_frames_without_an_announced_number_are_all_there(tmp_path: Path) -> None:
    frames = moving_frames(count=11)
    clip = open_clip(_write(tmp_path, frames, container="matroska"))
    assert clip.frames.shape == frames.shape


def test_one_frame_is_a_clip(tmp_path: Path) -> None:
    assert len(open_clip(_write(tmp_path, moving_frames(count=1)))) == 1


# Damage


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty"), (b"this is a text\n" * 99, "not a readable video")], ids=["empty", "text"]
)
def test_files_that_are_no_video(decoder: str, data: bytes, reason: str, tmp_path: Path) -> None:
    _require(decoder)
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    with pytest.raises(UnusableClip, match=reason):
        open_clip(path, decoder=decoder)


def test_sound_without_a_picture(tmp_path: Path) -> None:
    write_audio(tmp_path / "clip.mp4")
    with pytest.raises(UnusableClip, match="no video stream"):
        open_clip(tmp_path / "clip.mp4")


def test_an_unknown_codec(tmp_path: Path) -> None:
    path = _write(tmp_path, moving_frames())
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    with pytest.raises(UnusableClip, match="unknown codec"):
        open_clip(path)


def test_metadata_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    path = _write(tmp_path, moving_frames())
    data = path.read_bytes()
    assert b"VideoHandler" in data
    path.write_bytes(data.replace(b"VideoHandler", b"\xff\xfe\xfd\xfcoHandler"))
    assert len(open_clip(path)) == 8


def test_a_size_that_changes_inside(tmp_path: Path) -> None:
    first, second = tmp_path / "a.h264", tmp_path / "b.h264"
    write_video(first, moving_frames(), container="h264")
    write_video(second, moving_frames(width=96), container="h264")
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(UnusableClip, match="the size changes from 64x48 to 96x48"):
        list(open_clip(first))


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.99])
def test_cut_in_the_pictures_raises_wherever_it_is_cut(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, moving_frames(count=20), header_first=True)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UnusableClip):
        list(open_clip(path))


def test_the_reason_does_not_depend_on_the_number_of_cores(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    cut_in_pictures(path)
    code = (
        "import os, sys, pathlib; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from refeval.clips import open_clip; from refeval.errors import UnusableClip\n"
        "try: list(open_clip(pathlib.Path(sys.argv[1])))\n"
        "except UnusableClip as error: print(error)"
    )
    child = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    with pytest.raises(UnusableClip) as caught:
        list(open_clip(path))
    assert child.stdout.strip() == str(caught.value)


def test_an_announced_length_is_not_believed_blindly() -> None:
    class Liar:
        fps, width, height, announced = Fraction(8), 64, 48, 2**40

        def decode(self) -> Iterator[Frames]:
            return iter(moving_frames())

    assert Clip(Liar()).frames.shape == (8, 48, 64, 3)


def test_an_unknown_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown decoder 'ffmpeg'"):
        open_clip(_write(tmp_path, moving_frames()), decoder="ffmpeg")


@pytest.fixture(scope="module")
def real_files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """An MP4 with its index at the end, one with it in front, and a Matroska file."""
    path = tmp_path_factory.mktemp("real") / "clip"
    data = []
    for container, header_first in (("mp4", False), ("mp4", True), ("matroska", False)):
        write_video(path, moving_frames(), container=container, header_first=header_first, options={"g": "4"})
        data.append(path.read_bytes())
    return data


def _damage(data: bytes, kept: float, changes: list[tuple[float, int]]) -> bytes:
    damaged = bytearray(data[: int(len(data) * kept)])
    for where, value in changes:
        if damaged:
            damaged[int(where * (len(damaged) - 1))] = value
    return bytes(damaged)


def _frames_or_reason(path: Path) -> None:
    """Anything but frames or UnusableClip fails the test, and a crash of the decoder kills the worker."""
    try:
        count = 0
        for frame in open_clip(path):
            assert frame.dtype == np.uint8
            assert frame.ndim == 3
            assert frame.shape[2] == 3
            count += 1
        assert len(open_clip(path)) == count > 0
    except UnusableClip as error:
        assert error.what


_SHARE = st.floats(0, 1)
_CHANGES = st.lists(st.tuples(_SHARE, st.integers(0, 255)), max_size=20)
_HYPOTHESIS = settings(max_examples=300, suppress_health_check=[HypothesisCheck.function_scoped_fixture])


@_HYPOTHESIS
@given(which=st.integers(0, 2), kept=st.one_of(st.just(1.0), _SHARE), changes=_CHANGES)
def test_damaged_files_give_frames_or_a_reason(
    which: int, kept: float, changes: list[tuple[float, int]], real_files: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(_damage(real_files[which], kept, changes))
    _frames_or_reason(path)


@_HYPOTHESIS
@given(data=st.binary(max_size=4096))
@example(data=b"\0\0\0\x18ftypmp42")
@example(data=b"\x1aE\xdf\xa3")
@example(data=b"RIFF\xff\xff\xff\xffAVI LIST")
@example(data=b"\0\0\0\x01\x67\x42")
def test_any_bytes_give_frames_or_a_reason(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    _frames_or_reason(path)


# Which frames


def test_all_frames() -> None:
    assert AllFrames().indices(4) == [0, 1, 2, 3]


def test_linspace_parity(goldens: Path) -> None:
    table = json.loads((goldens / "metrics/aesthetics.json").read_text())["frame_indices_linspace32"]
    assert table
    assert {count: Linspace(32).indices(int(count)) for count in table} == table


def test_stride_parity(goldens: Path) -> None:
    golden = json.loads((goldens / "metrics/naturalscore.json").read_text())
    table = golden["index_rule_table"]
    assert table
    assert {count: Stride(16).indices(int(count)) for count in table} == table
    for video in golden["videos"].values():
        assert Stride(16).indices(video["n_frames"]) == video["indices"]


@given(count=st.integers(1, 500), number=st.integers(1, 64))
def test_rules_stay_inside_the_clip(count: int, number: int) -> None:
    spread, strided = Linspace(number).indices(count), Stride(number).indices(count)
    assert len(spread) == number
    assert len(strided) == min(number, count)
    for indices in (spread, strided):
        assert indices == sorted(indices)
        assert indices[0] == 0
        assert indices[-1] < count


def test_take_gives_the_frames_of_the_rule(tmp_path: Path) -> None:
    frames = moving_frames(count=12)
    clip = open_clip(_write(tmp_path, frames))
    assert np.array_equal(clip.take(Linspace(5)), clip.frames[[0, 2, 5, 8, 11]])
    assert np.array_equal(clip.take(AllFrames()), clip.frames)


# Clips in memory


def test_a_clip_of_frames_in_memory() -> None:
    frames = moving_frames()
    clip = Clip.from_frames(frames, 23.976)
    assert (clip.width, clip.height, len(clip)) == (64, 48, 8)
    assert abs(clip.fps - Fraction(24000, 1001)) < Fraction(1, 10_000)
    assert all(np.array_equal(a, b) for a, b in zip(clip, frames, strict=True))


@pytest.mark.parametrize(
    "frames",
    [np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4, 4), np.uint8), np.zeros((0, 4, 4, 3), np.uint8)],
    ids=["no colours", "alpha", "empty"],
)
def test_frames_of_another_shape_are_refused(frames: Frames) -> None:
    with pytest.raises(BadInput, match="frames of shape"):
        Clip.from_frames(frames, 8)


def test_frames_of_another_dtype_are_refused() -> None:
    with pytest.raises(BadInput, match="float32"):
        Clip.from_frames(np.zeros((2, 4, 4, 3), np.float32), 8)  # type: ignore[arg-type]


# How often, and how much memory


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that the decoder opens, from now on."""
    files: list[str] = []
    real = av.open

    def counting(file: str, *args: Any, **kwargs: Any) -> Any:
        files.append(file)
        return real(file, *args, **kwargs)

    monkeypatch.setattr(av, "open", counting)
    return files


def test_a_loaded_clip_is_decoded_once(opened: list[str], tmp_path: Path) -> None:
    clip = open_clip(_write(tmp_path, moving_frames()))
    opened.clear()
    for rule in (Linspace(32), Stride(16), AllFrames()):
        clip.take(rule)
    assert len(clip) == 8
    assert sum(1 for _ in clip) == sum(1 for _ in clip) == 8
    assert len(opened) == 1


def test_a_streamed_clip_is_decoded_once_per_pass(opened: list[str], tmp_path: Path) -> None:
    clip = open_clip(_write(tmp_path, moving_frames()))
    opened.clear()
    assert sum(1 for _ in clip) == sum(1 for _ in clip) == 8
    assert len(opened) == 2


def test_streaming_keeps_no_frame(tmp_path: Path) -> None:
    clip = open_clip(_write(tmp_path, moving_frames(count=12)))
    seen = []
    for frame in clip:
        seen.append(weakref.ref(frame))
        del frame
        gc.collect()
        # The generator itself may still hold the last one.
        assert sum(reference() is not None for reference in seen) <= 1
    assert len(seen) == 12


def test_memory_of_streaming_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    path = _write(tmp_path, moving_frames(width=256, height=192, count=40))
    frame_bytes = 256 * 192 * 3

    def peak(use: Any) -> int:
        tracemalloc.start()
        use(open_clip(path))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(lambda clip: sum(1 for _ in clip)) < 5 * frame_bytes
    assert 40 * frame_bytes < peak(len) < 46 * frame_bytes


# The health check belongs to the first complete pass


def test_a_pass_that_is_broken_off_does_not_count(tmp_path: Path) -> None:
    expected = ClipSpec(width=64, height=48, frames=8, fps=Fraction(8))
    clip = open_clip(_write(tmp_path, moving_frames()), check=HealthCheck(expected))
    next(iter(clip))
    assert len(clip) == 8


def test_an_unhealthy_clip_is_refused_again_for_the_same_reason(tmp_path: Path) -> None:
    clip = open_clip(_write(tmp_path, moving_frames(step=0)), check=HealthCheck())
    for _ in range(2):
        with pytest.raises(UnusableClip, match="frozen"):
            list(clip)
    with pytest.raises(UnusableClip, match="frozen"):
        len(clip)


# The two decoders


@pytest.mark.parametrize(
    ("codec", "container"),
    [("libx264", "mp4"), ("libx264", "matroska"), ("libx265", "mp4"), ("libvpx-vp9", "webm"), ("libvpx-vp9", "mp4")],
)
def test_decoder_parity(codec: str, container: str, tmp_path: Path) -> None:
    path = _write(tmp_path, moving_frames(width=96, count=20), codec=codec, container=container)
    _assert_same_frames(path)


def test_decoder_parity_on_the_demo_clip(opens2v: Path) -> None:
    _assert_same_frames(opens2v / "demo/videos/faceobj_14.mp4")


def _assert_same_frames(path: Path) -> None:
    _require("decord")
    one, other = open_clip(path, decoder="pyav"), open_clip(path, decoder="decord")
    assert (one.fps, one.width, one.height) == (other.fps, other.width, other.height)
    pairs = 0
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a, b)
        pairs += 1
    assert pairs > 1


def test_decoder_versions_name_the_decoder() -> None:
    assert decoder_version("pyav").startswith(f"pyav {av.__version__} libavcodec ")
    _require("decord")
    assert decoder_version("decord").startswith("decord ")


def _require(decoder: str) -> None:
    if decoder == "decord":
        pytest.importorskip("decord", reason="decord is not installed")


def _write(
    folder: Path,
    frames: Frames,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    container: str = "mp4",
    quality: int = 10,
) -> Path:
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no encoder {codec}")
    path = folder / "clip.mp4"
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    write_video(path, frames, codec=codec, pixels=pixels, container=container, quality=quality, options=options)
    return path
