"""Models with random weights, the clips to make with them, and the clock: what both procedures share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property
from threading import Lock
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

from refeval.cases import ClipSpec
from refeval.generators.wan.catalogue import MODELS, Architecture, ModelSpec
from refeval.generators.wan.checkpoints import UMT5_XXL
from refeval.generators.wan.engine import Parts
from refeval.generators.wan.transformer import ReferenceTransformer

_TINY = MODELS["refalign-tiny"]
_PROMPTS = ("A man walks his dog along a street in the rain.", "A woman in a red coat reads in a quiet library.")
_NEGATIVE = "blurry picture, flicker, watermark, misshapen hands"
# The engine loads transformer and VAE at the same time; default dtype and seed are of the whole process.
_MAKING = Lock()


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large everything is.

    Attributes:
        spec: the model; of its architecture and name.
        text: ``UMT5Config`` of the text encoder without ``d_model``, which is the architecture's ``text_dim``.
        vae: ``AutoencoderKLWan``.
        clip: what is rendered.
        references: per clip.
    """

    spec: ModelSpec
    text: Mapping[str, Any]
    vae: Mapping[str, Any]
    clip: ClipSpec
    references: int = 3

    @property
    def architecture(self) -> Architecture:
        """Of the transformer."""
        return self.spec.architecture


_GATED = {"feed_forward_proj": "gated-gelu", "vocab_size": 384}
_SMALL_TEXT = {**_GATED, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
_SMALL_VAE = {"base_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
_MIDDLE = Architecture(layers=6, heads=4, head_dim=128, ffn_dim=3072, text_dim=512, text_tokens=256)


def _clip(width: int, height: int, frames: int) -> ClipSpec:
    return ClipSpec(width=width, height=height, frames=frames, fps=Fraction(16))


TINY = Size(spec=_TINY, text=_SMALL_TEXT, vae=_SMALL_VAE, clip=_clip(64, 48, 9))
MIDDLE = Size(
    spec=replace(_TINY, name="middle", architecture=_MIDDLE),
    text={**_GATED, "d_kv": 64, "d_ff": 1024, "num_layers": 6, "num_heads": 8},
    vae=_SMALL_VAE,
    clip=_clip(160, 96, 17),
)
LONGER = replace(
    MIDDLE,
    spec=replace(MIDDLE.spec, name="longer", architecture=replace(_MIDDLE, layers=3)),
    clip=_clip(256, 192, 17),
)


def full_size(model: str, frames: int, *, text: bool) -> Size:
    """A published model as it renders, with the small text encoder unless ``text``.

    Raises:
        KeyError: no such model.
    """
    spec = MODELS[model]
    assert spec.clip is not None
    return Size(spec=spec, text=UMT5_XXL if text else _SMALL_TEXT, vae={}, clip=replace(spec.clip, frames=frames))


@dataclass(frozen=True, kw_only=True)
class Job:
    """One clip to make: its texts, its references (1, 3, 1, H, W) in -1 to 1, its seed."""

    prompt: str
    negative: str
    pictures: tuple[Tensor, ...]
    seed: int


def jobs(size: Size, count: int) -> list[Job]:
    """Clips with prompts and references of their own and one negative prompt."""
    generator = torch.Generator().manual_seed(4)
    shape = (size.references, 1, 3, 1, size.clip.height, size.clip.width)
    return [
        Job(
            prompt=f"{_PROMPTS[index % len(_PROMPTS)]} Take {index + 1}.",
            negative=_NEGATIVE,
            pictures=tuple(torch.rand(shape, generator=generator) * 2 - 1),
            seed=index,
        )
        for index in range(count)
    ]


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Where the time of one or more clips went."""

    text: float = 0.0
    references: float = 0.0
    sampling: float = 0.0
    decoding: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(**{name: value + getattr(other, name) for name, value in self.parts().items()})

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, float]:
        """By name, in order."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A clip: latents (1, 16, F, h, w), frames (T, H, W, 3) in uint8, and where the time went."""

    latents: Tensor
    frames: Any
    seconds: Seconds


class Stopwatch:
    """Seconds from one lap to the next, with everything on the device done.

    Args:
        device: what is waited for.
        clock: in seconds.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self._device = device
        self._clock = clock
        self._last = self._now()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self._last = self._last, self._now()
        return self._last - before

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._clock()


@dataclass(frozen=True)
class RandomModels:
    """Modules of random weights, made on the device in their final dtype, each when first asked for.

    Attributes:
        size: of all of them.
        device: to make them on.
        dtype: of the parameters; what a loaded model keeps in float32 is float32 here too.
        clock: that procedures with these models are timed by.
    """

    size: Size
    device: torch.device
    dtype: torch.dtype = torch.float32
    clock: Callable[[], float] = time.perf_counter

    @cached_property
    def transformer(self) -> Any:
        """With norms, modulation and timestep embedding in float32."""
        with self._random(1):
            made = ReferenceTransformer(**self.size.architecture.config()).eval()
        kept = set(made._keep_in_fp32_modules)
        for name, parameter in made.named_parameters():
            if kept.intersection(name.split(".")):
                parameter.data = parameter.data.float()
        return made

    @cached_property
    def vae(self) -> Any:
        """The VAE."""
        with self._random(2):
            return AutoencoderKLWan(**self.size.vae).eval()

    def text(self) -> tuple[Any, Any]:
        """Tokenizer (of bytes: it needs no file) and encoder; another one, of the same weights, at every call."""
        values = {**self.size.text, "d_model": self.size.architecture.text_dim}
        with self._random(3):
            return ByT5Tokenizer(), UMT5EncoderModel(UMT5Config(**values)).eval()

    def watch(self) -> Stopwatch:
        """Started now."""
        return Stopwatch(self.device, self.clock)

    def text_is_done(self) -> None:
        """From here on the peak of memory counts: what a procedure still holds of the text encoder is in it."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def parts(self) -> Parts:
        """As an engine takes them."""
        return Parts(transformer=lambda _: self.transformer, text=self.text, vae=lambda _: self.vae)

    @contextmanager
    def _random(self, seed: int) -> Iterator[None]:
        with _MAKING:
            before = torch.get_default_dtype()
            torch.manual_seed(seed)
            torch.set_default_dtype(self.dtype)
            try:
                with self.device:
                    yield
            finally:
                torch.set_default_dtype(before)


def summed(clips: Sequence[Rendered]) -> Seconds:
    """Seconds of several clips."""
    return sum((clip.seconds for clip in clips), Seconds())
