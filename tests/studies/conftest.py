"""Two real runs of the drawn world, and a small study of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from refeval.studies.comparisons import Question
from refeval.studies.making import MadeStudy, StudyRequest, make_study
from tests.browser import chromium
from tests.guarantees.command import SMALL, refeval

SMALL_STUDY = StudyRequest(
    arms=(),
    cases=2,
    raters=3,
    questions=(Question.QUALITY, Question.REFERENCE),
    both_bad=True,
    repeats=0.25,
    checks=0.25,
)


@pytest.fixture(scope="session")
def arms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs of one model with two seeds: other clips of the same cases."""
    folder = tmp_path_factory.mktemp("arms")
    runs = (folder / "secret-first", folder / "secret-second")
    for seed, run in enumerate(runs):
        assert refeval("render", *SMALL, "--seed", str(seed), "--out", run).returncode == 0
    return runs


@pytest.fixture
def small(arms: tuple[Path, Path], tmp_path: Path) -> MadeStudy:
    """Three sheets of six screens: four pairs, a repeat and a check."""
    return make_study(StudyRequest(**{**vars(SMALL_STUDY), "arms": arms}), tmp_path / "study")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One browser for all sheets."""
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome
