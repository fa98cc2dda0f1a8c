"""Rows encoded for Wan2.1: clips and references by its VAE, prompts by umT5, references by a teacher too.

Everything is frozen and in evaluation mode. The official run called ``train()`` on the whole pipeline, so dropout of 0.1
was at work in its umT5; here the same prompt always has the same embedding, which is what inference sees.

Letters of shapes as in :mod:`refeval.training.examples`.

Source: RefAlign @6f91526 diffsynth/pipelines/wan_video_new6.py (pixels and latents in bfloat16, the mode of the VAE's
distribution, each reference alone as a video of one frame).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refeval.generators.wan.latents import VideoCodec
from refeval.generators.wan.prompts import clean_prompt
from refeval.generators.wan.references import frames_to_pixels
from refeval.generators.wan.text import encode_prompt
from refeval.training.examples import Encoder, Example, Sample
from refeval.training.teacher_catalogue import CELL
from refeval.training.teachers import Teacher

# Prompts that are asked for again and again: the empty one, the negative one, those of the clips that are drawn.
_REMEMBERED = 32


class Prompts:
    """Embeds prompts; umT5 is loaded for the first one whose embedding is not stored.

    Args:
        load: gives tokenizer and encoder, on the CPU.
        tokens: L at most.
        device: that the encoder works on.
        stored: the embedding of a prompt that was encoded before, (L, D) on the CPU, or None.
    """

    def __init__(
        self,
        load: Callable[[], tuple[Any, Any]],
        tokens: int,
        device: torch.device,
        stored: Callable[[str], Tensor | None],
    ) -> None:
        self._load = load
        self._tokens = tokens
        self._device = device
        self._stored = stored
        self.recalled = lru_cache(_REMEMBERED)(self.embedding)

    def embedding(self, prompt: str) -> Tensor:
        """The embedding of a prompt, (L, D) without padding, in the encoder's dtype or as stored, on the CPU."""
        stored = self._stored(prompt)
        return self.encode(prompt) if stored is None else stored

    def encode(self, prompt: str) -> Tensor:
        """The same, never as stored."""
        tokenizer, encoder = self._parts
        return encode_prompt(tokenizer, encoder, clean_prompt(prompt), self._tokens)[0]

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        tokenizer, encoder = self._load()
        return tokenizer, encoder.eval().requires_grad_(False).to(self._device)


class WanEncoder(Encoder):
    """Encodes samples on one device.

    Args:
        codec: VAE, frozen, on the device.
        prompts: umT5.
        teacher: gives the teacher; called when it is first needed.
        teacher_width: V.
        device: of the examples.
    """

    def __init__(
        self,
        codec: VideoCodec,
        prompts: Prompts,
        teacher: Callable[[], Teacher],
        teacher_width: int,
        device: torch.device,
    ) -> None:
        self.codec = codec
        self.prompts = prompts
        self._load_teacher = teacher
        self._width = teacher_width
        self._device = device

    def examples(self, samples: Sequence[Sample], *, with_teacher: bool) -> list[Example]:
        """As :meth:`Encoder.examples`; samples are encoded one by one, so that none depends on its neighbours.

        Raises:
            ValueError: a sample with an emphasis, which rows do not have.
        """
        return [self._example(sample, with_teacher) for sample in samples]

    def text(self, prompt: str) -> Tensor:
        """As :meth:`Encoder.text`, on the device; the last few prompts are remembered."""
        return self.prompts.recalled(prompt).to(self._device, torch.float32)

    @torch.no_grad()
    def latents(self, frames: NDArray[np.uint8]) -> Tensor:
        """Latents of a clip or of a picture.

        Args:
            frames: uint8 RGB (T, H, W, 3), T = 4 k + 1, sides multiples of 8.

        Returns:
            (C, k + 1, H / 8, W / 8), in the VAE's dtype, on its device.
        """
        vae = self.codec.vae
        pixels = frames_to_pixels(torch.from_numpy(frames).to(vae.device), vae.dtype)
        return self.codec.encode(pixels[None].contiguous())[0]

    def references(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Latents of references, each encoded alone.

        Args:
            pictures: uint8 RGB, each (H, W, 3); at least one.

        Returns:
            float32 (C, M, H / 8, W / 8), on the device.
        """
        return torch.cat([self._float(self.latents(picture[None])) for picture in pictures], dim=1)

    def features(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """The teacher's features of references, float32 (M, N, V), on the device."""
        stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return self._float(self._teacher.features(stacked))

    def _example(self, sample: Sample, with_teacher: bool) -> Example:
        if sample.emphasis is not None:
            raise ValueError(f"{sample.key}: an emphasis, which clips of rows do not have")
        encoded = sample.encoded
        height, width = sample.references[0].shape[:2]
        tokens = (height // CELL) * (width // CELL)
        return Example(
            latents=self._float(self.latents(sample.frames) if encoded is None else encoded.latents),
            text=self._float(self.prompts.embedding(sample.prompt) if encoded is None else encoded.text),
            references=self.references(sample.references),
            teacher=self.features(sample.references)
            if with_teacher
            else torch.zeros(0, tokens, self._width, device=self._device),
        )

    def _float(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, torch.float32)

    @cached_property
    def _teacher(self) -> Teacher:
        return self._load_teacher()
