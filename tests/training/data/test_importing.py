"""Files of rows from annotations: whole or absent, held against the format, and the command that writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refeval.errors import BadInput
from refeval.training.data.importing import Tally, Videos, sizes, turns, write_rows
from refeval.training.data.rows import open_rows
from tests.guarantees.command import refeval
from tests.training.data.made import row_content
from tests.training.data.opens2v_made import keyed, record, subject, write_video


def _rows(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield row_content(id=str(number), prompt=f"Nummer {number}: grün")


def test_rows_are_written_one_a_line_up_to_the_limit(tmp_path: Path) -> None:
    out, tally = tmp_path / "new" / "rows.jsonl", Tally()
    write_rows(_rows(5), out, tally=tally, limit=3)
    assert tally.rows == 3
    assert [(row.id, row.prompt) for row in open_rows(out)] == [(str(n), (f"Nummer {n}: grün",)) for n in range(3)]
    assert "grün" in out.read_text(encoding="utf-8"), "people read these files"


def test_an_error_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    write_rows(_rows(2), out, tally=Tally())
    before = out.read_bytes()

    def breaking() -> Iterator[dict[str, Any]]:
        yield from _rows(4)
        raise BadInput("the source ends here")

    with pytest.raises(BadInput, match="the source ends here"):
        write_rows(breaking(), out, tally=Tally())
    with pytest.raises(BadInput, match=r"rows\.jsonl would have no row"):
        write_rows([], out, tally=Tally())
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_no_row_is_not_written(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    with pytest.raises(BadInput, match=r"rows\.jsonl:3: unknown field 'fps'"):
        write_rows([*_rows(2), row_content(fps=3)], out, tally=Tally())
    with pytest.raises(BadInput, match=r"does not end in \.jsonl"):
        write_rows(_rows(2), tmp_path / "rows.json", tally=Tally())
    assert not list(tmp_path.iterdir())


def test_half_a_character_does_not_stop_an_import(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    write_rows([row_content(prompt=json.loads('"a \\ud83d dog"'))], out, tally=Tally())
    assert open_rows(out)[0].prompt == ("a ? dog",)


def test_rows_of_a_clip_show_every_subject() -> None:
    one, two, three, cat = ({"frame": number} for number in range(4))
    assert list(turns([[one, two, three], [], [cat]], 9)) == [[one, cat], [two, cat], [three, cat]]
    assert list(turns([[one, two, three], [cat]], 2)) == [[one, cat], [two, cat]]
    assert list(turns([[], []], 9)) == []


def test_paths_lead_to_the_videos_through_links(tmp_path: Path) -> None:
    real = tmp_path / "disk" / "videos"
    write_video(real)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "videos").symlink_to(real)
    out = tmp_path / "link" / "rows.jsonl"
    videos = Videos(tmp_path / "videos", beside=out)
    named = videos.named(videos.find("a.mp4"))
    assert not os.path.isabs(named)  # noqa: PTH117
    assert os.path.samefile(out.parent / named, real / "a.mp4")  # noqa: PTH121


def test_folders_and_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere is not a folder"):
        Videos(tmp_path / "nowhere", beside=tmp_path / "rows.jsonl")
    with pytest.raises(BadInput, match=r"total\.json: no such file"):
        sizes([tmp_path / "total.json"])


def _annotated(folder: Path) -> Path:
    source = folder / "total_part1.json"
    four = [subject(name, (0, 0, width, 32)) for name, width in (("a", 10), ("b", 20), ("c", 30), ("d", 40))]
    source.write_text(keyed({"a": record(four), "b": record(path="b.mp4"), "c": record(face_cap_qwen="")}))
    write_video(folder)
    return source


def test_the_command_imports_checks_and_counts(tmp_path: Path) -> None:
    pytest.importorskip("ijson", reason="ijson is not installed (pip install 'refeval[train]')")
    source, out = _annotated(tmp_path), tmp_path / "rows.jsonl"
    command = ("data", "import", "opens2v-5m", source, "--videos", tmp_path, "--out", out)
    done = refeval(*command, "--json")
    assert done.returncode == 0, done.stderr
    skipped = {"the video is missing": 1, "no prompt": 1}
    assert json.loads(done.stdout) == {"out": str(out), "rows": 1, "skipped": skipped, "left_out": {}}
    assert [one.name for one in open_rows(out)[0].references] == ["b", "c", "d"]
    said = refeval(*command, "--keep-missing", "--subjects", "1", "--area", "0.2", "--aesthetics", "5")
    assert said.returncode == 0, said.stderr
    assert "rows        2 in" in said.stdout
    assert "skipped     1 clips: no prompt" in said.stdout
    assert [[one.name for one in row.references] for row in open_rows(out)] == [["d"], ["dog"]]
    limited = json.loads(refeval(*command, "--keep-missing", "--limit", "1", "--json").stdout)
    assert limited["rows"] == len(open_rows(out)) == 1


def test_the_command_writes_cross_pairs_instead(tmp_path: Path) -> None:
    pytest.importorskip("ijson", reason="ijson is not installed (pip install 'refeval[train]')")
    source, out, cross = _annotated(tmp_path), tmp_path / "rows.jsonl", tmp_path / "pairs.json"
    pair = {"cur_id": "a", "aft_id": "b", "cur_class_id": 1, "aft_class_id": 1, "aft_frame_idx": 12}
    cross.write_text(json.dumps({"0": [pair]}))
    write_video(tmp_path, "b.mp4")
    done = refeval("data", "import", "opens2v-5m", source, "--videos", tmp_path, "--out", out, "--cross", cross)
    assert done.returncode == 0, done.stderr
    assert [(row.id, row.pair) for row in open_rows(out)] == [("a/1", "cross")]


def test_the_command_imports_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (pip install 'refeval[train]')")
    import pyarrow

    write_video(tmp_path)
    write_video(tmp_path, "b.mp4")
    picture = {"vid": "b", "frame_idx": 0.5, "bbox": [0, 0, 768, 300]}
    cross = json.dumps({"dog": {"refer_result": [picture, {**picture, "frame_idx": 0.25}]}})
    clips = [{"vid": "a", "video_caption": "A dog.", "cross_pair": cross}]
    parquet.write_table(pyarrow.Table.from_pylist(clips), tmp_path / "pairs.parquet")
    out = tmp_path / "rows.jsonl"
    command = ("data", "import", "phantom-data", tmp_path / "pairs.parquet", "--videos", tmp_path, "--out", out)
    assert refeval(*command, "--per-clip", "5").returncode == 0
    assert [row.references[0].frame for row in open_rows(out)] == [20, 10]


def test_the_command_ends_with_a_message_and_no_file(tmp_path: Path) -> None:
    pytest.importorskip("ijson", reason="ijson is not installed (pip install 'refeval[train]')")
    source, out = _annotated(tmp_path), tmp_path / "rows" / "rows.jsonl"
    source.write_bytes(source.read_bytes()[:-5])
    done = refeval("data", "import", "opens2v-5m", source, "--videos", tmp_path, "--out", out)
    assert done.returncode == 2
    assert done.stderr.startswith(f"refeval: {source} is cut short")
    assert "Traceback" not in done.stderr
    assert not list(out.parent.iterdir())
