"""``refeval data check``: what is in files of rows, and what is broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from refeval.cli import app
from refeval.errors import BadInput
from refeval.training.data.checking import FileReport, Spread, check_file
from tests.training.data.made import SMALL, row_content, write_image, write_numbered, write_rows

RECIPE = "[data]\nwidth = 80\nheight = 32\nframes = 5\n"


def _check(path: Path, decode: int | None, **changes: Any) -> FileReport:
    return check_file(path, replace(SMALL, **changes), decode=decode, threads=2, watch=lambda rows, *_: rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows of a video of two seconds, three of 150 broken."""
    write_numbered(tmp_path / "a.mp4", 50)
    write_image(tmp_path / "a.png")
    broken = {20: {"video": "gone.mp4"}, 70: {"references": [{"image": "a.mp4"}]}, 140: {"prompt": " "}}
    contents = [
        row_content(
            **{
                "id": f"r{i}",
                "pair": "cross" if i % 3 == 0 else "regular",
                "references": [{"image": "a.png"}] * (1 + i % 2),
                **({"frames": [i % 20, i % 20 + 10]} if i < 100 else {}),
                **broken.get(i, {}),
            }
        )
        for i in range(150)
    ]
    write_rows(tmp_path / "rows.jsonl", contents)
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path


def test_a_report_counts_what_there_is(folder: Path) -> None:
    report = _check(folder / "rows.jsonl", None)
    assert (report.rows, report.decoded) == (150, 150)
    assert report.pairs == {"regular": 100, "cross": 50}
    assert report.references == {1: 75, 2: 75}
    assert report.frames == Spread(least=10, median=10, most=10)
    assert report.seconds == Spread(least=pytest.approx(0.4), median=pytest.approx(0.4), most=pytest.approx(2))
    assert list(report.broken) == ["r20", "r70", "r140"]
    assert "gone.mp4: no such file" in report.broken["r20"]
    assert "a.mp4: UnidentifiedImageError" in report.broken["r70"]
    assert report.broken["r140"] == "the prompt is empty"


def test_some_rows_are_drawn_and_always_the_same_ones(folder: Path) -> None:
    contents = [row_content(id=f"r{i}", video="gone.mp4") for i in range(60)]
    path = write_rows(folder / "gone.jsonl", contents)
    report = _check(path, 12)
    assert (report.decoded, len(report.broken), report.seconds) == (12, 12, None)
    assert list(report.broken) != [f"r{i}" for i in range(12)]
    assert _check(path, 12) == report
    assert _check(path, 100).decoded == 60
    assert _check(path, 0).broken == {}


def test_whether_a_clip_is_long_enough_depends_on_the_recipe(folder: Path) -> None:
    assert len(_check(folder / "rows.jsonl", None, frames=11).broken) == 101


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def test_the_command_ends_as_the_rows_are(folder: Path) -> None:
    rows, small = folder / "rows.jsonl", folder / "small.toml"
    done = _run(rows, "--all", "--config", small, "--json")
    assert done.exit_code == 3
    (found,) = json.loads(done.stdout)["files"]
    assert (found["path"], found["rows"], found["pairs"]) == (str(rows), 150, {"regular": 100, "cross": 50})
    assert list(found["broken"]) == ["r20", "r70", "r140"]
    shown = _run(rows, "--all", "--config", small)
    assert shown.exit_code == 3
    for part in ("regular", "1.5", "1-2", "broken  r20: ", "no such file", "150 rows are of the right format"):
        assert part in shown.stdout
    good = write_rows(folder / "good.jsonl", [row_content()])
    fine = _run(good, "--config", small)
    assert (fine.exit_code, fine.stderr) == (0, "")
    assert "of 1 the clip and the references were decoded" in fine.stdout
    paper = _run(good, "--json")
    assert paper.exit_code == 3
    (found,) = json.loads(paper.stdout)["files"]
    assert "are no clip of 81 frames" in found["broken"]["good.jsonl:1"], "the paper's clips are longer"


def test_another_format_is_an_error_with_its_place(folder: Path) -> None:
    wrong = write_rows(folder / "wrong.jsonl", [row_content(), row_content(promt="A.")])
    done = _run(folder / "rows.jsonl", wrong, "--decode", "0")
    assert isinstance(done.exception, BadInput)
    assert done.exception.exit_code == 2
    assert str(done.exception).startswith(f"{wrong}:2: unknown field 'promt'. Did you mean 'prompt'?")
    assert isinstance(_run(folder / "nowhere.jsonl").exception, BadInput)
