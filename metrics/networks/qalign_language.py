"""The language model of Q-Align: Llama 2, in which text and pictures have norms, keys and values of their own.

Shape suffixes: b windows, l positions (text and visual), c channels, h heads, d channels of a head.

Source: mPLUG-Owl2 as OpenS2V-Nexus eval/get_motion_smoothness.py at 210eb08 runs it (transformers 4.36.1, attention
"eager"); keys and shapes of q-future/one-align. Differs: the visual positions are one run, the same in all windows,
so that each way computes only its own; fused attention; no cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]
_THETA = 10000.0


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """The size of the language model; the defaults are the published ones, Llama 2 of 7 billion parameters.

    Attributes:
        vocabulary: tokens.
        layers: decoder blocks.
        width: channels.
        heads: attention heads, as many for keys and values.
        inner: width of the feed-forward part.
        eps: of the norms.
    """

    vocabulary: int = 32000
    layers: int = 32
    width: int = 4096
    heads: int = 32
    inner: int = 11008
    eps: float = 1e-5


class TwoWay(nn.Module):
    """Two modules of one kind: the first for text, the second for visual positions.

    Args:
        make: makes one of them.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([make(), make()])

    def forward(self, x_blc: Tensor, visual: slice) -> Tensor:
        """Apply each to its own positions.

        Args:
            x_blc: all positions.
            visual: the run of visual ones.
        """
        text, picture = self.multiway
        text_blc = text(torch.cat([x_blc[:, : visual.start], x_blc[:, visual.stop :]], dim=1))
        before, after = text_blc[:, : visual.start], text_blc[:, visual.start :]
        return torch.cat([before, picture(x_blc[:, visual]), after], dim=1)


class RmsNorm(nn.Module):
    """``weight * x / sqrt(mean(x^2) + eps)``; the quotient is computed in float32 and rounded before the product."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_blc: Tensor) -> Tensor:
        wide = x_blc.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x_blc.dtype)


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each after a norm and beside a residual: (B, L, C) -> (B, L, C)."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.self_attn = _Attention(config)
        self.mlp = _Mlp(config)
        self.input_layernorm = TwoWay(lambda: RmsNorm(config.width, config.eps))
        self.post_attention_layernorm = TwoWay(lambda: RmsNorm(config.width, config.eps))

    def forward(self, x_blc: Tensor, visual: slice, rotation: Rotation) -> Tensor:
        x_blc = x_blc + self.self_attn(self.input_layernorm(x_blc, visual), visual, rotation)
        out_blc: Tensor = x_blc + self.mlp(self.post_attention_layernorm(x_blc, visual))
        return out_blc


def rotation_of(length: int, config: LanguageConfig, like: Tensor) -> Rotation:
    """Cosines and sines of the rotary positions 0 to ``length - 1``, each (L, D), in the dtype of ``like``."""
    depth = config.width // config.heads
    # On the CPU in float32, whatever the model is in: the angles must not depend on the device.
    frequencies = 1.0 / (_THETA ** (torch.arange(0, depth, 2, dtype=torch.float32) / depth))
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies).repeat(1, 2)
    return angles.cos().to(like), angles.sin().to(like)


class _Attention(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = _linear(config.width, config.width)
        self.k_proj = TwoWay(lambda: _linear(config.width, config.width))
        self.v_proj = TwoWay(lambda: _linear(config.width, config.width))
        self.o_proj = _linear(config.width, config.width)

    def forward(self, x_blc: Tensor, visual: slice, rotation: Rotation) -> Tensor:
        mixed_bhld = F.scaled_dot_product_attention(
            _rotate(self._split(self.q_proj(x_blc)), rotation),
            _rotate(self._split(self.k_proj(x_blc, visual)), rotation),
            self._split(self.v_proj(x_blc, visual)),
            is_causal=True,
        )
        out_blc: Tensor = self.o_proj(mixed_bhld.transpose(1, 2).flatten(2))
        return out_blc

    def _split(self, x_blc: Tensor) -> Tensor:
        return x_blc.reshape(*x_blc.shape[:2], self.heads, -1).transpose(1, 2)


class _Mlp(nn.Module):
    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.gate_proj = _linear(config.width, config.inner)
        self.up_proj = _linear(config.width, config.inner)
        self.down_proj = _linear(config.inner, config.width)

    def forward(self, x_blc: Tensor) -> Tensor:
        out_blc: Tensor = self.down_proj(F.silu(self.gate_proj(x_blc)) * self.up_proj(x_blc))
        return out_blc


def _linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def _rotate(x_bhld: Tensor, rotation: Rotation) -> Tensor:
    cosines_ld, sines_ld = rotation
    first, second = x_bhld.chunk(2, dim=-1)
    return x_bhld * cosines_ld + torch.cat([-second, first], dim=-1) * sines_ld
