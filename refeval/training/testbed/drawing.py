"""Clips of a small network: many at once, guided by references and prompt as RefAlign is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from refeval.generators.wan.sampling import dual_guidance
from refeval.generators.wan.schedules import shifted
from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.training.batches import collate
from refeval.training.dual import DualReferenceTransformer
from refeval.training.examples import Example
from refeval.training.flow import STEPS
from refeval.training.recipe import Recipe


@torch.no_grad()
def draw_latents(
    network: ReferenceTransformer, examples: Sequence[Example], recipe: Recipe, *, text_tokens: int, seed: int
) -> Tensor:
    """Sample latents for the prompts and references of examples, by Euler's method.

    Args:
        network: in evaluation mode, on the CPU.
        examples: their clips are not looked at, only the shapes.
        recipe: solver and guidance.
        text_tokens: that prompts are padded to.
        seed: of the noise.

    Returns:
        float32 (N, C, F, H', W').
    """
    batch = collate(examples, text_tokens, recipe.data.references)
    noise = torch.Generator().manual_seed(seed)
    latents = torch.randn(batch.latents.shape, generator=noise)
    nothing, no_text = torch.zeros_like(batch.references), torch.zeros_like(batch.text)
    # As in dual_guidance: both, references alone, neither.
    references = torch.cat([batch.references, batch.references, nothing])
    inputs: dict[str, Any] = {
        "encoder_hidden_states": torch.cat([batch.text, no_text, no_text]),
        "reference_latents": references,
    }
    if isinstance(network, DualReferenceTransformer):
        inputs["reference_features"] = torch.cat([batch.teacher, batch.teacher, torch.zeros_like(batch.teacher)])
    testbed = recipe.testbed
    sigmas = shifted(torch.linspace(1.0, 0.0, testbed.steps + 1), recipe.objective.flow.shift)
    for now, then in itertools.pairwise(sigmas):
        timesteps = (now * STEPS).expand(len(references))
        velocity = network(torch.cat([latents] * 3), timesteps, **inputs).velocity
        # (3, N, ...) with the clips as channels, which is how one clip's three answers would come.
        stacked = velocity.reshape(3, -1, *velocity.shape[2:])
        guided = dual_guidance(stacked, testbed.guidance, testbed.guidance_text)
        latents = latents + (then - now) * guided.reshape(latents.shape)
    return latents
