"""Votes are recorded one by one, asked for once, kept when they no longer fit, and held below a budget."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refeval.documents import read_document
from refeval.errors import BadInput, RefevalError
from refeval.metrics.judges.base import JudgeUnavailable, Reply, Request, VoteStatus, parse_vote
from refeval.metrics.judges.limits import Budget, Estimate, Limit, Price
from refeval.metrics.judges.panel import Panel
from refeval.metrics.judges.replies import RecordedJudge, ReplyFolder, Spending
from refeval.metrics.judges.rubric import OWN_RUBRIC, Rubric, Wording


class _Judge:
    """Answers at once, and fails where it is told to.

    Attributes:
        asked: names of votes, in order.
        fails: names of votes that are not answered.
    """

    def __init__(self, *fails: str, tokens: int | None = 10, price: float | None = 0.5) -> None:
        self.asked: list[str] = []
        self.fails = fails
        self.reply = Reply(text="4", model_served="m", input_tokens=tokens, output_tokens=tokens, price=price)
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def ask(self, request: Request) -> Reply:
        with self.lock:
            self.asked.append(request.repeat)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if request.repeat in self.fails:
                raise RefevalError(f"vote {request.repeat} fails")
            return self.reply
        finally:
            with self.lock:
                self.at_once -= 1


def _requests(count: int, **changes: object) -> list[Request]:
    base = Request(case="a", repeat="1", model="judge", rubric=OWN_RUBRIC, pictures=(b"1", b"2"))
    return [replace(base, repeat=str(number), **changes) for number in range(1, count + 1)]  # type: ignore[arg-type]


def test_a_recorded_vote_is_not_asked_for_again(tmp_path: Path) -> None:
    judge, folder = _Judge(), ReplyFolder(tmp_path)
    panel = Panel(judge=judge, replies=folder)
    replies = panel.ask(_requests(3))
    assert panel.ask(_requests(4)) == [*replies, judge.reply]
    assert sorted(judge.asked) == ["1", "2", "3", "4"]
    content = read_document(tmp_path / "a.2.json")
    assert content["text"] == "4"
    assert content["rubric"] == {"wording": "own", "sha256": OWN_RUBRIC.sha256}


def test_a_failure_keeps_the_other_votes_and_only_the_missing_one_is_asked_for(tmp_path: Path) -> None:
    judge = _Judge("2")
    with pytest.raises(RefevalError, match="vote 2 fails"):
        Panel(judge=judge, replies=ReplyFolder(tmp_path), at_once=1).ask(_requests(3))
    assert judge.asked == ["1", "2"]
    again = _Judge()
    Panel(judge=again, replies=ReplyFolder(tmp_path)).ask(_requests(3))
    assert sorted(again.asked) == ["2", "3"]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "another"},
        {"rubric": Rubric(text="other words", wording=Wording.GIVEN)},
        {"pictures": (b"1", b"3")},
        {"pictures": (b"12",)},
    ],
)
def test_a_changed_request_is_asked_anew_and_the_old_reply_is_kept_aside(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    folder = ReplyFolder(tmp_path)
    (old,), (new,) = _requests(1), _requests(1, **changes)
    folder.write(old, Reply(text="2", model_served="m", price=1.0))
    assert folder.find(new) is None
    judge = _Judge()
    Panel(judge=judge, replies=folder).ask([new])
    assert judge.asked == ["1"]
    assert folder.find(old) is None
    aside = read_document(tmp_path / "superseded" / f"a.1.{old.key[:12]}.json")
    assert (aside["key"], aside["text"]) == (old.key, "2")
    assert folder.spending().dollars == 1.5


def test_a_damaged_reply_is_asked_for_again(tmp_path: Path) -> None:
    (request,) = _requests(1)
    (tmp_path / "a.1.json").write_text('{"text": "4"')
    assert Panel(judge=_Judge(), replies=ReplyFolder(tmp_path)).ask([request])
    assert ReplyFolder(tmp_path).find(request)


def test_a_copy_under_another_name_is_not_taken(tmp_path: Path) -> None:
    (request,) = _requests(1)
    folder = ReplyFolder(tmp_path)
    folder.write(request, _Judge().reply)
    (tmp_path / "b.1.json").write_bytes((tmp_path / "a.1.json").read_bytes())
    assert folder.find(replace(request, case="b")) is None


@pytest.mark.parametrize("case", ["../a", "a/b", "..", ".hidden"])
def test_a_case_cannot_leave_the_folder(tmp_path: Path, case: str) -> None:
    (request,) = _requests(1)
    with pytest.raises(BadInput, match="cannot be a file name"):
        ReplyFolder(tmp_path / "judge").write(replace(request, case=case), _Judge().reply)
    assert list(tmp_path.rglob("*")) == []


def test_secrets_of_the_environment_do_not_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "planted-secret")
    (request,) = _requests(1)
    ReplyFolder(tmp_path).write(request, Reply(text="4 planted-secret", model_served="planted-secret"))
    assert b"planted-secret" not in (tmp_path / "a.1.json").read_bytes()


def test_replay_says_what_differs(tmp_path: Path) -> None:
    (request,) = _requests(1)
    ReplyFolder(tmp_path).write(request, _Judge().reply)
    judge = RecordedJudge(tmp_path)
    assert judge.ask(request) == _Judge().reply
    other = Rubric(text="other", wording=Wording.OFFICIAL)
    for changed, reason in (
        (replace(request, model="another"), "of the judge judge, not another"),
        (replace(request, rubric=other), r"another rubric \(own, not official\)"),
        (replace(request, pictures=(b"0",)), "other pictures"),
        (replace(request, repeat="2"), "there is none"),
    ):
        with pytest.raises(RefevalError, match=reason):
            judge.ask(changed)


@pytest.mark.parametrize(("limit", "calls"), [("3 calls", 3), ("60 tokens", 3), ("1.75 USD", 3), ("0 calls", 0)])
def test_a_budget_is_never_passed_and_can_be_raised(tmp_path: Path, limit: str, calls: int) -> None:
    judge, folder = _Judge(), ReplyFolder(tmp_path)
    with pytest.raises(JudgeUnavailable, match=r"budget of .* is used up"):
        Panel(judge=judge, replies=folder, budget=Budget(Limit.parse(limit), folder)).ask(_requests(6))
    assert len(judge.asked) == len(list(tmp_path.glob("*.json"))) == calls
    Panel(judge=judge, replies=folder, budget=Budget(Limit.parse("6 calls"), folder)).ask(_requests(6))
    assert len(judge.asked) == 6


def test_a_budget_in_tokens_needs_a_server_that_counts_them(tmp_path: Path) -> None:
    folder = ReplyFolder(tmp_path)
    panel = Panel(judge=_Judge(tokens=None), replies=folder, budget=Budget(Limit.parse("9 tokens"), folder))
    with pytest.raises(RefevalError, match="not known in tokens"):
        panel.ask(_requests(3))
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_that_the_judge_is_gone_goes_before_a_vote_that_failed(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    class Gone(_Judge):
        def ask(self, request: Request) -> Reply:
            both.wait(30)
            raise JudgeUnavailable("gone") if request.repeat == "2" else RefevalError("failed")

    for _ in range(5):
        with pytest.raises(JudgeUnavailable, match="gone"):
            Panel(judge=Gone(), replies=ReplyFolder(tmp_path)).ask(_requests(2))


def test_no_more_than_so_many_at_once(tmp_path: Path) -> None:
    judge = _Judge()
    Panel(judge=judge, replies=ReplyFolder(tmp_path), at_once=2).ask(_requests(20))
    assert judge.most_at_once <= 2


@pytest.mark.parametrize(("text", "value"), [("4", 4.0), (" 5\n", 5.0), ("3.5", 3.5), ("1.", 1.0), ("02", 2.0)])
def test_votes(text: str, value: float) -> None:
    assert parse_vote(text).value == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4/5 because it floats",
        "error",
        "nan",
        "inf",
        "0",
        "6",
        "5.01",
        "-1",
        "1e0",
        "4 5",
        "four",
        "٤",
        "４",
        "1_0",
    ],
)
def test_what_is_no_vote_is_a_status_and_never_a_number(text: str) -> None:
    vote = parse_vote(text)
    assert (vote.value, vote.status) == (None, VoteStatus.UNPARSEABLE)


@given(st.text())
def test_every_vote_is_one_that_the_official_merge_takes_unclamped(text: str) -> None:
    value = parse_vote(text).value
    if value is not None:
        assert 1 <= value == float(text) <= 5


@given(st.integers(0, 9), st.integers(0, 9))
def test_keys_tell_lists_of_pictures_apart(first: int, second: int) -> None:
    one, two = ((bytes(first), bytes(second)), (bytes(first + second),))
    (a,), (b,) = _requests(1, pictures=one), _requests(1, pictures=two)
    assert a.key != b.key


def test_estimates_say_what_is_not_known() -> None:
    nothing = Estimate.of(6, pictures_per_call=16, past=Spending.of([]))
    assert str(nothing) == "at most 6 calls with 96 pictures, tokens unknown before the first reply, price unknown"
    past = [Reply(text="4", model_served="m", input_tokens=999, output_tokens=1, price=0.25)] * 2
    known = Estimate.of(6, pictures_per_call=16, past=Spending.of(past))
    assert str(known) == "at most 6 calls with 96 pictures, about 6,000 tokens, about 1.50 USD"


@pytest.mark.parametrize("text", ["5", "5 EUR", "-1 calls", "nan USD", ""])
def test_limits_need_a_unit(text: str) -> None:
    with pytest.raises(BadInput, match="REFEVAL_JUDGE_BUDGET"):
        Limit.parse(text)


def test_prices() -> None:
    assert Price.parse("2.50/10").of(1_000_000, 100_000) == 3.5
    with pytest.raises(BadInput, match="REFEVAL_JUDGE_PRICE"):
        Price.parse("2.50")
