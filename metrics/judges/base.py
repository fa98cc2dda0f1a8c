"""What a judge is: a request in, a reply out. Replies are kept raw; reading them is strict and comes later."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

from refeval.errors import Unavailable, Unparseable
from refeval.metrics.judges.frames import chat_request, pictures_sha256
from refeval.metrics.judges.rubric import Rubric

LOWEST, HIGHEST = 1.0, 5.0
_REQUEST_VERSION = 1
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")


class JudgeUnavailable(Unavailable):
    """The judge cannot be asked any more: its key is refused, or its budget is used up.

    No further case can be judged in this process; what is recorded stays, and the open cases stay open.
    """


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one vote rests on.

    Attributes:
        case: id.
        repeat: name of the vote: ``1``, ``2``, ... or ``strict-1``, ...
        model: the judge that is asked for.
        rubric: what it is told.
        pictures: JPEG files, in order.
    """

    case: str
    repeat: str
    model: str
    rubric: Rubric
    pictures: tuple[bytes, ...]

    @cached_property
    def pictures_sha256(self) -> str:
        """Of all pictures, hex."""
        return pictures_sha256(self.pictures)

    @cached_property
    def key(self) -> str:
        """sha256 (hex) over all that the reply depends on; another key means: ask anew."""
        parts = [_REQUEST_VERSION, self.model, self.rubric.sha256, self.pictures_sha256, self.repeat]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def body(self) -> dict[str, Any]:
        """As it goes to a server."""
        return chat_request(self.model, self.pictures, self.rubric.text)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a judge answered.

    Attributes:
        text: raw; empty where the judge gave none.
        model_served: who answered, by its own account.
        input_tokens: None where the server does not say.
        output_tokens: likewise.
        price: in dollars; None where no prices are known.
        seconds: wall time of the call that was answered.
        attempts: calls until then.
        finish_reason: why the answer ends, by the server's account.
    """

    text: str
    model_served: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    price: float | None = None
    seconds: float = 0.0
    attempts: int = 1
    finish_reason: str | None = None


class Judge(Protocol):
    """Whoever answers requests, from several threads at once."""

    def ask(self, request: Request) -> Reply:
        """Have one vote.

        Raises:
            JudgeUnavailable: nobody will answer this or any other request.
            RefevalError: this one is not answered.
        """


class VoteStatus(StrEnum):
    """What a reply is."""

    VALID = "valid"
    UNPARSEABLE = "unparseable"


@dataclass(frozen=True, kw_only=True)
class Vote:
    """A reply that was read.

    Attributes:
        value: 1 to 5; None for an unparseable reply, which is never a number.
        status: valid or unparseable.
    """

    value: float | None
    status: VoteStatus


def parse_vote(text: str) -> Vote:
    """Read a reply: a bare number from 1 to 5 in ASCII digits, with blanks around it, and nothing else.

    The official merge takes what ``float()`` takes: also ``nan``, which ruins its total, and numbers out of range,
    which it clamps; on any other text it dies.
    """
    number = text.strip()
    if _NUMBER.fullmatch(number) and LOWEST <= float(number) <= HIGHEST:
        return Vote(value=float(number), status=VoteStatus.VALID)
    return Vote(value=None, status=VoteStatus.UNPARSEABLE)


def read_vote(request: Request, reply: Reply) -> float:
    """The number in a reply.

    Raises:
        Unparseable: it is something else.
    """
    value = parse_vote(reply.text).value
    if value is None:
        said = reprlib.repr(reply.text) if reply.text else f"nothing (finish reason: {reply.finish_reason})"
        where = f"judge/{request.case}.{request.repeat}.json"
        raise Unparseable(f"vote {request.repeat} ({where}) is not a number from 1 to 5: {said}")
    return value
