"""Clips and references of rows: which frames, which pixels, and what is broken."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refeval.clips import open_clip
from refeval.training.data import decoding
from refeval.training.data.decoding import count_frames, read_frames
from refeval.training.data.media import MIDDLE, prompts_of, read_clip, read_references, seconds_of
from refeval.training.data.rows import Row, open_rows
from refeval.training.examples import BrokenSample
from tests.guarantees.broken_clips import BROKEN, REASONS, write_video
from tests.training.data.made import (
    HEIGHT,
    SMALL,
    WIDTH,
    numbered_frames,
    numbers,
    row_content,
    run_lengths,
    write_image,
    write_numbered,
    write_rows,
)


def _row(folder: Path, **changes: Any) -> Row:
    return open_rows(write_rows(folder / "rows.jsonl", [row_content(**changes)]))[0]


def _shown(row: Row, *, start: float = 0.0, **data: Any) -> list[int]:
    clip = read_clip(row, replace(SMALL, **data), start=start)
    assert clip.dtype == np.uint8
    return numbers(clip)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (Fraction(25), [0, 1, 2, 3, 4]),
        (Fraction(50), [0, 2, 4, 6, 8]),
        (Fraction(60), [0, 2, 4, 7, 9]),
        (Fraction(30000, 1001), [0, 1, 2, 3, 4]),
        (Fraction(10), [0, 0, 0, 1, 1]),
        (Fraction(24), [0, 0, 1, 2, 3]),
    ],
)
def test_frames_are_those_of_the_wanted_rate(tmp_path: Path, fps: Fraction, expected: list[int]) -> None:
    write_numbered(tmp_path / "a.mp4", 12, fps=fps)
    assert _shown(_row(tmp_path)) == expected


def test_the_rate_holds_over_a_long_clip(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a.mp4", 130, fps=30)
    assert _shown(_row(tmp_path), frames=81)[-1] == 96, "80 steps of 1.2 frames"
    assert _shown(_row(tmp_path), fps=12.5) == [0, 2, 4, 7, 9]


def test_a_start_lies_evenly_in_the_cut(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a.mp4", 20)
    row = _row(tmp_path, frames=[8, 16])
    starts = [_shown(row, start=share)[0] for share in (0.0, 0.24, 0.26, MIDDLE, 0.74, 0.76, 0.999999)]
    assert starts == [8, 8, 9, 10, 10, 11, 11], "a cut of 8 has 4 clips of 5"
    assert _shown(_row(tmp_path), start=0.999999) == [15, 16, 17, 18, 19], "without a cut: the video"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"frames": [3, 7]}, "4 frames from frame 3 on, at 25 a second, are no clip of 5 frames at 25 a second"),
        ({"frames": [18, 23]}, "frame 20 is wanted, and there are 20"),
        ({"frames": [60, 70]}, "frame 60 is wanted, and there are 20"),
        ({"frames": [-2, 5]}, "from frame -2 on"),
        ({"frames": [9, 3]}, "-6 frames"),
        ({"crop": [0, 0, 83, 32]}, r"the crop \[0, 0, 83, 32\] does not lie in a frame of 80x32"),
        ({"crop": [5, 5, 5, 20]}, "the crop"),
        ({"video": "b.mp4"}, r"b\.mp4: no such file"),
    ],
)
def test_a_clip_that_is_not_there_is_broken(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    write_numbered(tmp_path / "a.mp4", 20)
    with pytest.raises(BrokenSample, match=reason):
        read_clip(_row(tmp_path, **changes), SMALL, start=0)


def test_an_empty_prompt_is_broken_and_one_of_several_is_left_out(tmp_path: Path) -> None:
    assert prompts_of(_row(tmp_path, prompt=["", "A dog.", " "])) == ("A dog.",)
    with pytest.raises(BrokenSample, match="prompt"):
        prompts_of(_row(tmp_path, prompt=" \n"))


def test_seconds_are_those_of_the_cut(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a.mp4", 30, fps=20)
    assert seconds_of(_row(tmp_path)) == pytest.approx(1.5)
    assert seconds_of(_row(tmp_path, frames=[2, 12])) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "how",
    [
        {"name": "a.mp4", "options": {"bf": "6", "g": "40"}},
        {"name": "a.mp4", "options": {"x264-params": "open-gop=1:keyint=40:bframes=5"}},
        {"name": "a.mp4", "fps": Fraction(30000, 1001), "options": {"g": "25"}},
        {"name": "a.mkv", "container": "matroska", "fps": Fraction(60000, 1001)},
        {"name": "a.webm", "container": "webm", "codec": "libvpx-vp9", "options": {"g": "60", "cpu-used": "8"}},
        {"name": "a.avi", "container": "avi", "codec": "mpeg4"},
        {"name": "late.mp4", "ticks": range(7, 227)},
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_a_frame_from_a_key_frame_on_is_the_one_counted_from_the_start(tmp_path: Path, how: dict[str, Any]) -> None:
    path = tmp_path / how.pop("name")
    write_video(path, numbered_frames(220), fps=how.pop("fps", Fraction(25)), **how)
    assert count_frames(path) == 220
    for first in (33, 39, 40, 41, 79, 80, 119, 120, 121, 171, 215):
        wanted = [first, first + 1, first + 4]
        by_time = decoding._from_key_frame(path, wanted, np.array)
        assert by_time is not None, "the quick way is taken"
        assert numbers(by_time) == wanted
        assert numbers(read_frames(path, wanted, np.array)) == wanted


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi", "webm"])
def test_a_number_means_the_same_frame_where_frames_are_left_out(tmp_path: Path, container: str) -> None:
    """A pause of three frames, and a later frame that comes late."""
    path = tmp_path / "a.video"
    ticks = [i + 3 * (i > 60) + (i > 120) for i in range(200)]
    codec = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(container, "libx264")
    write_video(path, numbered_frames(200), fps=Fraction(25), ticks=ticks, container=container, codec=codec)
    for first in (0, 50, 59, 60, 61, 64, 100, 121, 150, 195):
        wanted = [first, first + 1, first + 4]
        assert numbers(decoding._counted(path, wanted, np.array)) == wanted
        assert numbers(read_frames(path, wanted, np.array)) == wanted
        # Key frames of a transport stream cannot be found by their time.
        if container != "mpegts":
            assert decoding._from_key_frame(path, wanted, np.array) is not None, "the quick way is taken"


def test_frames_are_counted_where_their_times_do_not_tell_their_numbers(tmp_path: Path) -> None:
    """A stream without a container has no times at all."""
    path = tmp_path / "a.video"
    write_video(path, numbered_frames(60), fps=Fraction(25), container="h264")
    assert decoding._from_key_frame(path, [40, 41], np.array) is None
    assert numbers(read_frames(path, [40, 41], np.array)) == [40, 41]


def test_a_clip_covers_its_size_and_is_cut_evenly(tmp_path: Path) -> None:
    """Against the two steps it stands for, at sizes where both are whole pixels: resize to cover, crop the centre."""
    noise = np.random.default_rng(4).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(noise).resize((320, 160), Image.Resampling.BICUBIC))
    write_video(tmp_path / "a.mp4", [picture] * 5, fps=Fraction(25), quality=5)
    decoded = Image.fromarray(next(iter(open_clip(tmp_path / "a.mp4"))))
    for size, crop in [((60, 60), None), ((160, 40), None), ((640, 480), None), ((50, 40), (40, 20, 280, 140))]:
        clip = read_clip(
            _row(tmp_path, **({"crop": crop} if crop else {})), replace(SMALL, width=size[0], height=size[1]), start=0
        )
        assert clip.shape == (5, size[1], size[0], 3)
        region = decoded.crop(crop) if crop else decoded
        scale = max(size[0] / region.width, size[1] / region.height)
        whole = region.resize((round(region.width * scale), round(region.height * scale)), Image.Resampling.BILINEAR)
        left, top = (whole.width - size[0]) // 2, (whole.height - size[1]) // 2
        steps = np.asarray(whole.crop((left, top, left + size[0], top + size[1])))
        assert np.abs(clip[0].astype(int) - steps).mean() < 0.5, (size, crop)
        assert np.abs(clip[0].astype(int) - steps[:, ::-1]).mean() > 20


def test_making_smaller_does_not_alias(tmp_path: Path) -> None:
    stripes = np.zeros((64, 320, 3), np.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = 255
    write_video(tmp_path / "a.mp4", [stripes] * 5, fps=Fraction(25), quality=5)
    clip = read_clip(_row(tmp_path), replace(SMALL, width=16, height=4), start=0)
    assert clip.std() < 12, "stripes narrower than a pixel are grey"


@pytest.mark.parametrize("name", [name for name, reason in REASONS.items() if "clip" not in reason])
def test_a_broken_video_is_a_broken_sample(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.mp4"
    BROKEN[name](path)
    if name in {"black", "wrong-fps", "wrong-size"}:
        assert read_clip(_row(tmp_path), SMALL, start=0).shape == (5, HEIGHT, WIDTH, 3), "these can be read"
        return
    with pytest.raises(BrokenSample, match=REASONS[name]) as caught:
        read_clip(_row(tmp_path, frames=[0, 8]), replace(SMALL, frames=8, fps=8), start=0)
    assert str(path) in caught.value.what
    with pytest.raises(BrokenSample, match=REASONS[name]):
        row = _row(tmp_path, references=[{"frame": 7, "box": [0, 0, 9, 9]}])
        read_references(row, row.references)


def test_damage_anywhere_never_ends_in_another_error(tmp_path: Path) -> None:
    write_numbered(tmp_path / "whole.mp4", 12)
    write_image(tmp_path / "whole.png")
    Image.fromarray(numbered_frames(5)[4]).save(tmp_path / "whole.jpg")
    for name in ("whole.mp4", "whole.png", "whole.jpg"):
        whole = (tmp_path / name).read_bytes()
        damaged = tmp_path / f"a{Path(name).suffix}"
        row = _row(tmp_path, video="a.mp4", references=[{"image": damaged.name}])
        broken = 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            data = bytearray(whole[: rng.integers(1, len(whole))] if seed % 2 else whole)
            for _ in range(seed % 5):
                data[rng.integers(len(data))] = rng.integers(256)
            damaged.write_bytes(bytes(data))
            try:
                _ = read_clip(row, SMALL, start=0) if name.endswith("mp4") else read_references(row, row.references)
            except BrokenSample:
                broken += 1
        assert broken >= 20


def _references(folder: Path, *references: dict[str, Any]) -> list[NDArray[np.uint8]]:
    row = _row(folder, references=list(references))
    return read_references(row, row.references)


def test_a_picture_is_shown_on_white(tmp_path: Path) -> None:
    plain = np.zeros((10, 20, 4), np.uint8)
    plain[:, :] = (200, 0, 100, 255)
    plain[:5] = (9, 9, 9, 0)
    plain[5, 0] = (200, 0, 100, 128)
    Image.fromarray(plain).save(tmp_path / "clear.png")
    Image.fromarray(np.full((4, 6), 30_000, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(plain[..., :3]).convert("P").save(tmp_path / "palette.png", transparency=0)
    clear, deep, palette = _references(tmp_path, *({"image": f"{name}.png"} for name in ("clear", "deep", "palette")))
    assert (clear.shape, clear.dtype) == ((10, 20, 3), np.uint8)
    assert (clear[:5] == 255).all(), "what lies behind transparency does not show"
    assert (clear[6:] == (200, 0, 100)).all()
    assert np.abs(clear[5, 0].astype(int) - (227, 127, 177)).max() <= 1
    assert (deep == 117).all() and deep.shape == (4, 6, 3)
    transparent = np.asarray(Image.open(tmp_path / "palette.png")) == 0
    assert transparent.any() and (palette[transparent] == 255).all()


def test_a_part_of_a_frame_is_cut_out(tmp_path: Path) -> None:
    picture = np.full((64, 96, 3), 40, np.uint8)
    picture[16:48, 32:64] = 200
    write_video(tmp_path / "b.mp4", [np.zeros_like(picture)] * 40 + [picture] * 2, quality=5)
    inside = np.zeros((64, 96), bool)
    inside[16:32, 32:64] = True
    place = {"video": "b.mp4", "frame": 40}
    mask = {"size": [64, 96], "counts": run_lengths(inside)}
    small = {"size": [32, 48], "counts": run_lengths(inside[::2, ::2])}
    whole, part, scaled, masked, masked_small = _references(
        tmp_path,
        {**place, "box": [0, 0, 96, 64]},
        {**place, "box": [33, 18, 63, 46]},
        {**place, "box": [16.5, 9, 31.5, 23], "long_side": 48},
        {**place, "box": [30, 14, 66, 50], "mask": mask},
        {**place, "box": [15, 7, 33, 25], "long_side": 48, "mask": small},
    )
    assert whole.shape == (64, 96, 3)
    assert np.abs(whole[:8].astype(int) - 40).max() < 8 and np.abs(whole[20:40, 40:60].astype(int) - 200).max() < 8
    assert part.shape == (28, 30, 3)
    assert part.min() > 180
    assert np.array_equal(scaled, part)
    assert masked.shape == (36, 36, 3)
    assert (masked[18:] == 255).all() and (masked[:2] == 255).all() and (masked[:, :2] == 255).all()
    assert np.abs(masked[3:17, 3:33].astype(int) - 200).max() < 12
    assert np.array_equal(masked_small, masked)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ({"frame": 3, "box": [0, 0, 83, 32]}, r"the box \[0, 0, 83, 32\] does not lie in a frame of 80x32"),
        ({"frame": 3, "box": [0, -3, 80, 32]}, "the box"),
        ({"frame": 3, "box": [9, 0, 9, 20]}, "the box"),
        ({"frame": 3, "box": [9, 5, 9.4, 20]}, "is empty"),
        ({"frame": 3, "box": [0, 0, 80, 32], "long_side": 40}, "does not lie in a frame of 40x16"),
        ({"frame": 3, "box": [0, 0, 1, 1], "long_side": 0}, "long side"),
        ({"frame": 12, "box": [0, 0, 80, 32]}, "frame 12 is wanted, and there are 12"),
        ({"frame": -1, "box": [0, 0, 80, 32]}, "no frame -1"),
        ({"frame": 3, "box": [0, 0, 80, 32], "mask": {"size": [16, 40], "counts": [0, 640]}}, "a mask of 40x16"),
        ({"frame": 3, "box": [0, 0, 80, 32], "mask": {"size": [32, 80], "counts": [5, 5]}}, "add up to 10"),
        ({"frame": 3, "box": [0, 0, 80, 32], "mask": {"size": [32, 80], "counts": "a"}}, "cut short"),
        ({"frame": 3, "box": [0, 0, 80, 32], "mask": {"size": [32, 80], "counts": "ü"}}, "no letter"),
        ({"frame": 3, "box": [0, 0, 40, 32], "mask": {"size": [32, 80], "counts": [2500, 60]}}, "no pixel in the box"),
        ({"image": "b.png"}, "no such file"),
    ],
)
def test_a_reference_that_is_not_there_is_broken(tmp_path: Path, reference: dict[str, Any], reason: str) -> None:
    write_numbered(tmp_path / "a.mp4", 12)
    with pytest.raises(BrokenSample, match=reason):
        _references(tmp_path, reference)


def test_a_frame_of_several_references_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_numbered(tmp_path / "a.mp4", 12)
    write_numbered(tmp_path / "b.mp4", 12)
    reads: list[tuple[str, int]] = []

    def counted(path: Path, frames: list[int], change: Any) -> Any:
        reads.append((path.name, frames[0]))
        return read_frames(path, frames, change)

    monkeypatch.setattr("refeval.training.data.media.read_frames", counted)
    box = [0, 0, 80, 32]
    found = _references(
        tmp_path,
        {"frame": 5, "box": box},
        {"frame": 5, "box": box},
        {"frame": 6, "box": box},
        {"video": "b.mp4", "frame": 5, "box": box},
    )
    assert numbers(found) == [5, 5, 6, 5]
    assert reads == [("a.mp4", 5), ("a.mp4", 6), ("b.mp4", 5)]
