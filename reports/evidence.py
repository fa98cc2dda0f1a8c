"""What FaceSim and NexusScore saw, as the page shows it: frames, boxes and similarities out of the score records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refeval.cases import Case
from refeval.records import ScoreRecord
from refeval.reports.views import metric_label

_UNREADABLE = "the details in the record cannot be read"
_NO_BOXES = "the record keeps no boxes"


class Sight(BaseModel):
    """Where a subject was seen in a clip.

    Attributes:
        frame: index, from 0.
        box: left, top, right, bottom in pixels; right and bottom lie outside.
        similarity: of what is in the box to the reference.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    frame: Annotated[int, Field(ge=0)]
    box: tuple[int, int, int, int]
    similarity: float


class _Subject(BaseModel):
    label: str
    reference: str
    frames_found: int
    mean_similarity: float | None
    best_crops: tuple[Sight, ...]


class _Nexus(BaseModel):
    subjects: tuple[_Subject, ...]


class _Person(BaseModel):
    path: str
    similarity: float
    face: bool
    best_crops: tuple[Sight, ...] | None = None


class _Faces(BaseModel):
    references: tuple[_Person, ...]
    faces: tuple[int, ...]
    identity_confusion: float | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One subject of a case under one metric in one clip.

    Attributes:
        metric: its label.
        reference: place of the reference in the case, from 1; None where the case has no such reference.
        subject: label of the subject.
        summary: what was found, in words.
        sights: the best ones, best first.
    """

    metric: str
    reference: int | None
    subject: str
    summary: str
    sights: tuple[Sight, ...] = ()


def evidence_of(case: Case, record: ScoreRecord) -> tuple[Evidence, ...]:
    """What the details of a score show; nothing for metrics that look at no subject, or without a score."""
    read = _READERS.get(record.metric)
    if read is None or not record.details:
        return ()
    try:
        return read(case, record.details, record.frames_used)
    except ValidationError:
        return (Evidence(metric=metric_label(record.metric), reference=None, subject="–", summary=_UNREADABLE),)


def _nexus(case: Case, details: dict[str, Any], looked_at: int | None) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            metric=metric_label("nexus"),
            reference=_place(case, subject.reference),
            subject=subject.label,
            summary=_found(subject, looked_at),
            sights=subject.best_crops,
        )
        for subject in _Nexus.model_validate(details).subjects
    )


def _found(subject: _Subject, looked_at: int | None) -> str:
    frames = f"{looked_at} frames" if looked_at else "the frames"
    if subject.mean_similarity is None:
        return f"not found in {frames}"
    return f"found in {subject.frames_found} of {frames}, mean similarity {subject.mean_similarity:.3f}"


def _facesim(case: Case, details: dict[str, Any], _: int | None) -> tuple[Evidence, ...]:
    faces = _Faces.model_validate(details)
    return tuple(
        Evidence(
            metric=metric_label("facesim"),
            reference=(place := _place(case, person.path)),
            subject=case.references[place - 1].label if place else person.path,
            summary=_person(person, faces),
            sights=person.best_crops or (),
        )
        for person in faces.references
    )


def _person(person: _Person, faces: _Faces) -> str:
    if not person.face:
        return "no face is found in the reference"
    with_face = sum(count > 0 for count in faces.faces)
    parts = [f"mean similarity {person.similarity:.3f}", f"faces in {with_face} of {len(faces.faces)} frames"]
    if faces.identity_confusion is not None:
        parts.append(f"identity confusion {faces.identity_confusion:.2f}")
    if with_face and person.best_crops is None:
        parts.append(_NO_BOXES)
    return ", ".join(parts)


def _place(case: Case, path: str) -> int | None:
    return next((place for place, one in enumerate(case.references, 1) if one.path == path), None)


_READERS = {"nexus": _nexus, "facesim": _facesim}
