"""The public format of rows, in files of JSON lines and of Parquet."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refeval.errors import BadInput
from refeval.training.data import row_files
from refeval.training.data.rows import Row, open_rows
from tests.training.data.made import row_content, write_rows

FULL = {
    "id": "a",
    "video": "videos/a.mp4",
    "frames": [30, 150],
    "crop": [0, 10, 1280, 710],
    "prompt": ["A dog runs.", "Ein Hund läuft."],
    "pair": "cross",
    "references": [
        {"image": "references/a.png", "name": "dog"},
        {"video": "/other/b.mp4", "frame": 12, "box": [1, 2.5, 3, 4], "long_side": 768},
        {"frame": 3, "box": [0, 0, 3, 4], "mask": {"size": [3, 2], "counts": "33"}, "name": "ball"},
        {"frame": 3, "box": [0, 0, 3, 4], "mask": {"size": [3, 2], "counts": [3, 3]}},
    ],
}


def _write_parquet(path: Path, rows: list[dict[str, Any]], *, group: int = 1000) -> Path:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (pip install 'refeval[train]')")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
    return path


def test_a_row_has_what_its_line_says(tmp_path: Path) -> None:
    row = open_rows(write_rows(tmp_path / "rows.jsonl", [FULL]))[0]
    assert (row.id, row.pair, row.frames, row.crop) == ("a", "cross", (30, 150), (0, 10, 1280, 710))
    assert row.video == tmp_path / "videos/a.mp4"
    assert row.prompt == ("A dog runs.", "Ein Hund läuft.")
    image, far, text, listed = row.references
    assert (image.image, image.name, image.frame) == (tmp_path / "references/a.png", "dog", None)
    assert (far.video, far.frame, far.box, far.long_side) == (Path("/other/b.mp4"), 12, (1, 2.5, 3, 4), 768)
    assert text.video is None
    assert text.mask is not None and (text.mask.size, text.mask.counts) == ((3, 2), "33")
    assert listed.mask is not None and listed.mask.counts == (3, 3)


def test_what_is_left_out_has_defaults(tmp_path: Path) -> None:
    row = open_rows(write_rows(tmp_path / "rows.jsonl", [row_content(), row_content()]))[1]
    assert (row.id, row.frames, row.crop, row.prompt) == ("rows.jsonl:2", None, None, ("A thing.",))


def test_parquet_says_the_same(tmp_path: Path) -> None:
    # A column of Parquet has one type: one prompt a row, one way of writing masks.
    rows = [
        {**FULL, "id": f"r{i}", "prompt": f"Prompt {i}.", "references": FULL["references"][: 1 + i % 3]}
        for i in range(10)
    ]
    rows[4].pop("frames")
    rows[5].pop("id")
    lines, columns = write_rows(tmp_path / "rows.jsonl", rows), _write_parquet(tmp_path / "rows.parquet", rows, group=3)
    read, same = list(open_rows(lines)), list(open_rows(columns))
    assert same[5].id == "rows.parquet:6"
    assert [row.model_copy(update={"id": ""}) for row in same] == [row.model_copy(update={"id": ""}) for row in read]
    assert open_rows(columns)[9] == same[9]


def _with(**changes: Any) -> dict[str, Any]:
    return {**FULL, **changes}


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        (_with(promt="x"), ("unknown field 'promt'. Did you mean 'prompt'?",)),
        (_with(references=[{"imag": "a.png"}]), ("unknown field 'references.0.imag'. Did you mean 'image'?",)),
        (
            _with(references=[{"frame": 1, "box": [0, 0, 1, 1], "mask": {"size": [1, 1], "count": "1"}}]),
            ("unknown field 'references.0.mask.count'. Did you mean 'counts'?",),
        ),
        ({key: value for key, value in FULL.items() if key != "pair"}, ("field 'pair' is missing",)),
        (_with(pair="crossed"), ("field 'pair'", "'regular' or 'cross'", "'crossed'")),
        (_with(frames=[1.5, 2]), ("field 'frames.0'", "integer")),
        (_with(frames=["1", "2"]), ("field 'frames.0'", "integer")),
        (_with(frames=[1]), ("field 'frames.1' is missing",)),
        (_with(crop=[0, 0, 1, float("nan")]), ("field 'crop.3'", "finite")),
        (_with(prompt=5), ("field 'prompt'", "found   5")),
        (_with(prompt=[]), ("field 'prompt'", "at least 1")),
        (_with(prompt=["a", None]), ("field 'prompt.1'",)),
        (_with(video=None), ("field 'video'",)),
        (_with(references=[]), ("field 'references'", "at least 1")),
        (_with(references=[{"frame": 3}]), ("field 'references.0'", "an 'image', or a 'frame' and a 'box'")),
        (
            _with(references=[{"image": "a", "frame": 3}]),
            ("field 'references.0'", "an 'image' has no 'video', 'frame'"),
        ),
        (
            _with(references=[{"frame": 1, "box": [0, 0, 1, 1], "mask": {"size": [1, 1], "counts": 5}}]),
            ("field 'references.0.mask.counts'", "a text, or a list of whole numbers"),
        ),
        ([FULL], ("not a row", "object")),
    ],
)
def test_another_format_is_an_error_of_file_line_and_field(
    tmp_path: Path, content: Any, messages: tuple[str, ...]
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [FULL, content])
    with pytest.raises(BadInput) as caught:
        open_rows(path)[1]
    assert str(caught.value).startswith(f"{path}:2: ")
    for message in messages:
        assert message in str(caught.value)
    with pytest.raises(BadInput, match=f"^{path}:2: "):
        open_rows(path).by_pair()


def test_broken_json_is_an_error_of_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(FULL).encode() + b'\n\n{"video": \n')
    rows = open_rows(path)
    assert (len(rows), rows[0].id) == (2, "a")
    with pytest.raises(BadInput, match=f"{path}:3: not a row"):
        rows[1]


def test_parquet_names_rows_and_columns(tmp_path: Path) -> None:
    other = _write_parquet(tmp_path / "other.parquet", [row_content(promts=None)])
    with pytest.raises(BadInput, match=r"other\.parquet: unknown field 'promts'\. Did you mean 'prompt'"):
        open_rows(other)
    wrong = _write_parquet(tmp_path / "wrong.parquet", [row_content(), row_content(pair="none")])
    for read in (lambda rows: rows[1], lambda rows: rows.by_pair()):
        with pytest.raises(BadInput, match=r"wrong\.parquet:2: field 'pair'"):
            read(open_rows(wrong))
    without = _write_parquet(tmp_path / "without.parquet", [{k: v for k, v in row_content().items() if k != "pair"}])
    with pytest.raises(BadInput, match=r"without\.parquet:1: field 'pair' is missing"):
        open_rows(without).by_pair()
    (tmp_path / "text.parquet").write_text("rows")
    with pytest.raises(BadInput, match=r"text\.parquet: not a Parquet file"):
        open_rows(tmp_path / "text.parquet")


@pytest.mark.parametrize("name", ["nowhere.jsonl", "rows.json", "empty.jsonl", "blank.jsonl"])
def test_what_is_no_file_of_rows_is_refused(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "rows.json", [FULL])
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.jsonl").write_text("\n\n")
    with pytest.raises(BadInput, match=name):
        open_rows(tmp_path / name)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 24])
@pytest.mark.parametrize("end", ["", "\n", "\r\n\n"])
def test_any_row_is_found_without_the_others(
    tmp_path: Path, chunk: int, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "_SCANNED_BYTES", chunk)
    texts = [json.dumps(row_content(id=f"r{i}", prompt="ü" * (i % 5))) for i in range(12)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(("\n" + "\n\n".join(texts[:6]) + "\r\n" + "\n".join(texts[6:]) + end).encode())
    rows = open_rows(path)
    assert len(rows) == 12
    for index in np.random.default_rng(1).permutation(12):
        assert (rows[index].id, rows[index].prompt) == (f"r{index}", ("ü" * (index % 5),))
    assert [row.id for row in rows] == [f"r{i}" for i in range(12)]
    with pytest.raises(IndexError):
        rows[12]


def test_several_files_are_one_sequence_and_divide_by_kind(tmp_path: Path) -> None:
    kinds = ["regular", "cross", "cross", "regular", "cross", "regular", "cross"]
    contents = [row_content(id=f"r{i}", pair=kind) for i, kind in enumerate(kinds)]
    lines = write_rows(tmp_path / "a.jsonl", contents[:3])
    columns = _write_parquet(tmp_path / "b.parquet", contents[3:5], group=1)
    more = write_rows(tmp_path / "c.jsonl", contents[5:])
    rows = open_rows([lines, columns, more])
    assert rows.paths == (lines, columns, more)
    assert [row.id for row in rows] == [f"r{i}" for i in range(7)]
    assert rows[-1].id == "r6"
    assert [row.id for row in rows[2:6]] == ["r2", "r3", "r4", "r5"]
    parts = rows.by_pair()
    assert [row.id for row in parts["regular"]] == ["r0", "r3", "r5"]
    assert [row.id for row in parts["cross"]] == ["r1", "r2", "r4", "r6"]
    assert [row.id for row in rows[3:].by_pair()["cross"]] == ["r4", "r6"]
    assert list(rows[1:3].by_pair()) == ["cross"]


def test_threads_read_the_same_rows(tmp_path: Path) -> None:
    contents = [row_content(id=f"r{i}") for i in range(60)]
    lines = write_rows(tmp_path / "a.jsonl", contents)
    columns = _write_parquet(tmp_path / "b.parquet", contents, group=4)
    rows = open_rows([lines, columns])
    order = np.random.default_rng(2).permutation(np.tile(np.arange(120), 4))

    def read(index: int) -> Row:
        return rows[index]

    with ThreadPoolExecutor(8) as pool:
        assert [row.id for row in pool.map(read, order)] == [f"r{index % 60}" for index in order]


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    first, second = (write_rows(tmp_path / f"{name}.jsonl", [row_content(id=name)]) for name in "ab")
    assert open_rows(first).digest() == hashlib.sha256(first.read_bytes()).hexdigest()
    both = open_rows([first, second]).digest()
    assert both != open_rows([second, first]).digest()
    write_rows(second, [row_content(id="changed")])
    assert open_rows([first, second]).digest() != both
