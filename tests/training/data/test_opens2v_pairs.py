"""Cross pairs of OpenS2V-5M as rows: both sides are found wherever they stand in the annotations."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ijson", reason="ijson is not installed (pip install 'refeval[train]')")

from refeval.errors import BadInput
from refeval.training.data.importing import Tally, Videos, write_rows
from refeval.training.data.media import read_references
from refeval.training.data.opens2v_5m import read_opens2v
from refeval.training.data.opens2v_pairs import cross_rows, read_pairs
from refeval.training.data.opens2v_record import FrameNumbers
from refeval.training.data.rows import Row, open_rows
from tests.training.data.made import numbers
from tests.training.data.opens2v_made import DOG, FRAME, keyed, mask_entry, record, subject, write_video

WHOLE = subject("dog", (0, 0, 80, 32))


def _pair(cur: str, aft: str, *, cur_class: str = "1", aft_class: str = "1", frame: int = FRAME) -> dict[str, Any]:
    return {
        "cur_id": cur,
        "aft_id": aft,
        "cur_class_id": cur_class,
        "aft_class_id": aft_class,
        "cur_class_name": "dog",
        "aft_class_name": "dog",
        "text_similarity": 0.9,
        "image_similarity": 0.8,
        "cur_frame_idx": FRAME,
        "aft_frame_idx": frame,
    }


def _import(
    folder: Path,
    records: Mapping[str, Any],
    pairs: Sequence[Mapping[str, Any]],
    *,
    most: int = 1,
    frame_numbers: FrameNumbers = "video",
) -> tuple[list[Row], Tally]:
    """Import ``total_part1.json`` with the pairs in clusters of one; videos ``a.mp4`` to ``d.mp4`` are there."""
    source, cross, out = folder / "total_part1.json", folder / "pairs.json", folder / "rows" / "rows.jsonl"
    source.write_text(keyed(records))
    cross.write_text(json.dumps({str(number): [pair] for number, pair in enumerate(pairs)}))
    for name in "abcd":
        if not (folder / f"{name}.mp4").exists():
            write_video(folder, f"{name}.mp4")
    tally = Tally()
    rows = cross_rows(
        read_opens2v([source], tally, lambda _: None),
        read_pairs([cross], lambda _: None),
        Videos(folder, beside=out),
        tally,
        numbers=frame_numbers,
        most=most,
        folder=out.parent,
    )
    write_rows(rows, out, tally=tally)
    assert [path.name for path in out.parent.iterdir()] == ["rows.jsonl"], "the temporary file is gone"
    return list(open_rows(out)), tally


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_both_sides_are_joined_in_any_order(tmp_path: Path, order: Sequence[str]) -> None:
    dog = subject("dog", (0, 0, 80, 32))
    contents = {
        "a": record(face_cap_qwen="A dog and a cat."),
        "b": record([subject("sofa", (0, 0, 9, 9)), dog], path="b.mp4", frame=7),
        "c": record([dog], path="c.mp4", frame=21, face_cap_qwen=""),
    }
    pairs = [_pair("a", "b", aft_class="2", frame=7), _pair("a", "c", cur_class="2", frame=21)]
    rows, tally = _import(tmp_path, {name: contents[name] for name in order}, pairs)
    assert [(row.id, row.pair, row.prompt) for row in rows] == [("a/1", "cross", ("A dog and a cat.",))]
    assert rows[0].video.resolve() == tmp_path / "a.mp4"
    references = rows[0].references
    assert [one.video.resolve() for one in references if one.video] == [tmp_path / "b.mp4", tmp_path / "c.mp4"]
    assert numbers(read_references(rows[0], references)) == [7, 21]
    assert not tally.left_out


def test_another_frame_of_a_clip_is_cut_out_by_its_mask(tmp_path: Path) -> None:
    masks = {str(FRAME): {"1": mask_entry((0, 0, 40, 32))}, "30": {"1": mask_entry((8, 2, 48, 30))}}
    rows, _ = _import(tmp_path, {"a": record(), "b": record(path="b.mp4", masks=masks)}, [_pair("a", "b", frame=30)])
    assert (rows[0].references[0].frame, rows[0].references[0].box) == (30, (8, 2, 48, 30))


def test_numbers_of_frames_count_from_the_cut_of_their_own_clip(tmp_path: Path) -> None:
    records = {"a": record([WHOLE]), "b": record([WHOLE], path="b.mp4", frame=4, cut=[10, 30])}
    rows, _ = _import(tmp_path, records, [_pair("a", "b", frame=4)], frame_numbers="cut")
    assert rows[0].frames == (0, 40)
    assert numbers(read_references(rows[0], rows[0].references)) == [14]


def test_more_rows_of_a_clip_show_other_partners(tmp_path: Path) -> None:
    records = {name: record([DOG, WHOLE], path=f"{name}.mp4") for name in "abcd"}
    # Subject 1 has three partners, subject 2 has one.
    pairs = [_pair("a", name) for name in "bcd"] + [_pair("a", "b", cur_class="2", aft_class="2"), _pair("b", "a")]
    found = {}
    for most in (1, 2, 5):
        rows, _ = _import(tmp_path, records, pairs, most=most)
        found[most] = [(row.id, "".join(one.video.stem for one in row.references if one.video)) for row in rows]
    assert found[1] == [("a/1", "bb"), ("b/1", "a")]
    assert found[2] == [("a/1", "bb"), ("a/2", "cb"), ("b/1", "a")]
    assert found[5] == [("a/1", "bb"), ("a/2", "cb"), ("a/3", "db"), ("b/1", "a")]


def test_what_cannot_be_used_is_counted_by_reason(tmp_path: Path) -> None:
    records = {
        "a": record(),
        "b": record(path="b.mp4"),
        "c": record(path="nowhere.mp4"),
        "d": record(path="d.mp4", face_cap_qwen=None),
    }
    pairs = [
        _pair("a", "b"),
        _pair("a", "c"),
        _pair("a", "unknown"),
        _pair("a", "a"),
        _pair("a", "b", frame=3),
        _pair("a", "b", aft_class="2"),
        _pair("d", "a"),
        _pair("unknown", "a"),
        _pair("b", "c"),
    ]
    rows, tally = _import(tmp_path, records, pairs, most=9)
    assert [row.id for row in rows] == ["a/1"]
    assert tally.left_out == {
        "the video is missing": 2,
        "the clip of a pair is not annotated": 1,
        "the clip is its own partner": 1,
        "there is no mask in the frame": 2,
    }
    assert tally.skipped == {
        "no prompt": 1,
        "the clip of a pair is not annotated": 1,
        "no partner can be used": 1,
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"0": [{"cur_id": "a", "score": 1}]}', "cur_id, score"),
        ('{"0": [["a", "b"]]}', "list"),
        ('{"0": "a"}', "str"),
    ],
)
def test_pairs_that_are_laid_out_differently_name_what_they_have(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(text)
    with pytest.raises(BadInput, match="cluster 0: a pair is laid out differently") as caught:
        read_pairs([path], lambda _: None)
    assert dict(caught.value.details)["first fields"] == found


def test_pairs_that_are_cut_short_or_none_are_refused(tmp_path: Path) -> None:
    path, text = tmp_path / "pairs.json", json.dumps({"0": [_pair("a", "b")], "1": [_pair("a", "b")]})
    path.write_text(text[:-9])
    with pytest.raises(BadInput, match="is cut short"):
        read_pairs([path], lambda _: None)
    path.write_text("[]")
    with pytest.raises(BadInput, match="no object with entries"):
        read_pairs([path], lambda _: None)
