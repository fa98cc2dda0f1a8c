"""Votes from log, exports and paper, each once; the key applied; what belongs to another study is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from refeval.errors import BadInput, CorruptFile
from refeval.studies.comparisons import Answer, PairKind
from refeval.studies.making import MadeStudy, StudyRequest, make_study
from refeval.studies.study import StudyFolder
from refeval.studies.vote_log import VoteLog
from refeval.studies.votes import Vote, progress, read_comparisons, read_votes, take_in
from tests.studies.sheet import export, vote


def log(study: StudyFolder, *votes: dict[str, Any]) -> None:
    open_log = VoteLog(study)
    for one in votes:
        open_log.add(Vote.model_validate(one))
    open_log.close()


def test_log_and_exports_are_merged_and_the_last_vote_on_a_screen_counts(small: MadeStudy, tmp_path: Path) -> None:
    study = small.study
    first = vote(study, "r01", "s001", "left", number=1)
    second = vote(study, "r01", "s002", "tie", number=2)
    changed = vote(study, "r01", "s001", "right", number=3)
    log(study, first, second)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "votes-r01.json").write_text(export(study, "r01", [first, second, changed]))
    other = tmp_path / "votes-r02.json"
    other.write_text(export(study, "r02", [vote(study, "r02", "s006", "both_bad")]))
    files = [tmp_path / "in", other]
    votes = read_votes(study, files)
    assert [(v.rater, v.item, v.answer) for v in votes] == [
        ("r01", "s001", "left"),
        ("r01", "s002", "tie"),
        ("r01", "s001", "right"),
        ("r02", "s006", "both_bad"),
    ]
    assert [(p.rater, p.answered, p.screens) for p in progress(study, votes)] == [
        ("r01", 2, 6),
        ("r02", 1, 6),
        ("r03", 0, 6),
    ]
    comparisons = read_comparisons(study.folder, None, files)
    assert [(c.rater, c.item, c.answer) for c in comparisons] == [
        ("r01", "s001", Answer.RIGHT),
        ("r01", "s002", Answer.TIE),
        ("r02", "s006", Answer.BOTH_BAD),
    ]
    assert {c.seconds for c in comparisons} == {1.25}


def test_the_key_is_applied_row_by_row(small: MadeStudy, tmp_path: Path) -> None:
    study = small.study
    for rater, screens in study.screens.items():
        votes = [vote(study, rater, item, number=n) for n, item in enumerate(screens, 1)]
        (tmp_path / f"{rater}.json").write_text(export(study, rater, votes))
    comparisons = read_comparisons(study.folder, small.key / "key.csv", sorted(tmp_path.glob("r*.json")))
    with (small.key / "key.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(c.rater, c.item, c.case, c.question, c.kind, c.left, c.right, c.repeats or "") for c in comparisons] == [
        tuple(row.values()) for row in rows
    ]
    assert {c.left for c in comparisons if c.kind is PairKind.REAL} == {"copy-paste, seed 0", "copy-paste, seed 1"}


def test_files_are_taken_in_once_and_all_or_none(small: MadeStudy, tmp_path: Path) -> None:
    study = small.study
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(export(study, "r01", [vote(study, "r01", "s001")]))
    bad.write_text("{}")
    with pytest.raises(BadInput, match="not a file of votes"):
        take_in(study, [good, bad])
    assert read_votes(study) == []
    for _ in range(2):
        assert len(take_in(study, [good])) == 1
    assert len(read_votes(study)) == 1
    assert len(list((study.folder / "votes").iterdir())) == 1


def test_answers_from_paper(small: MadeStudy, tmp_path: Path) -> None:
    sheet = tmp_path / "paper.csv"
    sheet.write_text("\ufeffrater,item,answer\nr03,s001,tie\nr03,s002,left\nr03,s002,right\n", encoding="utf-8")
    comparisons = read_comparisons(small.study.folder, None, [sheet])
    assert [(c.item, c.answer, c.seconds) for c in comparisons] == [("s001", "tie", 0), ("s002", "right", 0)]
    for wrong in ("rater,item\nr03,s001\n", "rater,item,answer\nr03,s001,maybe\n", "rater,item,answer\n"):
        sheet.write_text(wrong)
        with pytest.raises(BadInput, match="not a file of votes"):
            read_votes(small.study, [sheet])


def test_of_answers_from_paper_the_last_line_counts_and_files_must_not_contradict(
    small: MadeStudy, tmp_path: Path
) -> None:
    study, first, second = small.study, tmp_path / "first.csv", tmp_path / "second.csv"
    head = "rater,item,answer\nr03,s001,left\n"
    first.write_text(f"{head}r03,s001,right\nr03,s001,left\n")
    second.write_text(f"{head}r03,s002,tie\n")
    for _ in range(2):
        take_in(study, [first, second])
    found = {one.item: one.answer for one in read_comparisons(study.folder)}
    assert found == {"s001": "left", "s002": "tie"}
    second.write_text(f"{head}r03,s002,right\n")
    with pytest.raises(BadInput, match="give item 's002' of rater 'r03' two answers"):
        take_in(study, [second])
    assert len(list((study.folder / "votes").iterdir())) == 2, "what contradicts is not taken in"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rater": "r09"}, "unknown rater"),
        ({"item": "s099"}, "unknown item"),
        ({"study": "0" * 64}, "of another study"),
        ({"answer": "maybe"}, "not a file of votes"),
        ({"seconds": -1}, "not a file of votes"),
        ({"seconds": "NaN"}, "not a file of votes"),
        ({"number": True}, "not a file of votes"),
        ({"more": 1}, "not a file of votes"),
        ({"id": "../../x"}, "not a file of votes"),
    ],
)
def test_votes_that_cannot_be_of_the_study_are_refused(
    small: MadeStudy, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    content = {**vote(small.study, "r01", "s001"), **change}
    path = tmp_path / "votes.json"
    path.write_text(json.dumps({"study": content["study"], "rater": content["rater"], "votes": [content]}))
    with pytest.raises(BadInput, match=message):
        read_votes(small.study, [path])


def test_an_answer_that_the_study_does_not_offer_is_refused(arms: tuple[Path, Path], tmp_path: Path) -> None:
    made = make_study(StudyRequest(arms=arms, cases=1, raters=1), tmp_path / "study")
    path = tmp_path / "votes.json"
    path.write_text(export(made.study, "r01", [vote(made.study, "r01", "s001", "both_bad")]))
    with pytest.raises(BadInput, match="not an answer of this study"):
        read_votes(made.study, [path])


def test_a_wrong_or_damaged_key_is_refused(small: MadeStudy, arms: tuple[Path, Path], tmp_path: Path) -> None:
    other = make_study(StudyRequest(arms=arms, cases=1, raters=1), tmp_path / "other")
    with pytest.raises(BadInput, match="the key of another study"):
        read_comparisons(small.study.folder, other.key)
    with pytest.raises(BadInput, match="not the key of a study"):
        read_comparisons(small.study.folder, tmp_path)
    rows = (small.key / "key.csv").read_text()
    (small.key / "key.csv").write_text(rows.replace("seed 0", "seed 1"))
    with pytest.raises(CorruptFile, match="not the key that"):
        read_comparisons(small.study.folder)


def test_half_a_line_is_cut_off_and_a_damaged_one_is_found(small: MadeStudy) -> None:
    study, path = small.study, small.study.folder / "votes.jsonl"
    log(study, vote(study, "r01", "s001"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert len(read_votes(study)) == 1, "it was never acknowledged"
    log(study, vote(study, "r01", "s001"), vote(study, "r01", "s002", number=2))
    assert [v.item for v in read_votes(study)] == ["s001", "s002"]
    assert path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == 2
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(CorruptFile, match="a line is no vote"):
        read_votes(study)


def test_two_processes_do_not_write_one_log(small: MadeStudy) -> None:
    first = VoteLog(small.study)
    with pytest.raises(BadInput, match="open in another process"):
        VoteLog(small.study)
    first.close()
    VoteLog(small.study).close()
    with pytest.raises(ValueError, match="closed"):
        first.add(Vote.model_validate(vote(small.study, "r01", "s001")))
