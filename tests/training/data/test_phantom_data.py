"""Annotations of Phantom-Data as rows of cross pairs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed (pip install 'refeval[train]')")

import pyarrow
from pyarrow import parquet

from refeval.errors import BadInput
from refeval.training.data.importing import Tally, Videos, write_rows
from refeval.training.data.media import read_references
from refeval.training.data.phantom_data import phantom_rows
from refeval.training.data.rows import Row, open_rows
from tests.guarantees.broken_clips import write_video as write_any_video
from tests.training.data.made import numbers
from tests.training.data.opens2v_made import write_video
from tests.training.data.peak import needs_peak

ROOT = Path(__file__).parents[3]

#: The whole frame of a video of 80x32, where its long side is 768.
EVERYTHING = (0.0, 0.0, 768.0, 307.2)


def _picture(vid: str, frame: float = 0.5, box: Sequence[float] = EVERYTHING) -> dict[str, Any]:
    return {"vid": vid, "frame_idx": frame, "bbox": list(box)}


def _subject(*pictures: Any) -> dict[str, Any]:
    return {"obj_from_tgt_video": {"frame_idx": 0.1, "bbox": [0.0, 0.0, 9.0, 9.0]}, "refer_result": list(pictures)}


def _clip(vid: str = "a", cross: Any = None, caption: Any = "A dog runs.") -> dict[str, Any]:
    cross = {"a brown dog": _subject(_picture("b"))} if cross is None else cross
    return {"vid": vid, "video_caption": caption, "cross_pair": json.dumps(cross) if isinstance(cross, dict) else cross}


def _write(path: Path, clips: Sequence[Mapping[str, Any]], schema: Any = None) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(list(clips), schema=schema), path, row_group_size=3)
    return path


def _import(
    folder: Path, sources: Sequence[Path], *, most: int = 1, keep_missing: bool = False
) -> tuple[list[Row], Tally]:
    """Import with videos of 40 frames named a to d, and one of 10 frames named e."""
    for name, count in (("a", 40), ("b", 40), ("c", 40), ("d", 40), ("e", 10)):
        if not (folder / f"{name}.mp4").exists():
            write_video(folder, f"{name}.mp4", count)
    out, tally = folder / "rows" / "rows.jsonl", Tally()
    videos = Videos(folder, beside=out, keep_missing=keep_missing)
    write_rows(phantom_rows(sources, videos, tally, lambda _: None, most=most), out, tally=tally)
    return list(open_rows(out)), tally


def test_a_row_shows_every_subject_with_its_surroundings(tmp_path: Path) -> None:
    cross = {"a dog": _subject(_picture("b", 0.5)), "the hat": _subject(_picture("e", 0.99)), "x": _subject()}
    rows, tally = _import(tmp_path, [_write(tmp_path / "filtered.parquet", [_clip(cross=cross)])])
    assert json.loads((tmp_path / "rows/rows.jsonl").read_text()) == {
        "id": "a/1",
        "video": "../a.mp4",
        "prompt": ["A dog runs."],
        "pair": "cross",
        "references": [
            {"video": "../b.mp4", "frame": 20, "box": [*EVERYTHING], "long_side": 768, "name": "a dog"},
            {"video": "../e.mp4", "frame": 9, "box": [*EVERYTHING], "long_side": 768, "name": "the hat"},
        ],
    }
    assert numbers(read_references(rows[0], rows[0].references)) == [20, 9]
    assert (tally.rows, not tally.skipped, not tally.left_out) == (1, True, True)


def test_boxes_are_those_of_a_frame_with_a_long_side_of_768(tmp_path: Path) -> None:
    # A video of 96x64 with one white rectangle, 8 to 40 across and 16 to 48 down: eight times that in a frame of 768.
    frames = np.zeros((10, 64, 96, 3), np.uint8)
    frames[:, 16:48, 8:40] = 255
    write_any_video(tmp_path / "white.mp4", frames, fps=Fraction(10))
    cross = {"a square": _subject(_picture("white", 0.0, (64, 128, 320, 384)))}
    rows, _ = _import(tmp_path, [_write(tmp_path / "filtered.parquet", [_clip(cross=cross)])])
    picture = read_references(rows[0], rows[0].references)[0]
    assert picture.shape == (32, 32, 3)
    assert picture.min() > 200


@pytest.mark.parametrize(("share", "frame"), [(0.0, 0), (0.024, 0), (0.025, 1), (0.999, 39), (1.0, 39)])
def test_a_share_of_the_frames_is_rounded_down(tmp_path: Path, share: float, frame: int) -> None:
    cross = {"a dog": _subject(_picture("b", share))}
    rows, _ = _import(tmp_path, [_write(tmp_path / "filtered.parquet", [_clip(cross=cross)])])
    assert rows[0].references[0].frame == frame


def test_frames_are_counted_where_the_header_does_not_say(tmp_path: Path) -> None:
    write_video(tmp_path, "made.mp4", 40)
    frames = np.zeros((12, 32, 80, 3), np.uint8)
    write_any_video(tmp_path / "no-header.mp4", frames, fps=Fraction(10), container="matroska")
    cross = {"a dog": _subject(_picture("no-header", 0.5))}
    rows, _ = _import(tmp_path, [_write(tmp_path / "filtered.parquet", [_clip(cross=cross)])])
    assert rows[0].references[0].frame == 6


def test_text_structs_and_maps_hold_the_same_pairs(tmp_path: Path) -> None:
    clips = [_clip("a"), _clip("c", {"two cats": _subject(_picture("b", 0.25), _picture("d"))})]
    told = [{**clip, "cross_pair": json.loads(clip["cross_pair"])} for clip in clips]
    picture = pyarrow.struct(
        [("vid", pyarrow.string()), ("frame_idx", pyarrow.float64()), ("bbox", pyarrow.list_(pyarrow.float64()))]
    )
    subject = pyarrow.struct([("refer_result", pyarrow.list_(picture))])
    schema = pyarrow.schema(
        [
            ("vid", pyarrow.string()),
            ("video_caption", pyarrow.string()),
            ("cross_pair", pyarrow.map_(pyarrow.string(), subject)),
        ]
    )
    maps = [
        {
            **clip,
            "cross_pair": [(name, {"refer_result": one["refer_result"]}) for name, one in clip["cross_pair"].items()],
        }
        for clip in told
    ]
    found = []
    for number, (rows, layout) in enumerate([(clips, None), (told, None), (maps, schema)]):
        imported, tally = _import(tmp_path, [_write(tmp_path / f"{number}.parquet", rows, layout)])
        assert not tally.skipped
        found.append(imported)
    assert [[one.name for one in row.references] for row in found[0]] == [["a brown dog"], ["two cats"]]
    assert found[0] == found[1] == found[2]


def test_more_rows_of_a_clip_show_other_pictures(tmp_path: Path) -> None:
    cross = {"dog": _subject(_picture("b"), _picture("c")), "hat": _subject(_picture("d"))}
    source = _write(tmp_path / "filtered.parquet", [_clip(cross=cross)])
    found = {}
    for most in (1, 3):
        rows, _ = _import(tmp_path, [source], most=most)
        found[most] = ["".join(one.video.stem for one in row.references if one.video) for row in rows]
    assert found == {1: ["bd"], 3: ["bd", "cd"]}


def _fields(content: Any) -> dict[str, Any]:
    return {"dog": _subject(_picture("b"), content)}


@pytest.mark.parametrize(
    ("cross", "reason"),
    [
        (_fields(_picture("a")), "the clip is its own partner"),
        (_fields(_picture("b", 1.5)), "a picture is laid out differently: frame_idx; it has bbox, frame_idx, vid"),
        (_fields({"id": "b", "box": []}), "a picture is laid out differently: vid; it has box, id"),
        (_fields("b"), "a picture is laid out differently: all of it; it has str"),
        (_fields(_picture("b", 0.5, (9, 9, 9, 20))), "the box is empty"),
        (_fields(_picture("nowhere")), "the video is missing"),
        (_fields(_picture("broken")), "the video of a picture cannot be read"),
    ],
)
def test_a_picture_that_cannot_be_used_is_left_out(tmp_path: Path, cross: dict[str, Any], reason: str) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    rows, tally = _import(tmp_path, [_write(tmp_path / "filtered.parquet", [_clip(cross=cross)])], most=9)
    assert [len(row.references) for row in rows] == [1]
    assert (tally.left_out, not tally.skipped) == ({reason: 1}, True)


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        (_clip(caption=""), "no prompt"),
        (_clip(caption=None), "no prompt"),
        (_clip("nowhere"), "the video is missing"),
        (_clip("../outside"), "the video is missing"),
        (_clip(cross={}), "no picture of a subject can be used"),
        (_clip(cross={"dog": _subject(_picture("a"))}), "no picture of a subject can be used"),
        (_clip(cross={"dog": {"refer": []}}), "a subject has no list 'refer_result', but refer"),
        (_clip(cross="{'dog': 1}"), "cross_pair is text, but not JSON"),
        (_clip(cross="[1]"), "cross_pair is no object: list"),
    ],
)
def test_a_clip_that_cannot_be_used_is_skipped(tmp_path: Path, clip: dict[str, Any], reason: str) -> None:
    write_video(tmp_path, "outside.mp4")
    rows, tally = _import(tmp_path / "videos", [_write(tmp_path / "filtered.parquet", [clip, _clip("c")])])
    assert [row.id for row in rows] == ["c/1"]
    assert tally.skipped == {reason: 1}


def test_clips_that_are_missing_may_be_kept_but_not_their_references(tmp_path: Path) -> None:
    clips = [_clip("later"), _clip("c", {"dog": _subject(_picture("later"))})]
    rows, tally = _import(tmp_path, [_write(tmp_path / "filtered.parquet", clips)], keep_missing=True)
    assert [row.video.resolve() for row in rows] == [tmp_path / "later.mp4"]
    assert tally.left_out == {"the video of a picture is missing, so its frames cannot be counted": 1}


def test_every_group_of_every_file_is_read_and_the_bytes_are_counted(tmp_path: Path) -> None:
    meta = _write(tmp_path / "meta.parquet", [{"vid": "a", "url": "x", "timestamp": "y"}])
    sources = [_write(tmp_path / f"{name}.parquet", [_clip(name)] * 7) for name in "ac"]
    seen: list[int] = []
    write_video(tmp_path, "a.mp4")
    write_video(tmp_path, "b.mp4")
    write_video(tmp_path, "c.mp4")
    tally = Tally()
    videos = Videos(tmp_path, beside=tmp_path / "rows.jsonl")
    rows = list(phantom_rows([meta, *sources], videos, tally, seen.append, most=1))
    assert [row["id"] for row in rows] == ["a/1"] * 7 + ["c/1"] * 7
    assert sum(seen) == sum(source.stat().st_size for source in sources)


def test_a_file_that_is_cut_short_or_damaged_leaves_nothing(tmp_path: Path) -> None:
    content = _write(tmp_path / "whole.parquet", [_clip()] * 9).read_bytes()
    source = tmp_path / "filtered.parquet"
    for size in (0, 3, len(content) // 2, len(content) - 1):
        source.write_bytes(content[:size])
        with pytest.raises(BadInput, match=r"filtered\.parquet is cut short, or is not Parquet") as caught:
            _import(tmp_path, [source])
        assert dict(caught.value.details)["size"] == f"{size:,} bytes"
    source.write_bytes(content[:4] + b"\xff" * 400 + content[404:])
    with pytest.raises(BadInput, match="is damaged") as caught:
        _import(tmp_path, [source])
    assert dict(caught.value.details)["read"] == "0 of 9 rows"
    assert not (tmp_path / "rows").exists() or not list((tmp_path / "rows").iterdir())


def test_unknown_columns_are_named(tmp_path: Path) -> None:
    source = _write(tmp_path / "meta.parquet", [{"vid": "a", "url": "x", "timestamp": "y"}])
    with pytest.raises(BadInput, match="no file has the columns") as caught:
        _import(tmp_path, [source])
    assert dict(caught.value.details)[str(source)] == "vid, url, timestamp"


_GROWTH = """
import sys
from pathlib import Path
from refeval.training.data.importing import Tally, Videos
from refeval.training.data.phantom_data import phantom_rows
from tests.training.data.peak import peak_kilobytes

folder, growth = Path(sys.argv[1]), []
for name in ("small", "large"):
    tally = Tally()
    videos = Videos(folder, beside=folder / "rows.jsonl", keep_missing=True)
    assert not list(phantom_rows([folder / f"{name}.parquet"], videos, tally, lambda _: None, most=1))
    growth.append(peak_kilobytes())
print(tally.skipped.total(), growth[1] - growth[0])
"""


@needs_peak
def test_memory_does_not_grow_with_a_group_of_rows(tmp_path: Path) -> None:
    long = np.random.default_rng(0).bytes(800).hex()
    small = pyarrow.Table.from_pylist([_clip(str(number), {long: _subject()}, caption=long) for number in range(50)])
    parquet.write_table(small, tmp_path / "small.parquet")
    # One group, as pandas writes it; neither compressed nor a dictionary, since the texts are alike.
    large = pyarrow.concat_tables([small] * 500)
    parquet.write_table(large, tmp_path / "large.parquet", compression="none", use_dictionary=False)
    assert parquet.ParquetFile(tmp_path / "large.parquet").metadata.num_row_groups == 1
    assert (tmp_path / "large.parquet").stat().st_size > 80_000_000
    command = [sys.executable, "-c", _GROWTH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == 25_000
    # Measured: 31 MB; 100 MB where columns are read whole.
    assert kilobytes < 60_000, "the group has 80 MB"
