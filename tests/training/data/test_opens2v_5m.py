"""Annotations of OpenS2V-5M as rows of regular pairs: what is taken, what is counted, and what the rows then show."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ijson", reason="ijson is not installed (pip install 'refeval[train]')")

from refeval.errors import BadInput, MissingPrerequisite
from refeval.training.data.importing import Tally, Videos, write_rows
from refeval.training.data.masks import decode_mask
from refeval.training.data.media import read_references
from refeval.training.data.opens2v_5m import SubjectRule, read_opens2v, regular_rows
from refeval.training.data.opens2v_record import FrameNumbers
from refeval.training.data.rows import Mask, Row, open_rows
from tests.training.data.made import numbers
from tests.training.data.opens2v_made import (
    DOG,
    FRAME,
    coco_text,
    filled,
    keyed,
    mask_entry,
    record,
    subject,
    write_video,
)
from tests.training.data.peak import needs_peak

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Imported:
    rows: list[Row]
    tally: Tally


def _import(
    folder: Path,
    records: Mapping[str, Any] | str,
    *,
    rule: SubjectRule | None = None,
    frame_numbers: FrameNumbers = "video",
    keep_missing: bool = False,
) -> Imported:
    """Import one file ``total_part1.json`` with ``a.mp4`` beside it."""
    source, out = folder / "total_part1.json", folder / "rows" / "rows.jsonl"
    source.write_text(records if isinstance(records, str) else keyed(records))
    if not (folder / "a.mp4").exists():
        write_video(folder)
    tally = Tally()
    read = read_opens2v([source], tally, lambda _: None)
    videos = Videos(folder, beside=out, keep_missing=keep_missing)
    rows = regular_rows(read, videos, tally, rule=rule or SubjectRule(), numbers=frame_numbers)
    write_rows(rows, out, tally=tally)
    return Imported(list(open_rows(out)), tally)


def _names(rows: Sequence[Row]) -> list[list[str]]:
    return [[reference.name for reference in row.references] for row in rows]


def test_the_text_of_masks_is_that_of_coco() -> None:
    pixels = np.random.default_rng(3).random((40, 30)) > 0.7
    assert np.array_equal(decode_mask(Mask(size=(40, 30), counts=coco_text(pixels))), pixels)


@pytest.mark.parametrize("layout", ["keyed", "array", "following", "lines", "keyed lines", "indented"])
def test_every_layout_holds_the_same_records(tmp_path: Path, layout: str) -> None:
    first, second = record(), record(path="sub/b.mp4", face_cap_qwen=["A dog.", "One dog.", " "])
    write_video(tmp_path, "sub/b.mp4")
    text = {
        "keyed": keyed({"a": first, "b": second}),
        "array": json.dumps([first, second]),
        "following": json.dumps(first) + json.dumps(second),
        "lines": f"{json.dumps(first)}\n{json.dumps(second)}\n",
        "keyed lines": f"{keyed({'a': first})}\n{keyed({'b': second})}",
        "indented": json.dumps({"a": first, "b": second}, indent=4),
    }[layout]
    imported = _import(tmp_path, text)
    assert [row.id for row in imported.rows] == ["a", "b"]
    assert [row.prompt for row in imported.rows] == [("A dog runs.",), ("A dog.", "One dog.")]
    assert [row.video.resolve() for row in imported.rows] == [tmp_path / "a.mp4", tmp_path / "sub/b.mp4"]
    assert (imported.tally.rows, not imported.tally.skipped) == (2, True)


def test_a_row_shows_the_subject_of_the_annotated_frame_on_white(tmp_path: Path) -> None:
    masks = {str(FRAME): {"1": mask_entry((0, 0, 80, 16))}}
    row = _import(tmp_path, {"a": record([subject("dog", (0, 0, 80, 32))], masks=masks)}).rows[0]
    line = json.loads((tmp_path / "rows/rows.jsonl").read_text())
    assert line == {
        "id": "a",
        "video": "../a.mp4",
        "frames": [0, 40],
        "prompt": ["A dog runs."],
        "pair": "regular",
        "references": [
            {
                "frame": FRAME,
                "box": [0, 0, 80, 32],
                "mask": {"size": [32, 80], "counts": masks["12"]["1"]["counts"]},
                "name": "dog",
            }
        ],
    }
    picture = read_references(row, row.references)[0]
    assert numbers([picture[:16]]) == [FRAME]
    assert (picture[16:] == 255).all()


# Of 80x32 pixels; a tenth is 256.
@pytest.mark.parametrize(
    ("one", "taken"),
    [
        (subject("x", (0, 0, 32, 8), aes=4.5, gme=0.1), True),
        (subject("x", (0, 0, 32, 8), aes=4.49, gme=0.6), True),
        (subject("x", (0, 0, 32, 8), aes=4.49, gme=0.59), False),
        (subject("x", (0, 0, 31, 8)), False),
        (subject("x", (0, 0, 32, 8), aes=None, gme=0.6), True),
        (subject("x", (0, 0, 32, 8), aes=None, gme=None), False),
        # Only what lies in the frame counts.
        ({**subject("x", (0, 0, 32, 8)), "bbox": [-20, 0, 20, 8]}, False),
    ],
)
def test_a_subject_is_good_and_large_enough(tmp_path: Path, one: dict[str, Any], taken: bool) -> None:
    imported = _import(tmp_path, {"a": record([one, DOG])})
    assert _names(imported.rows) == [["x", "dog"] if taken else ["dog"]]


def test_of_four_subjects_the_three_largest_stay_in_their_order(tmp_path: Path) -> None:
    widths = {"cup": 30, "cat": 20, "hat": 50, "man": 40}
    subjects = [subject(name, (0, 0, width, 32)) for name, width in widths.items()]
    assert _names(_import(tmp_path, {"a": record(subjects)}).rows) == [["cup", "hat", "man"]]
    two = SubjectRule(most=2)
    assert _names(_import(tmp_path, {"a": record(subjects)}, rule=two).rows) == [["hat", "man"]]
    large = SubjectRule(area=0.5)
    assert _names(_import(tmp_path, {"a": record(subjects)}, rule=large).rows) == [["hat", "man"]]
    strict = SubjectRule(aesthetics=6, match=0.9)
    subjects[1]["aes_score"], subjects[3]["gme_score"] = 6.5, 0.95
    assert _names(_import(tmp_path, {"a": record(subjects)}, rule=strict).rows) == [["cat", "man"]]


def test_the_names_decide_which_mask_is_whose(tmp_path: Path) -> None:
    dog, man = subject("dog", (0, 0, 40, 32)), subject("man", (40, 0, 80, 32))
    masks = {str(FRAME): {"1": mask_entry((41, 1, 79, 31)), "2": mask_entry((1, 1, 39, 31))}}
    turned = _import(tmp_path, {"a": record([dog, man], names=["man", "dog"], masks=masks)}).rows[0]
    assert [decode_mask(one.mask).any(0).argmax() for one in turned.references if one.mask] == [1, 41]
    # Of two men each has the mask of his number, and a third one none.
    men = [subject("man", (0, 0, 40, 32)), subject("man", (40, 0, 80, 32)), subject("man", (0, 0, 80, 32))]
    imported = _import(tmp_path, {"a": record(men, names=["man", "man"])})
    assert [one.box for one in imported.rows[0].references] == [(0, 0, 40, 32), (40, 0, 80, 32)]
    assert imported.tally.left_out == {"no mask is surely that of the subject": 1}
    # Nor has the first of two the only mask of that name, which is the second one's.
    imported = _import(tmp_path, {"a": record(men[:2], names=["dog", "man"])})
    assert [one.box for one in imported.rows[0].references] == [(40, 0, 80, 32)]


def test_boxes_and_masks_of_a_crop_are_moved_into_the_frame(tmp_path: Path) -> None:
    box, inside = (0, 0, 30, 20), (10, 0, 30, 20)
    masks = {str(FRAME): {"1": mask_entry(inside, size=(20, 60))}}
    crop = {"crop": [16, 76, 8, 28]}
    row = _import(tmp_path, {"a": record([subject("dog", box)], size=(20, 60), masks=masks, **crop)}).rows[0]
    assert row.crop == (16, 8, 76, 28)
    reference = row.references[0]
    assert reference.box == (16, 8, 46, 28)
    assert reference.mask is not None
    assert np.array_equal(decode_mask(reference.mask), filled((26, 8, 46, 28)))
    # In a frame of the video's size nothing is moved.
    row = _import(tmp_path, {"a": record([subject("dog", (16, 8, 46, 28))], **crop)}).rows[0]
    assert (row.crop, row.references[0].box) == ((16, 8, 76, 28), (16, 8, 46, 28))


def test_a_mask_that_fills_the_corner_of_a_frame_begins_with_no_pixel_outside(tmp_path: Path) -> None:
    masks = {str(FRAME): {"1": mask_entry((0, 0, 60, 20), size=(20, 60))}}
    content = record([subject("dog", (0, 0, 30, 20))], size=(20, 60), masks=masks, crop=[0, 60, 0, 20])
    mask = _import(tmp_path, {"a": content}).rows[0].references[0].mask
    assert mask is not None
    assert np.array_equal(decode_mask(mask), filled((0, 0, 60, 20)))


@pytest.mark.parametrize(
    ("frame_numbers", "annotated", "frames", "shown"),
    [("video", 14, (10, 30), 14), ("cut", 4, (10, 30), 14), ("file", 4, None, 4)],
)
def test_numbers_of_frames_count_what_is_said(
    tmp_path: Path, frame_numbers: FrameNumbers, annotated: int, frames: tuple[int, int] | None, shown: int
) -> None:
    whole = subject("dog", (0, 0, 80, 32))
    content = {"a": record([whole], frame=annotated, cut=[10, 30])}
    row = _import(tmp_path, content, frame_numbers=frame_numbers).rows[0]
    assert row.frames == frames
    assert numbers(read_references(row, row.references)) == [shown]


@pytest.mark.parametrize(
    ("frame_numbers", "annotated"), [("video", 9), ("video", 30), ("cut", 20), ("file", 20), ("file", -1)]
)
def test_a_frame_outside_of_the_cut_is_counted(tmp_path: Path, frame_numbers: FrameNumbers, annotated: int) -> None:
    content = {"a": record(frame=annotated, cut=[10, 30]), "b": record(cut=[0, 40])}
    imported = _import(tmp_path, content, frame_numbers=frame_numbers)
    assert [row.id for row in imported.rows] == ["b"]
    assert imported.tally.left_out == {"the annotated frame is outside of the cut": 1}


SMALLER = "the mask has another size than the annotated frame"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (record(face_cap_qwen=""), "no prompt"),
        (record(face_cap_qwen=None), "no prompt"),
        (record(face_cap_qwen=[]), "no prompt"),
        (record([]), "no subject is good and large enough"),
        (record([subject("dog", (0, 0, 9, 9))]), "no subject is good and large enough"),
        (record(masks={}), "there is no mask in the frame"),
        (record(masks={"11": {"1": mask_entry((0, 0, 40, 32))}}), "there is no mask in the frame"),
        (record(masks={"12": {"1": mask_entry((0, 0, 40, 30), size=(30, 80))}}), SMALLER),
        (record(masks={"12": {"1": {"size": [32, 80]}}}), "the mask is laid out differently: counts"),
        (record(path="b.mp4"), "the video is missing"),
        (record(path="."), "the video is missing"),
        (record(path="a.mp4\0"), "the video is missing"),
        (record(path="x" * 5000), "the video is missing"),
        (record(size=(16, 40)), "the annotated frame has neither the size of the video nor that of the crop"),
        (record(path=None), "the record is laid out differently: metadata.path"),
        (
            record([{**DOG, "bbox": [1, 2]}], masks={}),
            "the record is laid out differently: annotation.ann_frame_data.annotations.bbox",
        ),
        ({"metadata": 3}, "the record is laid out differently: metadata"),
        (3, "the record is laid out differently: no object"),
    ],
)
def test_what_cannot_be_used_is_counted_by_reason(tmp_path: Path, content: Any, reason: str) -> None:
    imported = _import(tmp_path, {"good": record(), "bad": content})
    assert [row.id for row in imported.rows] == ["good"]
    assert reason in {*imported.tally.skipped, *imported.tally.left_out}
    assert sum(imported.tally.skipped.values()) == 1


def test_videos_are_found_where_parts_were_unpacked_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    write_video(folder, "total_part1/deep/b.mp4")
    write_video(folder, "c.mp4")
    write_video(tmp_path, "secret.mp4")
    paths = {"b": "deep/b.mp4", "c": "/elsewhere/c.mp4", "out": "../secret.mp4", "in": "x/../../secret.mp4"}
    source = tmp_path / "total_part1.json"
    source.write_text(keyed({name: record(path=path) for name, path in paths.items()}))
    tally, out = Tally(), tmp_path / "rows.jsonl"
    records = read_opens2v([source], tally, lambda _: None)
    videos = Videos(folder, beside=out)
    write_rows(regular_rows(records, videos, tally, rule=SubjectRule(), numbers="video"), out, tally=tally)
    found = {row.id: row.video for row in open_rows(out)}
    assert found == {"b": folder / "total_part1/deep/b.mp4", "c": folder / "c.mp4"}
    assert tally.skipped == {"the video is missing": 2}


def test_missing_videos_may_be_kept(tmp_path: Path) -> None:
    content = {"b": record(path="deep/b.mp4"), "c": record(path="../c.mp4")}
    rows = _import(tmp_path, content, keep_missing=True).rows
    assert [row.video.resolve() for row in rows] == [tmp_path / "deep/b.mp4", tmp_path / "c.mp4"]


def test_a_file_that_is_cut_short_names_where_it_ends_and_leaves_nothing(tmp_path: Path) -> None:
    for layout in (keyed({"a": record(), "b": record()}), json.dumps([record(), record()]), json.dumps(record()) * 2):
        for size, whole in ((1, 0), (len(layout) // 4, 0), (len(layout) * 3 // 4, 1), (len(layout) - 1, None)):
            with pytest.raises(BadInput) as caught:
                _import(tmp_path, layout[:size])
            assert "total_part1.json is cut short" in caught.value.what
            details = dict(caught.value.details)
            assert details["stops"] == f"byte {size:,}, where the file ends"
            if whole is not None:
                assert details["read"] == f"{whole} whole records"
            assert not list((tmp_path / "rows").iterdir())


def test_what_is_not_json_names_the_bytes_and_the_reason(tmp_path: Path) -> None:
    many = {str(number): record() for number in range(400)}
    text = keyed(many)
    place = text.index("5.1", 150_000)
    damaged = f"{text[:place]}NaN{text[place + 3 :]}"
    with pytest.raises(BadInput, match="is not JSON") as caught:
        _import(tmp_path, damaged)
    details = dict(caught.value.details)
    assert details["stops"] == "between bytes 131,072 and 196,608"
    assert "invalid" in details["reason"]
    whole = sum(len(json.dumps({name: content})) for name, content in many.items()) // 400
    assert int(details["read"].split()[0]) == pytest.approx(place // whole, abs=1)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("{}", "none"),
        ("[]", "none"),
        ('"metadata"', "none"),
        (json.dumps({"data": [record()]}), "data"),
        (json.dumps({"version": 1, "data": {"all": {"a": record()}}}), "version, data, all"),
        (json.dumps([{"bos_url": "x", "video_id": "y", "ref_meta": {"annotation": 1}}]), "bos_url, video_id, ref_meta"),
    ],
)
def test_an_unknown_layout_names_the_first_fields(tmp_path: Path, text: str, first: str) -> None:
    with pytest.raises(BadInput, match="layout of these annotations is not known") as caught:
        _import(tmp_path, text)
    assert dict(caught.value.details)["first fields"] == first
    assert not list((tmp_path / "rows").iterdir())


def test_nothing_to_write_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"rows\.jsonl would have no row") as caught:
        _import(tmp_path, {"a": record(face_cap_qwen=""), "b": record(masks={})})
    assert dict(caught.value.details).keys() == {"skipped", "left out"}
    texts = [text for _, text in caught.value.details]
    assert "1  no prompt" in texts
    assert "1  there is no mask in the frame" in texts


def test_every_byte_is_counted_once(tmp_path: Path) -> None:
    sources = [tmp_path / "one.json", tmp_path / "two.json"]
    sources[0].write_text(keyed({str(number): record() for number in range(300)}))
    sources[1].write_text(json.dumps([record()]))
    seen: list[int] = []
    assert len(list(read_opens2v(sources, Tally(), seen.append))) == 301
    assert sum(seen) == sum(source.stat().st_size for source in sources)
    assert len(seen) > 3, "a large file is told of on the way"


def test_without_the_parser_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ijson", None)
    with pytest.raises(MissingPrerequisite, match=r"pip install 'refeval\[train\]'"):
        _import(tmp_path, {"a": record()})


_GROWTH = """
import sys
from pathlib import Path
from refeval.training.data.importing import Tally, Videos, write_rows
from refeval.training.data.opens2v_5m import SubjectRule, read_opens2v, regular_rows
from tests.training.data.peak import peak_kilobytes

def run(source):
    tally, out = Tally(), Path(sys.argv[1]) / "rows.jsonl"
    records = read_opens2v([source], tally, lambda _: None)
    videos = Videos(source.parent, beside=out, keep_missing=True)
    write_rows(regular_rows(records, videos, tally, rule=SubjectRule(), numbers="video"), out, tally=tally)
    return tally.rows, peak_kilobytes()

_, before = run(Path(sys.argv[1]) / "small.json")
rows, after = run(Path(sys.argv[1]) / "large.json")
print(rows, after - before)
"""


@needs_peak
@pytest.mark.parametrize("layout", ["keyed", "array", "following"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, layout: str) -> None:
    long = {str(frame): {"1": mask_entry((0, 0, 40, 32))} for frame in range(150)}
    content = json.dumps(record(masks=long))
    opening, between, closing = {"keyed": ("{", ",", "}"), "array": ("[", ",", "]"), "following": ("", "", "")}[layout]
    for name, size in (("small.json", 1), ("large.json", 60_000_000)):
        with (tmp_path / name).open("w") as file:
            file.write(opening)
            for number in range(-(-size // len(content))):
                key = f'"{number}": ' if layout == "keyed" else ""
                file.write((between if number else "") + key + content)
            file.write(closing)
    command = [sys.executable, "-c", _GROWTH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == -(-60_000_000 // len(content))
    assert kilobytes < 30_000, "the file has 60 MB"
