"""NexusScore step by step as the official script works, to be measured against.

Written from the description of OpenS2V-Nexus eval/get_nexusscore.py at 210eb08 in METRICS.md (B.4 to B.6): frame by
frame and reference by reference, with nothing kept from one to the next. Differs: the networks are the same modules
that ours are measured with, and boxes that are not confident enough leave before the suppression, as in ours, whose
suppression is written in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from benchmarks.official_metrics import Found, read_spread
from refeval.cases import Case, Reference
from refeval.clips import Frame
from refeval.metrics.networks.gme import Gme
from refeval.metrics.networks.yolo_world_boxes import (
    Detections,
    choose,
    decode,
    letterbox,
    network_input,
    place_boxes,
)
from refeval.metrics.networks.yolo_world_detector import Detector

_PEOPLE = ("Man", "Woman")
_FOUND, _CONFIDENT, _LABELLED = 0.5, 0.6, 0.30
_MOST_BOXES = 100


@dataclass(frozen=True, kw_only=True)
class _Box:
    """A box with its two cosines, as tensors without dimensions in GME's precision."""

    confidence: float
    text: torch.Tensor
    image: torch.Tensor


def nexus_score(path: Path, case: Case, detector: Detector, gme: Gme) -> Found:
    """``nexus_score``; the parts are the number of frames with a box and the confidence of every box."""
    boxes: list[_Box] = []
    frames_with_a_box = 0
    for frame in read_spread(path):
        found = [box for reference in case.references for box in _look_for(reference, frame, case, detector, gme)]
        frames_with_a_box += bool(found)
        boxes += found
    kept = [
        box.image for box in boxes if box.confidence > _CONFIDENT and bool(box.text > _LABELLED) and bool(box.image)
    ]
    value = torch.stack(kept).mean().item() / frames_with_a_box if kept else 0.0
    return Found(value=value, parts=(float(frames_with_a_box),))


def _look_for(reference: Reference, frame: Frame, case: Case, detector: Detector, gme: Gme) -> list[_Box]:
    label = reference.label
    if label in _PEOPLE:
        if "face" in case.id:
            return []
        label = "human" if "human" in case.id else label
    prompt = Image.open(reference.locate(case.id, label)).convert("RGB")
    found = _detect(frame, prompt, detector)
    count = len(found.scores_n)
    if not count:
        return []
    picture = Image.fromarray(frame)
    crops_nd = gme.embed_images([picture.crop(_rounded(corners)) for corners in found.boxes_n4.tolist()])
    prompts_nd, labels_nd = gme.embed_images([prompt] * count), gme.embed_texts([label] * count)
    text_n, image_n = (crops_nd * labels_nd).sum(dim=1), (crops_nd * prompts_nd).sum(dim=1)
    rows = zip(found.scores_n.tolist(), text_n, image_n, strict=True)
    return [_Box(confidence=confidence, text=text, image=image) for confidence, text, image in rows]


@torch.inference_mode()
def _detect(frame: Frame, prompt: Image.Image, detector: Detector) -> Detections:
    prompt_1d = detector.embed_prompts([prompt])
    network = detector.network
    boxed = letterbox(frame, network.size.side)
    pixels = network_input([boxed], prompt_1d.device)
    # The official model computes the features in two places of one call.
    network.features(pixels)
    boxes_1a4, scores_1a1 = (part.cpu() for part in decode(network(network.features(pixels), prompt_1d)))
    placed = place_boxes(boxes_1a4[0], scores_1a1[0], boxed, above=_FOUND)
    return choose(placed, above=_FOUND, most=_MOST_BOXES)


def _rounded(corners: Sequence[float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = map(round, corners)
    return left, top, right, bottom
