"""The eyes of Q-Align: a vision tower, and an abstractor that makes a few tokens for the language model of its patches.

Shape suffixes: b images, p patches with the class token, q queries, k queries and patches, c channels, h heads,
d channels of a head.

Source: mPLUG-Owl2 as OpenS2V-Nexus eval/get_motion_smoothness.py at 210eb08 runs it; keys and shapes of
q-future/one-align. Differs: fused attention, inference only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, nn

# torch's default, which the official abstractor keeps everywhere but inside its feed-forward part.
_ABSTRACTOR_EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The size of the vision tower; the defaults are the published ViT-L/14.

    Attributes:
        image: side of the square picture in pixels.
        patch: side of a patch in pixels.
        layers: transformer blocks.
        width: channels.
        heads: attention heads.
        inner: width of the feed-forward part.
        eps: of the layer norms.
    """

    image: int = 448
    patch: int = 14
    layers: int = 24
    width: int = 1024
    heads: int = 16
    inner: int = 4096
    eps: float = 1e-6

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.image // self.patch) ** 2 + 1


@dataclass(frozen=True, kw_only=True)
class AbstractorConfig:
    """The size of the abstractor, which is as wide as the vision tower; the defaults are the published ones.

    Attributes:
        queries: learnt queries; with the end token, an image becomes ``queries + 1`` tokens.
        layers: cross-attention blocks.
        heads: attention heads.
        inner: width of the feed-forward part.
        eps: of the layer norm in the feed-forward part.
    """

    queries: int = 64
    layers: int = 6
    heads: int = 16
    inner: int = 2816
    eps: float = 1e-6


class VisionTower(nn.Module):
    """ViT with a class token, norms before every block and at both ends, and quick GELU.

    ``pixels (B, 3, S, S) -> tokens (B, P, C)``, normalised.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers([_VisionLayer(config) for _ in range(config.layers)])
        self.post_layernorm = nn.LayerNorm(config.width, config.eps)

    def forward(self, pixels: Tensor) -> Tensor:
        x_bpc = self.embeddings(pixels)
        for layer in self.encoder.layers:
            x_bpc = layer(x_bpc)
        normed: Tensor = self.post_layernorm(x_bpc)
        return normed


class Abstractor(nn.Module):
    """Learnt queries that look at the patches of an image; then a projection, and an end token beside it.

    ``patches (B, P, C) -> tokens (B, Q + 1, text width)``; the end token is not projected.
    """

    def __init__(self, config: AbstractorConfig, vision: VisionConfig, text_width: int) -> None:
        super().__init__()
        self.query_embeds = nn.Parameter(torch.zeros(1, config.queries, vision.width))
        self.encoder = _Layers([_AbstractorLayer(config, vision) for _ in range(config.layers)])
        self.visual_fc = nn.Linear(vision.width, text_width)
        self.vit_eos = nn.Parameter(torch.zeros(1, 1, text_width))

    def forward(self, patches_bpc: Tensor) -> Tensor:
        batch = len(patches_bpc)
        x_bqc: Tensor = self.query_embeds.expand(batch, -1, -1)
        for layer in self.encoder.layers:
            x_bqc = layer(x_bqc, patches_bpc)
        return torch.cat([self.visual_fc(x_bqc), self.vit_eos.expand(batch, -1, -1)], dim=1)


class _Layers(nn.Module):
    """A list of layers under the name that the checkpoint has for it."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class _Embeddings(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.position_embedding = nn.Parameter(torch.zeros(1, config.tokens, config.width))
        self.patch_embed = nn.Conv2d(3, config.width, config.patch, config.patch, bias=False)
        self.pre_layernorm = nn.LayerNorm(config.width, config.eps)

    def forward(self, pixels: Tensor) -> Tensor:
        patches_bpc = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        x_bpc = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches_bpc], dim=1)
        normed: Tensor = self.pre_layernorm(x_bpc + self.position_embedding)
        return normed


class _VisionLayer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.width, config.eps)
        self.self_attn = _FusedAttention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.width, config.eps)
        self.mlp = _QuickGeluMlp(config)

    def forward(self, x_bpc: Tensor) -> Tensor:
        x_bpc = x_bpc + self.self_attn(self.input_layernorm(x_bpc))
        out_bpc: Tensor = x_bpc + self.mlp(self.post_attention_layernorm(x_bpc))
        return out_bpc


class _FusedAttention(nn.Module):
    """Self-attention; query, key and value of a head lie side by side in one projection."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.dense = nn.Linear(config.width, config.width)

    def forward(self, x_bpc: Tensor) -> Tensor:
        fused_bph3d = self.query_key_value(x_bpc).reshape(*x_bpc.shape[:2], self.heads, 3, -1)
        q_bhpd, k_bhpd, v_bhpd = fused_bph3d.permute(3, 0, 2, 1, 4)
        mixed_bhpd = F.scaled_dot_product_attention(q_bhpd, k_bhpd, v_bhpd)
        out_bpc: Tensor = self.dense(mixed_bhpd.transpose(1, 2).flatten(2))
        return out_bpc


class _QuickGeluMlp(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.inner)
        self.fc2 = nn.Linear(config.inner, config.width)

    def forward(self, x_bpc: Tensor) -> Tensor:
        inner = self.fc1(x_bpc)
        out_bpc: Tensor = self.fc2(inner * torch.sigmoid(1.702 * inner))
        return out_bpc


class _AbstractorLayer(nn.Module):
    """One block; the checkpoint holds it under one more name."""

    def __init__(self, config: AbstractorConfig, vision: VisionConfig) -> None:
        super().__init__()
        self.crossattention = _CrossAttention(config, vision)

    def forward(self, x_bqc: Tensor, patches_bpc: Tensor) -> Tensor:
        out_bqc: Tensor = self.crossattention(x_bqc, patches_bpc)
        return out_bqc


class _CrossAttention(nn.Module):
    """Attention to queries and patches; the residual is the *normed* input."""

    def __init__(self, config: AbstractorConfig, vision: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(vision.width, _ABSTRACTOR_EPS)
        self.normk = nn.LayerNorm(vision.width, _ABSTRACTOR_EPS)
        self.attention = _QueryAttention(config, vision)
        self.output = _AbstractorOutput(config, vision.width)

    def forward(self, x_bqc: Tensor, patches_bpc: Tensor) -> Tensor:
        normed_bqc = self.norm1(x_bqc)
        context_bkc = torch.cat([normed_bqc, self.normk(patches_bpc)], dim=1)
        out_bqc: Tensor = self.output(normed_bqc, self.attention(normed_bqc, context_bkc))
        return out_bqc


class _QueryAttention(nn.Module):
    """Cross-attention; stored tables of positions are added to queries and keys, not to values."""

    q_pos_embed: Tensor
    k_pos_embed: Tensor

    def __init__(self, config: AbstractorConfig, vision: VisionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.register_buffer("q_pos_embed", torch.zeros(config.queries, vision.width))
        self.register_buffer("k_pos_embed", torch.zeros(vision.tokens, vision.width))
        self.query = nn.Linear(vision.width, vision.width)
        self.key = nn.Linear(vision.width, vision.width)
        self.value = nn.Linear(vision.width, vision.width)

    def forward(self, x_bqc: Tensor, context_bkc: Tensor) -> Tensor:
        key_positions_kc = torch.cat([self.q_pos_embed, self.k_pos_embed])
        mixed_bhqd = F.scaled_dot_product_attention(
            self._split(self.query(x_bqc + self.q_pos_embed)),
            self._split(self.key(context_bkc + key_positions_kc)),
            self._split(self.value(context_bkc)),
        )
        return mixed_bhqd.transpose(1, 2).flatten(2)

    def _split(self, x_blc: Tensor) -> Tensor:
        return x_blc.reshape(*x_blc.shape[:2], self.heads, -1).transpose(1, 2)


class _AbstractorOutput(nn.Module):
    def __init__(self, config: AbstractorConfig, width: int) -> None:
        super().__init__()
        self.out_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, _ABSTRACTOR_EPS)
        self.mlp = _GatedMlp(config, width)

    def forward(self, residual_bqc: Tensor, mixed_bqc: Tensor) -> Tensor:
        x_bqc = residual_bqc + self.out_proj(mixed_bqc)
        out_bqc: Tensor = x_bqc + self.mlp(self.norm2(x_bqc))
        return out_bqc


class _GatedMlp(nn.Module):
    """``w2(norm(silu(w1 x) * w3 x))``."""

    def __init__(self, config: AbstractorConfig, width: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, config.inner)
        self.w2 = nn.Linear(config.inner, width)
        self.w3 = nn.Linear(width, config.inner)
        self.ffn_ln = nn.LayerNorm(config.inner, config.eps)

    def forward(self, x_bqc: Tensor) -> Tensor:
        out_bqc: Tensor = self.w2(self.ffn_ln(F.silu(self.w1(x_bqc)) * self.w3(x_bqc)))
        return out_bqc
