"""A judge behind an OpenAI-compatible server: OpenAI's own, or any other base URL, such as a vLLM on this machine.

Source: OpenS2V-Nexus eval/get_naturalscore.py at 210eb08 for the request and the least waits. Differs: waits follow
the server's Retry-After and are spread, a time budget takes the place of five attempts, and a reply that does not
come is an error, not the text "error".
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from refeval.errors import MissingPrerequisite, RefevalError
from refeval.metrics.judges.base import JudgeUnavailable, Reply, Request
from refeval.metrics.judges.limits import Pace, Price
from refeval.metrics.judges.retry_after import retry_after
from refeval.redaction import Redactor

if TYPE_CHECKING:
    from openai import APIStatusError
    from tenacity import RetryCallState

PATIENCE_S = 600.0
TIMEOUT_S = 120.0
_LONGEST_WAIT_S = 60.0
_RETRIED = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({401, 402, 403, 404})
# A server that garbles replies has been paid for each: two more are enough.
_GARBLED_ATTEMPTS = 3
_NO_KEY = "none"


def least_wait(attempt: int) -> float:
    """Seconds to wait after the n-th failed attempt (from 1): the official waits 2, 2, 4, 8, and on to 60."""
    return float(min(max(2 ** (attempt - 1), 2), _LONGEST_WAIT_S))


class OpenAIJudge:
    """Asks a server through the ``openai`` client.

    Args:
        base_url: up to and with ``/v1``.
        key: sent to the server; None: the server wants none.
        key_variable: name of the environment variable that the key is of, for messages.
        price: for the price of a reply.
        pace: shared by all threads.
        patience_s: how long after its first call a vote may still be tried again.
        timeout_s: of one call.
        wait_unit: seconds of one unit of waiting; tests shorten it.

    Raises:
        MissingPrerequisite: the client is not installed.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None,
        key_variable: str,
        price: Price | None = None,
        pace: Pace | None = None,
        patience_s: float = PATIENCE_S,
        timeout_s: float = TIMEOUT_S,
        wait_unit: float = 1.0,
    ) -> None:
        try:
            import openai
            import tenacity
        except ImportError as error:
            cure = "pip install 'refeval[score]'"
            raise MissingPrerequisite(f"the judge's client is not installed: {error.name}", cure=cure) from error
        self._openai, self._tenacity = openai, tenacity
        self._client = openai.OpenAI(api_key=key or _NO_KEY, base_url=base_url, timeout=timeout_s, max_retries=0)
        self._host = urlsplit(base_url).netloc.rpartition("@")[2]
        self._key = key
        self._key_variable = key_variable
        self._price = price
        self._pace = pace or Pace(None)
        self._patience_s = patience_s
        self._wait_unit = wait_unit
        self._redact = Redactor({key_variable: key or ""}).text
        self._refusal: JudgeUnavailable | None = None
        self._lock = threading.Lock()

    def ask(self, request: Request) -> Reply:
        """See :class:`refeval.metrics.judges.base.Judge`.

        Raises:
            JudgeUnavailable: the server refuses the key or the model; no later request is sent.
            RefevalError: no answer within the patience, or the request is refused.
        """
        self._pace.wait()
        for attempt in self._attempts():
            with attempt:
                number = attempt.retry_state.attempt_number
                if number > 1:
                    self._pace.wait()
                return self._call(request, number)
        raise AssertionError("tenacity ends by a return or an error")

    def _attempts(self) -> Any:
        out_of_patience = self._tenacity.stop_before_delay(self._patience_s)
        return self._tenacity.Retrying(
            retry=self._tenacity.retry_if_exception(lambda error: isinstance(error, _Passing)),
            wait=self._wait,
            stop=lambda state: out_of_patience(state) or _too_garbled(state),
            retry_error_callback=self._give_up,
        )

    def _call(self, request: Request, attempt: int) -> Reply:
        if self._refusal:
            raise self._refusal
        started = time.monotonic()
        try:
            answer = self._client.chat.completions.create(**request.body())
        except self._openai.APIStatusError as error:
            raise self._read_status(error) from None
        except (self._openai.APIConnectionError, self._openai.APIResponseValidationError, ValueError) as error:
            raise _Passing(self._describe(error), garbled=isinstance(error, ValueError)) from None
        return self._read(answer, time.monotonic() - started, attempt)

    def _read(self, answer: Any, seconds: float, attempt: int) -> Reply:
        try:
            choice = answer.choices[0]
            text, model = choice.message.content, answer.model
        except (AttributeError, IndexError, TypeError):
            raise _Passing("the reply is not a chat completion", garbled=True) from None
        usage = getattr(answer, "usage", None)
        input_tokens, output_tokens = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
        return Reply(
            text=self._redact(text) if isinstance(text, str) else "",
            model_served=self._redact(str(model or "unknown")),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            price=self._price.of(input_tokens, output_tokens) if self._price else None,
            seconds=seconds,
            attempts=attempt,
            finish_reason=str(choice.finish_reason) if getattr(choice, "finish_reason", None) else None,
        )

    def _read_status(self, error: APIStatusError) -> Exception:
        status = error.status_code
        said = self._describe(error)
        if status in _REFUSED or error.code == "insufficient_quota":
            return self._refuse(status, said)
        if status in _RETRIED or status >= 500:
            return _Passing(said, wait_s=retry_after(error.response.headers))
        return RefevalError(f"the judge at {self._host} does not take the request: {said}")

    def _refuse(self, status: int, said: str) -> JudgeUnavailable:
        what = f"the judge at {self._host} will not answer: HTTP {status}"
        cure = "look at REFEVAL_JUDGE_URL, REFEVAL_JUDGE_MODEL and your account, then repeat the command"
        if status in {401, 403}:
            key = f"the key in {self._key_variable}" if self._key else f"a call without key ({self._key_variable})"
            what = f"the judge at {self._host} refuses {key}: HTTP {status}"
            cure = f"set {self._key_variable} to a key that this server takes, then repeat the command"
        with self._lock:
            self._refusal = JudgeUnavailable(what, details=(("server", said),), cure=cure)
            return self._refusal

    def _wait(self, state: RetryCallState) -> float:
        """Never less than the server asks for; spread, so that threads do not come back together."""
        spread = least_wait(state.attempt_number) * random.uniform(1.0, 1.5) * self._wait_unit
        asked = _failure(state).wait_s
        if asked is None:
            return spread
        if asked < self._patience_s:
            self._pace.hold(asked)
        return max(asked, spread)

    def _give_up(self, state: RetryCallState) -> Reply:
        error = _failure(state)
        seconds = f"{state.seconds_since_start or 0.0:.0f} s"
        wait = f"; it asks to wait {error.wait_s:.0f} s more" if error.wait_s else ""
        what = f"no answer from the judge at {self._host} in {state.attempt_number} attempts over {seconds}"
        raise RefevalError(f"{what}: {error}{wait}", cure="--retry-failed asks again for the missing votes only")

    def _describe(self, error: Exception) -> str:
        behind = f" ({error.__cause__})" if error.__cause__ else ""
        text = " ".join(self._redact(f"{type(error).__name__}: {error}{behind}").split())
        return text if len(text) <= 300 else text[:297] + "..."


class _Passing(Exception):
    """A failure that may pass."""

    def __init__(self, what: str, *, wait_s: float | None = None, garbled: bool = False) -> None:
        super().__init__(what)
        self.wait_s = wait_s
        self.garbled = garbled


def _failure(state: RetryCallState) -> _Passing:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, _Passing), "nothing else is tried again"
    return error


def _too_garbled(state: RetryCallState) -> bool:
    return _failure(state).garbled and state.attempt_number >= _GARBLED_ATTEMPTS


def _count(usage: Any, name: str) -> int | None:
    count = getattr(usage, name, None)
    return count if isinstance(count, int) and count >= 0 else None
