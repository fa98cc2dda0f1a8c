"""What a judge may cost and how fast it is asked; what it will cost, before the first call."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from refeval.errors import BadInput, RefevalError
from refeval.metrics.judges.base import JudgeUnavailable
from refeval.metrics.judges.replies import ReplyFolder, Spending

_PRICE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/([0-9]+(?:\.[0-9]+)?)")
_LIMIT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(USD|tokens|calls)")
_CURE = "set a higher REFEVAL_JUDGE_BUDGET and repeat the command: only the missing votes are asked for"


@dataclass(frozen=True, kw_only=True)
class Price:
    """Prices of the judge, as the user gives them; refeval knows none.

    Attributes:
        input: dollars per million input tokens.
        output: dollars per million output tokens.
    """

    input: float
    output: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``INPUT/OUTPUT``, e.g. ``2.50/10``.

        Raises:
            BadInput: not of that form.
        """
        match = _PRICE.fullmatch(text.strip())
        if not match:
            cure = "REFEVAL_JUDGE_PRICE=INPUT/OUTPUT in dollars per million tokens, e.g. 0.50/2"
            raise BadInput(f"REFEVAL_JUDGE_PRICE: {text!r} is not a price", cure=cure)
        return cls(input=float(match[1]), output=float(match[2]))

    def of(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        """Of one call, in dollars; None where the tokens are not known."""
        if input_tokens is None or output_tokens is None:
            return None
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How much may be spent on one run.

    Attributes:
        amount: in its unit.
        unit: ``USD``, ``tokens`` (input and output together) or ``calls``.
    """

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``5 USD``, ``2000000 tokens`` or ``540 calls``.

        Raises:
            BadInput: not of that form.
        """
        match = _LIMIT.fullmatch(text.strip())
        if not match:
            cure = "REFEVAL_JUDGE_BUDGET='5 USD', '2000000 tokens' or '540 calls'"
            raise BadInput(f"REFEVAL_JUDGE_BUDGET: {text!r} is not an amount with a unit", cure=cure)
        return cls(amount=float(match[1]), unit=match[2])

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"

    def measure(self, spending: Spending) -> tuple[float | None, float | None]:
        """What is spent, and the most that one call took, in the unit; None: not known."""
        if self.unit == "calls":
            return float(spending.calls), 1.0
        if self.unit == "tokens":
            return _known(spending.tokens), spending.most_tokens or None
        return spending.dollars, spending.most_dollars or None


class Budget:
    """Holds the calls of a run below a limit, over all its processes and resumptions.

    A call is let through if it fits with those in flight, each taken to cost as much as the dearest so far; until
    the first one is paid, they go one by one. Calls in flight in other processes are not seen, nor what a server
    takes for calls that fail.

    Args:
        limit: of the run.
        replies: where what was spent is read from.
    """

    def __init__(self, limit: Limit, replies: ReplyFolder) -> None:
        self.limit = limit
        self.replies = replies
        self._in_flight = 0
        self._change = threading.Condition()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a call and the writing of its reply.

        Raises:
            JudgeUnavailable: the budget is used up.
            RefevalError: the server does not say what its replies cost.
        """
        with self._change:
            self._wait_for_room()
            self._in_flight += 1
        try:
            yield
        finally:
            with self._change:
                self._in_flight -= 1
                self._change.notify_all()

    def _wait_for_room(self) -> None:
        while not self._has_room():
            if not self._in_flight:
                what = f"the judge's budget of {self.limit} is used up"
                raise JudgeUnavailable(what, cure=_CURE)
            self._change.wait()

    def _has_room(self) -> bool:
        spent, most = self.limit.measure(self.replies.spending())
        if spent is None:
            cure = "give the budget in calls: REFEVAL_JUDGE_BUDGET='540 calls'; for USD also REFEVAL_JUDGE_PRICE"
            raise RefevalError(f"the cost of the recorded replies is not known in {self.limit.unit}", cure=cure)
        if most is None:
            return not self._in_flight and spent < self.limit.amount
        # A call that is being recorded counts twice for a moment; whoever waits looks again.
        return spent + most * (self._in_flight + 1) <= self.limit.amount


class Pace:
    """Spaces calls evenly over all threads of a process.

    Args:
        per_minute: calls; None: as fast as they come.
        clock: seconds.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        per_minute: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = -math.inf
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next call may go."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._gap
        if turn > now:
            self._sleep(turn - now)

    def hold(self, seconds: float) -> None:
        """Let no further call go for a while: the server has asked for it."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What scoring will ask for, at most, before the first call.

    Attributes:
        calls: still to be made.
        pictures: sent with them.
        tokens: as the recorded replies let expect; None where there are none yet.
        dollars: likewise.
    """

    calls: int
    pictures: int
    tokens: int | None
    dollars: float | None

    @classmethod
    def of(cls, calls: int, *, pictures_per_call: int, past: Spending) -> Self:
        """Carry the mean of past calls on to those to come.

        Args:
            calls: to come.
            pictures_per_call: of each.
            past: what is recorded.
        """
        share = calls / past.calls if past.calls else None
        tokens = None if share is None or past.tokens is None else round(past.tokens * share)
        dollars = None if share is None or past.dollars is None else past.dollars * share
        return cls(calls=calls, pictures=calls * pictures_per_call, tokens=tokens, dollars=dollars)

    def __str__(self) -> str:
        tokens = "tokens unknown before the first reply" if self.tokens is None else f"about {self.tokens:,} tokens"
        dollars = "price unknown" if self.dollars is None else f"about {self.dollars:.2f} USD"
        return f"at most {self.calls:,} calls with {self.pictures:,} pictures, {tokens}, {dollars}"


def _known(count: int | None) -> float | None:
    return None if count is None else float(count)
