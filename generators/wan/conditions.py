"""How references enter the transformer and how the guidance combines its answers: one class per family.

Letters of shapes: K guidance branches, C latent channels (16), F latent frames of the video, M references, H and W
latent height and width, L text tokens, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from refeval.generators.wan.sampling import Conditions, dual_guidance, plain_guidance

# Takes the keyword arguments of a transformer's forward and gives the velocity.
Forward = Callable[..., Tensor]
_FACTOR = 8


class DualConditions(Conditions):
    """Three branches: references and prompt; references and negative prompt; zeros and negative prompt.

    Args:
        forward: of the transformer.
        prompt: text embedding, (1, L, text_dim), zeros beyond its end.
        negative: that of the negative prompt; of the same length where branches are predicted together.
        references: clean latents, (1, C, M, H, W).
        image: guidance scale of the references.
        text: guidance scale of the prompt.
    """

    branches = 3

    def __init__(
        self, forward: Forward, *, prompt: Tensor, negative: Tensor, references: Tensor, image: float, text: float
    ) -> None:
        self._forward = forward
        self._texts: tuple[Tensor, ...] = (prompt, negative, negative)
        self._references = torch.cat([references, references, torch.zeros_like(references)])
        self._scales = (image, text)

    def combine(self, predictions: Tensor) -> Tensor:
        """As :func:`dual_guidance`."""
        return dual_guidance(predictions, *self._scales)


class RefAlignConditions(DualConditions):
    """References as tokens beside the video; ``forward`` is that of a ``ReferenceTransformer``.

    Source: RefAlign @6f91526 diffsynth/pipelines/wan_video_new6.py:771-943.
    """

    def predict(self, latents: Tensor, timestep: Tensor, branches: slice) -> Tensor:
        """As :meth:`Conditions.predict`."""
        texts = torch.cat(self._texts[branches])
        return self._forward(
            hidden_states=_repeated(latents, texts),
            timestep=timestep.expand(len(texts)),
            encoder_hidden_states=texts,
            reference_latents=self._references[branches],
        )

    def video(self, latents: Tensor) -> Tensor:
        """All frames: references are no frames here."""
        return latents


class PhantomConditions(DualConditions):
    """References as the last latent frames: noisy frames to the solver, clean ones to the model.

    ``forward`` is that of diffusers' ``WanTransformer3DModel``.

    Source: sbalani/Phantom-cog @9a9be62 phantom_wan/subject2video.py:219-313.
    """

    def __init__(self, forward: Forward, *, references: Tensor, **rest: Any) -> None:
        super().__init__(forward, references=references, **rest)
        self.extra_frames = references.shape[2]

    def predict(self, latents: Tensor, timestep: Tensor, branches: slice) -> Tensor:
        """As :meth:`Conditions.predict`; latents are (1, C, F + M, H, W)."""
        texts, references = torch.cat(self._texts[branches]), self._references[branches]
        video = _repeated(self.video(latents), texts)
        return self._forward(
            hidden_states=torch.cat([video, references], dim=2),
            timestep=timestep.expand(len(texts)),
            encoder_hidden_states=texts,
        )

    def video(self, latents: Tensor) -> Tensor:
        """Without the last M frames."""
        return latents[:, :, : latents.shape[2] - self.extra_frames]


class VaceConditions(Conditions):
    """References as the leading frames of a context that a second branch of blocks turns into hints.

    Source: VACE @48eb44f vace/models/wan/wan_vace.py:243-409.

    Args:
        forward: of diffusers' ``WanVACETransformer3DModel``.
        prompt: text embedding, (1, L, text_dim), zeros beyond its end.
        negative: that of the negative prompt, same shape.
        context: (1, 96, M + F, H, W) of :func:`vace_context`.
        references: M.
        scale: guidance scale.
        context_scale: weight of every hint.
        hints: how many blocks receive one.
    """

    branches = 2

    def __init__(
        self,
        forward: Forward,
        *,
        prompt: Tensor,
        negative: Tensor,
        context: Tensor,
        references: int,
        scale: float,
        context_scale: float,
        hints: int,
    ) -> None:
        self._forward = forward
        self._texts: tuple[Tensor, ...] = (prompt, negative)
        self._context = context
        self.extra_frames = references
        self._scale = scale
        self._hint_scales = context.new_full((hints,), context_scale)

    def predict(self, latents: Tensor, timestep: Tensor, branches: slice) -> Tensor:
        """As :meth:`Conditions.predict`; latents are (1, C, M + F, H, W)."""
        texts = torch.cat(self._texts[branches])
        return self._forward(
            hidden_states=_repeated(latents, texts),
            timestep=timestep.expand(len(texts)),
            encoder_hidden_states=texts,
            control_hidden_states=self._context.expand(len(texts), -1, -1, -1, -1),
            control_hidden_states_scale=self._hint_scales,
        )

    def combine(self, predictions: Tensor) -> Tensor:
        """As :func:`plain_guidance`."""
        return plain_guidance(predictions, self._scale)

    def video(self, latents: Tensor) -> Tensor:
        """Without the first M frames."""
        return latents[:, :, self.extra_frames :]


def _repeated(latents: Tensor, texts: Tensor) -> Tensor:
    return latents.to(texts.dtype).expand(len(texts), -1, -1, -1, -1)


def vace_context(
    encode: Callable[[Tensor], Tensor], references: Sequence[Tensor], video: Tensor, mask: Tensor
) -> Tensor:
    """The context of VACE: what is kept, what is to be made, and where.

    For references alone the video is zeros (mid-grey) and the mask ones. The order of the references is the
    official one; diffusers' pipeline reverses it.

    Source: VACE @48eb44f vace/models/wan/wan_vace.py:127-192.

    Args:
        encode: pixels (1, 3, T, 8 H, 8 W) in -1 to 1 to normalised latents (1, C, F, H, W).
        references: pixels, each (1, 3, 1, 8 H, 8 W).
        video: pixels, (1, 3, T, 8 H, 8 W).
        mask: (1, 1, T, 8 H, 8 W), above 0.5 where something is to be made.

    Returns:
        (1, 96, M + F, H, W): 16 channels of what is kept, 16 of what is replaced, 64 of the mask.
    """
    made = (mask > 0.5).to(video.dtype)
    inactive, reactive = video * (1 - made), video * made
    kept = encode(inactive)
    replaced = kept if torch.equal(inactive, reactive) else encode(reactive)
    where = _folded(made, kept.shape[2]).to(kept.dtype)
    context = torch.cat([kept, replaced, where], dim=1)
    leading = [_leading(encode(picture), channels=context.shape[1]) for picture in references]
    return torch.cat([*leading, context], dim=2)


def _leading(reference: Tensor, channels: int) -> Tensor:
    """A reference as one frame of the context: nothing of it is replaced, its mask is empty."""
    return functional.pad(reference, (0, 0, 0, 0, 0, 0, 0, channels - reference.shape[1]))


def _folded(mask: Tensor, frames: int) -> Tensor:
    """A mask in latent size: every 8x8 block becomes 64 channels, time is thinned to the nearest frame."""
    by_frame = mask[0, 0].unsqueeze(1)
    channels = functional.pixel_unshuffle(by_frame, _FACTOR).movedim(1, 0)
    size: Any = (frames, *channels.shape[2:])
    return functional.interpolate(channels[None], size=size, mode="nearest-exact")
