"""NaturalScore against a scripted server: votes, statuses, resuming, replay, budget, secrets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refeval.cases import Case, Category
from refeval.clips import Clip
from refeval.errors import BadInput, MissingPrerequisite, RefevalError, Unparseable
from refeval.metrics.judges.base import JudgeUnavailable
from refeval.metrics.judges.limits import Limit, Price
from refeval.metrics.judges.settings import JudgeConfig
from refeval.metrics.natural import NaturalScore
from refeval.place import Place
from tests.metrics.scripted_judge import SERVED, Answer, ScriptedJudge, answering

_CASE = Case(id="faceobj_1", category=Category.FACEOBJ, prompt="", references=())
_SECRET = "sk-planted-0123456789"


def _clip(frames: int) -> Clip:
    pixels = np.random.Generator(np.random.PCG64(frames)).integers(0, 256, (frames, 32, 48, 3), np.uint8)
    return Clip.from_frames(pixels, 16)


def _metric(folder: Path, **settings: Any) -> NaturalScore:
    metric = NaturalScore(JudgeConfig(**{"model": "judge", **settings}))
    metric.replies = folder / "judge"
    return metric


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "judge").glob("*.json"))


def test_three_votes_on_official_and_three_on_strict_pictures(tmp_path: Path) -> None:
    with answering("4") as server:
        score = _metric(tmp_path, url=server.url).score(_CASE, _clip(40))
    assert (score.value, score.strict_value, score.frames_used) == (4.0, 4.0, 16)
    assert score.details["votes"] == [4.0, 4.0, 4.0]
    assert score.details["served"] == [SERVED]
    assert score.details["rubric"]["wording"] == "own"
    assert (score.details["input_tokens"], score.details["price_usd"]) == (6000, None)
    assert _names(tmp_path) == [f"faceobj_1.{prefix}{n}.json" for prefix in ("", "strict-") for n in (1, 2, 3)]
    sent = [json.dumps(request["messages"]) for request in server.requests]
    assert len(sent) == 6
    assert len(set(sent)) == 2
    json.dumps(score.details)


@pytest.mark.parametrize("frames", [1, 16])
def test_where_the_pictures_are_the_same_the_votes_are(tmp_path: Path, frames: int) -> None:
    calls = 6 if frames == 1 else 3
    with answering("2") as server:
        score = _metric(tmp_path, url=server.url).score(_CASE, _clip(frames))
        assert len(server.requests) == calls
    assert (score.value, score.strict_value, score.frames_used) == (2.0, 2.0, frames)


def test_the_value_is_the_mean(tmp_path: Path) -> None:
    with answering("2", "3", "3") as server:
        score = _metric(tmp_path, url=server.url).score(_CASE, _clip(16))
    assert sorted(score.details["votes"]) == [2.0, 3.0, 3.0]
    assert score.value == (2.0 + 3.0 + 3.0) / 3


def test_the_strict_value_is_the_mean_of_the_votes_on_the_strict_pictures(tmp_path: Path) -> None:
    with answering("1", "1", "1", "5", "5", "5") as server:
        score = _metric(tmp_path, url=server.url).score(_CASE, _clip(40))
    assert sorted([*score.details["votes"], *score.details["strict_votes"]]) == [1, 1, 1, 5, 5, 5]
    assert score.value != score.strict_value
    assert score.value == sum(score.details["votes"]) / 3
    assert score.strict_value == pytest.approx(sum(score.details["strict_votes"]) / 3)


def test_votes_are_asked_for_in_parallel(tmp_path: Path) -> None:
    with answering("4") as server:
        server.together = 6
        _metric(tmp_path, url=server.url).score(_CASE, _clip(40))
        assert server.most_at_once == 6


def test_an_unparseable_reply_is_a_status_is_kept_and_is_not_asked_for_again(tmp_path: Path) -> None:
    with answering("4/5 because it floats", "4") as server:
        for _ in range(2):
            with pytest.raises(Unparseable, match=r"judge/faceobj_1\.[123]\.json.*'4/5 because"):
                _metric(tmp_path, url=server.url).score(_CASE, _clip(16))
        assert len(server.requests) == 3
    assert len(_names(tmp_path)) == 3


def test_a_resumed_case_asks_for_the_missing_votes_only(tmp_path: Path) -> None:
    with answering("4", "4", Answer(status=400, text="no")) as server:
        with pytest.raises(RefevalError, match="does not take the request"):
            _metric(tmp_path, url=server.url).score(_CASE, _clip(40))
        kept = len(_names(tmp_path))
        assert kept == 2
    with answering("4") as server:
        assert _metric(tmp_path, url=server.url).score(_CASE, _clip(40)).value == 4.0
        assert len(server.requests) == 6 - kept


def test_another_clip_is_judged_anew(tmp_path: Path) -> None:
    with answering("4") as server:
        for frames in (16, 15):
            _metric(tmp_path, url=server.url).score(_CASE, _clip(frames))
    assert len(list((tmp_path / "judge/superseded").iterdir())) == 3


_VICTIM = """
import signal, sys
from pathlib import Path
# Ignored where the tests themselves run in the background of a shell.
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.metrics.test_natural import _CASE, _clip, _metric
_metric(Path(sys.argv[1]), url=sys.argv[2]).score(_CASE, _clip(40))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_with_calls_in_flight_the_others_are_kept(tmp_path: Path, number: signal.Signals) -> None:
    with answering("4", "4", "4", Answer(hang=True)) as server:
        command = [sys.executable, "-c", _VICTIM, str(tmp_path), server.url]
        child = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while (len(_names(tmp_path)) < 3 or len(server.requests) < 6) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(number)
        assert child.wait(20) != 0
    assert len(_names(tmp_path)) == 3
    with answering("4") as server:
        assert _metric(tmp_path, url=server.url).score(_CASE, _clip(40)).value == 4.0
        assert len(server.requests) == 3


def test_replay_gives_the_same_score_without_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering("2", "3", "4", "5", "1", "2") as server:
        first = _metric(tmp_path / "a", url=server.url).score(_CASE, _clip(40))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    again = _metric(tmp_path / "b", url=server.url, replay=tmp_path / "a/judge")
    assert again.score(_CASE, _clip(40)) == first
    assert _names(tmp_path / "b") == _names(tmp_path / "a")
    offline = _metric(tmp_path / "a", url=server.url, offline=True)
    assert offline.score(_CASE, _clip(40)) == first
    with pytest.raises(RefevalError, match="no recorded reply"):
        offline.score(Case(id="other_1", category=Category.FACEOBJ, prompt="", references=()), _clip(40))


def test_a_replay_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="no recorded replies"):
        _metric(tmp_path, replay=tmp_path / "no").prepare()


def test_the_budget_stops_the_judge_and_keeps_what_is_recorded(tmp_path: Path) -> None:
    price = Price(input=100.0, output=0.0)
    limited = {"price": price, "budget": Limit(amount=0.45, unit="USD")}
    with answering("4") as server:
        with pytest.raises(JudgeUnavailable, match=r"0\.45 USD is used up"):
            _metric(tmp_path, url=server.url, **limited).score(_CASE, _clip(40))
        assert len(server.requests) == len(_names(tmp_path)) == 4
        score = _metric(tmp_path, url=server.url, price=price).score(_CASE, _clip(40))
        assert len(server.requests) == 6
    assert score.details["price_usd"] == pytest.approx(0.6)


@pytest.mark.parametrize("processes", [1, 4])
def test_the_pace_holds_for_all_threads_and_is_shared_by_the_processes(tmp_path: Path, processes: int) -> None:
    with answering("4") as server:
        started = time.monotonic()
        metric = _metric(tmp_path, url=server.url, per_minute=600.0 * processes)
        metric.place = Place(processes=processes)
        metric.score(_CASE, _clip(40))
        assert time.monotonic() - started >= 0.5
        assert len(server.requests) == 6


def test_the_estimate_comes_before_the_first_call(tmp_path: Path) -> None:
    cases = [_CASE, Case(id="faceobj_2", category=Category.FACEOBJ, prompt="", references=())]
    with answering("4") as server:
        metric = _metric(tmp_path, url=server.url)
        # 6 votes on each case, and 18 that calibrate the judge.
        assert metric.cost(cases).startswith("at most 30 calls with 480 pictures, tokens unknown")
        assert server.requests == []
        metric.score(_CASE, _clip(40))
        assert metric.cost(cases) == "at most 24 calls with 384 pictures, about 24,024 tokens, price unknown"
        metric.begin()
        assert metric.estimate(cases).calls == 6
        assert _metric(tmp_path, url=server.url, model="other").estimate(cases).calls == 6 + 18


def _environment(server: ScriptedJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("REFEVAL_JUDGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REFEVAL_JUDGE_URL", server.url)
    monkeypatch.setenv("REFEVAL_JUDGE_KEY_ENV", "MY_KEY")
    monkeypatch.setenv("MY_KEY", _SECRET)


def test_the_key_is_sent_and_stands_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    said = []
    quoting = [f"4 {_SECRET}", Answer(status=400, text=_SECRET), Answer(status=401, text=_SECRET)]
    with answering(*quoting) as server:
        _environment(server, monkeypatch)
        metric = NaturalScore()
        metric.replies = tmp_path / "judge"
        for number in (1, 16, 40):
            with pytest.raises(RefevalError) as caught:
                metric.score(_CASE, _clip(number))
            said.append(str(caught.value))
        assert set(server.keys) == {f"Bearer {_SECRET}"}
        said += [json.dumps(metric.settings()), repr(metric.config)]
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    captured = capfd.readouterr()
    for text in [*said, *written, captured.out, captured.err, caplog.text]:
        assert _SECRET not in text


def test_settings_hold_what_is_measured_and_not_where(tmp_path: Path) -> None:
    one, two = (_metric(tmp_path, url=f"http://127.0.0.1:{port}/v1", per_minute=port) for port in (1, 2))
    assert one.settings() == two.settings()
    assert one.settings()["judge"] == "judge"
    assert _metric(tmp_path, url="http://h/v1", model=None).settings()["judge"] == "gpt-4o-2024-11-20"
    file = tmp_path / "rubric.txt"
    file.write_text("Give a number.")
    given = _metric(tmp_path, url="http://h/v1", rubric=file).settings()
    assert given["rubric"]["wording"] == "given"
    assert given != one.settings()


def test_nothing_is_asked_before_there_is_a_place_for_replies() -> None:
    with answering("4") as server:
        metric = NaturalScore(JudgeConfig(url=server.url))
        with pytest.raises(RefevalError, match="where to record"):
            metric.score(_CASE, _clip(16))
        assert server.requests == []


def test_a_rubric_without_the_official_text_stops_at_once(tmp_path: Path) -> None:
    file = tmp_path / "get_naturalscore.py"
    file.write_text("PROMPT = ''")
    with pytest.raises(BadInput):
        _metric(tmp_path, url="http://h/v1", rubric=file)


def test_importing_and_making_the_metric_loads_no_heavy_package() -> None:
    code = """
import sys
from refeval.metrics.judges.settings import JudgeConfig
from refeval.metrics.natural import NaturalScore
from refeval.place import Place
NaturalScore(JudgeConfig(url="http://h/v1")).settings()
print(sorted({"openai", "tenacity", "torch", "transformers"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
