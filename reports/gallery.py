"""The cases of the web page: what each shows, in which order, and which have nothing to show."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from refeval.cases import Case
from refeval.protocols import Contribution, ProtocolName
from refeval.records import RenderStatus, ScoreStatus
from refeval.reports.evidence import Evidence, evidence_of
from refeval.reports.explain import clip_text
from refeval.reports.media import (
    MEDIA,
    Cutting,
    MediaFolder,
    clip_files,
    cutting_of,
    reference_thumbnail,
    unsafe_to_open,
)
from refeval.reports.replies import ShownReply, replies_by_case, replies_gap
from refeval.reports.views import NO_RECORD, SHOWN_PROTOCOLS, RunView, metric_label

# What went wrong, worst first; it comes before any score.
TROUBLE = (ScoreStatus.FAILED, ScoreStatus.UNPARSEABLE, ScoreStatus.MISSING)


@dataclass(frozen=True, kw_only=True)
class ShownReference:
    """A reference: URL of its thumbnail (None: not kept in the run folder), label and kind."""

    picture: str | None
    label: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class ScoreLine:
    """One metric of one case.

    Attributes:
        metric: its id.
        label: its name.
        status: a :class:`ScoreStatus`.
        reason: why there is no value, or a remark on it.
        values: one number per protocol of :data:`SHOWN_PROTOCOLS`, normalised, in per cent, or in the metric's own
            unit where it is no part of the total; None without one.
    """

    metric: str
    label: str
    status: str
    reason: str | None
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Showing:
    """What one run made of one case.

    Attributes:
        run: label of the run.
        clip: what is cut out of the clip; None where there is nothing to show, and ``gap`` says why.
        gap: reason, or None.
        size: size, length and rate of the clip, or None.
        frames: of the clip; None where they were not counted.
        fps: of the clip, or None.
        shape: width and height of the clip in pixels; 16 by 9 where unknown.
        qualities: one per protocol, 0..1, weighted mean of the normalised values that there are; None without any.
        trouble: statuses that are not as they should be, worst first.
        lines: the metrics that the run has records of.
        evidence: what was seen in the clip.
        replies: of the judge.
        replies_gap: why there are none, or None.
    """

    run: str
    clip: Cutting | None
    gap: str | None
    size: str | None
    frames: int | None
    fps: str | None
    shape: tuple[int, int]
    qualities: tuple[float | None, ...]
    trouble: tuple[str, ...]
    lines: tuple[ScoreLine, ...]
    evidence: tuple[Evidence, ...]
    replies: tuple[ShownReply, ...]
    replies_gap: str | None

    @property
    def quality(self) -> float | None:
        """Under strict."""
        return self.qualities[SHOWN_PROTOCOLS.index(ProtocolName.STRICT)]


@dataclass(frozen=True, kw_only=True)
class Card:
    """One case under all runs."""

    id: str
    category: str
    prompt: str
    references: tuple[ShownReference, ...]
    showings: tuple[Showing, ...]

    @property
    def quality(self) -> float | None:
        """That of the run that does worst."""
        return min((s.quality for s in self.showings if s.quality is not None), default=None)

    @property
    def trouble(self) -> tuple[str, ...]:
        """What is wrong in any run, worst first."""
        found = {status for showing in self.showings for status in showing.trouble}
        return tuple(status.value for status in TROUBLE if status in found)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The cards, worst first, and the cases without a clip and a score in any run: (reason, cases).

    Attributes:
        pictures: names of the files that were cut out of clips.
    """

    cards: tuple[Card, ...]
    empty: tuple[tuple[str, tuple[Case, ...]], ...]
    pictures: frozenset[str]


def build_gallery(views: Sequence[RunView], labels: Sequence[str], media: MediaFolder) -> Gallery:
    """Everything the page shows of the cases; what it needs of the clips is cut out of them.

    Args:
        views: runs of one suite.
        labels: their names.
        media: where pictures go.

    Raises:
        DiskFull: no space for a picture.
    """
    runs = [_ShownRun(view, label) for view, label in zip(views, labels, strict=True)]
    cards: list[Card] = []
    empty: dict[str, list[Case]] = {}
    for case in views[0].suite.cases:
        if reason := _why_empty(case, runs):
            empty.setdefault(reason, []).append(case)
            continue
        cards.append(
            Card(
                id=case.id,
                category=case.category.value,
                prompt=case.prompt,
                references=_references(views, case, media),
                showings=tuple(_showing(run, case) for run in runs),
            )
        )
    cuttings = [
        showing.clip
        for card in cards
        for run, showing in zip(runs, card.showings, strict=True)
        if showing.clip and card.id not in run.unsafe
    ]
    return Gallery(
        cards=tuple(sorted(cards, key=lambda card: (_rank(card), _natural(card.id)))),
        empty=tuple((reason, tuple(cases)) for reason, cases in sorted(empty.items())),
        pictures=frozenset(media.cut(cuttings)),
    )


class _ShownRun:
    """A run with what is read of it once."""

    def __init__(self, view: RunView, label: str) -> None:
        self.view = view
        self.label = label
        self.files = clip_files(view)
        self.unsafe = unsafe_to_open(view)
        self.replies = replies_by_case(view)


def _rank(card: Card) -> tuple[int, float]:
    trouble = [i for i, status in enumerate(TROUBLE) if status in card.trouble]
    return (trouble[0] if trouble else len(TROUBLE), -1.0 if card.quality is None else card.quality)


def _natural(case_id: str) -> list[tuple[int, str]]:
    return [(int(digits or 0), text) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", case_id)]


def _references(views: Sequence[RunView], case: Case, media: MediaFolder) -> tuple[ShownReference, ...]:
    thumbnails = [reference_thumbnail(views, case.id, number) for number in range(1, len(case.references) + 1)]
    return tuple(
        ShownReference(
            picture=f"{MEDIA}/{media.keep_picture(thumbnail)}" if thumbnail else None,
            label=reference.label,
            kind=reference.kind.value,
        )
        for reference, thumbnail in zip(case.references, thumbnails, strict=True)
    )


def _why_empty(case: Case, runs: Sequence[_ShownRun]) -> str | None:
    """Why there is nothing to show, or None where some run has a clip, a score or a failure of its own."""
    reasons: list[str] = []
    for run in runs:
        render = run.view.renders.get(case.id)
        statuses = {run.view.status(metric, case.id)[0] for metric in run.view.recorded}
        if case.id in run.files or statuses & {ScoreStatus.SCORED, ScoreStatus.FAILED, ScoreStatus.UNPARSEABLE}:
            return None
        if render and render.status is not RenderStatus.MISSING:
            return None
        reasons.append((render.reason if render else None) or NO_RECORD)
    return "; ".join(dict.fromkeys(reasons))


def _showing(run: _ShownRun, case: Case) -> Showing:
    view, file = run.view, run.files.get(case.id)
    lines = tuple(_line(view, case, metric) for metric in view.recorded)
    render = view.renders.get(case.id)
    trouble = {line.status for line in lines}
    if render is None or render.status is not RenderStatus.RENDERED:
        trouble.add(ScoreStatus.FAILED if render and render.status is RenderStatus.FAILED else ScoreStatus.MISSING)
    records = [record for metric in view.recorded if (record := view.scores.get((metric, case.id)))]
    # Boxes belong to the clip that was scored, and to no other.
    sha256 = render.sha256 if render else None
    seen = [record for record in records if record.clip_sha256 in (None, sha256)]
    evidence = tuple(one for record in seen for one in evidence_of(case, record))
    replies = run.replies.get(case.id, ())
    clip = (render.clip if render else None) or {}
    frames, width, height = (clip.get(name) for name in ("frames", "width", "height"))
    return Showing(
        run=run.label,
        clip=cutting_of(render, file, [sight for one in evidence for sight in one.sights]) if render and file else None,
        gap=None if file else _gap(view, case),
        size=clip_text(render) if render and render.clip else None,
        frames=frames if isinstance(frames, int) else None,
        fps=str(clip["fps"]) if clip.get("fps") else None,
        shape=(width, height) if isinstance(width, int) and isinstance(height, int) else (16, 9),
        qualities=tuple(_quality(view.contributions(protocol)[case.id]) for protocol in SHOWN_PROTOCOLS),
        trouble=tuple(status.value for status in TROUBLE if status in trouble),
        lines=lines,
        evidence=evidence,
        replies=replies,
        replies_gap=replies_gap(view, case.id, replies),
    )


def _gap(view: RunView, case: Case) -> str:
    render = view.renders.get(case.id)
    if render is None:
        return "no clip: no record"
    if render.status is RenderStatus.RENDERED:
        return "the clip is not the one that was recorded, or is gone"
    return f"clip {render.status}: {render.reason}"


def _quality(entries: Sequence[Contribution]) -> float | None:
    there = [(entry.weight, entry.normalised) for entry in entries if entry.normalised is not None]
    weight = math.fsum(weight for weight, _ in there)
    return math.fsum(weight * part for weight, part in there) / weight if weight else None


def _line(view: RunView, case: Case, metric: str) -> ScoreLine:
    status, reason = view.status(metric, case.id)
    entries = [_entry(view, case, metric, protocol) for protocol in SHOWN_PROTOCOLS]
    if status is ScoreStatus.SCORED:
        remarks = zip(SHOWN_PROTOCOLS, entries, strict=True)
        reason = next((f"{p}: {entry.reason}" for p, entry in remarks if entry and entry.reason), None)
    return ScoreLine(
        metric=metric,
        label=metric_label(metric),
        status=status.value,
        reason=reason,
        values=tuple(
            _value(view, case, metric, protocol, entry)
            for protocol, entry in zip(SHOWN_PROTOCOLS, entries, strict=True)
        ),
    )


def _entry(view: RunView, case: Case, metric: str, protocol: ProtocolName) -> Contribution | None:
    entries = view.contributions(protocol)[case.id]
    return next((entry for entry in entries if entry.metric == metric), None)


def _value(view: RunView, case: Case, metric: str, protocol: ProtocolName, entry: Contribution | None) -> float | None:
    if entry:
        return None if entry.normalised is None else 100 * entry.normalised
    record = view.scores.get((metric, case.id))
    if record is None:
        return None
    return record.strict_value if protocol is ProtocolName.STRICT else record.value
