"""What a recipe trains on: a network to start from, samples, their encoding, and clips drawn with what was trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.training.examples import Encoder, Sample, Source


@dataclass(frozen=True, kw_only=True)
class DrawnClip:
    """A clip of a network, with what it was asked for.

    Attributes:
        sample: prompt and references.
        frames: uint8 RGB (T, H, W, 3).
    """

    sample: Sample
    frames: NDArray[np.uint8]


class World(ABC):
    """One of them per ``network.base`` of recipes.

    Attributes:
        text_tokens: length that embedded prompts are padded to.
        teacher_width: V; the width of the projectors' output.
    """

    text_tokens: int
    teacher_width: int

    @abstractmethod
    def network(self) -> tuple[ReferenceTransformer, dict[str, Tensor]]:
        """The network that training starts from, float32 on the CPU, and projectors stored beside it, if any."""

    @abstractmethod
    def source(self) -> Source:
        """Samples to train on."""

    @abstractmethod
    def encoder(self) -> Encoder:
        """How samples are encoded, on the device of the process."""

    @abstractmethod
    def shown(self, count: int) -> Sequence[Sample]:
        """Samples that clips are drawn of while training goes on; always the same ones."""

    @abstractmethod
    def draw(self, network: ReferenceTransformer, samples: Sequence[Sample], *, seed: int) -> list[DrawnClip]:
        """Draw a clip for the prompt and the references of each sample, as at inference."""
