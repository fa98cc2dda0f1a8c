"""FaceSim: how much the people of a clip look like their references, as OpenS2V-Eval measures it.

Source: OpenS2V-Nexus eval/get_facesim.py at 210eb08. Differs: every frame that is looked at is searched once,
together with the others; of the insightface pack only the detector runs, and ArcFace where it is there; faces that
are not the largest are embedded too, for ``strict``. A case whose reference shows no face, which the official
script leaves out in silence, is recorded as failed. Where no path names a person, the first person reference counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refeval.cases import Case, Reference, ReferenceKind
from refeval.clips import Clip, Frame, Linspace
from refeval.errors import UnusableClip
from refeval.keys import file_sha256
from refeval.metrics.base import MemoryNeed, Metric, Score
from refeval.metrics.faces import find_faces, largest
from refeval.metrics.faces_models import SOURCES as SOURCES
from refeval.metrics.faces_models import FaceModels, find_files, load_models, tiny_models
from refeval.metrics.faces_scoring import (
    Embedding,
    Match,
    arc_mean,
    clamp,
    confusions,
    cosine,
    match,
    official_mean,
    per_reference,
    strict_mean,
)
from refeval.reference_images import open_reference

_BEST_CROPS = 3
_FOLDERS = ("/man/", "/woman/", "/crop_woman/", "/crop_man/")


class FaceSim(Metric):
    """Cosine between CurricularFace embeddings of faces in the clip and in the reference.

    Officially ``mean(max(0, cos(largest face of a frame, reference)))`` over those of 32 frames, spread evenly, that
    have a face with a positive cosine; 0 where there is none. The right face in one frame and a stranger in the
    others is as good as the right face in all. Cases of several people are not scored by the official script: no
    official protocol reads ``value`` there, which holds the same formula for the first person.

    Range: 0 to 1. Higher is better.

    ``strict`` reads the mean over the person references and all 32 frames of ``max(0, cosine)`` under the best
    one-to-one assignment of faces to references; 0 where a reference is left without a face. In ``details``,
    ``identity_confusion`` is the share of the assigned faces that are closer to another subject's reference than to
    the one they stand for, None where that cannot happen.

    Args:
        tiny: use a small random network and a detector of drawn faces (the sprites world); needs no weights.
    """

    id = "facesim"
    label = "FaceSim"
    version = "1"
    range = (0.0, 1.0)
    frames = Linspace(32)
    # onnxruntime for GPUs is a distribution of its own.
    libraries = ("numpy", "opencv-python-headless", "torch", "onnxruntime", "onnxruntime-gpu")
    sources = SOURCES
    # CurricularFace, ArcFace and the detector in float32; what onnxruntime keeps for 32 pictures.
    needs = MemoryNeed(models={"faces": 0.5}, work=1.5)

    def __init__(self, *, tiny: bool = False) -> None:
        self.tiny = tiny
        self._models: FaceModels | None = None
        self._known: dict[str, _Look] = {}

    def settings(self) -> dict[str, Any]:
        """Which networks look at the faces."""
        if self.tiny:
            return {"network": "random", "detector": "sprites"}
        return {"network": "curricularface-ir101", "detector": "buffalo_l/det_10g"}

    def weights(self) -> dict[str, str]:
        """sha256 of the files of the networks.

        Raises:
            MissingPrerequisite: they are not there.
        """
        if self.tiny:
            return {}
        files = find_files(self.store)
        return self.store.sha256([file for file in (files.network, files.detector, files.recognition) if file])

    def check(self) -> None:
        """As for every metric; ArcFace's file is not needed."""
        if not self.tiny:
            find_files(self.store)

    def inputs(self, case: Case) -> list[Path]:
        """The person references.

        Raises:
            MissingPrerequisite: one is not there.
        """
        return [_locate(case, reference) for reference in case.of_kind(ReferenceKind.PERSON)]

    def prepare(self) -> None:
        """Load detector and networks.

        Raises:
            MissingPrerequisite: weights or packages are missing, or onnxruntime cannot use the device.
        """
        self._models = tiny_models() if self.tiny else load_models(find_files(self.store), self.place.device)

    def score(self, case: Case, clip: Clip) -> Score:
        """Score one clip.

        Args:
            case: its person references are read.
            clip: uint8 RGB, shape (T, H, W, 3); 32 frames of it are looked at.

        Raises:
            UnusableClip: there is no reference of a person, or no face in the one that the official value takes.
            MissingPrerequisite: a reference file is missing.
            BadInput: a reference is not an image.
        """
        chosen = official_reference(case)
        if chosen is None:
            raise UnusableClip("the case has no reference of a person")
        people = case.of_kind(ReferenceKind.PERSON)
        wanted = self._reference(case, chosen)
        if not wanted.faces:
            raise UnusableClip(f"no face is found in the reference {chosen.path}")
        looks = self._look_at(clip)
        value, kept = official_mean([clamp(cosine(wanted.main, look.main)) if look.faces else None for look in looks])
        references = [self._reference(case, person) for person in people]
        strict, details = _strict(people, references, looks, self.frames.indices(len(clip)))
        if wanted.arc is not None:
            details["arc_score"] = arc_mean([_arc(wanted, look) for look in looks])
        details |= {"reference": chosen.path, "faces": [len(look.faces) for look in looks]}
        return Score(value=value, strict_value=strict, frames_used=kept, details=details)

    def _reference(self, case: Case, reference: Reference) -> _Look:
        """What is seen in a reference; its file is looked at once, in whichever cases it stands."""
        file = _locate(case, reference)
        digest = file_sha256(file)
        if digest not in self._known:
            (self._known[digest],) = self._look([np.asarray(open_reference(file, case.id))])
        return self._known[digest]

    def _look_at(self, clip: Clip) -> list[_Look]:
        """What is seen in each of the 32 frames; a frame that a short clip repeats is looked at once."""
        indices = self.frames.indices(len(clip))
        distinct = sorted(set(indices))
        seen = dict(zip(distinct, self._look([clip.frames[index] for index in distinct]), strict=True))
        return [seen[index] for index in indices]

    def _look(self, pictures: Sequence[Frame]) -> list[_Look]:
        models = self._models
        assert models is not None, "prepare() comes first"
        found = find_faces(models.detector, [np.ascontiguousarray(picture[..., ::-1]) for picture in pictures])
        embeddings = iter(models.embed([face for faces in found for face in faces]))
        main = [largest(faces) for faces in found]
        arcs = iter(models.recognition.embed([face for face in main if face]) if models.recognition else [])
        return [
            _Look(
                faces=[next(embeddings) for _ in faces],
                boxes=[face.pixels for face in faces],
                largest=next((index for index, face in enumerate(faces) if face is best), 0),
                arc=next(arcs, None) if best else None,
            )
            for faces, best in zip(found, main, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What is seen in a picture.

    Attributes:
        faces: CurricularFace embedding of every face, float32, shape (D,).
        boxes: left, top, right, bottom of every face in pixels.
        largest: index of the largest face; 0 without faces.
        arc: ArcFace embedding of the largest face, where there is one and the network is there.
    """

    faces: list[Embedding]
    boxes: list[tuple[int, int, int, int]]
    largest: int
    arc: Embedding | None = None

    @property
    def main(self) -> Embedding:
        return self.faces[self.largest]


def official_reference(case: Case) -> Reference | None:
    """The first reference whose path names a person, else the first one of a person."""
    named = [one for one in case.references if any(folder in f"/{one.path}" for folder in _FOLDERS)]
    return next(iter([*named, *case.of_kind(ReferenceKind.PERSON)]), None)


def _strict(
    people: list[Reference], references: list[_Look], looks: list[_Look], looked_at: Sequence[int]
) -> tuple[float, dict[str, Any]]:
    """The strict value and what the reports show of it; a reference without a face is like none of the faces."""
    tables = [
        [[cosine(reference.main, face) for face in look.faces] if reference.faces else [] for reference in references]
        for look in looks
    ]
    matches = [match(table) for table in tables]
    confused, assigned = map(sum, zip(*map(confusions, tables, matches), strict=True))
    comparable = sum(bool(reference.faces) for reference in references) > 1
    crops = [_best_crops(position, matches, looks, looked_at) for position in range(len(references))]
    means = zip(people, per_reference(matches), references, crops, strict=True)
    details = {
        "references": [
            {"path": person.path, "similarity": mean, "face": bool(reference.faces), "best_crops": best}
            for person, mean, reference, best in means
        ],
        "identity_confusion": confused / assigned if comparable and assigned else None,
    }
    return strict_mean(matches), details


def _best_crops(
    position: int, matches: Sequence[Match], looks: Sequence[_Look], looked_at: Sequence[int]
) -> list[dict[str, Any]]:
    """The faces that stand best for a reference, for the reports; a frame that was looked at twice is shown once."""
    by_frame = {
        frame: (one.similarities[position], look.boxes[face])
        for frame, one, look in zip(looked_at, matches, looks, strict=True)
        if (face := one.faces[position]) is not None
    }
    best = sorted(by_frame.items(), key=lambda item: (-item[1][0], item[0]))[:_BEST_CROPS]
    return [{"frame": frame, "box": list(box), "similarity": similarity} for frame, (similarity, box) in best]


def _arc(reference: _Look, look: _Look) -> float | None:
    return None if reference.arc is None or look.arc is None else clamp(cosine(reference.arc, look.arc))


def _locate(case: Case, reference: Reference) -> Path:
    position = next(index for index, one in enumerate(case.references, 1) if one is reference)
    return reference.locate(case.id, f"{position} of {len(case.references)}")
