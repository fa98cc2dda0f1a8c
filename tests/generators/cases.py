"""Cases and pictures that the tests of the generators share."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from refeval.cases import Case, Category, ClipSpec, Reference, reference_kind
from refeval.clips import Frame
from refeval.generators.base import RenderJob

CLIP = ClipSpec(width=160, height=96, frames=9, fps=Fraction(8))


def make_case(root: Path, *references: tuple[str, str], prompt: str = "A thing.", case_id: str = "singleobj_1") -> Case:
    """A case with references given as (path, label)."""
    return Case(
        id=case_id,
        category=Category.SINGLEOBJ,
        prompt=prompt,
        references=tuple(
            Reference(path=path, label=label, kind=reference_kind(path, label), root=root) for path, label in references
        ),
    )


def make_job(folder: Path, case: Case, *, clip: ClipSpec = CLIP, seed: int = 0) -> RenderJob:
    """A job whose scratch folder is new."""
    scratch = folder / "scratch"
    scratch.mkdir()
    return RenderJob(case=case, seed=seed, clip=clip, scratch=scratch, log=folder / "logs" / "job.log")


def disk(
    path: Path, colour: tuple[int, int, int], *, ground: tuple[int, int, int] = (255, 255, 255), side: int = 120
) -> Frame:
    """Draw a disk on a plain ground, save it as an image, and return it as uint8 RGB."""
    picture = np.full((side, side, 3), ground, np.uint8)
    cv2.circle(picture, (side // 2, side // 2), side // 3, colour, -1, cv2.LINE_AA)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return picture
