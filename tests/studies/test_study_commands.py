"""``refeval study`` from runs to the report, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refeval.studies.making import StudyRequest, make_study
from refeval.studies.study import StudyFolder
from tests.guarantees.command import refeval
from tests.studies.sheet import export, vote


def test_make_then_tally_from_exported_files(arms: tuple[Path, Path], tmp_path: Path) -> None:
    study, votes = tmp_path / "study", tmp_path / "votes"
    make = (
        "study",
        "make",
        "--arms",
        f"{arms[0]},{arms[1]}",
        "--cases",
        "3",
        "--raters",
        "2",
        "--out",
        study,
        "--json",
    )
    made = json.loads(refeval(*make).stdout)
    assert (made["raters"], made["power"]["votes"], made["power"]["cases"]) == (2, 6, 3)
    folder = StudyFolder(study)
    nothing = refeval("study", "tally", study)
    assert nothing.returncode == 2 and "has no vote yet" in nothing.stderr
    votes.mkdir()
    for rater, screens in folder.screens.items():
        items = list(screens)[: 4 if rater == "r02" else None]
        cast = [vote(folder, rater, item, number=number) for number, item in enumerate(items, 1)]
        (votes / f"votes-{rater}.json").write_text(export(folder, rater, cast))
    tally = ("study", "tally", study, votes, "--out", tmp_path / "report")
    done = refeval(*tally)
    assert done.returncode == 3, done.stderr
    assert f"incomplete  r02: 4 of {len(folder.screens['r02'])} screens" in done.stdout
    assert "r01:" not in done.stdout
    written = [Path(line.split(maxsplit=1)[1]) for line in done.stdout.splitlines() if line.startswith("written")]
    assert written and all(path.is_file() for path in written)
    first = {path: path.read_bytes() for path in written}
    again = json.loads(refeval("study", "tally", study, votes / "votes-r01.json", *tally[4:], "--json").stdout)
    assert again["votes"] == len(folder.screens["r01"]) + 4, "files that come again count once"
    assert {Path(path): Path(path).read_bytes() for path in again["written"]} == first


def test_a_study_may_be_the_folder_that_one_is_in(
    arms: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_study(StudyRequest(arms=arms, cases=2, raters=1), tmp_path / "study")
    votes = [vote(made.study, "r01", item) for item in made.study.screens["r01"]]
    (tmp_path / "votes-r01.json").write_text(export(made.study, "r01", votes))
    monkeypatch.chdir(made.study.folder)
    done = refeval("study", "tally", ".", tmp_path / "votes-r01.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "study-report" / "tally.md").is_file()


def test_a_folder_that_is_no_study_is_told_before_its_key(arms: tuple[Path, Path]) -> None:
    for command in ("serve", "tally"):
        done = refeval("study", command, arms[0])
        assert done.returncode == 2 and "is not a study folder: it has no study.json" in done.stderr


def test_every_command_helps() -> None:
    for command in ("make", "serve", "tally"):
        done = refeval("study", command, "--help")
        assert done.returncode == 0 and "--json" in done.stdout
