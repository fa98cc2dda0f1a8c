"""refeval check looks over what a judge said: every reply, the calibration, and the scores that rest on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refeval.checking import Finding, Severity, check_run
from refeval.documents import read_document, write_document
from refeval.metrics.judges.calibration import CALIBRATION
from refeval.runs import Run
from tests.reports.judged_run import CASES, judge, judged_run


def _of_judge(run: Run) -> list[Finding]:
    return [finding for finding in check_run(run) if "judge" in finding.text]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return judged_run(tmp_path / "run", "4", "3")


def test_a_judged_run_is_whole(run: Run) -> None:
    assert _of_judge(run) == []


@pytest.mark.parametrize("name", [f"{CASES[0]}.2.json", "calibration~faceobj_1-smooth.1.json", CALIBRATION])
def test_a_changed_document_is_found(run: Run, name: str) -> None:
    path = run.folder / "judge" / name
    path.write_text(path.read_text().replace('"model_served"', '"model_Served"').replace('"asked"', '"Asked"'))
    found = _of_judge(run)
    [damaged] = [finding for finding in found if finding.severity is Severity.CORRUPT]
    assert damaged.text.startswith(f"{path}: the content does not match its sha256; ")
    # A reply that a score rests on is missed there too.
    assert len(found) == (2 if name.startswith(CASES[0]) else 1)


def test_a_document_of_another_schema_or_under_another_name_is_found(run: Run) -> None:
    folder = run.folder / "judge"
    first = folder / f"{CASES[0]}.1.json"
    shutil.copy(first, folder / "faceobj_1.1.json")
    write_document(folder / CALIBRATION, {"schema_version": 1})
    texts = [finding.text for finding in _of_judge(run) if finding.severity is Severity.CORRUPT]
    assert len(texts) == 2
    assert f"faceobj_1.1.json: the reply in it is vote 1 on case '{CASES[0]}'" in texts[0]
    assert str(folder / CALIBRATION) in texts[1]


def test_a_score_without_its_replies_stands_and_is_noted(run: Run) -> None:
    (run.folder / "judge" / f"{CASES[1]}.3.json").unlink()
    [finding] = _of_judge(run)
    assert finding.severity is Severity.NOTE
    assert finding.text.startswith("NaturalScore: 1 of 2 judged cases lack a reply of the judge")
    assert f"e.g. '{CASES[1]}', vote 3;" in finding.text
    shutil.rmtree(run.folder / "judge")
    [finding] = _of_judge(run)
    assert "2 of 2 judged cases" in finding.text


def test_a_reply_that_says_something_else_backs_no_score(run: Run) -> None:
    path = run.folder / "judge" / f"{CASES[0]}.1.json"
    write_document(path, {**read_document(path), "text": "5"})
    [finding] = _of_judge(run)
    assert f"'{CASES[0]}', vote 1;" in finding.text


def test_replies_of_another_judge_back_no_score(run: Run) -> None:
    record = run.score_record("natural", CASES[0])
    assert record is not None
    judge(run, CASES[:1], "3", model="other", begin=False)
    run.write_score(record)
    [finding, superseded] = _of_judge(run) + [f for f in check_run(run) if "superseded" in f.text]
    assert f"'{CASES[0]}', vote 1, 2, 3" in finding.text
    assert superseded.text.startswith("8 superseded files are kept"), "6 replies and 2 planted scores"
