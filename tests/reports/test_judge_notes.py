"""Every table of totals says who judged, told what, and how far that judge has moved."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from refeval.metrics.judges.calibration import CALIBRATION, load_calibration
from refeval.metrics.judges.rubric import OWN_RUBRIC, Rubric, Wording
from refeval.reports.judge_notes import judge_note
from refeval.reports.totals import totals_table
from refeval.reports.views import RunView
from refeval.reports.web import write_report
from refeval.runs import Run
from tests.metrics.scripted_judge import SERVED, Answer
from tests.reports.judged_run import CASES, judge, judged_run
from tests.reports.small_run import small_run, small_suite

_OWN = f"rubric own (sha256 {OWN_RUBRIC.sha256[:8]}, not the official wording)"


def _note(run: Run) -> str:
    note = judge_note(RunView(run), "squares")
    assert note is not None
    return note


def test_judge_rubric_and_calibration_stand_in_one_sentence(tmp_path: Path) -> None:
    run = judged_run(tmp_path, "4", "none", "3")
    whole = f"squares, NaturalScore: judge judge (served {SERVED}), {_OWN}; calibration: mean vote "
    assert _note(run) == f"{whole}3.06 of 17 valid of 18."


def test_the_official_wording_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official = Rubric(text="Give a number.", wording=Wording.OFFICIAL)
    monkeypatch.setattr("refeval.metrics.natural.read_rubric", lambda _: official)
    assert f", rubric official (sha256 {official.sha256[:8]}); " in _note(judged_run(tmp_path, "3"))


def test_the_drift_names_its_reference(tmp_path: Path) -> None:
    reference = judged_run(tmp_path / "a", "4").folder / "judge" / CALIBRATION
    run = judged_run(tmp_path / "b", "4.5", "well", "4.5", calibration=reference)
    sha256 = load_calibration(reference).sha256[:8]
    assert _note(run).endswith(f"mean vote 4.50 of 17 valid of 18, drift +0.50 against calibration {sha256}.")
    document = load_calibration(reference)
    other = document.model_copy(update={"served": ["another"], "votes": {**document.votes, "faceobj_1-smooth": []}})
    other.write(reference)
    drifted = judged_run(tmp_path / "c", "4", calibration=reference)
    expected = f"drift +0.00 without 1 of 6 clips against calibration {other.sha256[:8]}, and another model answers."
    assert _note(drifted).endswith(expected)


def test_what_is_not_calibrated_says_why(tmp_path: Path) -> None:
    suite = small_suite(None)
    without = small_run(tmp_path / "a", suite, rendered=CASES)
    judge(without, CASES, "4", begin=False)
    assert _note(without).endswith("; not calibrated: the run holds no calibration.")
    failed = small_run(tmp_path / "b", suite, rendered=CASES)
    judge(failed, [], Answer(status=400, text="too large"))
    judge(failed, CASES, "4", begin=False)
    assert "; not calibrated: the judge at 127.0.0.1:" in _note(failed)
    assert "does not take the request" in _note(failed)
    judge(without, [], "4", model="other")
    assert _note(without).endswith("; not calibrated: the calibration in the run is of another judge or rubric.")


def test_records_of_two_judges_disagree(tmp_path: Path) -> None:
    run = judged_run(tmp_path, "4")
    judge(run, CASES[:1], "4", model="other")
    one, other = (f"judge {name} (served {SERVED}), {_OWN}, in 1 of 2 cases" for name in ("judge", "other"))
    said = _note(run)
    assert "disagree on judge or rubric" in said
    assert f"{one}; {other}; calibration of other: mean vote 4.00 of 18." in said


def test_every_format_has_the_note_and_reads_none_of_it_as_markup(tmp_path: Path) -> None:
    run = judged_run(tmp_path, "4", model="<b>[red]judge|*")
    table = totals_table([run], published=False)
    [note] = [note for note in table.notes if "NaturalScore: judge" in note]
    terminal = Console(file=io.StringIO(), width=400)
    terminal.print(table.terminal())
    assert isinstance(terminal.file, io.StringIO)
    assert note in " ".join(terminal.file.getvalue().split())
    files = {path.name: path.read_text() for path in write_report([run], tmp_path / "reports")}
    assert r"judge \<b\>\[red\]judge\|\*" in files["report.md"]
    assert "judge &lt;b&gt;[red]judge|*" in files["index.html"]
    assert "<b>[red]" not in files["index.html"]


def test_a_run_without_a_judge_says_nothing(tmp_path: Path) -> None:
    assert judge_note(RunView(small_run(tmp_path, small_suite(None))), "squares") is None
