"""Our procedure around the same modules as the official one: the engine, as the RefAlign generator calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.sampling_models import Job, RandomModels, Rendered, Seconds, Stopwatch
from refeval.generators.refalign import RefAlignSettings
from refeval.generators.wan.conditions import RefAlignConditions
from refeval.generators.wan.engine import Engine
from refeval.generators.wan.schedules import Euler
from refeval.generators.wan.text import TextEmbeddings
from refeval.place import Place


class _Watched(RefAlignConditions):
    """Keeps the sampled latents and the time when they were there: ``video`` is called between the two halves."""

    def __init__(self, watch: Stopwatch, *args: Any, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self._watch = watch

    def video(self, latents: Tensor) -> Tensor:
        self.sampling = self._watch.lap()
        self.latents = super().video(latents)
        return self.latents


class OurRefAlign:
    """Clips of one model: each prompt encoded once, the encoder let go of, the branches as the settings say.

    Args:
        models: the modules; transformer and VAE stay on the device.
        memory: preset.
        settings: of RefAlign.
    """

    def __init__(self, models: RandomModels, settings: RefAlignSettings, memory: str = "auto") -> None:
        self._models = models
        self._settings = settings
        self._clip = models.size.clip
        place = Place(device=models.device.type, memory=memory)
        self.engine = Engine(models.size.spec, settings, place, models.parts())
        self.engine.load([], self._clip)

    @property
    def dtype(self) -> torch.dtype:
        """Of transformer and text."""
        return self._models.dtype

    def render(self, jobs: Sequence[Job], steps: int) -> list[Rendered]:
        """Clips of so many steps, one after the other; the seconds of the prompts are in the first."""
        texts = self._texts()
        watch = self._models.watch()
        texts.learn([jobs[0].negative, *(job.prompt for job in jobs)])
        learning = Seconds(text=watch.lap())
        self._models.text_is_done()
        clips = [self._render(job, texts, steps) for job in jobs]
        first = clips[0]
        clips[0] = Rendered(latents=first.latents, frames=first.frames, seconds=first.seconds + learning)
        return clips

    def _texts(self) -> TextEmbeddings:
        # The encoder is there before the clock starts, and here is the only reference to it.
        held = [self._models.text()]
        return TextEmbeddings(held.pop, self._models.size.architecture.text_tokens)

    def _render(self, job: Job, texts: TextEmbeddings, steps: int) -> Rendered:
        engine, watch = self.engine, self._models.watch()
        prompt, negative = (texts.embedding(text, engine.device, self.dtype) for text in (job.prompt, job.negative))
        text = watch.lap()
        references = torch.cat([engine.encode(picture) for picture in job.pictures], dim=2)
        pictures = watch.lap()
        conditions = _Watched(
            watch,
            engine.forward,
            prompt=prompt,
            negative=negative,
            references=references,
            image=self._settings.guidance,
            text=self._settings.guidance_text,
        )
        schedule = Euler(steps, self._settings.shift)
        frames = engine.sample(conditions, schedule, seed=job.seed, clip=self._clip, round_timesteps=True)
        seconds = Seconds(text=text, references=pictures, sampling=conditions.sampling, decoding=watch.lap())
        return Rendered(latents=conditions.latents, frames=torch.from_numpy(frames), seconds=seconds)
