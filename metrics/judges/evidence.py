"""Whether what a judge said is still there: recorded replies against their digests, and scores against replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from refeval.errors import CorruptFile
from refeval.metrics.judges.base import parse_vote
from refeval.metrics.judges.calibration import CALIBRATION, load_calibration
from refeval.metrics.judges.replies import ReplyFolder, load_reply


def damaged_documents(folder: Path) -> Iterator[tuple[Path, CorruptFile | ValidationError]]:
    """The documents of ``RUN/judge`` that cannot be read, and why; replies by name, then the calibration."""
    for path in ReplyFolder(folder).paths():
        try:
            record = load_reply(path)
            if not record.belongs_at(path):
                raise CorruptFile(f"{path}: the reply in it is vote {record.repeat} on case '{record.case}'")
        except (CorruptFile, ValidationError) as error:
            yield path, error
    calibration = folder / CALIBRATION
    if calibration.exists():
        try:
            load_calibration(calibration)
        except (CorruptFile, ValidationError) as error:
            yield calibration, error


def votes_without_reply(folder: Path, case: str, details: Mapping[str, Any]) -> list[str]:
    """The votes of a score whose reply is missing, damaged or another one, by name.

    Strict votes that are the official ones had the same pictures, and need no replies of their own.

    Args:
        folder: ``RUN/judge``.
        case: id.
        details: of the score's record.
    """
    official, strict = details["votes"], details["strict_votes"]
    names = [*_names("", official), *(_names("strict-", strict) if strict != official else [])]
    return [name for name, vote in names if not _is_backed(ReplyFolder(folder), case, name, vote, details)]


def _names(prefix: str, votes: Sequence[float]) -> list[tuple[str, float]]:
    return [(f"{prefix}{number}", vote) for number, vote in enumerate(votes, 1)]


def _is_backed(replies: ReplyFolder, case: str, name: str, vote: float, details: Mapping[str, Any]) -> bool:
    record = replies.record(case, name)
    if record is None or (record.model, record.rubric) != (details["judge"], details["rubric"]):
        return False
    return parse_vote(record.text).value == vote
