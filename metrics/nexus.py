"""NexusScore: whether a clip shows the things of the references, as OpenS2V-Eval measures it.

Source: OpenS2V-Nexus eval/get_nexusscore.py at 210eb08. Differs: a reference is encoded once per case instead of once
per frame (by the detector) and per box (by GME); the detector's backbone runs once per frame instead of twice per
frame and reference; equal crops are embedded once, and boxes that cannot count not at all; the strict value is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from refeval.cases import Case
from refeval.clips import Clip, Frame, Linspace
from refeval.devices import pick_device
from refeval.errors import UnusableClip
from refeval.metrics.base import MemoryNeed, Score
from refeval.metrics.gme_metric import GmeMetric
from refeval.metrics.networks.gme_weights import GME
from refeval.metrics.nexus_boxes import (
    CONFIDENCE_ABOVE,
    TEXT_ABOVE,
    FoundBox,
    Sight,
    Subject,
    best_sights,
    official_value,
    scored_subjects,
    strict_value,
)
from refeval.reference_images import open_reference
from refeval.weights import Source

if TYPE_CHECKING:
    from torch import Tensor

    from refeval.metrics.networks.yolo_world_boxes import Detections

YOLO_WORLD = Source(
    repository="BestWishYsh/OpenS2V-Weight", patterns=("yolo_world_v2_l_image_prompt_adapter-719a7afb.pth",)
)
CLIP_BASE = Source(repository="openai/clip-vit-base-patch32", patterns=("pytorch_model.bin",))
SOURCES = (YOLO_WORLD, CLIP_BASE, GME)
_BEST_CROPS = 3


class Finder(Protocol):
    """What is wanted of the detector (:class:`~refeval.metrics.networks.yolo_world_detector.Detector`)."""

    def embed_prompts(self, images: Sequence[Image.Image]) -> Tensor:
        """Prompts (P, D) from reference images."""

    def detect(self, frames: Sequence[Frame], prompts_pd: Tensor) -> list[list[Detections]]:
        """Boxes ``[frame][prompt]``."""


class Embedder(Protocol):
    """What is wanted of GME (:class:`~refeval.metrics.networks.gme.Gme`)."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D), L2-normalised, on the CPU."""

    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """(N, D), L2-normalised, on the CPU."""


class NexusScore(GmeMetric):
    """Similarity of what YOLO-World finds by the reference images to these images.

    ``mean(image_i . reference) / F`` over the boxes of 32 frames with confidence above 0.6 and a cosine between crop
    and label above 0.30; F is the number of frames with a box of confidence above 0.5. Showing a subject longer
    *lowers* it; it is comparable with published numbers and with nothing else. Range: totals count 0 to 0.05 and
    leave zeros out. Higher is better. A case without any box, which the official script leaves out, has 0 as well.

    ``strict`` reads the mean over frames and subjects of the best similarity, 0 where a subject is not found: 0 to 1,
    and showing a subject longer never lowers it.

    Args:
        tiny: small random weights in float32 on the CPU, for tests and a first try: the number means nothing.
        precision: of GME, as for :class:`~refeval.metrics.gme.GmeScore`; with the same one both share the model.
        attention: of GME, likewise.
    """

    id = "nexus"
    label = "NexusScore"
    version = "1"
    range = (0.0, 0.05)
    frames = Linspace(32)
    libraries = ("numpy", "opencv-python-headless", "pillow", "tokenizers", "torch", "transformers")
    sources = SOURCES
    # Besides GME: the detector and CLIP ViT-B/32 in float32.
    needs = MemoryNeed(models={"yolo-world-l": 0.6})
    _networks: tuple[Finder, Embedder] | None = None

    def settings(self) -> dict[str, Any]:
        """How GME is run, how many frames are looked at, and the thresholds."""
        measured = {
            "frames": self.frames.number,
            "confidence_above": CONFIDENCE_ABOVE,
            "text_above": TEXT_ABOVE,
        }
        return super().settings() | measured

    def inputs(self, case: Case) -> list[Path]:
        """The references that are looked for.

        Raises:
            MissingPrerequisite: one is not there.
        """
        return [_locate(case, subject) for subject in scored_subjects(case)]

    def prepare(self) -> None:
        """Load the detector, and GME or the one that another metric loaded.

        Raises:
            MissingPrerequisite: weights or packages are missing.
            BadInput: other weights, or an unknown precision, attention or device.
            CorruptFile: a file that cannot be read.
        """
        gme = self.load_gme()
        self._networks = (self._load_finder(), gme)

    def _load_finder(self) -> Finder:
        from refeval.metrics.networks.yolo_world_detector import load_detector, tiny_detector

        if self.tiny:
            return tiny_detector()
        checkpoint, clip = (self.store.find(source, self.id)[0] for source in (YOLO_WORLD, CLIP_BASE))
        return load_detector(checkpoint, clip, pick_device(self.place.device, self.id))

    def score(self, case: Case, clip: Clip) -> Score:
        """Score one clip.

        Args:
            case: its references and their labels are looked for.
            clip: uint8 RGB, shape (T, H, W, 3); a clip of fewer than 32 frames counts some more than once.

        Raises:
            UnusableClip: the case has nothing to look for.
            MissingPrerequisite: a reference is not there.
            BadInput: a reference is not a readable image.
        """
        assert self._networks, "prepare() comes first"
        return score_case(case, clip, self.frames.indices(len(clip)), *self._networks)


def score_case(case: Case, clip: Clip, looked_at: Sequence[int], finder: Finder, embedder: Embedder) -> Score:
    """Find, compare and add up.

    Args:
        case: as for :meth:`NexusScore.score`.
        clip: as for :meth:`NexusScore.score`.
        looked_at: indices of frames, which may repeat.
        finder: the detector.
        embedder: GME.

    Raises:
        RefevalError: as for :meth:`NexusScore.score`.
    """
    subjects = scored_subjects(case)
    if not subjects:
        raise UnusableClip("the case has no reference that NexusScore looks for")
    references = [_open(case, subject) for subject in subjects]
    boxes = _find(clip, looked_at, references, finder)
    crops = [_crop(clip.frames[looked_at[box.frame]], box) for box in boxes]
    text_n, image_n = _compare(boxes, crops, references, [subject.label for subject in subjects], embedder)
    sights = best_sights(boxes, text_n, image_n, subjects=len(subjects), frames=len(looked_at))
    # The official script fails on a crop without pixels, and leaves the case out.
    is_left_out = not boxes or any(box.is_empty for box in boxes)
    official = 0.0 if is_left_out else official_value(boxes, text_n, image_n)
    first = 0.0 if is_left_out else official_value(boxes, text_n, image_n, first_release=True)
    assert official is not None, "there are boxes"
    return Score(
        value=official,
        strict_value=strict_value(sights),
        frames_used=len(looked_at),
        details={
            "left_out_officially": is_left_out,
            "frames_with_a_box": len({box.frame for box in boxes}),
            "first_release_value": first,
            "subjects": [_describe(s, row, looked_at) for s, row in zip(subjects, sights, strict=True)],
        },
    )


def _locate(case: Case, subject: Subject) -> Path:
    return subject.reference.locate(case.id, f"{subject.position} of {len(case.references)}")


def _open(case: Case, subject: Subject) -> Image.Image:
    return open_reference(_locate(case, subject), case.id)


def _find(clip: Clip, looked_at: Sequence[int], references: Sequence[Image.Image], finder: Finder) -> list[FoundBox]:
    """Boxes in order of frames, subjects, confidence; a frame that is looked at twice is searched once."""
    indices = sorted(set(looked_at))
    found = dict(zip(indices, finder.detect(list(clip.frames[indices]), finder.embed_prompts(references)), strict=True))
    return [
        FoundBox(frame=frame, subject=subject, corners=tuple(corners), confidence=confidence)
        for frame, index in enumerate(looked_at)
        for subject, detections in enumerate(found[index])
        for corners, confidence in zip(detections.boxes_n4.tolist(), detections.scores_n.tolist(), strict=True)
    ]


def _crop(frame: Frame, box: FoundBox) -> Frame | None:
    """What GME is to see of a box; None where the box cannot count."""
    if box.is_empty or not box.confident:
        return None
    left, top, right, bottom = box.pixels
    return frame[top:bottom, left:right]


def _compare(
    boxes: Sequence[FoundBox],
    crops: Sequence[Frame | None],
    references: Sequence[Image.Image],
    labels: Sequence[str],
    embedder: Embedder,
) -> tuple[Tensor, Tensor]:
    """Cosines of every box with its label and with its reference, both (N,) in GME's precision; 0 without a crop."""
    kept = [i for i, crop in enumerate(crops) if crop is not None]
    shown = [np.asarray(image) for image in references] + [crop for crop in crops if crop is not None]
    texts_sd = _embed_labels(labels, embedder)
    images_nd = _embed_once(shown, embedder)
    references_sd, crops_kd = images_nd[: len(references)], images_nd[len(references) :]
    subjects = [boxes[i].subject for i in kept]
    text_n, image_n = (images_nd.new_zeros(len(boxes)) for _ in range(2))
    text_n[kept] = (crops_kd * texts_sd[subjects]).sum(dim=1)
    image_n[kept] = (crops_kd * references_sd[subjects]).sum(dim=1)
    return text_n, image_n


def _embed_labels(labels: Sequence[str], embedder: Embedder) -> Tensor:
    distinct = list(dict.fromkeys(labels))
    return embedder.embed_texts(distinct)[[distinct.index(label) for label in labels]]


def _embed_once(images: Sequence[Frame], embedder: Embedder) -> Tensor:
    """One row per image, (N, D); images with the same pixels are embedded once."""
    row_of: dict[tuple[tuple[int, ...], str], int] = {}
    distinct: list[Image.Image] = []
    rows = []
    for image in images:
        row = row_of.setdefault((image.shape, sha256(image.tobytes()).hexdigest()), len(distinct))
        if row == len(distinct):
            distinct.append(Image.fromarray(np.ascontiguousarray(image)))
        rows.append(row)
    return embedder.embed_images(distinct)[rows]


def _describe(subject: Subject, sights: Sequence[Sight | None], looked_at: Sequence[int]) -> dict[str, Any]:
    """What a report says about one subject."""
    found = [sight for sight in sights if sight]
    # A frame that was looked at twice is shown once.
    by_frame = {looked_at[sight.box.frame]: sight for sight in found}
    best = sorted(by_frame.items(), key=lambda item: (-item[1].similarity, item[0]))[:_BEST_CROPS]
    return {
        "label": subject.label,
        "reference": subject.reference.path,
        "frames_found": len(found),
        "mean_similarity": sum(sight.similarity for sight in found) / len(found) if found else None,
        "best_crops": [
            {"frame": frame, "box": list(sight.box.pixels), "similarity": sight.similarity} for frame, sight in best
        ],
    }
