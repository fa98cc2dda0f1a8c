"""RefAlign's transformer: Wan2.1 of diffusers plus reference tokens, and the exact timesteps of all families.

Letters of shapes: B batch, C latent channels (16), F latent frames, M references, H and W latent height and width,
N tokens (video, then references), D width, L text tokens.

Source: RefAlign @6f91526 diffsynth/pipelines/wan_video_new6.py:2297-2724 and models/wan_video_dit.py; blocks,
rotary table and embeddings are diffusers' own, which agree with the official ones to the float32 noise floor
except for the timestep sinusoid, hence :class:`ExactTimesteps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor, WanRotaryPosEmbed
from torch import Tensor, nn


class ExactTimesteps(nn.Module):
    """The sinusoid of a timestep, computed in float64 as Wan2.1 does; diffusers computes it in float32.

    Args:
        channels: width of the embedding, even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_channels = channels

    def forward(self, timesteps: Tensor) -> Tensor:
        """Embed timesteps of shape (B,), 0 to 1000: float32 (B, channels), cosines first."""
        half = self.num_channels // 2
        exponents = torch.arange(half, dtype=torch.float64, device=timesteps.device) / half
        angles = timesteps.double()[:, None] * torch.pow(10000.0, -exponents)
        return torch.cat([angles.cos(), angles.sin()], dim=1).float()


def use_exact_timesteps(transformer: Any) -> None:
    """Give a Wan transformer of diffusers the timestep sinusoid of the official code."""
    embedder = transformer.condition_embedder
    embedder.timesteps_proj = ExactTimesteps(embedder.timesteps_proj.num_channels)


class ReferenceRotaryEmbedding(WanRotaryPosEmbed):  # type: ignore[misc]
    """Wan's rotary table, continued for references: their time goes on after the video's, their place starts at 0."""

    def forward(self, latents: Tensor, references: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cosines and sines, each (1, N, 1, head_dim), for latents (B, C, F, H, W) and references (B, C, M, H', W')."""
        cosines, sines = super().forward(latents)
        if references is None:
            return cosines, sines
        count, height, width = references.shape[2:]
        frames = latents.shape[2]
        # The table of a longer video of the references' size, of which only the end is wanted.
        longer = references.new_empty(1).expand(1, 1, frames + count, height, width)
        more_cosines, more_sines = super().forward(longer)
        before = more_cosines.shape[1] // (frames + count) * frames
        return torch.cat([cosines, more_cosines[:, before:]], 1), torch.cat([sines, more_sines[:, before:]], 1)


class VideoTextAttention(WanAttnProcessor):  # type: ignore[misc]
    """Text cross-attention for video tokens only; reference tokens pass it unchanged.

    Attributes:
        video_tokens: how many of all tokens, from the start, are video; set by the model before its blocks run.
    """

    video_tokens: int = 0

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attend; (B, N, D) to (B, N, D) with zeros for the references, which the block adds to its input."""
        tokens = hidden_states.shape[1]
        video = min(max(self.video_tokens - self._first_token(tokens), 0), tokens)
        if video == 0:
            return torch.zeros_like(hidden_states)
        attended: Tensor = super().__call__(
            attn, hidden_states[:, :video], encoder_hidden_states, attention_mask, rotary_emb
        )
        return nn.functional.pad(attended, (0, 0, 0, tokens - video))

    def _first_token(self, tokens: int) -> int:
        # Spread over processes, each holds an equal part of the tokens, in order of rank.
        config = self._parallel_config
        return 0 if config is None else int(config.context_parallel_config._rank) * tokens


@dataclass(frozen=True)
class Prediction:
    """What the transformer says of one step.

    Attributes:
        velocity: (B, C, F, H, W).
        reference_states: hidden states of the reference tokens after the blocks asked for, each (B, N - video, D).
    """

    velocity: Tensor
    reference_states: tuple[Tensor, ...]


class ReferenceTransformer(WanTransformer3DModel):  # type: ignore[misc]
    """Wan2.1 that reads reference images as tokens beside the video's.

    References go through the video's own patch embedding, take part in every self-attention with the same
    modulation and feed-forward, and in no text cross-attention. There are no parameters beyond Wan2.1's.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        settings = self.config
        self.rope = ReferenceRotaryEmbedding(
            settings.attention_head_dim, settings.patch_size, settings.rope_max_seq_len
        )
        use_exact_timesteps(self)
        self.text_attention = VideoTextAttention()
        for block in self.blocks:
            block.attn2.set_processor(self.text_attention)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        reference_latents: Tensor | None = None,
        reference_blocks: Sequence[int] = (),
        reference_features: Tensor | None = None,
    ) -> Prediction:
        """Predict the velocity of noisy latents.

        Args:
            hidden_states: noisy video latents, (B, C, F, H, W), H and W even.
            timestep: (B,), 0 to 1000.
            encoder_hidden_states: text, (B, L, text_dim), zeros beyond the end of the text.
            reference_latents: clean latents of the references, (B, C, M, H', W'); None: plain text to video.
            reference_blocks: indices of blocks whose reference tokens are wanted.
            reference_features: for a network that takes features beside the latents, (B, M, tokens of one, V).

        Returns:
            The velocity, in the parameters' dtype, and the reference states asked for.
        """
        rotary = self.rope(hidden_states, reference_latents)
        tokens = self._embed(hidden_states)
        video = tokens.shape[1]
        if reference_latents is not None:
            tokens = torch.cat([tokens, self._embed_references(reference_latents, reference_features)], dim=1)
        self.text_attention.video_tokens = video
        embedded, modulation, text, _ = self.condition_embedder(timestep, encoder_hidden_states)
        modulation = modulation.unflatten(1, (6, -1))
        kept = []
        for index, block in enumerate(self.blocks):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(block, tokens, text, modulation, rotary)
            else:
                tokens = block(tokens, text, modulation, rotary)
            if index in reference_blocks:
                kept.append(tokens[:, video:])
        return Prediction(self._head(tokens, embedded, video, hidden_states.shape), tuple(kept))

    def _embed(self, latents: Tensor) -> Tensor:
        tokens: Tensor = self.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
        return tokens

    def _embed_references(self, latents: Tensor, features: Tensor | None) -> Tensor:
        if features is not None:
            raise ValueError("this network takes no features of references")
        return self._embed(latents)

    def _head(self, tokens: Tensor, embedded: Tensor, video: int, shape: torch.Size) -> Tensor:
        shift, scale = (self.scale_shift_table + embedded.unsqueeze(1)).chunk(2, dim=1)
        tokens = (self.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens)
        # The references go only now: where tokens are spread over processes, proj_out is what brings them together.
        patches = self.proj_out(tokens)[:, :video]
        _, tall, wide = self.config.patch_size
        batch, _, frames, height, width = shape
        grid = patches.reshape(batch, frames, height // tall, width // wide, tall, wide, -1)
        velocity: Tensor = grid.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, frames, height, width)
        return velocity
