"""G13: run folders of earlier releases stay readable. ``schema_N/`` is a run as schema N wrote it; never edit one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refeval import results
from refeval.records import SCHEMA_VERSION
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


def test_a_newer_schema_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    from refeval.documents import read_document, write_document

    manifest = read_document(HERE / "schema_1/manifest.json")
    write_document(tmp_path / "manifest.json", {**manifest, "schema_version": 99, "refeval_version": "9.9"})
    done = refeval("check", tmp_path)
    assert done.returncode == 2
    assert "schema_version is 99" in done.stderr
    assert "refeval 9.9" in done.stderr
