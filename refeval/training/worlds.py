"""What a recipe trains on: a network to start from, samples, their encoding, and clips drawn with what was trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.statistics.intervals import wilson_interval
from refeval.training.examples import Encoder, Example, Sample, Source


@dataclass(frozen=True, kw_only=True)
class DrawnClip:
    """A clip of a network, with what it was asked for.

    Attributes:
        sample: prompt and references.
        frames: uint8 RGB (T, H, W, 3).
    """

    sample: Sample
    frames: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class View:
    """An example, and whom its references show.

    Attributes:
        example: as the network takes it, with features of the teacher where the network reads them.
        subjects: M ids; the same subject is to be seen in several views.
    """

    example: Example
    subjects: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A share of right answers about drawn clips.

    Attributes:
        name: of the question.
        subjects: of the clips.
        references: ``own`` or ``swapped``.
        right: how many answers were right.
        asked: of how many.
        chance: the share that guessing gives.
        real: the share that clips of the data themselves get.
    """

    name: str
    subjects: int
    references: str
    right: int
    asked: int
    chance: float
    real: float

    @property
    def share(self) -> float:
        return self.right / self.asked

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, by Wilson; answers about one clip are taken as independent."""
        return wilson_interval(self.right, self.asked)

    def described(self) -> dict[str, Any]:
        """As JSON types."""
        low, high = self.interval
        return {**asdict(self), "share": self.share, "low": low, "high": high}


class World(ABC):
    """One of them per ``network.base`` of recipes.

    Attributes:
        text_tokens: length that embedded prompts are padded to.
        reference_slots: references that every sample is padded to, in training and when clips are drawn; 0: none are
            added but within a micro-batch.
        teacher_width: V; the width of the projectors' output.
        device: where examples are, and where networks draw.
        dtype: of the parameters of networks that draw.
    """

    text_tokens: int
    reference_slots: int = 0
    teacher_width: int
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32

    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """What a :class:`ReferenceTransformer` of this world is made with."""

    @abstractmethod
    def network(self) -> tuple[ReferenceTransformer, dict[str, Tensor]]:
        """The network that training starts from, float32 on the CPU, and projectors stored beside it, if any."""

    @abstractmethod
    def source(self) -> Source:
        """Samples to train on."""

    @abstractmethod
    def encoder(self) -> Encoder:
        """How samples are encoded, on the world's device."""

    @abstractmethod
    def shown(self, count: int) -> Sequence[Sample]:
        """Samples that clips are drawn of while training goes on; always the same ones."""

    def views(self) -> Sequence[View]:
        """References of subjects that are seen several times, to tell how far apart they are; empty: there are none."""
        return ()

    def assess(self, network: ReferenceTransformer, *, seed: int) -> Sequence[Measure]:
        """What can be told of a network where the truth is known; empty where it is not."""
        return ()

    @abstractmethod
    def draw(self, network: ReferenceTransformer, samples: Sequence[Sample], *, seed: int) -> list[DrawnClip]:
        """Draw a clip for the prompt and the references of each sample, as at inference."""
