"""Votes as a sheet would cast them, without a browser."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from refeval.studies.study import StudyFolder


def vote(study: StudyFolder, rater: str, item: str, answer: str = "left", *, number: int = 1) -> dict[str, Any]:
    """A vote; the same arguments give the same id."""
    identity = json.dumps([study.digest, rater, item, answer, number])
    return {
        "id": hashlib.sha256(identity.encode()).hexdigest()[:32],
        "study": study.digest,
        "rater": rater,
        "item": item,
        "answer": answer,
        "number": number,
        "watched": 2.5,
        "seconds": 1.25,
        "at": 1_700_000_000_000 + number,
    }


def export(study: StudyFolder, rater: str, votes: Sequence[dict[str, Any]]) -> str:
    """The file that a sheet saves."""
    return json.dumps({"study": study.digest, "rater": rater, "votes": list(votes)})
