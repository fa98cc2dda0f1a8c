"""The official scripts of six metrics step by step, to be measured against; NexusScore is in official_nexus.py.

Written from the description of OpenS2V-Nexus eval/get_*.py at 210eb08 in METRICS.md (B.3 to B.9): every script opens
and decodes the clip itself and shares nothing with the others. Differs: the networks are the same modules that ours
are measured with, so that only the procedure differs; what insightface runs on every face besides the detector (four
networks whose output no total reads) and the calls of the judge are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.official_motion_amplitude import amplitude_of
from benchmarks.official_reader import Reader
from refeval.cases import Case
from refeval.clips import Frame
from refeval.metrics.faces import find_faces, largest, network_input
from refeval.metrics.faces_models import FaceModels
from refeval.metrics.judges.frames import jpeg, resize_frame
from refeval.metrics.networks.aesthetic_raters import Rater
from refeval.metrics.networks.curricularface import INPUT_SIZE
from refeval.metrics.networks.gme import Gme
from refeval.metrics.networks.qalign import QAlign
from refeval.metrics.networks.qalign_input import Question, pixels_of

VOTES = 3
_FRAMES, _JUDGED = 32, 16
_WINDOWS_AT_ONCE = 64
_JUMP = 0.025
_PERSON_FOLDERS = ("/man/", "/woman/", "/crop_woman/", "/crop_man/")
_LEVEL_WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a script finds: the value that it stores, and the numbers that the value is made of."""

    value: float
    parts: tuple[float, ...]


def spread(count: int) -> list[int]:
    """32 frames from first to last."""
    return [int(index) for index in np.linspace(0, count - 1, _FRAMES, dtype=int)]


def read_spread(path: Path) -> list[Frame]:
    """The 32 frames of a video that four of the scripts look at; each of them decodes anew."""
    reader = Reader(path)
    return reader.take(spread(len(reader)))


def aesthetics(path: Path, rater: Rater) -> Found:
    """``aes_score``: one batch of 32."""
    ratings_t = rater.rate([Image.fromarray(frame) for frame in read_spread(path)])
    return Found(value=ratings_t.mean().item(), parts=tuple(ratings_t.tolist()))


def motion_amplitude(path: Path) -> Found:
    """``motion_fb``: all frames at once, and the Lucas-Kanade part."""
    reader = Reader(path)
    value = amplitude_of([Image.fromarray(frame) for frame in reader.take(range(len(reader)))])
    return Found(value=value, parts=())


def gme_score(path: Path, case: Case, gme: Gme) -> Found:
    """``gme_score``: the prompt is embedded for every frame."""
    frames = read_spread(path)
    texts_td = gme.embed_texts([case.prompt] * len(frames))
    images_td = gme.embed_images([Image.fromarray(frame) for frame in frames])
    fits_t = (texts_td * images_td).sum(dim=1)
    return Found(value=fits_t.mean().item(), parts=tuple(fits_t.tolist()))


def facesim(path: Path, case: Case, models: FaceModels) -> Found:
    """``cur_score``: one picture and one face at a time."""
    person = next(one for one in case.references if any(folder in f"/{one.path}" for folder in _PERSON_FOLDERS))
    wanted = _face(np.asarray(Image.open(person.locate(case.id, "of the person")).convert("RGB")), models)
    assert wanted is not None, "the reference shows a face"
    similarities = []
    for frame in read_spread(path):
        seen = _face(frame, models)
        if seen is not None:
            similarities.append(max(0.0, torch.nn.functional.cosine_similarity(wanted, seen).item()))
    kept = [similarity for similarity in similarities if similarity != 0.0]
    return Found(value=sum(kept) / len(kept) if kept else 0.0, parts=(float(len(kept)),))


def _face(picture: Frame, models: FaceModels) -> Tensor | None:
    """The embedding (1, D) of the largest face of a picture."""
    (faces,) = find_faces(models.detector, [np.ascontiguousarray(picture[..., ::-1])])
    best = largest(faces)
    if best is None:
        return None
    return torch.from_numpy(models.network.embed(network_input(best.crop(), INPUT_SIZE)[None]))


class Vocabulary(nn.Module):
    """The last layer of Q-Align's language model at every position, of which five logits of the last are read."""

    def __init__(self, network: QAlign) -> None:
        super().__init__()
        self.lm_head = network.lm_head

    def forward(self, states_blc: Tensor) -> Tensor:
        logits_blv: Tensor = self.lm_head(states_blc)
        return logits_blv


@torch.inference_mode()
def motion_smoothness(path: Path, network: QAlign, question: Question) -> Found:
    """``motion_smoothness``: the three frames of every window are decoded, prepared and seen for this window alone."""
    reader = Reader(path)
    count, side = len(reader), network.config.vision.image
    # The official script prepares all windows before it looks at the first.
    windows = [
        np.stack([pixels_of(frame, side) for frame in reader.take(_window(index, count))]) for index in range(count)
    ]
    vocabulary, scores = Vocabulary(network), []
    for start in range(0, count, _WINDOWS_AT_ONCE):
        weight = network.lm_head.weight
        pixels_bt3ss = torch.from_numpy(np.stack(windows[start : start + _WINDOWS_AT_ONCE]))
        seen = network.see(pixels_bt3ss.flatten(0, 1).to(weight.device, weight.dtype))
        visual_bvc = seen.reshape(len(pixels_bt3ss), -1, seen.shape[-1])
        logits_bk = vocabulary(network.read(question, visual_bvc))[:, -1, list(question.levels)].cpu()
        scores += (logits_bk.softmax(-1) @ torch.tensor(_LEVEL_WEIGHTS, dtype=logits_bk.dtype)).tolist()
    jumps = [index for index in range(count - 1) if abs(scores[index + 1] - scores[index]) > _JUMP]
    touched = {frame for index in jumps for frame in (index, index + 1)}
    return Found(value=1 - len(touched) / count, parts=tuple(scores))


def _window(index: int, count: int) -> list[int]:
    """The frames around one, for clips of three frames and more."""
    if index == 0:
        return [0, 0, 0]
    return [index - 1, index, index + 1] if index + 1 < count else [count - 2, count - 2, count - 1]


def natural_pictures(path: Path) -> list[tuple[bytes, ...]]:
    """The JPEG files of each of the three votes: every vote opens the clip and seeks 16 times."""
    return [_judge_pictures(Reader(path)) for _ in range(VOTES)]


def _judge_pictures(reader: Reader) -> tuple[bytes, ...]:
    step = max(len(reader) // _JUDGED, 1)
    indices = [index * step for index in range(_JUDGED) if index * step < len(reader)]
    return tuple(jpeg(resize_frame(reader.jump_to(index))) for index in indices)


def natural(path: Path, votes: Sequence[float]) -> Found:
    """The mean of votes that were given beforehand, after the pictures for each were made."""
    pictures = natural_pictures(path)
    assert len(pictures) == len(votes)
    return Found(value=fmean(votes), parts=())
