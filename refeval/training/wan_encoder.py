"""Rows encoded for Wan2.1: clips and references by its VAE, prompts by umT5, references by a teacher too.

Everything is frozen and in evaluation mode. The official run called ``train()`` on the whole pipeline, so dropout
of 0.1 was at work in its umT5; here the same prompt always has the same embedding, which is what inference sees.

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

from refeval.generators.wan.catalogue import ModelSpec
from refeval.generators.wan.latents import VideoCodec
from refeval.generators.wan.parts import parts_of
from refeval.generators.wan.prompts import clean_prompt
from refeval.generators.wan.references import frames_to_pixels
from refeval.generators.wan.text import encode_prompt
from refeval.training.examples import Encoder, Example, Sample
from refeval.training.recipe import DataSettings
from refeval.training.teacher_catalogue import CELL
from refeval.training.teachers import Teacher
from refeval.weights import WeightsStore

CHANNELS, SPATIAL, TEMPORAL = 16, 8, 4
"""Of latents: channels, and how many pixels and frames one stands for; the first frame has one of its own."""

# Prompts that are asked for again and again: the empty one, the negative one, those of the clips that are drawn.
_REMEMBERED = 32


class WanParts:
    """VAE and umT5 of a base, frozen; each is loaded when it is first needed.

    Where all prompts were encoded before, umT5 and its 11 GB never are.

    Args:
        spec: of the base, in :data:`refeval.generators.wan.catalogue.BASES`.
        store: the weights folder.
        device: to work on.
        stored: the embedding of a prompt that was encoded before, (L, D) on the CPU, or None; None: none is stored.
    """

    def __init__(
        self,
        spec: ModelSpec,
        store: WeightsStore,
        device: torch.device,
        stored: Callable[[str], Tensor | None] | None = None,
    ) -> None:
        self.spec = spec
        self.device = device
        self._store = store
        self._parts = parts_of(spec, store)
        self._stored = stored
        self.recalled = lru_cache(_REMEMBERED)(self.text)

    def identity(self) -> dict[str, Any]:
        """What encoded clips and prompts rest on: sha256 and precision of both, JSON types; loads nothing.

        Raises:
            MissingPrerequisite: files are missing.
        """
        spec = self.spec
        files = self._store.sha256(self._store.find(spec.base, spec.name)) if spec.base else {}
        vae = {name: digest for name, digest in files.items() if name.endswith("Wan2.1_VAE.pth")}
        text = {name: digest for name, digest in files.items() if name not in vae}
        return {
            "vae": {"weights": vae or "random", "precision": str(self._vae_dtype).removeprefix("torch.")},
            "text": {"weights": text or "random", "tokens": spec.architecture.text_tokens},
        }

    def latent_bytes(self, data: DataSettings) -> int:
        """Bytes of a clip's latents, as they are stored."""
        frames = (data.frames - 1) // TEMPORAL + 1
        numbers = CHANNELS * frames * (data.height // SPATIAL) * (data.width // SPATIAL)
        return numbers * self._vae_dtype.itemsize

    @torch.no_grad()
    def latents(self, frames: NDArray[np.uint8]) -> Tensor:
        """Latents of a clip, or of a picture.

        Args:
            frames: uint8 RGB (T, H, W, 3), T = 4 k + 1, sides multiples of 8.

        Returns:
            (C, k + 1, H / 8, W / 8), in the VAE's dtype, on the device.
        """
        # Torch wants arrays that can be written to; those of Pillow cannot.
        levels = torch.from_numpy(np.require(frames, requirements="W")).to(self.device)
        pixels = frames_to_pixels(levels, self._vae_dtype)
        return self.codec.encode(pixels[None].contiguous())[0]

    def encode_text(self, prompt: str) -> Tensor:
        """Embed a prompt: (L, D) without padding, in umT5's dtype, on the CPU."""
        tokenizer, encoder = self._text
        return encode_prompt(tokenizer, encoder, clean_prompt(prompt), self.spec.architecture.text_tokens)[0]

    def text(self, prompt: str) -> Tensor:
        """The same, as it is stored where it is; ``recalled`` is this with the last few prompts remembered."""
        stored = self._stored(prompt) if self._stored else None
        return self.encode_text(prompt) if stored is None else stored

    @cached_property
    def codec(self) -> VideoCodec:
        """The VAE: in bfloat16 as RefAlign has it, a tiny one in float32.

        Raises:
            MissingPrerequisite: files are missing.
        """
        vae = self._parts.vae(self._vae_dtype)
        return VideoCodec(vae.requires_grad_(False).to(self.device), tiling=False)

    @property
    def _vae_dtype(self) -> torch.dtype:
        return torch.float32 if self.spec.tiny else torch.bfloat16

    @cached_property
    def _text(self) -> tuple[Any, Any]:
        tokenizer, encoder = self._parts.text()
        return tokenizer, encoder.eval().requires_grad_(False).to(self.device)


class WanEncoder(Encoder):
    """Encodes samples on one device.

    Args:
        parts: VAE and umT5.
        teacher: gives the teacher; called when it is first needed.
        teacher_width: V.
    """

    def __init__(self, parts: WanParts, teacher: Callable[[], Teacher], teacher_width: int) -> None:
        self.parts = parts
        self._load_teacher = teacher
        self._width = teacher_width

    def examples(self, samples: Sequence[Sample], *, with_teacher: bool) -> list[Example]:
        """As :meth:`Encoder.examples`; samples are encoded one by one, so that none depends on its neighbours.

        Raises:
            ValueError: a sample with an emphasis, which clips of rows do not have.
        """
        return [self._example(sample, with_teacher) for sample in samples]

    def text(self, prompt: str) -> Tensor:
        """As :meth:`Encoder.text`, on the device; the last few prompts are remembered."""
        return self._float(self.parts.recalled(prompt))

    def prompt_of(self, sample: Sample) -> Tensor:
        """The embedded prompt of a sample, float32 (L, D), on the device."""
        return self._float(self.parts.text(sample.prompt) if sample.encoded is None else sample.encoded.text)

    def references(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Latents of references, each encoded alone.

        Args:
            pictures: uint8 RGB, each (H, W, 3); at least one.

        Returns:
            float32 (C, M, H / 8, W / 8), on the device.
        """
        return torch.cat([self._float(self.parts.latents(picture[None])) for picture in pictures], dim=1)

    def features(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """The teacher's features of references, float32 (M, N, V), on the device."""
        stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        return self._float(self._teacher.features(stacked))

    def _example(self, sample: Sample, with_teacher: bool) -> Example:
        if sample.emphasis is not None:
            raise ValueError(f"{sample.key}: an emphasis, which clips of rows do not have")
        encoded = sample.encoded
        return Example(
            latents=self._float(self.parts.latents(sample.frames) if encoded is None else encoded.latents),
            text=self.prompt_of(sample),
            references=self.references(sample.references),
            teacher=self.features(sample.references) if with_teacher else self._no_features(sample),
        )

    def _no_features(self, sample: Sample) -> Tensor:
        height, width = sample.references[0].shape[:2]
        return torch.zeros(0, (height // CELL) * (width // CELL), self._width, device=self.parts.device)

    def _float(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.parts.device, torch.float32)

    @cached_property
    def _teacher(self) -> Teacher:
        return self._load_teacher()
