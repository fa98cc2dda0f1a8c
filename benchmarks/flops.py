"""How many floating-point operations a clip takes, computed from the architecture.

One multiplication and one addition count as two, as ``torch.utils.flop_counter`` counts them. Norms, rotary
embedding, activations, softmax, guidance and solver are left out.
"""

from __future__ import annotations

from refeval.cases import ClipSpec
from refeval.generators.wan.catalogue import Architecture

_PATCH = 16 * 4  # latent channels times pixels of a patch of 1 x 2 x 2
_MODULATIONS = 6


def token_counts(clip: ClipSpec, references: int) -> tuple[int, int]:
    """Video tokens, and those with the references of the clip's size."""
    frame = (clip.height // 16) * (clip.width // 16)
    frames = (clip.frames - 1) // 4 + 1
    return frames * frame, (frames + references) * frame


def transformer_flops(architecture: Architecture, video: int, tokens: int) -> int:
    """One forward of RefAlign's transformer for one branch of the guidance.

    With N tokens of which V are video, L text tokens, D width, I inner width of the feed-forward, T text_dim, S
    freq_dim, every layer takes::

        self-attention    8 N D^2  (query, key, value, result)  +  4 N^2 D  (scores, weighted sum)
        text attention    4 V D^2  (query, result)  +  4 L D^2  (key, value)  +  4 V L D
        feed-forward      4 N D I

    and around the layers::

        patches           2 N 64 D  in  +  2 N D 64  out
        text              2 L (T D + D^2)
        timestep          2 (S D + D^2 + 6 D^2)

    Args:
        architecture: of the transformer.
        video: V.
        tokens: N.
    """
    width, text = architecture.width, architecture.text_tokens
    self_attention = 8 * tokens * width**2 + 4 * tokens**2 * width
    text_attention = 4 * (video + text) * width**2 + 4 * video * text * width
    feed_forward = 4 * tokens * width * architecture.ffn_dim
    patches = 4 * tokens * _PATCH * width
    texts = 2 * text * (architecture.text_dim * width + width**2)
    time = 2 * (architecture.freq_dim * width + (1 + _MODULATIONS) * width**2)
    return architecture.layers * (self_attention + text_attention + feed_forward) + patches + texts + time


def text_encoder_flops(parameters: int, tokens: int) -> int:
    """One forward of the text encoder for one prompt: its linear layers, which are nearly all of it."""
    return 2 * parameters * tokens
