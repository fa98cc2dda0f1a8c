"""Samples of the sprites world as the network takes them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool3d

from refeval.sprites import BACKGROUNDS, Background
from refeval.training.examples import Encoder, Example, Sample
from refeval.training.teachers import Teacher
from refeval.training.testbed.latents import BOX, encode, encode_picture
from refeval.training.testbed.scenes import MOTIONS, REFERENCE_SCALE

TEXT_WIDTH = 64

_MOTIONS = {motion.phrase(): motion.value for motion in MOTIONS}
_PHRASE = re.compile("|".join(map(re.escape, _MOTIONS)))


class SpritesEncoder(Encoder):
    """Fixed latents, fixed vectors for words, and a teacher.

    Of a prompt it reads the background and how the first, the second, ... subject moves, and nothing else: what a
    subject looks like has to come from its reference.

    Args:
        teacher: of identity.
    """

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def examples(self, samples: Sequence[Sample], *, with_teacher: bool) -> list[Example]:
        """As for every encoder."""
        pictures = np.stack([picture for sample in samples for picture in sample.references])
        references = encode_picture(shrink(pictures))
        features = self._features(pictures, with_teacher=with_teacher)
        latents = encode(np.stack([sample.frames for sample in samples]))
        weights = torch.from_numpy(np.stack([sample.emphasis for sample in samples if sample.emphasis is not None]))
        pooled = max_pool3d(weights[:, None], BOX)[:, 0]
        counts = [len(sample.references) for sample in samples]
        parts = zip(
            samples, latents, torch.split(references, counts), torch.split(features, counts), pooled, strict=True
        )
        return [
            Example(
                latents=clip,
                text=self.text(sample.prompt),
                references=own.movedim(0, 1),
                teacher=taught if with_teacher else taught[:0],
                emphasis=emphasis,
            )
            for sample, clip, own, taught, emphasis in parts
        ]

    def text(self, prompt: str) -> Tensor:
        """A vector for the background and one for every motion, in order; one of zeros for an empty prompt."""
        vectors = [_vector(word) for word in words(prompt)]
        return torch.stack(vectors) if vectors else torch.zeros(1, TEXT_WIDTH)

    def _features(self, pictures: NDArray[np.uint8], *, with_teacher: bool) -> Tensor:
        if not with_teacher:
            return torch.zeros(len(pictures), 1, 1)
        return self._teacher.features(torch.from_numpy(pictures).permute(0, 3, 1, 2))


def words(prompt: str) -> list[str]:
    """What the encoder understands of a prompt: the background, then ``0:left`` and so on."""
    said = [kind for kind in BACKGROUNDS if Background(kind=kind).describe() in prompt][:1]
    return said + [f"{index}:{_MOTIONS[phrase]}" for index, phrase in enumerate(_PHRASE.findall(prompt))]


def shrink(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """References (N, H, W, 3) at the size of clips: means of squares of 4 x 4 pixels."""
    count, height, width, _ = pictures.shape
    scale = REFERENCE_SCALE
    squares = pictures.reshape(count, height // scale, scale, width // scale, scale, 3)
    # Sums of bytes are exact, so that the rounding is too.
    sums = squares.sum(axis=(2, 4), dtype=np.uint32)
    rounded: NDArray[np.uint8] = ((sums + scale * scale // 2) // (scale * scale)).astype(np.uint8)
    return rounded


@cache
def _vector(word: str) -> Tensor:
    """A fixed random vector: the same on every machine."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(TEXT_WIDTH).astype(np.float32))
