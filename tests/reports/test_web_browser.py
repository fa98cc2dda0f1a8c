"""The web page in a real browser, opened from a file."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from refeval.records import ScoreStatus
from refeval.reports import media
from refeval.reports.web import write_report
from refeval.runs import Run
from tests.reports.small_run import CASES, HOSTILE, small_run, small_suite, unscored

WAIT = 20
RENDERED = list(CASES)[:5]
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-prefers-reduced-motion",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium or no chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.set_window_size(1280, 900)
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("web")
    suite = small_suite(folder / "data", prompts={"singleobj_1": HOSTILE})
    run = small_run(folder / "run", suite, rendered=RENDERED)
    run.write_score(unscored("singleface_1", "facesim", ScoreStatus.FAILED, "no face found"))
    write_report([run], run.folder / "reports")
    return run


@pytest.fixture
def opened(browser: webdriver.Chrome, run: Run) -> webdriver.Chrome:
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get((run.folder / "reports" / "index.html").as_uri())
    return browser


def shown(browser: webdriver.Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('#cards > article:not([hidden])')].map(c => c.dataset.id)"
    found: list[str] = browser.execute_script(script)
    return found


def requested(browser: webdriver.Chrome) -> list[str]:
    messages: list[dict[str, Any]] = [
        json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
    ]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def load_metadata(browser: webdriver.Chrome) -> list[int]:
    browser.execute_script("window.clip = document.querySelector('video'); clip.preload = 'metadata'; clip.load()")
    WebDriverWait(browser, WAIT).until(lambda b: b.execute_script("return clip.readyState >= 1 || clip.error"))
    size: list[int] = browser.execute_script("return [clip.videoWidth, clip.videoHeight, clip.error ? 1 : 0]")
    return size


def test_the_page_opens_without_errors_and_without_a_network(opened: webdriver.Chrome) -> None:
    load_metadata(opened)
    assert opened.get_log("browser") == []
    urls = requested(opened)
    assert any(url.startswith("file:") for url in urls)
    assert not [url for url in urls if not url.startswith(("file:", "data:"))]


def test_hostile_prompts_are_text(opened: webdriver.Chrome) -> None:
    assert opened.execute_script("return window.hacked === undefined")
    card = opened.find_element(By.ID, "case-singleobj_1")
    assert HOSTILE in str(card.get_attribute("textContent"))


def test_cards_stand_worst_first_and_can_be_sorted(opened: webdriver.Chrome) -> None:
    worst = ["singleface_1", "faceobj_1", "multiface_1", "singleobj_1", "singlehuman_1"]
    assert shown(opened) == worst
    opened.find_element(By.CSS_SELECTOR, "[data-sort=best]").click()
    assert shown(opened) == worst[:0:-1] + worst[:1]
    opened.find_element(By.CSS_SELECTOR, "[data-sort=name]").click()
    assert shown(opened) == sorted(RENDERED)
    pressed = opened.find_elements(By.CSS_SELECTOR, "[aria-pressed=true]")
    assert [button.text for button in pressed] == ["Name"]


def test_cards_can_be_filtered_by_category_and_status(opened: webdriver.Chrome) -> None:
    Select(opened.find_element(By.ID, "category")).select_by_visible_text("multiface")
    assert shown(opened) == ["multiface_1"]
    assert opened.find_element(By.ID, "count").text == "1 of 6 cases"
    Select(opened.find_element(By.ID, "category")).select_by_index(0)
    Select(opened.find_element(By.ID, "state")).select_by_value("failed")
    assert shown(opened) == ["singleface_1"]
    Select(opened.find_element(By.ID, "state")).select_by_value("missing")
    assert shown(opened) == []
    assert opened.find_element(By.ID, "empty").is_displayed()
    assert opened.find_element(By.ID, "count").text == "1 of 6 cases"


def test_the_search_finds_ids_prompts_and_reasons(opened: webdriver.Chrome) -> None:
    search = opened.find_element(By.ID, "search")
    for text, found in (("FACEOBJ", ["faceobj_1"]), ("smiles", ["singleobj_1"]), ("found face", ["singleface_1"])):
        search.clear()
        search.send_keys(text)
        assert shown(opened) == found
    search.clear()
    search.send_keys("nothing like this")
    assert shown(opened) == []
    opened.find_element(By.ID, "reset").click()
    assert len(shown(opened)) == len(RENDERED)


def test_the_keyboard_reaches_everything(opened: webdriver.Chrome) -> None:
    opened.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert opened.switch_to.active_element.text == "Skip to the cases"
    opened.find_element(By.CSS_SELECTOR, "[data-sort=best]").send_keys(Keys.ENTER)
    assert shown(opened)[-1] == "singleface_1"
    opened.find_element(By.CSS_SELECTOR, "#empty summary").send_keys(Keys.ENTER)
    assert opened.find_element(By.CSS_SELECTOR, "#empty li").text == "humanobj_1"


def test_an_inlined_clip_plays_in_the_page(opened: webdriver.Chrome) -> None:
    assert load_metadata(opened) == [64, 48, 0]


def test_a_linked_clip_loads_from_the_run_folder(
    browser: webdriver.Chrome, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "INLINE_LIMIT", 1)
    write_report([run], run.folder / "linked")
    browser.get((run.folder / "linked" / "index.html").as_uri())
    assert load_metadata(browser) == [64, 48, 0]
    assert re.search(r"/videos/\w+\.mp4$", browser.execute_script("return clip.currentSrc"))


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_the_window(opened: webdriver.Chrome, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
