"""The world of recipes whose network is ``sprites``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refeval.errors import BadInput
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.sprites import BACKGROUNDS
from refeval.training.examples import Encoder, Sample, Source
from refeval.training.recipe import Recipe
from refeval.training.testbed.assessment import assess
from refeval.training.testbed.drawing import draw_latents
from refeval.training.testbed.encoder import TEXT_WIDTH, SpritesEncoder
from refeval.training.testbed.identity_teacher import WIDTH, check_teacher, identity_teacher
from refeval.training.testbed.latents import CHANNELS, decode
from refeval.training.testbed.scenes import SpritesSource, draw_scene, make_sample, plain_reference
from refeval.training.testbed.views import held_out_views
from refeval.training.worlds import DrawnClip, Measure, View, World

_TIMESTEP_WIDTH, _FEED_FORWARD, _ROTARY_LENGTH = 64, 4, 64
_MOST_SUBJECTS = 3
# Background, and a motion for each subject.
_TEXT_TOKENS = 1 + _MOST_SUBJECTS


class SpritesWorld(World):
    """Everything small: the network, its latents, its words and its teacher.

    Args:
        recipe: of the training.
        folder: of the training; the teacher is kept there.
        seed: of the training.

    Raises:
        BadInput: the recipe asks for what the world does not have.
    """

    text_tokens = _TEXT_TOKENS
    teacher_width = WIDTH

    def __init__(self, recipe: Recipe, folder: Path, seed: int) -> None:
        check_teacher(recipe)
        _check_scenes(recipe)
        self._recipe = recipe
        # The network cannot tell a reference of zeros from none: it is told the same everywhere.
        self.reference_slots = recipe.data.references
        self._folder = folder
        self._seed = seed

    def config(self) -> dict[str, Any]:
        """Wan's, of a few blocks."""
        settings = self._recipe.network
        return {
            "patch_size": (1, 1, 1),
            "num_attention_heads": settings.heads,
            "attention_head_dim": settings.width // settings.heads,
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "text_dim": TEXT_WIDTH,
            "freq_dim": _TIMESTEP_WIDTH,
            "ffn_dim": _FEED_FORWARD * settings.width,
            "num_layers": settings.blocks,
            "rope_max_seq_len": _ROTARY_LENGTH,
            "qk_norm": "rms_norm_across_heads",
            "cross_attn_norm": True,
        }

    def network(self) -> tuple[ReferenceTransformer, dict[str, Tensor]]:
        """From random weights; its head starts at zero."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed)
            network = ReferenceTransformer(**self.config())
        for parameter in network.proj_out.parameters():
            nn.init.zeros_(parameter)
        return network, {}

    def source(self) -> Source:
        """Endless."""
        return SpritesSource(self._recipe, self._seed)

    def encoder(self) -> Encoder:
        """With the teacher of identity, which is trained the first time."""
        return self._encoder

    def shown(self, count: int) -> Sequence[Sample]:
        """Held-out subjects."""
        samples = []
        for position in range(count):
            scene = draw_scene(self._recipe, "held-out", self._seed, position)
            references = tuple(plain_reference(actor.subject, self._recipe) for actor in scene.actors)
            samples.append(make_sample(scene, self._recipe, references, key=f"held-out-{position}"))
        return samples

    def views(self) -> Sequence[View]:
        """Held-out subjects, each from several sides, beside one and the same clip."""
        return held_out_views(self._recipe, self._encoder)

    def assess(self, network: ReferenceTransformer, *, seed: int) -> Sequence[Measure]:
        """As :func:`refeval.training.testbed.assessment.assess`."""
        return assess(self, network, self._recipe, clips=self._recipe.testbed.assessed_clips, seed=seed)

    def draw(self, network: ReferenceTransformer, samples: Sequence[Sample], *, seed: int) -> list[DrawnClip]:
        """All at once; the seed is that of the noise."""
        examples = self._encoder.examples(samples, with_teacher=True)
        latents = draw_latents(network, examples, self._recipe, text_tokens=self.text_tokens, seed=seed)
        clips = decode(latents)
        return [DrawnClip(sample=sample, frames=clip) for sample, clip in zip(samples, clips, strict=True)]

    @cached_property
    def _encoder(self) -> SpritesEncoder:
        return SpritesEncoder(identity_teacher(self._recipe, self._folder / "teacher.safetensors", self._seed))


def _check_scenes(recipe: Recipe) -> None:
    testbed = recipe.testbed
    unknown = sorted({*testbed.backgrounds} - {*BACKGROUNDS})
    if unknown:
        raise BadInput(
            f"recipe {recipe.name}: there is no background '{unknown[0]}'", cure=f"some of {', '.join(BACKGROUNDS)}"
        )
    if not (testbed.backgrounds and testbed.kinds and testbed.subjects):
        raise BadInput(f"recipe {recipe.name}: testbed.backgrounds, kinds and subjects need a value each")
    if not 1 <= min(testbed.subjects) <= max(testbed.subjects) <= _MOST_SUBJECTS:
        raise BadInput(
            f"recipe {recipe.name}: testbed.subjects has {min(testbed.subjects)} to {max(testbed.subjects)}",
            cure=f"numbers from 1 to {_MOST_SUBJECTS}: a scene has room for so many",
        )
