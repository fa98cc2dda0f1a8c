"""Two real runs of the drawn world, and a small study of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from refeval.studies.comparisons import Question
from refeval.studies.making import MadeStudy, StudyRequest, make_study
from tests.guarantees.command import SMALL, refeval
from tests.reports.test_web_browser import OPTIONS

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
    """Chromium that saves downloads and plays without being touched."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium or no chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    moving = [option for option in OPTIONS if "reduced-motion" not in option]
    for option in (*moving, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.set_window_size(1280, 900)
    yield chrome
    chrome.quit()
