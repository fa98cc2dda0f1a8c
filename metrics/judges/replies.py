"""Recorded replies: one whole file per vote, written the moment it is there; and a judge that replays them.

::

    RUN/judge/<case>.<repeat>.json     superseded/<case>.<repeat>.<key>.json     calibration.json
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from refeval.documents import read_document, write_document
from refeval.errors import BadInput, CorruptFile, RefevalError
from refeval.metrics.judges.base import Reply, Request
from refeval.redaction import Redactor


class ReplyRecord(BaseModel):
    """A reply on disk, schema version 1: what was asked, by sha256, and what came back.

    Attributes:
        case: id.
        repeat: name of the vote.
        key: of the request.
        model: the judge that was asked for; ``model_served`` is who answered.
        rubric: wording and sha256.
        pictures: how many.
        pictures_sha256: of all of them.
        text: the raw reply.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    schema_version: Literal[1] = 1
    case: str
    repeat: str
    key: str
    model: str
    rubric: dict[str, str]
    pictures: int
    pictures_sha256: str
    text: str
    model_served: str
    input_tokens: int | None
    output_tokens: int | None
    price: float | None
    seconds: float
    attempts: int
    finish_reason: str | None

    @classmethod
    def of(cls, request: Request, reply: Reply) -> Self:
        """The record of a reply; a server that quotes a secret does not get it onto the disk."""
        redact = Redactor.from_environment().text
        answered = asdict(reply) | {"text": redact(reply.text), "model_served": redact(reply.model_served)}
        return cls(
            case=request.case,
            repeat=request.repeat,
            key=request.key,
            model=request.model,
            rubric=request.rubric.as_settings(),
            pictures=len(request.pictures),
            pictures_sha256=request.pictures_sha256,
            **answered,
        )

    def belongs_at(self, path: Path) -> bool:
        """Whether a file is where this record is to lie."""
        return path.name == f"{self.case}.{self.repeat}.json"

    def reply(self) -> Reply:
        """The reply."""
        return Reply(**{field.name: getattr(self, field.name) for field in fields(Reply)})


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What recorded replies cost.

    Attributes:
        calls: how many replies.
        tokens: of input and output; None where a reply does not say.
        dollars: None where a reply has no price.
        most_tokens: of one call.
        most_dollars: of one call.
    """

    calls: int
    tokens: int | None
    dollars: float | None
    most_tokens: int
    most_dollars: float

    @classmethod
    def of(cls, replies: Sequence[Reply]) -> Self:
        """The sum."""
        prices = [reply.price for reply in replies if reply.price is not None]
        tokens = [count for reply in replies if (count := _tokens(reply)) is not None]
        whole = len(tokens) == len(replies)
        return cls(
            calls=len(replies),
            tokens=sum(tokens) if whole else None,
            dollars=sum(prices) if len(prices) == len(replies) else None,
            most_tokens=max(tokens, default=0),
            most_dollars=max(prices, default=0.0),
        )


class ReplyFolder:
    """The recorded replies of a run; several threads and processes may write to it.

    Args:
        folder: ``RUN/judge``; made with the first reply.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # By inode: a file keeps it when it is set aside, and the one in its place has another.
        self._seen: dict[int, Reply] = {}
        self._lock = threading.Lock()

    def path(self, case: str, repeat: str) -> Path:
        """Where a reply lies.

        Raises:
            BadInput: the names lead out of the folder.
        """
        name = f"{case}.{repeat}.json"
        if name != Path(name).name or name.startswith("."):
            raise BadInput(f"case {case!r}: the id cannot be a file name")
        return self.folder / name

    def find(self, request: Request) -> Reply | None:
        """The recorded reply to this very request, or None."""
        record = self.record(request.case, request.repeat)
        return record.reply() if record is not None and record.key == request.key else None

    def record(self, case: str, repeat: str) -> ReplyRecord | None:
        """What is recorded for a vote; None if there is nothing or it is damaged."""
        path = self.path(case, repeat)
        record = _read(path)
        return record if record is not None and record.belongs_at(path) else None

    def paths(self) -> list[Path]:
        """Every file of a current reply, readable or not, by name."""
        return sorted(self.folder.glob(_CURRENT))

    def write(self, request: Request, reply: Reply) -> None:
        """Record a reply; one to another request is kept aside.

        Raises:
            DiskFull: no space left.
        """
        path = self.path(request.case, request.repeat)
        old = _read(path)
        if old is not None and old.key != request.key:
            aside = self.folder / "superseded"
            aside.mkdir(exist_ok=True)
            path.replace(aside / f"{path.stem}.{old.key[:12]}.json")
        write_document(path, ReplyRecord.of(request, reply).model_dump(mode="json"))

    def spending(self) -> Spending:
        """The cost of every reply of the run, also of those that were set aside."""
        with self._lock:
            inodes = []
            for path in sorted(path for pattern in _ALL for path in self.folder.glob(pattern)):
                with contextlib.suppress(FileNotFoundError):
                    inode = path.stat().st_ino
                    inodes.append(inode)
                    if inode not in self._seen and (record := _read(path)):
                        self._seen[inode] = record.reply()
            return Spending.of([self._seen[inode] for inode in dict.fromkeys(inodes) if inode in self._seen])


class RecordedJudge:
    """Answers from recorded replies; never opens a socket.

    Args:
        folder: ``RUN/judge`` of this or another run.
    """

    def __init__(self, folder: Path) -> None:
        self.replies = ReplyFolder(folder)

    def ask(self, request: Request) -> Reply:
        """See :class:`refeval.metrics.judges.base.Judge`."""
        record = self.replies.record(request.case, request.repeat)
        if record is not None and record.key == request.key:
            return record.reply()
        reason = _difference(record, request) if record else "there is none"
        raise RefevalError(
            f"case '{request.case}': no recorded reply for vote {request.repeat}: {reason}",
            details=(("looked in", str(self.replies.folder)),),
            cure="ask a judge: REFEVAL_JUDGE_URL=URL without REFEVAL_JUDGE_REPLAY and without --offline",
        )


# A calibration has a dot less in its name.
_CURRENT = "*.*.json"
_ALL = (_CURRENT, "superseded/*.*.*.json")


def load_reply(path: Path) -> ReplyRecord:
    """Read a recorded reply.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFile: it does not match its digest.
        ValidationError: it is something else.
    """
    return ReplyRecord.model_validate(read_document(path))


def _read(path: Path) -> ReplyRecord | None:
    with contextlib.suppress(OSError, CorruptFile, ValidationError):
        return load_reply(path)
    return None


def _tokens(reply: Reply) -> int | None:
    if reply.input_tokens is None or reply.output_tokens is None:
        return None
    return reply.input_tokens + reply.output_tokens


def _difference(record: ReplyRecord, request: Request) -> str:
    if record.model != request.model:
        return f"it is of the judge {record.model}, not {request.model}"
    if record.rubric.get("sha256") != request.rubric.sha256:
        return f"it was made with another rubric ({record.rubric.get('wording')}, not {request.rubric.wording})"
    return "it was made from other pictures"
