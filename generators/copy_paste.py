"""CopyPaste: the references cut out and moved over a background, as an honest baseline without a model.

It keeps identity almost perfectly and has no idea of the scene: a metric that it wins is a metric to look at.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from refeval.cases import Case, ClipSpec, Reference, ReferenceKind
from refeval.clips import Clip, Frame
from refeval.errors import BadInput
from refeval.generators.base import Generator, RenderJob
from refeval.generators.cutout import Cutout, Picture, cut_out, read_picture, whole
from refeval.generators.prompt_motion import STILL, Motion, read_motions
from refeval.seeds import case_seed

# Shares of the frame's height, or of its width for what goes sideways.
_PERSON_HEIGHT = 0.66
_OBJECT_HEIGHT = 0.5
_GROUND = 0.92
_MARGIN = 0.03
_TRAVEL = 0.32
_DRIFT = 0.1
_CIRCLE = (0.12, 0.1)
_GROWTH = (0.62, 1.25)
_BACKGROUND_ZOOM = 0.12
_SLOT_WIDTH = 0.86
_JITTER = 0.01
_BACKDROP = (236, 208)


class CopyPaste(Generator):
    """References cut out and moved over the background reference, or over light grey.

    People and objects stand side by side in the order of the references. The prompt's motion words move them
    (:mod:`refeval.generators.prompt_motion`); without any they drift to the right. The seed shifts the layout
    by up to 1 % of the frame.
    """

    version = "1"

    @classmethod
    def from_argument(cls, argument: str | None) -> CopyPaste:
        """Make it.

        Raises:
            BadInput: an argument is given.
        """
        if argument is not None:
            raise BadInput(f"generator 'copy-paste' takes no argument, got '{argument}'", cure="--model copy-paste")
        return cls()

    def render(self, job: RenderJob) -> Clip:
        """Paste every frame.

        Raises:
            BadInput: a reference is not a readable image.
        """
        pictures = _read(job.case)
        places = [r for r, _ in pictures if r.kind is ReferenceKind.BACKGROUND][:1]
        behind = [whole(picture) for r, picture in pictures if r in places]
        scenery = _cover(behind[0], job.clip) if behind else _backdrop(job.clip)
        actors = _cast([(r, picture) for r, picture in pictures if r not in places], job)
        frames = np.empty((job.clip.frames, job.clip.height, job.clip.width, 3), np.uint8)
        for index, frame in enumerate(frames):
            time = index / max(job.clip.frames - 1, 1)
            frame[:] = scenery if actors else _zoomed(scenery, time)
            for actor in actors:
                _paste(frame, actor.sprite, actor.matrix(time))
        return Clip.from_frames(frames, job.clip.fps)


def _read(case: Case) -> list[tuple[Reference, Picture]]:
    files = zip(case.references, case.reference_files(), strict=True)
    return [(r, read_picture(file, where=f"case '{case.id}': reference {r.path}")) for r, file in files]


@dataclass(frozen=True, kw_only=True)
class _Actor:
    """A cut-out on its way through the frame; lengths in pixels.

    Attributes:
        sprite: uint8 premultiplied RGBA, at its largest size.
        height: of the actor at rest.
        x: middle of its way from side to side.
        ground: where its feet stand.
        travel: length of its way from side to side.
        rise: length of its way up or down.
        orbit: half axes of its circle, sideways and up.
        motion: what it does.
    """

    sprite: Picture
    height: float
    x: float
    ground: float
    travel: float
    rise: float
    orbit: tuple[float, float]
    motion: Motion

    def matrix(self, time: float) -> NDArray[np.float64]:
        """Sprite pixels to frame pixels, shape (2, 3), at a time of 0 (first frame) to 1 (last frame)."""
        motion, turn = self.motion, 2 * math.pi * time
        height = self.height * _growth(motion.growth, time)
        x = self.x + motion.right * self.travel * (time - 0.5)
        feet = self.ground - self.rise * {-1: time, 0: 0.0, 1: 1 - time}[motion.down]
        if motion.circle:
            x += self.orbit[0] * math.sin(turn)
            feet -= self.orbit[1] * (1 - math.cos(turn))
        rows, columns = self.sprite.shape[:2]
        middle = ((columns - 1) / 2, (rows - 1) / 2)
        matrix = cv2.getRotationMatrix2D(middle, -math.degrees(turn) if motion.spin else 0.0, height / rows)
        matrix[:, 2] += (x - middle[0], feet - height / 2 - middle[1])
        return matrix.astype(np.float64, copy=False)


def _growth(direction: int, time: float) -> float:
    if not direction:
        return 1.0
    small, large = _GROWTH
    return float(small * (large / small) ** (time if direction > 0 else 1 - time))


def _cast(subjects: Sequence[tuple[Reference, Picture]], job: RenderJob) -> list[_Actor]:
    motions = read_motions(job.case.prompt, [r.label for r, _ in subjects])
    nobody_moves = all(motion == STILL for motion in motions)
    rng = random.Random(case_seed(job.seed, job.case.id))
    actors = []
    for slot, ((reference, picture), motion) in enumerate(zip(subjects, motions, strict=True)):
        actor = _place(cut_out(picture), reference.kind, slot, len(subjects), job.clip)
        if motion is None or nobody_moves:
            actor = replace(actor, motion=Motion(right=1), travel=_DRIFT * job.clip.width)
        else:
            actor = replace(actor, motion=motion)
        shift = [rng.uniform(-_JITTER, _JITTER) for _ in range(2)]
        x = _kept_inside(actor, job.clip.width) + shift[0] * job.clip.width
        actors.append(replace(actor, x=x, ground=actor.ground + shift[1] * job.clip.height))
    return actors


def _place(cutout: Cutout, kind: ReferenceKind, slot: int, count: int, clip: ClipSpec) -> _Actor:
    """An actor standing in its slot, as high as its kind, narrower than the slot."""
    rows, columns = cutout.rgba.shape[:2]
    share = _PERSON_HEIGHT if kind is ReferenceKind.PERSON else _OBJECT_HEIGHT
    height = min(share * clip.height, _SLOT_WIDTH * clip.width / count * rows / columns)
    # A portrait that ends at the waist stands on the frame's edge: anywhere else it would float.
    ground = clip.height * (1.0 + 2 * _JITTER if cutout.cropped else _GROUND)
    return _Actor(
        sprite=_shrunk(cutout.rgba, height * _GROWTH[1]),
        height=height,
        x=(slot + 0.5) / count * clip.width,
        ground=ground,
        travel=_TRAVEL * clip.width / math.sqrt(count),
        rise=max(min(_TRAVEL * clip.height, ground - height - _MARGIN * clip.height), _DRIFT * clip.height),
        orbit=(_CIRCLE[0] * clip.width, _CIRCLE[1] * clip.height),
        motion=STILL,
    )


def _shrunk(rgba: Picture, height: float) -> Picture:
    """Averaged down to the largest size it is shown at, since interpolation alone would flicker."""
    rows, columns = rgba.shape[:2]
    if height >= rows:
        return rgba
    size = (max(round(columns * height / rows), 1), max(round(height), 1))
    return cv2.resize(rgba, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _kept_inside(actor: _Actor, width: int) -> float:
    """The middle of the way, moved so that neither end of the way leaves the frame, where there is room."""
    rows, columns = actor.sprite.shape[:2]
    reach = (actor.height * columns / rows + abs(actor.motion.right) * actor.travel) / 2 + _MARGIN * width
    reach += actor.orbit[0] if actor.motion.circle else 0.0
    return min(max(actor.x, reach), width - reach) if reach <= width / 2 else actor.x


def _paste(frame: Frame, sprite: Picture, matrix: NDArray[np.float64]) -> None:
    """Draw a premultiplied sprite over the frame, at a fraction of a pixel; only its own box is touched."""
    rows, columns = sprite.shape[:2]
    corners = np.array([[0, 0, 1], [columns, 0, 1], [0, rows, 1], [columns, rows, 1]]) @ matrix.T
    size = np.array([frame.shape[1], frame.shape[0]])
    left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, size)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, 0, size)
    if left >= right or top >= bottom:
        return
    local = matrix - [[0, 0, left], [0, 0, top]]
    drawn = cv2.warpAffine(sprite, local, (int(right - left), int(bottom - top)), flags=cv2.INTER_LINEAR)
    box = frame[top:bottom, left:right]
    through = 255 - drawn[..., 3:].astype(np.uint16)
    box[:] = np.minimum((box * through + 127) // 255 + drawn[..., :3], 255)


def _cover(picture: Picture, clip: ClipSpec) -> Frame:
    """The middle of a picture that fills the frame, uint8 RGB, shape (H, W, 3)."""
    rows, columns = picture.shape[:2]
    scale = max(clip.height / rows, clip.width / columns)
    size = (max(math.ceil(columns * scale), clip.width), max(math.ceil(rows * scale), clip.height))
    filled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (size[1] - clip.height) // 2, (size[0] - clip.width) // 2
    return filled[top : top + clip.height, left : left + clip.width].astype(np.uint8, copy=False)


def _backdrop(clip: ClipSpec) -> Frame:
    """Light grey, a little darker below."""
    levels = np.linspace(*_BACKDROP, clip.height).round().astype(np.uint8)
    return np.broadcast_to(levels[:, None, None], (clip.height, clip.width, 3)).copy()


def _zoomed(scenery: Frame, time: float) -> Frame:
    """The scenery alone, slowly coming closer: a case without subjects must not be a frozen clip."""
    rows, columns = scenery.shape[:2]
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), 0.0, 1 + _BACKGROUND_ZOOM * time)
    drawn = cv2.warpAffine(scenery, matrix, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
    return drawn.astype(np.uint8, copy=False)
