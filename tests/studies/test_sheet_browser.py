"""A whole session on a sheet in a real browser: from a file, and against the server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from refeval.studies.key import read_tokens
from refeval.studies.making import MadeStudy, StudyRequest, make_study
from refeval.studies.server import StudyServer
from refeval.studies.votes import read_comparisons, read_votes
from tests.reports.small_run import HOSTILE, small_run, small_suite
from tests.reports.test_web_browser import requested

WAIT = 20
RATER = "r02"


class Session:
    """A rater at a sheet."""

    def __init__(self, browser: webdriver.Chrome, made: MadeStudy, url: str | None = None) -> None:
        self.browser, self.made = browser, made
        self.url = url or (made.study.folder / "sheets" / f"{RATER}.html").as_uri()
        self.screens = list(made.study.screens[RATER].values())
        self.open()

    def open(self) -> None:
        self.browser.get(self.url)

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def script(self, text: str) -> Any:
        return self.browser.execute_script(text)

    def wait(self, condition: Callable[[], Any]) -> None:
        WebDriverWait(self.browser, WAIT, poll_frequency=0.02).until(lambda _: condition())

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    @property
    def open_to_votes(self) -> bool:
        # One script sees one moment: the clips end while a test asks for one button after the other.
        states = self.script("return [...document.querySelectorAll('.choice')].map(choice => choice.disabled)")
        assert len(states) == 4 and len(set(states)) == 1
        return states == [False] * 4

    @property
    def place(self) -> str:
        return self.text("#place")

    @property
    def pressed(self) -> list[str]:
        found = self.browser.find_elements(By.CSS_SELECTOR, ".choice[aria-pressed=true]")
        return [str(choice.get_attribute("data-answer")) for choice in found]

    def vote(self, answer: str) -> None:
        self.wait(lambda: self.open_to_votes)
        self.find(f"[data-answer={answer}]").click()


@pytest.fixture
def quiet(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A browser without memories, that saves downloads to the test's folder."""
    browser.get("about:blank")
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
    settings = {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", settings)
    browser.get_log("browser")
    browser.get_log("performance")
    yield browser
    browser.get("about:blank")


def downloaded(session: Session, folder: Path) -> Path:
    session.wait(lambda: list((folder / "downloads").glob("*.json")))
    (path,) = (folder / "downloads").glob("*.json")
    return path


def test_a_session_from_a_file(quiet: webdriver.Chrome, small: MadeStudy, tmp_path: Path) -> None:
    session = Session(quiet, small)
    assert "6 screens" in session.text("#welcome .eyebrow")
    session.find("#begin").click()

    # Nothing can be answered before both clips have been seen to the end, neither by hand nor by key.
    assert not session.open_to_votes
    session.press("1")
    session.script("document.querySelector('[data-answer=tie]').click()")
    assert session.place == "Screen 1 of 6" and "once both videos have played" in session.text("#wait")
    session.script("document.querySelector('#right').addEventListener('ended', () => { window.sawRight = true; })")
    session.wait(lambda: session.open_to_votes)
    assert session.script("return window.sawRight")
    session.wait(lambda: session.script("return left.currentTime > 0.1 && right.currentTime > 0.1"))
    assert session.script("return Math.abs(left.currentTime - right.currentTime) < 0.3"), "they go on in step"
    assert session.script("return left.videoWidth") == 64

    # What is asked stands beside the clips.
    case = session.screens[0].case
    assert session.text("#question") == small.study.document.questions[session.screens[0].question]
    assert session.script("return document.querySelectorAll('#references img').length") >= 1
    assert session.script("return [...document.querySelectorAll('#references img')].every(i => i.naturalWidth > 0)")
    assert session.text("#prompt") and case not in session.text("main")

    # Keys: an answer, a pause, back, another answer.
    session.press("1")
    assert session.place == "Screen 2 of 6"
    session.wait(lambda: session.open_to_votes)
    session.press(Keys.SPACE)
    assert session.text("#play") == "Play" and session.script("return left.paused && right.paused")
    session.press(Keys.BACKSPACE)
    assert session.place == "Screen 1 of 6" and session.pressed == ["left"]
    assert session.open_to_votes, "it was seen to the end before"
    session.press(Keys.ARROW_RIGHT)
    assert session.place == "Screen 2 of 6"
    session.press("0")
    assert session.place == "Screen 3 of 6"

    # Stopped in the middle, the sheet goes on where it was.
    session.open()
    assert session.place == "Screen 3 of 6" and not session.open_to_votes
    session.vote("both_bad")
    session.find("#back").click()
    assert session.pressed == ["both_bad"]
    session.find("#next").click()
    for answer in ("left", "right", "tie"):
        session.vote(answer)
    assert session.text("#end-title") == "Thank you"
    session.open()
    assert "Every screen has an answer" in session.text("#end-text")

    session.find("#export").click()
    file = downloaded(session, tmp_path)
    assert file.name == f"votes-{RATER}.json"
    votes = read_votes(small.study, [file])
    items = [screen.item for screen in session.screens]
    given = [items[0], items[0], *items[1:]]
    assert [(v.number, v.item) for v in votes] == list(enumerate(given, 1))
    assert [v.answer for v in votes] == ["left", "right", "tie", "both_bad", "left", "right", "tie"]
    assert all(0.5 < v.watched < WAIT for v in votes)
    assert all(0 <= v.seconds < WAIT for v in votes)
    comparisons = read_comparisons(small.study.folder, None, [file])
    assert [c.answer for c in comparisons] == ["right", "tie", "both_bad", "left", "right", "tie"]

    assert quiet.get_log("browser") == []
    assert not [url for url in requested(quiet) if not url.startswith(("file:", "data:", "blob:", "about:"))]


def test_a_session_against_the_server(quiet: webdriver.Chrome, small: MadeStudy) -> None:
    threads = threading.active_count()
    tokens = read_tokens(small.key)
    token = next(token for token, rater in tokens.items() if rater == RATER)

    def stored() -> list[str]:
        path = small.study.folder / "votes.jsonl"
        return [json.loads(line)["answer"] for line in path.read_text().splitlines()]

    with StudyServer(small.study, tokens, ("127.0.0.1", 0)).running() as server:
        address = ("127.0.0.1", server.server_address[1])
        session = Session(quiet, small, f"http://127.0.0.1:{address[1]}/r/{token}")
        session.find("#begin").click()
        session.vote("left")
        session.wait(lambda: stored() == ["left"])
        session.wait(lambda: session.text("#state") == "Sent")
    # The server is gone: votes wait on the device, over a reload of the page too.
    session.vote("right")
    session.vote("tie")
    session.wait(lambda: "2 waiting" in session.text("#state"))
    assert stored() == ["left"]
    with StudyServer(small.study, tokens, address).running():
        session.wait(lambda: stored() == ["left", "right", "tie"])
        session.open()
        assert session.place == "Screen 4 of 6"
        for answer in ("left", "both_bad", "left"):
            session.vote(answer)
        session.wait(lambda: "All answers have arrived" in session.text("#end-text"))
        assert stored() == ["left", "right", "tie", "left", "both_bad", "left"]
    assert len(read_comparisons(small.study.folder)) == 6
    urls = {url for url in requested(quiet) if url.startswith("http")}
    assert urls == {session.url, f"http://127.0.0.1:{address[1]}/vote"}
    # Tests before this one may have left some in the process; the servers leave none.
    session.wait(lambda: threading.active_count() <= threads)


def test_a_sheet_is_usable_by_keyboard_and_on_a_phone(quiet: webdriver.Chrome, small: MadeStudy) -> None:
    session = Session(quiet, small)
    session.press(Keys.TAB, Keys.TAB)
    assert quiet.switch_to.active_element.get_attribute("id") == "begin"
    session.press(Keys.ENTER)
    assert quiet.switch_to.active_element.get_attribute("id") == "question", "a reader hears the question first"
    named = session.script(
        "return [...document.querySelectorAll('button, video, progress, section')].filter(e => !e.ariaLabel && "
        "!e.textContent.trim() && !e.getAttribute('aria-labelledby')).length"
    )
    assert named == 0
    metrics = {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": True}
    quiet.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        session.wait(lambda: session.open_to_votes)
        assert session.script("return document.documentElement.scrollWidth") == 360
        left, right = (session.find(f"#{side}").rect for side in ("left", "right"))
        assert right["y"] >= left["y"] + left["height"], "the clips stand one above the other"
        for choice in quiet.find_elements(By.CSS_SELECTOR, ".choice"):
            assert choice.rect["height"] >= 44 and choice.rect["width"] >= 100
    finally:
        quiet.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_who_wants_less_motion_starts_the_clips(quiet: webdriver.Chrome, small: MadeStudy) -> None:
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    quiet.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        session = Session(quiet, small)
        session.find("#begin").click()
        session.wait(lambda: session.script("return left.readyState >= 3 && right.readyState >= 3"))
        assert session.script("return left.paused && right.paused") and "Press Play" in session.text("#wait")
        session.press(Keys.SPACE)
        session.wait(lambda: session.open_to_votes)
    finally:
        quiet.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_clip_that_cannot_be_played_can_be_left_out(quiet: webdriver.Chrome, small: MadeStudy) -> None:
    session = Session(quiet, small)
    name = session.screens[0].right
    session.script(f"document.getElementById('clip-{name}').textContent = btoa('no video')")
    session.find("#begin").click()
    session.wait(lambda: session.find("#trouble").is_displayed())
    assert not session.open_to_votes
    session.find("#skip").click()
    assert session.place == "Screen 2 of 6"


def test_hostile_texts_do_nothing(quiet: webdriver.Chrome, tmp_path: Path) -> None:
    suite = small_suite(
        tmp_path / "data", prompts={"singleobj_1": HOSTILE + "</script><script>window.hacked=3</script>"}
    )
    runs = [small_run(tmp_path / name, suite, model=name, metrics=()) for name in ("one", "two")]
    arms = tuple(run.folder for run in runs)
    made = make_study(StudyRequest(arms=arms, cases=6, raters=2, data=tmp_path / "data"), tmp_path / "study")
    session = Session(quiet, made)
    session.find("#begin").click()
    at = next(i for i, screen in enumerate(session.screens) if screen.case == "singleobj_1")
    votes = [{"item": screen.item, "answer": "tie"} for screen in session.screens[:at]]
    kept = json.dumps({"votes": votes})
    session.script(f"localStorage.setItem('refeval-study/{made.study.digest}/{RATER}', '{kept}')")
    session.open()
    if at == 0:
        session.find("#begin").click()
    assert HOSTILE in session.text("#prompt")
    assert session.script("return window.hacked === undefined")
    quiet.get((made.study.folder / "print.html").as_uri())
    assert session.script("return window.hacked === undefined")
    assert session.script("return [...document.images].every(i => !i.complete || i.naturalWidth > 0)")
