"""Baselines: small, the same as the run folder for a comparison, and refused when they are something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refeval.baselines import BASELINE_SCHEMA_VERSION, baseline_of, read_baseline, read_side
from refeval.documents import with_digest
from refeval.errors import BadInput, CorruptFile
from refeval.protocols import ProtocolName, run_total
from refeval.records import ScoreStatus
from refeval.suites import load_suite
from tests.refeval.small_sides import even, folder_of, suite_of
from tests.reports.judged_run import judged_run
from tests.reports.small_run import small_run, small_suite, unscored


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    baseline = baseline_of(folder_of(tmp_path / "run", even(suite_of())))
    (tmp_path / "b.json").write_text(baseline.text())
    assert read_baseline(tmp_path / "b.json") == baseline
    assert read_baseline(tmp_path / "b.json").text() == baseline.text()


@pytest.mark.parametrize("protocol", ProtocolName)
def test_it_holds_all_that_a_total_reads(tmp_path: Path, protocol: ProtocolName) -> None:
    run = small_run(tmp_path / "run", small_suite(None), rendered=("singleface_1", "humanobj_1", "multiface_1"))
    run.write_score(unscored("singleface_1", "natural", ScoreStatus.UNPARSEABLE, "a vote is no number"))
    baseline = baseline_of(run)
    there = run_total(baseline.parsed_suite, baseline.records, protocol=protocol)
    assert there == run_total(run.suite(), run.score_records(), protocol=protocol)
    assert baseline.scores["natural"]["singleface_1"] is ScoreStatus.UNPARSEABLE
    assert [case.id for case in baseline.parsed_suite.cases] == [case.id for case in run.suite().cases]


def test_a_changed_score_is_a_changed_line(tmp_path: Path) -> None:
    suite = suite_of()
    before = baseline_of(run := folder_of(tmp_path / "run", even(suite))).text().splitlines()
    record = run.score_record("gme", "multiface_3")
    assert record is not None
    run.write_score(record.model_copy(update={"value": 0.125, "strict_value": 0.25}))
    after = baseline_of(run).text().splitlines()
    changed = [(a.split(":")[0].strip(), b) for a, b in zip(before, after, strict=True) if a != b]
    assert [name for name, _ in changed] == ['"digest"', '"multiface_3"']
    assert changed[1][1].strip().rstrip(",") == '"multiface_3": [0.125, 0.25]'


def test_the_open_suite_takes_some_ten_kilobytes(opens2v: Path, tmp_path: Path) -> None:
    suite = load_suite(str(opens2v / "Open-Domain_Eval.json"))
    run = folder_of(tmp_path / "run", even(suite, 0.5123456789), suite=suite)
    assert len(baseline_of(run).text()) < 120_000
    assert "prompt" not in baseline_of(run).text(), "a suite is not published with a baseline"


def test_the_calibration_of_the_judge_goes_with_it(tmp_path: Path) -> None:
    baseline = baseline_of(judged_run(tmp_path / "run", "4"))
    assert baseline.calibration is not None
    assert baseline.calibration.mean == 4
    assert [way["judge"] for way in baseline.made_by["natural"]] == ["judge"]


@pytest.mark.parametrize("old, new", [("0.5", "0.6"), ('"failed"', '"scored"'), ("{", ""), ('"seed": 0', '"seed": 1')])
def test_a_file_that_was_edited_is_damaged(tmp_path: Path, old: str, new: str) -> None:
    run = folder_of(tmp_path / "run", dict.fromkeys(even(suite_of()), 0.5))
    run.write_score(unscored("singleobj_1", "gme", ScoreStatus.FAILED, "broken"))
    text = baseline_of(run).text()
    assert old in text
    (tmp_path / "b.json").write_text(text.replace(old, new, 1))
    with pytest.raises(CorruptFile) as error:
        read_baseline(tmp_path / "b.json")
    assert "refeval baseline RUN" in str(error.value)


def test_another_schema_and_other_files_are_named(tmp_path: Path) -> None:
    content = baseline_of(folder_of(tmp_path / "run", even(suite_of()))).model_dump(mode="json")
    newer = {**content, "schema_version": BASELINE_SCHEMA_VERSION + 1}
    (tmp_path / "newer.json").write_text(json.dumps(with_digest(newer)))
    with pytest.raises(BadInput, match=f"is {BASELINE_SCHEMA_VERSION + 1}, this refeval reads"):
        read_baseline(tmp_path / "newer.json")
    with pytest.raises(BadInput, match="neither a run folder nor a baseline"):
        read_baseline(tmp_path / "run/manifest.json")


def test_a_side_is_one_system_with_different_seeds(tmp_path: Path) -> None:
    quality = even(suite_of())
    for seed in (1, 0):
        folder_of(tmp_path / f"seeds/{1 - seed}", quality, seed=seed)
    twin = folder_of(tmp_path / "twin", quality, seed=1).folder
    other = folder_of(tmp_path / "other", quality, seed=2, model="circles").folder
    (tmp_path / "empty").mkdir()
    seeds = read_side([tmp_path / "seeds"])
    assert [run.seed for run in seeds] == [0, 1], "in the order of the seeds, not of the folders"
    assert read_side([tmp_path / "seeds/0", tmp_path / "seeds/1"]) == seeds
    for paths, message in (
        ([tmp_path / "seeds", twin], "two runs of seed 1"),
        ([twin, other], "their model differs"),
        ([tmp_path / "empty"], "no manifest.json"),
        ([tmp_path / "nowhere"], "does not exist"),
        ([], "no run is named"),
    ):
        with pytest.raises(BadInput, match=message):
            read_side(paths)
