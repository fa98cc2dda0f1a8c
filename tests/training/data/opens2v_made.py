"""Annotations in the layout of OpenS2V-5M, of videos whose frames show their numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.training.data.made import HEIGHT, WIDTH, write_numbered

Box = tuple[int, int, int, int]
FRAME = 12


def coco_text(pixels: NDArray[np.bool_]) -> str:
    """Run lengths as COCO writes them: five bits a letter, from the fourth run on as differences."""
    runs, inside = [0], False
    for pixel in pixels.T.ravel().tolist():
        if pixel is not inside:
            runs.append(0)
            inside = pixel
        runs[-1] += 1
    letters = []
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr(48 + (bits | 32 if more else bits)))
    return "".join(letters)


def whole(box: Sequence[float]) -> Box:
    """A box in whole pixels."""
    left, upper, right, lower = map(int, box)
    return left, upper, right, lower


def filled(box: Box, *, size: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[np.bool_]:
    """A mask of everything in a box; size is height and width."""
    pixels = np.zeros(size, np.bool_)
    pixels[box[1] : box[3], box[0] : box[2]] = True
    return pixels


def mask_entry(box: Box, *, size: tuple[int, int] = (HEIGHT, WIDTH)) -> dict[str, Any]:
    """A mask as the annotations hold it."""
    return {"size": list(size), "counts": coco_text(filled(box, size=size)), "score": 0.9}


def subject(name: str, box: Box, *, aes: float | None = 5.0, gme: float | None = 0.7) -> dict[str, Any]:
    """An annotated subject."""
    return {"class_name": name, "bbox": [float(edge) for edge in box], "gme_score": gme, "aes_score": aes}


#: The left half of the frame.
DOG = subject("dog", (0, 0, 40, 32))


def record(
    subjects: Sequence[Mapping[str, Any]] = (DOG,),
    *,
    path: str = "a.mp4",
    frame: int = FRAME,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    masks: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """A record; its masks are by default the boxes, in the annotated frame, and named as the subjects."""
    if masks is None:
        masks = {str(frame): {str(n): mask_entry(whole(one["bbox"]), size=size) for n, one in enumerate(subjects, 1)}}
    names = [one["class_name"] for one in subjects] if names is None else names
    return {
        "metadata": {
            "cut": [0, 40],
            "crop": [0, WIDTH, 0, HEIGHT],
            "tech": 3.5,
            "motion": 1.5,
            "fps": 25.0,
            "num_frames": 40,
            "resolution": {"height": HEIGHT, "width": WIDTH},
            "path": path,
            "aesthetic": 5.1,
            "face_cut": [0, 40],
            "face_cap_qwen": "A dog runs.",
            **metadata,
        },
        "word_tags": {"background": ["park"], "subject": ["dog"], "object": [], "pre_define": []},
        "annotation": {
            "ann_frame_data": {
                "ann_frame_idx": str(frame),
                "annotations": list(subjects),
                "box_format": "xyxy",
                "img_width": size[1],
                "img_height": size[0],
                "foreground_ase_score": 5.0,
                "background_ase_score": 4.9,
            },
            "mask_map": {str(number): {"class_name": name} for number, name in enumerate(names, 1)},
            "mask_annotation": dict(masks),
        },
    }


def keyed(records: Mapping[str, Any]) -> str:
    """A file of one object."""
    return json.dumps(records)


def write_video(folder: Path, name: str = "a.mp4", count: int = 40) -> Path:
    """A video whose frames show their numbers."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_numbered(path, count)
    return path
