"""What the judge of a run answered, by case: votes, raw texts and who served them."""

from __future__ import annotations

from dataclasses import dataclass

from refeval.catalogue import METRIC_BY_ID
from refeval.metrics.judges.base import parse_vote
from refeval.metrics.judges.replies import ReplyFolder, ReplyRecord
from refeval.reports.views import RunView

_NATURAL = METRIC_BY_ID["natural"].id
# A judge that talks must not fill the page.
_LONGEST = 2000


@dataclass(frozen=True, kw_only=True)
class ShownReply:
    """One vote.

    Attributes:
        vote: its name: ``1`` and so on, ``strict-1`` and so on for the frames that strict looks at.
        value: 1 to 5; None where the reply is not such a number.
        text: the raw reply, cut off where it is very long.
        served: who answered, by its own account.
    """

    vote: str
    value: float | None
    text: str
    served: str


def replies_by_case(view: RunView) -> dict[str, tuple[ShownReply, ...]]:
    """The current replies of a run, by case id and name of the vote; damaged files are left out.

    How long a reply took is left out too, so that a run that was taken up again has the same page.
    """
    folder = ReplyFolder(view.run.folder / "judge")
    found: dict[str, list[ShownReply]] = {}
    for path in folder.paths():
        case_id, _, rest = path.name.partition(".")
        record = folder.record(case_id, rest.removesuffix(".json"))
        if record is not None:
            found.setdefault(record.case, []).append(_shown(record))
    return {case: tuple(replies) for case, replies in found.items()}


def replies_gap(view: RunView, case_id: str, replies: tuple[ShownReply, ...]) -> str | None:
    """What is to be said where a case has been judged and the run folder keeps no reply; else None."""
    judged = view.scores.get((_NATURAL, case_id))
    return "no reply is kept in the run folder" if judged and judged.details and not replies else None


def _shown(record: ReplyRecord) -> ShownReply:
    text, more = record.text[:_LONGEST], len(record.text) - _LONGEST
    if more > 0:
        text += f"… and {more} more characters in judge/{record.case}.{record.repeat}.json"
    return ShownReply(
        vote=record.repeat,
        value=parse_vote(record.text).value,
        text=text,
        served=record.model_served,
    )
