"""What training sees of the data: samples as they are read, examples as the network takes them.

Everything random about a sample follows from (seed, position), where the position counts samples since the start of the
training, over all processes. So no state of a random generator has to be kept, resuming anywhere is exact, and the
number of processes changes nothing.

Letters of shapes: T frames, H and W height and width in pixels, C latent channels, F latent frames, M references,
L text tokens, D width of the text, N tokens of a reference, V width of the teacher.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from refeval.errors import RefevalError

if TYPE_CHECKING:
    # Rows can be checked where torch is not installed.
    from torch import Tensor


class Stream(StrEnum):
    """What random numbers of a position are for: each has a generator of its own."""

    CHOICE = "choice"
    AUGMENTATION = "augmentation"
    DROPPING = "dropping"
    NOISE = "noise"
    ORDER = "order"


def generator(seed: int, position: int, stream: Stream, *more: int) -> np.random.Generator:
    """The random numbers of one purpose at one position.

    Args:
        seed: of the training.
        position: of the sample.
        stream: the purpose.
        more: e.g. the number of an attempt.
    """
    return np.random.default_rng([seed, position, list(Stream).index(stream), *more])


PairKind = Literal["regular", "cross"]
"""Whether references were cut from the clip itself, or show the same subject elsewhere."""


class BrokenSample(RefevalError):
    """A row that cannot be used: a video that cannot be read, a box outside its frame. It is counted and replaced."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What was encoded before the training, float32 on the CPU.

    Attributes:
        latents: of the clip, (C, F, H / 8, W / 8).
        text: of the prompt, (L, D), without padding.
    """

    latents: Tensor
    text: Tensor


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row with its pixels, at the size of the training.

    Attributes:
        key: names the row in messages and in the list of what was skipped.
        prompt: of the clip.
        frames: uint8 RGB (T, H, W, 3); empty (T = 0) where ``encoded`` stands for it.
        references: uint8 RGB, each (H, W, 3), augmented and letterboxed.
        pair: where the references come from.
        encoded: of clip and prompt, where it is at hand.
        emphasis: weights of the error, float32 (T, H, W); None: all 1.
    """

    key: str
    prompt: str
    frames: NDArray[np.uint8]
    references: tuple[NDArray[np.uint8], ...]
    pair: PairKind
    encoded: Encoded | None = None
    emphasis: NDArray[np.float32] | None = None


class Source(ABC):
    """Where samples come from; used by several threads at once."""

    @abstractmethod
    def sample(self, position: int) -> Sample:
        """The sample at a position: always the same, whoever asks.

        Raises:
            BadInput: more samples are broken than the recipe allows.
        """

    def skipped(self) -> dict[str, str]:
        """Key and reason of every row that was replaced because it is broken, since the start of this process."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Example:
    """A sample as the network takes it, float32 on the device.

    Attributes:
        latents: clean video, (C, F, H', W').
        text: embedded prompt, (L, D), without padding.
        references: clean latents, (C, M, H', W').
        teacher: features of the references, (M, N, V); M = 0 where nothing is aligned.
        emphasis: weights of the error, (F, H', W'), None: all 1.
    """

    latents: Tensor
    text: Tensor
    references: Tensor
    teacher: Tensor
    emphasis: Tensor | None = None


class Encoder(ABC):
    """Turns pixels and words into what the network takes; it is never trained."""

    @abstractmethod
    def examples(self, samples: Sequence[Sample], *, with_teacher: bool) -> list[Example]:
        """Encode samples; deterministic."""

    @abstractmethod
    def text(self, prompt: str) -> Tensor:
        """Embed a prompt, float32 (L, D) without padding; ``""`` is what a dropped prompt becomes."""
