"""The real client against a scripted server: what is tried again, what stops, and what is never told."""

from __future__ import annotations

import socket
import time
from email.utils import formatdate

import pytest

from refeval.errors import ExitCode, RefevalError
from refeval.metrics.judges.base import JudgeUnavailable, Request
from refeval.metrics.judges.limits import Pace, Price
from refeval.metrics.judges.retry_after import retry_after
from refeval.metrics.judges.rubric import OWN_RUBRIC
from refeval.metrics.judges.server import OpenAIJudge
from tests.metrics.scripted_judge import SERVED, USAGE, Answer, answering

KEY = "sk-planted-0123456789"


def _request(repeat: str = "1") -> Request:
    return Request(case="a", repeat=repeat, model="judge", rubric=OWN_RUBRIC, pictures=(b"\xff\xd8", b"\xff\xd9"))


def _judge(url: str, **options: object) -> OpenAIJudge:
    chosen = {"key": KEY, "key_variable": "JUDGE_KEY", "wait_unit": 0.01, **options}
    return OpenAIJudge(url, **chosen)  # type: ignore[arg-type]


def test_the_official_request_goes_out_and_the_reply_comes_back_raw() -> None:
    with answering(" 4\n") as server:
        reply = _judge(server.url, price=Price(input=2.0, output=10.0)).ask(_request())
    assert (reply.text, reply.model_served, reply.attempts, reply.finish_reason) == (" 4\n", SERVED, 1, "stop")
    assert (reply.input_tokens, reply.output_tokens) == (USAGE["prompt_tokens"], USAGE["completion_tokens"])
    assert reply.price == pytest.approx((2.0 * 1000 + 10.0) / 1e6)
    assert server.requests == [_request().body()]
    assert server.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize(
    "failure",
    [
        Answer(status=429, text="slow down"),
        Answer(status=503, text="busy"),
        Answer(status=500, text="<html>", raw=True),
        Answer(status=408, text="late"),
        Answer(text="garbage {", raw=True),
        Answer(text='{"choices": []}', raw=True),
        Answer(text="[1]", raw=True),
    ],
)
def test_what_may_pass_is_tried_again(failure: Answer) -> None:
    with answering(failure, failure, "5") as server:
        reply = _judge(server.url).ask(_request())
    assert (reply.text, reply.attempts) == ("5", 3)


def test_a_server_that_hangs_is_tried_again() -> None:
    with answering(Answer(hang=True), "5") as server:
        reply = _judge(server.url, timeout_s=0.3).ask(_request())
    assert (reply.text, reply.attempts) == ("5", 2)


@pytest.mark.parametrize("name", ["Retry-After", "retry-after-ms"])
def test_retry_after_is_the_least_wait(name: str) -> None:
    value = "0.4" if name == "Retry-After" else "400"
    with answering(Answer(status=429, headers={name: value}), "3") as server:
        started = time.monotonic()
        _judge(server.url).ask(_request())
        assert time.monotonic() - started >= 0.4


def test_patience_ends_in_an_error_that_says_why() -> None:
    with answering(Answer(status=503, text="busy")) as server:
        with pytest.raises(RefevalError, match=r"no answer .* attempts .*busy") as caught:
            _judge(server.url, patience_s=0.3).ask(_request())
        assert not isinstance(caught.value, JudgeUnavailable)
        assert len(server.requests) > 2


def test_a_longer_wait_than_the_patience_is_not_begun() -> None:
    with answering(Answer(status=429, text="later", headers={"Retry-After": "3600"})) as server:
        judge = _judge(server.url, patience_s=5.0)
        for number in (1, 2):
            with pytest.raises(RefevalError, match="asks to wait 3600 s more"):
                judge.ask(_request())
            assert len(server.requests) == number


def test_a_server_that_keeps_garbling_is_left_after_three_replies() -> None:
    with answering(Answer(text="garbage", raw=True)) as server:
        with pytest.raises(RefevalError, match="in 3 attempts"):
            _judge(server.url).ask(_request())
        assert len(server.requests) == 3


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(RefevalError, match=r"no answer .*APIConnectionError"):
            _judge(url, patience_s=0.2).ask(_request())


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(status=401, text=KEY),
        Answer(status=403, text="no"),
        Answer(status=404, text="no such model"),
        Answer(status=429, text="insufficient_quota"),
    ],
)
def test_a_refusal_stops_every_later_call(refusal: Answer) -> None:
    with answering(refusal, "4") as server:
        judge = _judge(server.url)
        for _ in range(2):
            with pytest.raises(JudgeUnavailable) as caught:
                judge.ask(_request())
            assert KEY not in str(caught.value)
        assert len(server.requests) == 1
    assert caught.value.exit_code is ExitCode.USAGE
    if refusal.status in {401, 403}:
        assert "JUDGE_KEY" in caught.value.what
        assert "JUDGE_KEY" in str(caught.value.cure)


def test_a_server_may_want_no_key_and_one_that_does_names_the_variable() -> None:
    with answering("4", Answer(status=401)) as server:
        judge = _judge(server.url, key=None)
        assert judge.ask(_request()).text == "4"
        with pytest.raises(JudgeUnavailable, match=r"without key \(JUDGE_KEY\)"):
            judge.ask(_request())


def test_a_request_that_is_refused_fails_alone() -> None:
    with answering(Answer(status=400, text=f"bad picture {KEY}"), "4") as server:
        judge = _judge(server.url)
        with pytest.raises(RefevalError, match=r"HTTP|400|bad picture") as caught:
            judge.ask(_request())
        assert KEY not in str(caught.value)
        assert judge.ask(_request()).text == "4"


def test_a_reply_that_quotes_the_key_is_redacted() -> None:
    with answering(f"4 {KEY}") as server:
        assert _judge(server.url).ask(_request()).text == "4 [redacted JUDGE_KEY]"


def test_missing_usage_and_content_are_none_and_nothing() -> None:
    empty = Answer(text='{"model": "m", "choices": [{"message": {"content": null}}]}', raw=True)
    with answering(empty) as server:
        reply = _judge(server.url, price=Price(input=1.0, output=1.0)).ask(_request())
    assert (reply.text, reply.input_tokens, reply.output_tokens, reply.price) == ("", None, None, None)


def test_pace_spaces_calls_evenly() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(30, clock=lambda: now[0], sleep=sleep)
    for _ in range(3):
        pace.wait()
    assert slept == [2.0, 2.0]
    now[0] += 60
    pace.wait()
    pace.hold(7.0)
    pace.wait()
    assert slept[2:] == [7.0]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "-7"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": formatdate(1_000_060, usegmt=True)}, 60.0),
        ({"retry-after": formatdate(900_000, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=1_000_000) == seconds
