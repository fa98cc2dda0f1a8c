"""The calibration of a run: once, whole, resumed, replayed, compared; and never in the way of the scores."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from refeval.errors import BadInput
from refeval.metrics.judges.base import JudgeUnavailable
from refeval.metrics.judges.calibration import CALIBRATION, Calibration, load_calibration
from refeval.metrics.judges.limits import Limit
from refeval.metrics.judges.settings import JudgeConfig
from refeval.metrics.natural import NaturalScore
from tests.guarantees.command import SMALL, refeval
from tests.metrics.scripted_judge import SERVED, Answer, answering
from tests.metrics.test_natural import _CASE, _clip

_SECRET = "sk-planted-0123456789"


def _metric(folder: Path, **settings: Any) -> NaturalScore:
    metric = NaturalScore(JudgeConfig(**{"model": "judge", **settings}))
    metric.keep_in(folder)
    return metric


def _kept(folder: Path) -> Calibration:
    return load_calibration(folder / "judge" / CALIBRATION)


def _recorded(folder: Path) -> int:
    return len(list((folder / "judge").glob("calibration~*.json")))


def test_the_set_is_judged_once_whoever_begins(tmp_path: Path) -> None:
    with answering("4", "two", "3") as server:
        for _ in range(2):
            _metric(tmp_path, url=server.url).begin()
        assert len(server.requests) == 18
    kept = _kept(tmp_path)
    assert sorted(kept.all_votes) == [3.0] * 16 + [4.0]
    assert (kept.judge, kept.served, kept.asked, kept.reason, kept.drift) == ("judge", [SERVED], 18, None, None)
    assert kept.rubric["wording"] == "own"


def test_another_judge_is_calibrated_anew_and_the_first_is_set_aside(tmp_path: Path) -> None:
    with answering("4") as server:
        _metric(tmp_path, url=server.url).begin()
        first = _kept(tmp_path)
        _metric(tmp_path, url=server.url, model="other").begin()
        assert len(server.requests) == 36
    assert _kept(tmp_path).judge == "other"
    [aside] = (tmp_path / "judge/superseded").glob("calibration.*.json")
    assert load_calibration(aside) == first


_VICTIM = """
import sys
from pathlib import Path
from tests.metrics.test_natural_calibration import _metric
_metric(Path(sys.argv[1]), url=sys.argv[2]).begin()
"""


def test_killed_in_the_middle_only_the_open_votes_are_asked_for(tmp_path: Path) -> None:
    with answering("4", "4", "4", "4", Answer(hang=True)) as server:
        command = [sys.executable, "-c", _VICTIM, str(tmp_path), server.url]
        child = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while (_recorded(tmp_path) < 4 or len(server.requests) < 10) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        assert child.wait(20) != 0
    assert not (tmp_path / "judge" / CALIBRATION).exists()
    with answering("4") as server:
        _metric(tmp_path, url=server.url).begin()
        assert len(server.requests) == 14
    assert _kept(tmp_path).mean == 4.0


def test_a_failure_is_recorded_and_stops_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", _SECRET)
    with answering("4", "4", Answer(status=400, text=f"no {_SECRET}")) as server:
        _metric(tmp_path, url=server.url).begin()
    failed = _kept(tmp_path)
    assert failed.votes == {}
    assert "does not take the request" in str(failed.reason)
    assert _SECRET not in (tmp_path / "judge" / CALIBRATION).read_text()
    with answering("4") as server:
        metric = _metric(tmp_path, url=server.url)
        assert metric.score(_CASE, _clip(16)).value == 4.0
        metric.begin()
        assert len(server.requests) == 3 + 16
    assert _kept(tmp_path).mean == 4.0


@pytest.mark.parametrize("refusal", ["budget", "key"])
def test_a_judge_that_cannot_be_asked_ends_the_metric(tmp_path: Path, refusal: str) -> None:
    limit = Limit(amount=5.0, unit="calls") if refusal == "budget" else None
    with answering("4" if limit else Answer(status=401, text="no")) as server:
        with pytest.raises(JudgeUnavailable):
            _metric(tmp_path, url=server.url, budget=limit).begin()
        assert len(server.requests) <= 6
    assert _recorded(tmp_path) == (5 if limit else 0)
    assert not (tmp_path / "judge" / CALIBRATION).exists()


def _refuse_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_replayed_the_calibration_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering("2", "3", "4", "5") as server:
        _metric(tmp_path / "a", url=server.url).begin()
    _refuse_sockets(monkeypatch)
    _metric(tmp_path / "b", replay=tmp_path / "a/judge").begin()
    assert _kept(tmp_path / "b") == _kept(tmp_path / "a")
    (tmp_path / "a/judge" / CALIBRATION).unlink()
    _metric(tmp_path / "a", url="http://h/v1", offline=True).begin()
    assert _kept(tmp_path / "a") == _kept(tmp_path / "b")


@pytest.mark.parametrize("votes", [0, 17])
def test_a_recording_without_a_whole_calibration_is_replayed_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, votes: int
) -> None:
    with answering("4") as server:
        metric = _metric(tmp_path / "a", url=server.url)
        metric.score(_CASE, _clip(16))
        metric.begin()
    for path in sorted((tmp_path / "a/judge").glob("calibration~*.json"))[votes:]:
        path.unlink()
    (tmp_path / "a/judge" / CALIBRATION).unlink()
    _refuse_sockets(monkeypatch)
    replayed = _metric(tmp_path / "b", replay=tmp_path / "a/judge")
    offline = _metric(tmp_path / "a", url="http://h/v1", offline=True)
    for metric in (replayed, offline):
        metric.begin()
        assert metric.score(_CASE, _clip(16)).value == 4.0
        assert metric.estimate([_CASE]).calls == 0
    assert not list(tmp_path.rglob(CALIBRATION))
    assert _recorded(tmp_path / "b") == 0


def test_the_drift_from_a_reference_is_kept_without_its_path(tmp_path: Path) -> None:
    reference = tmp_path / "private/judge" / CALIBRATION
    with answering("4") as server:
        _metric(tmp_path / "private", url=server.url).begin()
    with answering("3") as server:
        _metric(tmp_path / "run", url=server.url).begin()
        assert _kept(tmp_path / "run").drift is None
        _metric(tmp_path / "run", url=server.url, calibration=reference).begin()
        assert len(server.requests) == 18, "a reference that comes later costs no call"
    drift = _kept(tmp_path / "run").drift
    assert drift is not None
    assert (drift.mean, len(drift.clips), drift.served_changed) == (-1.0, 6, False)
    assert drift.reference == load_calibration(reference).sha256
    assert "private" not in (tmp_path / "run/judge" / CALIBRATION).read_text()


def test_a_run_that_is_its_own_reference_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "judge" / CALIBRATION
    with answering("4") as server:
        _metric(tmp_path, url=server.url).begin()
        _metric(tmp_path, url=server.url, calibration=path).begin()
        before = path.read_bytes()
        _metric(tmp_path, url=server.url, calibration=path).begin()
    assert path.read_bytes() == before
    assert not (path.parent / "superseded").exists()


def test_a_wrong_reference_stops_before_the_first_call(tmp_path: Path) -> None:
    path = tmp_path / "judge" / CALIBRATION
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("Give a number.")
    with answering("4") as server:
        with pytest.raises(BadInput, match="not the calibration of a judge"):
            _metric(tmp_path, url=server.url, calibration=path)
        _metric(tmp_path, url=server.url).begin()
        asked = len(server.requests)
        for other in ({"model": "other"}, {"rubric": rubric}):
            with pytest.raises(BadInput, match="of another"):
                _metric(tmp_path, url=server.url, calibration=path, **other)
        assert len(server.requests) == asked


def test_a_command_of_two_workers_judges_the_set_once_and_shows_the_drift(tmp_path: Path) -> None:
    cases = "singleobj_1,singleface_1,faceobj_1"
    options = (*SMALL[:-1], cases, "--metrics", "natural", "--workers", "2")
    environment = {"REFEVAL_JUDGE_MODEL": "judge", "OPENAI_API_KEY": _SECRET}
    runs = {}
    for name, vote in (("before", "4"), ("now", "3")):
        with answering(vote) as server:
            environment["REFEVAL_JUDGE_URL"] = server.url
            done = refeval("run", *options, "--out", tmp_path / name, env=environment)
            runs[name] = " ".join(done.stdout.split())
            assert _kept(tmp_path / name).mean == float(vote), done.stderr
            assert len(server.requests) == 18 + 3 * 6
        environment["REFEVAL_JUDGE_CALIBRATION"] = str(tmp_path / "before/judge" / CALIBRATION)
    assert "calibration: mean vote 4.00 of 18." in runs["before"]
    assert "calibration: mean vote 3.00 of 18, drift -1.00 against calibration" in runs["now"]
    environment["REFEVAL_JUDGE_MODEL"] = "other"
    with answering("4") as server:
        environment["REFEVAL_JUDGE_URL"] = server.url
        refused = refeval("score", tmp_path / "now", "--metrics", "natural", env=environment)
        assert server.requests == []
    assert refused.returncode == 2
    assert "of another judge" in refused.stderr
