"""What the script of the web page reads of the cases: one JSON object that is safe inside a script element."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from refeval.protocols import slots
from refeval.reports.evidence import Evidence, Sight
from refeval.reports.gallery import TROUBLE, Card, Gallery, Showing
from refeval.reports.media import MEDIA, Cutting
from refeval.reports.views import SHOWN_PROTOCOLS, RunView, metric_label

# More digits than are shown, so that orders and deltas do not depend on rounding; fewer than a float has.
_DIGITS = 6
# Nothing in the object can end the script element or start another one, and old parsers see no line end in a text.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
ClipLink = Callable[[Cutting], str]


def script_safe_json(content: Any) -> str:
    """JSON without any character that HTML gives a meaning to inside a script element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def case_data(views: Sequence[RunView], labels: Sequence[str], gallery: Gallery, link: ClipLink) -> dict[str, Any]:
    """Runs, metrics and cases; the first run is the base of every delta.

    Args:
        views: the runs.
        labels: their names.
        gallery: what is shown.
        link: URL of a clip as the page plays it.
    """
    metrics = list(dict.fromkeys(metric for view in views for metric in view.recorded))
    weighed = [{slot.metric for slot in slots(protocol, views[0].manifest.domain)} for protocol in SHOWN_PROTOCOLS]
    return {
        "runs": list(labels),
        "protocols": [protocol.value for protocol in SHOWN_PROTOCOLS],
        "trouble": [status.value for status in TROUBLE],
        "metrics": [
            {"id": metric, "label": metric_label(metric), "raw": [metric not in known for known in weighed]}
            for metric in metrics
        ],
        "cases": [_card(card, gallery.pictures, link) for card in gallery.cards],
    }


def _card(card: Card, pictures: frozenset[str], link: ClipLink) -> dict[str, Any]:
    return {
        "id": card.id,
        "category": card.category,
        "trouble": card.trouble,
        "runs": [_showing(showing, pictures, link) for showing in card.showings],
    }


def _showing(showing: Showing, pictures: frozenset[str], link: ClipLink) -> dict[str, Any]:
    return {
        "clip": _clip(showing, showing.clip, pictures, link) if showing.clip else None,
        "gap": showing.gap,
        "size": showing.size,
        "quality": [_number(100 * value) if value is not None else None for value in showing.qualities],
        "trouble": showing.trouble,
        "scores": {
            line.metric: [line.status, line.reason, *(_number(value) for value in line.values)]
            for line in showing.lines
        },
        "evidence": [_evidence(one, showing.clip, pictures) for one in showing.evidence],
        "replies": [[one.vote, one.value, one.text, one.served] for one in showing.replies],
        "repliesGap": showing.replies_gap,
    }


def _clip(showing: Showing, clip: Cutting, pictures: frozenset[str], link: ClipLink) -> dict[str, Any]:
    width, height = showing.shape
    return {
        "url": link(clip),
        "poster": _picture(clip.poster_name, pictures),
        "width": width,
        "height": height,
        "frames": showing.frames,
        "fps": float(Fraction(showing.fps)) if showing.fps else None,
    }


def _evidence(one: Evidence, clip: Cutting | None, pictures: frozenset[str]) -> dict[str, Any]:
    return {
        "metric": one.metric,
        "reference": one.reference,
        "subject": one.subject,
        "summary": one.summary,
        "crops": [_crop(sight, clip, pictures) for sight in one.sights],
    }


def _crop(sight: Sight, clip: Cutting | None, pictures: frozenset[str]) -> list[Any]:
    return [_picture(clip.crop_name(sight), pictures) if clip else None, sight.frame, _number(sight.similarity)]


def _picture(name: str, pictures: frozenset[str]) -> str | None:
    return f"{MEDIA}/{name}" if name in pictures else None


def _number(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
