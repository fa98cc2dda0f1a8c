"""Doctor: what is there is called there, and what is not comes with the command that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from refeval import doctor
from refeval.doctor import Diagnosis, diagnose


def _found() -> dict[tuple[str, str], Diagnosis]:
    return {(found.area, found.name): found for found in diagnose()}


def test_what_is_missing_has_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": None}
    monkeypatch.setattr(doctor, "installed_version", lambda name: versions.get(name, "1.0"))
    monkeypatch.delenv("REFEVAL_DATA", raising=False)
    found = _found()
    assert found["extra", "dev"].present
    assert not found["extra", "score"].present
    assert found["extra", "score"].note == "missing: torch"
    assert found["extra", "score"].cure == "pip install 'refeval[score]'"
    assert found["metric", "motion_amplitude"].present
    assert found["decoder", "pyav"].present
    assert found["suite", "sprites"].note == "32 cases"
    assert "refeval fetch suite opens2v-human" in found["suite", "opens2v-human"].cure


def test_data_that_is_there_is_counted(opens2v: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFEVAL_DATA", str(opens2v))
    found = _found()
    assert found["suite", "opens2v-open"].note == "180 cases"
    assert found["suite", "opens2v-open"].cure == ""
