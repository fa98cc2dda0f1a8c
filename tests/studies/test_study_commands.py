"""``refeval study`` from runs to the report, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_every_command_helps() -> None:
    for command in ("make", "serve", "tally"):
        done = refeval("study", command, "--help")
        assert done.returncode == 0 and "--json" in done.stdout
