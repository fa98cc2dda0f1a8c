"""RefAlign step by step as the official pipeline works, to be measured against.

Written from the description of RefAlign @6f91526 diffsynth/pipelines/wan_video_new6.py:771-943 in MODELS.md: for
every clip both prompts are encoded, every reference is encoded alone, every step runs the transformer three times
in sequence, nothing is compiled, and nothing of one clip serves the next. Differs: transformer, VAE and text encoder
are the same modules that ours are measured with, and decoding is not tiled, as in ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.sampling_models import Job, RandomModels, Rendered, Seconds

_TRAINING_STEPS = 1000
_SHIFT = 5.0
_IMAGE_SCALE, _TEXT_SCALE = 5.0, 7.5


class OfficialRefAlign:
    """The official procedure around given modules, all of which stay on the device.

    Args:
        models: the modules; the text encoder is made here.
    """

    def __init__(self, models: RandomModels) -> None:
        self._models = models
        self._transformer: Any = models.transformer
        self._vae: Any = models.vae
        self._tokenizer, self._encoder = models.text()
        config, shape = self._vae.config, (1, -1, 1, 1, 1)
        self._mean = torch.tensor(config.latents_mean).view(shape)
        self._inverse_std = 1.0 / torch.tensor(config.latents_std).view(shape)

    @torch.no_grad()
    def render(self, job: Job, steps: int) -> Rendered:
        """One clip of so many steps; latents keep the models' dtype between the steps."""
        watch, dtype = self._models.watch(), self._models.dtype
        prompt, negative = self._encode_prompt(job.prompt, dtype), self._encode_prompt(job.negative, dtype)
        text = watch.lap()
        self._models.text_is_done()
        watch.lap()
        references = torch.cat([self._encode_image(picture).to(dtype) for picture in job.pictures], dim=2)
        pictures = watch.lap()
        latents = self._sample(self._noise(job.seed), prompt, negative, references, steps)
        sampling = watch.lap()
        frames = self._decode(latents)
        seconds = Seconds(text=text, references=pictures, sampling=sampling, decoding=watch.lap())
        return Rendered(latents=latents, frames=frames, seconds=seconds)

    def _encode_prompt(self, prompt: str, dtype: torch.dtype) -> Tensor:
        tokens = self._models.size.architecture.text_tokens
        padded = self._tokenizer(prompt, max_length=tokens, truncation=True, padding="max_length", return_tensors="pt")
        device = self._encoder.device
        ids, mask = padded.input_ids.to(device), padded.attention_mask.to(device)
        embedding: Tensor = self._encoder(ids, attention_mask=mask).last_hidden_state
        for row, length in zip(embedding, mask.sum(dim=1).tolist(), strict=True):
            row[length:] = 0
        return embedding.to(dtype)

    def _encode_image(self, picture: Tensor) -> Tensor:
        mode: Tensor = self._vae.encode(picture.to(self._vae.device, self._vae.dtype)).latent_dist.mode()
        return (mode - self._mean.to(mode)) * self._inverse_std.to(mode)

    def _noise(self, seed: int) -> Tensor:
        clip = self._models.size.clip
        shape = (1, 16, (clip.frames - 1) // 4 + 1, clip.height // 8, clip.width // 8)
        noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
        return noise.to(self._models.device, self._models.dtype)

    def _sample(self, latents: Tensor, prompt: Tensor, negative: Tensor, references: Tensor, steps: int) -> Tensor:
        sigmas = torch.linspace(1.0, 0.0, steps + 1)[:-1]
        sigmas = _SHIFT * sigmas / (1 + (_SHIFT - 1) * sigmas)
        for index, sigma in enumerate(sigmas):
            # The official run casts the timestep to bfloat16.
            timestep = (sigma * _TRAINING_STEPS).bfloat16().float()[None].to(latents.device)
            both = self._predict(latents, timestep, prompt, references)
            images = self._predict(latents, timestep, negative, references)
            neither = self._predict(latents, timestep, negative, references * 0.0)
            velocity = neither + _IMAGE_SCALE * (images - neither) + _TEXT_SCALE * (both - images)
            following = sigmas[index + 1] if index + 1 < steps else torch.zeros(())
            latents = latents + velocity * float(following - sigma)
        return latents

    def _predict(self, latents: Tensor, timestep: Tensor, text: Tensor, references: Tensor) -> Tensor:
        velocity: Tensor = self._transformer(latents, timestep, text, references).velocity
        return velocity.to(latents.dtype)

    def _decode(self, latents: Tensor) -> Tensor:
        latents = latents.to(self._vae.dtype)
        video = self._vae.decode(latents / self._inverse_std.to(latents) + self._mean.to(latents)).sample[0]
        frames: Tensor = ((video.float() + 1) * 127.5).clip(0, 255).to(torch.uint8)
        return frames.permute(1, 2, 3, 0).cpu()
