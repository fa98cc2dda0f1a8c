"""The cases of the web page: what each shows, in which order, and which have nothing to show."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refeval.cases import Case
from refeval.protocols import Contribution, ProtocolName
from refeval.records import RenderStatus, ScoreStatus
from refeval.reports.explain import clip_text
from refeval.reports.media import ClipMedia, clip_files, clip_media, inline_everything, reference_picture
from refeval.reports.views import NO_RECORD, SHOWN_PROTOCOLS, RunView, metric_label

# What went wrong, worst first; it comes before any score.
_TROUBLE = (ScoreStatus.FAILED, ScoreStatus.UNPARSEABLE, ScoreStatus.MISSING)


@dataclass(frozen=True, kw_only=True)
class ShownReference:
    """A reference: its thumbnail (None: not kept in the run folder), label and kind."""

    picture: str | None
    label: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class ScoreLine:
    """One metric of one case.

    Attributes:
        label: name of the metric; ``all metrics`` where every one has the same status and reason.
        status: a :class:`ScoreStatus`.
        reason: why there is no value, or a remark on it.
        values: one text per protocol of :data:`SHOWN_PROTOCOLS`.
        part: 0..100, how far the strict value reaches through its range; None without one.
    """

    label: str
    status: str
    reason: str | None
    values: tuple[str, ...]
    part: float | None


@dataclass(frozen=True, kw_only=True)
class Showing:
    """What one run made of one case.

    Attributes:
        run: label of the run.
        clip: None where there is nothing to show; then ``gap`` says why.
        gap: reason, or None.
        size: size, length and rate of the clip, or None.
        quality: 0..1, weighted mean of the normalised strict values that there are; None without any.
        trouble: statuses that are not as they should be, worst first.
        lines: the metrics that the run has records of; none where ``gap`` already says it all.
    """

    run: str
    clip: ClipMedia | None
    gap: str | None
    size: str | None
    quality: float | None
    trouble: tuple[str, ...]
    lines: tuple[ScoreLine, ...]


@dataclass(frozen=True, kw_only=True)
class Card:
    """One case under all runs; ``worst``, ``best`` and ``name`` are its places in the three orders."""

    id: str
    category: str
    prompt: str
    references: tuple[ShownReference, ...]
    showings: tuple[Showing, ...]
    worst: int
    best: int
    name: int

    @property
    def statuses(self) -> tuple[str, ...]:
        """Every status that a metric or a clip of the case has, for the filter."""
        lines = {line.status for showing in self.showings for line in showing.lines}
        return tuple(sorted(lines | set(self.trouble)))

    @property
    def quality(self) -> float | None:
        """That of the run that does worst."""
        return min((s.quality for s in self.showings if s.quality is not None), default=None)

    @property
    def trouble(self) -> tuple[str, ...]:
        """What is wrong in any run, worst first."""
        found = {status for showing in self.showings for status in showing.trouble}
        return tuple(status.value for status in _TROUBLE if status in found)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The cards, worst first, and the cases without a clip and a score in any run: (reason, cases)."""

    cards: tuple[Card, ...]
    empty: tuple[tuple[str, tuple[Case, ...]], ...]


def build_gallery(views: Sequence[RunView], labels: Sequence[str], page_folder: Path) -> Gallery:
    """Everything the page shows of the cases.

    Args:
        views: runs of one suite.
        labels: their names.
        page_folder: folder of the page, which links to clips start from.
    """
    files = [clip_files(view) for view in views]
    inline = inline_everything(files)
    shown: dict[str, tuple[Case, tuple[Showing, ...]]] = {}
    empty: dict[str, list[Case]] = {}
    for case in views[0].suite.cases:
        if reason := _why_empty(case, views, files):
            empty.setdefault(reason, []).append(case)
            continue
        shown[case.id] = (
            case,
            tuple(
                _showing(view, label, case, by_case.get(case.id), page_folder, inline)
                for view, label, by_case in zip(views, labels, files, strict=True)
            ),
        )
    return Gallery(
        cards=_ordered_cards(views, shown),
        empty=tuple((reason, tuple(cases)) for reason, cases in sorted(empty.items())),
    )


def _ordered_cards(views: Sequence[RunView], shown: Mapping[str, tuple[Case, tuple[Showing, ...]]]) -> tuple[Card, ...]:
    worst = _places(sorted(shown, key=lambda case_id: (_rank(shown[case_id][1]), _natural(case_id))))
    best = _places(sorted(shown, key=lambda case_id: (_reverse_rank(shown[case_id][1]), _natural(case_id))))
    name = _places(sorted(shown, key=_natural))
    cards = [
        Card(
            id=case.id,
            category=case.category.value,
            prompt=case.prompt,
            references=_references(views, case),
            showings=showings,
            worst=worst[case.id],
            best=best[case.id],
            name=name[case.id],
        )
        for case, showings in shown.values()
    ]
    return tuple(sorted(cards, key=lambda card: card.worst))


def _rank(showings: Sequence[Showing]) -> tuple[int, float]:
    trouble = [i for i, status in enumerate(_TROUBLE) if any(status in s.trouble for s in showings)]
    qualities = [showing.quality for showing in showings if showing.quality is not None]
    return (trouble[0] if trouble else len(_TROUBLE), min(qualities, default=-1.0))


def _reverse_rank(showings: Sequence[Showing]) -> tuple[int, float]:
    trouble, quality = _rank(showings)
    return (-trouble, -quality)


def _places(order: Sequence[str]) -> dict[str, int]:
    return {case_id: place for place, case_id in enumerate(order)}


def _natural(case_id: str) -> list[tuple[int, str]]:
    return [(int(digits or 0), text) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", case_id)]


def _references(views: Sequence[RunView], case: Case) -> tuple[ShownReference, ...]:
    return tuple(
        ShownReference(
            picture=reference_picture(views, case.id, number),
            label=reference.label,
            kind=reference.kind.value,
        )
        for number, reference in enumerate(case.references, 1)
    )


def _why_empty(case: Case, views: Sequence[RunView], files: Sequence[Mapping[str, Path]]) -> str | None:
    """Why there is nothing to show, or None where some run has a clip, a score or a failure of its own."""
    reasons: list[str] = []
    for view, by_case in zip(views, files, strict=True):
        render = view.renders.get(case.id)
        statuses = {view.status(metric, case.id)[0] for metric in view.recorded}
        if case.id in by_case or statuses & {ScoreStatus.SCORED, ScoreStatus.FAILED, ScoreStatus.UNPARSEABLE}:
            return None
        if render and render.status is not RenderStatus.MISSING:
            return None
        reasons.append((render.reason if render else None) or NO_RECORD)
    return "; ".join(dict.fromkeys(reasons))


def _showing(view: RunView, label: str, case: Case, file: Path | None, page_folder: Path, inline: bool) -> Showing:
    lines = tuple(_line(view, case, metric) for metric in view.recorded)
    render = view.renders.get(case.id)
    trouble = {line.status for line in lines}
    if render is None or render.status is not RenderStatus.RENDERED:
        trouble.add(ScoreStatus.FAILED if render and render.status is RenderStatus.FAILED else ScoreStatus.MISSING)
    return Showing(
        run=label,
        clip=clip_media(view, case.id, file, page_folder, inline=inline) if file else None,
        gap=None if file else _gap(view, case),
        size=clip_text(render) if render and render.clip else None,
        quality=_quality(view.contributions(ProtocolName.STRICT)[case.id]),
        trouble=tuple(status.value for status in _TROUBLE if status in trouble),
        lines=_merged(lines) if file else _unless_the_gap_says_it(_merged(lines)),
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
    strict = entries[-1]
    if status is ScoreStatus.SCORED:
        remarks = zip(SHOWN_PROTOCOLS, entries, strict=True)
        reason = next((f"{p}: {entry.reason}" for p, entry in remarks if entry and entry.reason), None)
    return ScoreLine(
        label=metric_label(metric),
        status=status.value,
        reason=reason,
        values=tuple(
            _value(view, case, metric, protocol, entry)
            for protocol, entry in zip(SHOWN_PROTOCOLS, entries, strict=True)
        ),
        part=100 * strict.normalised if strict and strict.normalised is not None else None,
    )


def _entry(view: RunView, case: Case, metric: str, protocol: ProtocolName) -> Contribution | None:
    entries = view.contributions(protocol)[case.id]
    return next((entry for entry in entries if entry.metric == metric), None)


def _value(view: RunView, case: Case, metric: str, protocol: ProtocolName, entry: Contribution | None) -> str:
    if entry:
        return "–" if entry.normalised is None else f"{100 * entry.normalised:.1f}"
    record = view.scores.get((metric, case.id))
    strict = protocol is ProtocolName.STRICT
    raw = record and (record.strict_value if strict else record.value)
    return "–" if raw is None else f"{raw:.4g} raw"


def _unless_the_gap_says_it(lines: tuple[ScoreLine, ...]) -> tuple[ScoreLine, ...]:
    return () if len(lines) == 1 and lines[0].status in _TROUBLE else lines


def _merged(lines: tuple[ScoreLine, ...]) -> tuple[ScoreLine, ...]:
    """One line where every metric that applies has the same status and reason, such as a clip that is not there."""
    applicable = [line for line in lines if line.status != ScoreStatus.NOT_APPLICABLE]
    same = {(line.status, line.reason) for line in applicable}
    if len(applicable) < 2 or len(same) > 1 or applicable[0].status == ScoreStatus.SCORED:
        return lines
    first = applicable[0]
    return (ScoreLine(label="all metrics", status=first.status, reason=first.reason, values=first.values, part=None),)
