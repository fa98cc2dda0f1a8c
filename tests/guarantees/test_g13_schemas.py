"""G13: what earlier releases wrote stays readable. ``schema_N/`` is a run as schema N wrote it, ``baseline_N.json`` and
``study_N/`` (without its sheets and clips) likewise; never edit one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from refeval import results
from refeval.records import SCHEMA_VERSION
from refeval.studies.comparisons import Answer, PairKind
from refeval.studies.votes import read_comparisons
from tests.guarantees.command import refeval

HERE = Path(__file__).parent


def test_every_schema_has_its_frozen_run() -> None:
    assert {path.name for path in HERE.glob("schema_*")} == {f"schema_{n}" for n in range(1, SCHEMA_VERSION + 1)}


@pytest.mark.parametrize("folder", sorted(HERE.glob("schema_*")), ids=lambda folder: folder.name)
def test_a_frozen_run_is_read(folder: Path) -> None:
    frame = results(folder).set_index("case")
    assert frame["status"].to_dict() == {"singleobj_1": "scored", "singleobj_2": "failed", "singleobj_3": "missing"}
    assert frame.loc["singleobj_1", "value"] == 1.003649115562439
    assert frame.loc["singleobj_1", "strict_value"] == 0.20078323754714805
    total = json.loads(refeval("total", folder, "--json").stdout)
    assert total["motion_amplitude"] == 1.0, "clamped to its range"
    checked = json.loads(refeval("check", folder, "--json").stdout)
    assert {finding["severity"] for finding in checked["findings"]} == {"incomplete"}


def test_a_frozen_baseline_stands_for_its_run() -> None:
    arguments = ("compare", HERE / "baseline_1.json", HERE / "schema_1", "--allow-missing", "--json")
    done = refeval(*arguments)
    assert done.returncode == 0, done.stderr
    row = next(row for row in json.loads(done.stdout)["rows"] if row["of"] == "motion_amplitude")
    assert (row["base"], row["delta"]) == (1.0, 0.0)


def test_a_frozen_study_is_counted() -> None:
    votes = read_comparisons(HERE / "study_1")
    assert Counter(vote.kind for vote in votes) == {
        PairKind.REAL: 8,
        PairKind.REPEAT: 2,
        **dict.fromkeys((PairKind.DECOY, PairKind.IDENTICAL), 1),
    }
    assert {vote.rater for vote in votes} == {"r01", "r02"}
    assert all({vote.left, vote.right} <= {"copy-paste, seed 0", "copy-paste, seed 1", "decoy"} for vote in votes)
    assert Counter(vote.answer for vote in votes) == {Answer.LEFT: 4, Answer.RIGHT: 3, Answer.TIE: 5}


def test_a_newer_schema_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    from refeval.documents import read_document, write_document

    manifest = read_document(HERE / "schema_1/manifest.json")
    write_document(tmp_path / "manifest.json", {**manifest, "schema_version": 99, "refeval_version": "9.9"})
    done = refeval("check", tmp_path)
    assert done.returncode == 2
    assert "schema_version is 99" in done.stderr
    assert "refeval 9.9" in done.stderr
