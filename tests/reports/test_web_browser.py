"""The web page in a real browser, opened from a file."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from refeval.records import ScoreStatus
from refeval.reports.web import write_report
from refeval.runs import Run
from tests.browser import chromium
from tests.reports.small_run import (
    CASES,
    CLIP,
    HOSTILE,
    scored,
    seen_by_metrics,
    small_run,
    small_suite,
    unscored,
    write_reply,
)

WAIT = 20
RENDERED = list(CASES)[:5]
PLAYING = """
return [...document.querySelectorAll('#case-faceobj_1 video')].map((v) => ({
  time: v.currentTime, paused: v.paused, source: v.currentSrc, error: v.error && v.error.message }))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("web")
    suite = small_suite(folder / "data", prompts={"singleobj_1": HOSTILE})
    run = small_run(folder / "run", suite, rendered=RENDERED)
    run.write_score(unscored("singleface_1", "facesim", ScoreStatus.FAILED, "no face found"))
    seen_by_metrics(run, "faceobj_1")
    for vote, text in (("1", "4"), ("2", "4/5 <b>bold</b>"), ("3", "3")):
        write_reply(run, "faceobj_1", vote, text)
    write_report([run], run.folder / "reports")
    return run


@pytest.fixture(scope="module")
def pair(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the run and a candidate: better by FaceSim's ``faceobj_1``, worse the later the case otherwise."""
    folder = tmp_path_factory.mktemp("pair")
    suite = run.suite()
    quality = {case: 0.8 - 0.15 * place for place, case in enumerate(CASES)}
    other = small_run(folder / "other", suite, model="circles", rendered=RENDERED, quality=quality)
    other.write_score(scored(suite["faceobj_1"], "facesim", 0.95))
    seen_by_metrics(other, "faceobj_1")
    write_report([run, other], folder / "page")
    return folder / "page" / "index.html"


def open_page(browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    # The driver does not wait for a page that glides to what it is about to click.
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    return browser


@pytest.fixture
def opened(browser: webdriver.Chrome, run: Run) -> Iterator[webdriver.Chrome]:
    yield open_page(browser, run.folder / "reports" / "index.html")
    assert browser.get_log("browser") == []


@pytest.fixture
def compared(browser: webdriver.Chrome, pair: Path) -> Iterator[webdriver.Chrome]:
    yield open_page(browser, pair)
    assert browser.get_log("browser") == []


def shown(browser: webdriver.Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('#cards > article:not([hidden])')].map(c => c.dataset.id)"
    found: list[str] = browser.execute_script(script)
    return found


def choose(browser: webdriver.Chrome, field: str, value: str) -> None:
    Select(browser.find_element(By.ID, field)).select_by_value(value)


def requested(browser: webdriver.Chrome) -> list[str]:
    messages: list[dict[str, Any]] = [
        json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
    ]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def card(browser: webdriver.Chrome, case_id: str) -> WebElement:
    """A card that has been scrolled to and is built."""
    found = browser.find_element(By.ID, f"case-{case_id}")
    browser.execute_script("arguments[0].scrollIntoView({block: 'start', behavior: 'instant'})", found)
    WebDriverWait(browser, WAIT).until(lambda _: found.find_elements(By.CSS_SELECTOR, ".numbers"))
    return found


def row(found: WebElement, metric: str) -> list[str]:
    cells = found.find_elements(By.CSS_SELECTOR, f".numbers tr[data-metric={metric}] td")
    return [cell.text for cell in cells]


def playing(browser: webdriver.Chrome) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = browser.execute_script(PLAYING)
    return found


def _apart(clips: list[dict[str, Any]]) -> float:
    times = [clip["time"] for clip in clips]
    return float(max(times) - min(times))


def test_the_page_opens_without_a_network_and_loads_no_clip(opened: webdriver.Chrome) -> None:
    card(opened, "faceobj_1")
    urls = requested(opened)
    assert any(url.startswith("file:") and url.endswith(".jpg") for url in urls)
    assert not [url for url in urls if not url.startswith(("file:", "data:"))]
    assert not [url for url in urls if url.endswith(".mp4")]


def test_hostile_prompts_are_text(opened: webdriver.Chrome) -> None:
    assert HOSTILE in str(card(opened, "singleobj_1").get_attribute("textContent"))
    assert opened.execute_script("return window.hacked === undefined")


def test_cases_stand_worst_first_and_can_be_sorted(opened: webdriver.Chrome) -> None:
    worst = ["singleface_1", "faceobj_1", "multiface_1", "singleobj_1", "singlehuman_1"]
    assert shown(opened) == worst
    choose(opened, "order", "highest")
    assert shown(opened) == worst[:1] + worst[:0:-1]
    choose(opened, "order", "lowest")
    assert shown(opened) == worst[1:] + worst[:1]
    choose(opened, "order", "name")
    assert shown(opened) == sorted(RENDERED)
    # A case that lost the score of a metric is worst by that one; by another it is not.
    choose(opened, "order", "worst")
    choose(opened, "metric", "gme")
    assert shown(opened)[-1] == "singleface_1"


def test_the_largest_loss_against_the_base_comes_first(compared: webdriver.Chrome) -> None:
    choose(compared, "order", "drop")
    assert shown(compared) == ["multiface_1", "singleobj_1", "singlehuman_1", "singleface_1", "faceobj_1"]
    choose(compared, "metric", "facesim")
    # Without a score of the base there is no difference; the case that the metric does not apply to is hidden.
    assert shown(compared) == ["multiface_1", "singlehuman_1", "faceobj_1", "singleface_1"]
    choose(compared, "order", "gain")
    assert shown(compared)[:2] == ["faceobj_1", "singlehuman_1"]
    found = card(compared, "faceobj_1")
    # 0.9 - 0.8 * 4/6 for the base, planted 0.95 for the candidate.
    assert row(found, "facesim") == ["36.67", "95.00 +58.33"]
    assert row(found, "gme") == ["36.67", "20.00 −16.67"]
    assert "chosen" in str(found.find_element(By.CSS_SELECTOR, "[data-metric=facesim]").get_attribute("class"))


def test_a_lost_score_shows_its_status_and_reason(compared: webdriver.Chrome) -> None:
    base, candidate = row(card(compared, "singleface_1"), "facesim")
    assert base.split("\n") == ["failed", "no face found"]
    assert candidate == "80.00"
    assert "n/a" in card(compared, "singleobj_1").text


def test_cases_can_be_filtered(opened: webdriver.Chrome) -> None:
    choose(opened, "category", "multiface")
    assert shown(opened) == ["multiface_1"]
    assert opened.find_element(By.ID, "count").text == "1 of 6 cases"
    choose(opened, "category", "")
    choose(opened, "state", "failed")
    assert shown(opened) == ["singleface_1"]
    choose(opened, "metric", "gme")
    assert shown(opened) == []
    choose(opened, "metric", "")
    choose(opened, "state", "missing")
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


def test_tables_are_sorted_by_click_and_by_key(compared: webdriver.Chrome) -> None:
    def column(place: int) -> list[str]:
        cells = compared.find_elements(By.CSS_SELECTOR, f"#totals tbody.run tr:not(.section) > :nth-child({place})")
        return [cell.text.split("\n")[0] for cell in cells]

    head = compared.find_elements(By.CSS_SELECTOR, "#totals thead th")[6]
    button = head.find_element(By.TAG_NAME, "button")
    original = column(1)
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    numbers = [cell for cell in column(7) if cell != "undefined"]
    assert len(numbers) > 1 and numbers == sorted(numbers, key=float, reverse=True)
    # What has no value stays below, in both directions.
    assert column(7)[len(numbers) :] == ["undefined"] * (len(original) - len(numbers)) and len(numbers) < len(original)
    button.send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(7)[: len(numbers)] == numbers[::-1]
    button.send_keys(Keys.SPACE)
    assert (head.get_attribute("aria-sort"), column(1)) == ("none", original)


def test_one_button_plays_all_clips_of_a_case_together(compared: webdriver.Chrome) -> None:
    found = card(compared, "faceobj_1")
    button = found.find_element(By.CLASS_NAME, "play")
    assert [clip["source"] for clip in playing(compared)] == ["", ""]
    button.click()
    WebDriverWait(compared, WAIT).until(lambda b: all(not c["paused"] and c["time"] > 0.1 for c in playing(b)))
    assert button.get_attribute("aria-pressed") == "true"
    assert len({clip["source"] for clip in playing(compared)}) == 2
    # A clip that is thrown out of step is brought back; the wait is for a busy machine.
    compared.execute_script("document.querySelectorAll('#case-faceobj_1 video')[1].currentTime += 0.4")
    WebDriverWait(compared, WAIT).until(lambda b: _apart(playing(b)) <= 1 / float(CLIP.fps))
    # It goes round without anybody's help.
    WebDriverWait(compared, WAIT).until(lambda b: playing(b)[0]["time"] < 0.2)
    # Another case stops it.
    other = card(compared, "multiface_1").find_element(By.CLASS_NAME, "play")
    other.click()
    WebDriverWait(compared, WAIT).until(lambda b: all(clip["paused"] for clip in playing(b)))
    other.click()


def test_clips_stop_when_they_are_out_of_sight(compared: webdriver.Chrome) -> None:
    card(compared, "faceobj_1").find_element(By.CLASS_NAME, "play").click()
    WebDriverWait(compared, WAIT).until(lambda b: all(not clip["paused"] for clip in playing(b)))
    compared.execute_script("window.scrollTo({top: 0, behavior: 'instant'})")
    WebDriverWait(compared, WAIT).until(lambda b: all(clip["paused"] for clip in playing(b)))


def test_keys_step_and_play(compared: webdriver.Chrome) -> None:
    found = card(compared, "faceobj_1")
    compared.execute_script("arguments[0].focus()", found)
    body = compared.switch_to.active_element
    body.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert found.find_element(By.CLASS_NAME, "time").text == f"3/{CLIP.frames}"
    middle = 2.5 / float(CLIP.fps)
    WebDriverWait(compared, WAIT).until(lambda b: all(abs(c["time"] - middle) < 0.01 for c in playing(b)))
    body.send_keys(Keys.SPACE)
    WebDriverWait(compared, WAIT).until(lambda b: all(not clip["paused"] for clip in playing(b)))
    body.send_keys(Keys.SPACE)
    WebDriverWait(compared, WAIT).until(lambda b: all(clip["paused"] for clip in playing(b)))
    order = shown(compared)
    body.send_keys("j")
    focused = compared.execute_script("return document.activeElement.dataset.id")
    assert focused == order[order.index("faceobj_1") + 1]
    compared.switch_to.active_element.send_keys("?")
    assert compared.find_element(By.ID, "help").is_displayed()
    compared.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not compared.find_element(By.ID, "help").is_displayed()


def test_evidence_shows_crops_that_lead_to_their_frame(compared: webdriver.Chrome) -> None:
    found = card(compared, "faceobj_1")
    assert not found.find_element(By.CSS_SELECTOR, "tbody.evidence").is_displayed()
    found.find_element(By.CSS_SELECTOR, ".disclosure[data-part=evidence]").send_keys(Keys.ENTER)
    crops = found.find_elements(By.CSS_SELECTOR, "tbody.evidence .crop img")
    # Two crops for each of two runs and two metrics, and the reference beside.
    assert len(crops) == 8
    WebDriverWait(compared, WAIT).until(
        lambda b: b.execute_script("return arguments[0].every((i) => i.complete && i.naturalWidth > 0)", crops)
    )
    assert len(found.find_elements(By.CSS_SELECTOR, "tbody.evidence th img")) == 2
    assert "0.750" in found.find_element(By.CSS_SELECTOR, "tbody.evidence .crop").text
    found.find_element(By.CSS_SELECTOR, "tbody.evidence .crop").click()
    assert found.find_element(By.CLASS_NAME, "time").text == f"4/{CLIP.frames}"
    middle = 3.5 / float(CLIP.fps)
    WebDriverWait(compared, WAIT).until(lambda b: all(abs(c["time"] - middle) < 0.01 for c in playing(b)))


def test_the_judge_s_replies_are_shown_as_they_came(opened: webdriver.Chrome) -> None:
    found = card(opened, "faceobj_1")
    found.find_element(By.CSS_SELECTOR, ".disclosure[data-part=replies]").click()
    lines = found.find_element(By.CSS_SELECTOR, "tbody.replies td").text.split("\n")
    assert lines == ["1", "4", "2", "4/5 <b>bold</b> unparseable", "3", "3", "served by judge-2030"]


def test_a_clip_that_is_gone_leaves_the_others(browser: webdriver.Chrome, run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    copy = Run(tmp_path / "run")
    write_report([copy, run], tmp_path / "page")
    # It is deleted after the page was written.
    copy.clip_path("faceobj_1").unlink()
    open_page(browser, tmp_path / "page" / "index.html")
    card(browser, "faceobj_1").find_element(By.CLASS_NAME, "play").click()
    WebDriverWait(browser, WAIT).until(lambda b: playing(b)[0]["error"] and playing(b)[1]["time"] > 0.1)


def test_the_keyboard_reaches_everything(opened: webdriver.Chrome) -> None:
    opened.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert opened.switch_to.active_element.text == "Skip to the cases"
    opened.find_element(By.CSS_SELECTOR, "#empty summary").send_keys(Keys.ENTER)
    assert opened.find_element(By.CSS_SELECTOR, "#empty li").text == "humanobj_1"
    unnamed = """return [...document.querySelectorAll('button, input, select, a, video, [tabindex="0"]')].filter((e) =>
      !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map((e) => e.outerHTML)"""
    card(opened, "faceobj_1")
    assert opened.execute_script(unnamed) == []


def test_a_large_report_builds_only_what_is_near(browser: webdriver.Chrome, tmp_path: Path) -> None:
    cases = {f"singleobj_{i}": ("dog",) for i in range(1, 181)}
    suite = small_suite(None, cases)
    runs = [small_run(tmp_path / f"run{i}", suite, seed=i, metrics=["gme", "nexus"]) for i in range(5)]
    write_report(runs, tmp_path / "page")
    open_page(browser, tmp_path / "page" / "index.html")
    built = "return document.querySelectorAll('.card .compare').length"
    assert len(shown(browser)) == 180
    assert browser.execute_script(built) < 10
    assert not [url for url in requested(browser) if re.search(r"\.(mp4|jpg)$", url)]
    found = card(browser, "singleobj_180")
    assert len(found.find_elements(By.TAG_NAME, "video")) == 5
    assert browser.execute_script(built) < 30
    assert not [url for url in requested(browser) if url.endswith(".mp4")]
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_the_window(compared: webdriver.Chrome, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    compared.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        card(compared, "faceobj_1")
        assert compared.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        compared.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
