"""The models that are known by name: their architecture, where their weights are published, what they render.

No torch here: ``refeval models``, ``fetch`` and ``doctor`` read this without loading anything.

Source: design facts of RefAlign @6f91526, Phantom-Wan (sbalani/Phantom-cog @9a9be62), VACE @48eb44f, and the
``config.json`` values of Wan2.1 as diffusers 0.42.1 converts them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any

from refeval.cases import ClipSpec
from refeval.weights import Source


class Family(StrEnum):
    """How references enter the transformer."""

    REFALIGN = "refalign"
    PHANTOM = "phantom"
    VACE = "vace"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The size of a Wan2.1 transformer.

    Attributes:
        layers: transformer blocks.
        heads: attention heads.
        head_dim: channels of one head; the width is ``heads * head_dim``.
        ffn_dim: inner width of the feed-forward layers.
        text_dim: width of the text embeddings.
        freq_dim: width of the timestep sinusoid.
        text_tokens: length that text embeddings are padded to.
        vace_layers: blocks that receive a hint of the VACE branch; empty for the other families.
    """

    layers: int
    heads: int
    head_dim: int
    ffn_dim: int
    text_dim: int = 4096
    freq_dim: int = 256
    text_tokens: int = 512
    vace_layers: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    def config(self) -> dict[str, Any]:
        """Keyword arguments of diffusers' ``WanTransformer3DModel`` or ``WanVACETransformer3DModel``."""
        config: dict[str, Any] = {
            "patch_size": (1, 2, 2),
            "num_attention_heads": self.heads,
            "attention_head_dim": self.head_dim,
            "in_channels": 16,
            "out_channels": 16,
            "text_dim": self.text_dim,
            "freq_dim": self.freq_dim,
            "ffn_dim": self.ffn_dim,
            "num_layers": self.layers,
            "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads",
            "eps": 1e-6,
        }
        if self.vace_layers:
            config |= {"vace_layers": list(self.vace_layers), "vace_in_channels": 96}
        return config


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model.

    Attributes:
        name: as given to ``--model``.
        family: how references enter.
        summary: one line for lists.
        architecture: of the transformer.
        transformer: where its weights are; None for the tiny models, whose weights are random.
        base: where text encoder, tokenizer and VAE are.
        clip: what it renders as published; None: what the suite says.
        references: how many references it takes; those after that many, in case order, are left out.
    """

    name: str
    family: Family
    summary: str
    architecture: Architecture
    transformer: Source | None
    base: Source | None
    clip: ClipSpec | None
    references: int

    @property
    def tiny(self) -> bool:
        return self.transformer is None


_SMALL = Architecture(layers=30, heads=12, head_dim=128, ffn_dim=8960)
_LARGE = Architecture(layers=40, heads=40, head_dim=128, ffn_dim=13824)
_SMALL_VACE = Architecture(layers=30, heads=12, head_dim=128, ffn_dim=8960, vace_layers=tuple(range(0, 30, 2)))
_LARGE_VACE = Architecture(layers=40, heads=40, head_dim=128, ffn_dim=13824, vace_layers=tuple(range(0, 40, 5)))
_TINY = Architecture(layers=3, heads=4, head_dim=24, ffn_dim=192, text_dim=64, freq_dim=64, text_tokens=256)
_TINY_VACE = Architecture(
    layers=3, heads=4, head_dim=24, ffn_dim=192, text_dim=64, freq_dim=64, text_tokens=256, vace_layers=(0, 2)
)

_CLIP = ClipSpec(width=832, height=480, frames=81, fps=Fraction(16))
_LONG_CLIP = ClipSpec(width=832, height=480, frames=121, fps=Fraction(24))
_BASE_FILES = ("models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "google/umt5-xxl/*")
_BASE = Source(repository="Wan-AI/Wan2.1-T2V-1.3B", patterns=_BASE_FILES)
_DIFFUSION_FILES = ("*.safetensors", "*.safetensors.index.json", "config*.json")
_WAN_FILES = ("diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.index.json", "config*.json")


def _vace(repository: str) -> tuple[Source, Source]:
    return Source(repository=repository, patterns=_WAN_FILES), Source(repository=repository, patterns=_BASE_FILES)


_VACE_SMALL, _VACE_SMALL_BASE = _vace("Wan-AI/Wan2.1-VACE-1.3B")
_VACE_PREVIEW, _ = _vace("ali-vilab/VACE-Wan2.1-1.3B-Preview")
_VACE_LARGE, _VACE_LARGE_BASE = _vace("Wan-AI/Wan2.1-VACE-14B")

MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="refalign-1.3b",
            family=Family.REFALIGN,
            summary="RefAlign on Wan2.1-T2V-1.3B",
            architecture=_SMALL,
            transformer=Source(repository="gudaochangsheng/RefAlign-1.3B", patterns=_DIFFUSION_FILES),
            base=_BASE,
            clip=_CLIP,
            references=3,
        ),
        ModelSpec(
            name="refalign-14b",
            family=Family.REFALIGN,
            summary="RefAlign on Wan2.1-T2V-14B",
            architecture=_LARGE,
            transformer=Source(repository="gudaochangsheng/RefAlign-14B", patterns=_DIFFUSION_FILES),
            base=_BASE,
            clip=_CLIP,
            references=3,
        ),
        ModelSpec(
            name="phantom-1.3b",
            family=Family.PHANTOM,
            summary="Phantom-Wan 1.3B",
            architecture=_SMALL,
            transformer=Source(repository="bytedance-research/Phantom", patterns=("Phantom-Wan-1.3B.pth",)),
            base=_BASE,
            clip=_CLIP,
            references=4,
        ),
        ModelSpec(
            name="phantom-14b",
            family=Family.PHANTOM,
            summary="Phantom-Wan 14B, 121 frames at 24 fps as its README publishes it",
            architecture=_LARGE,
            transformer=Source(
                repository="bytedance-research/Phantom",
                patterns=("Phantom_Wan_14B*.safetensors", "Phantom_Wan_14B.safetensors.index.json"),
            ),
            base=_BASE,
            clip=_LONG_CLIP,
            references=4,
        ),
        ModelSpec(
            name="vace-1.3b",
            family=Family.VACE,
            summary="Wan2.1-VACE-1.3B",
            architecture=_SMALL_VACE,
            transformer=_VACE_SMALL,
            base=_VACE_SMALL_BASE,
            clip=_CLIP,
            references=3,
        ),
        ModelSpec(
            name="vace-1.3b-preview",
            family=Family.VACE,
            summary="VACE-Wan2.1-1.3B-Preview",
            architecture=_SMALL_VACE,
            transformer=_VACE_PREVIEW,
            base=_BASE,
            clip=_CLIP,
            references=3,
        ),
        ModelSpec(
            name="vace-14b",
            family=Family.VACE,
            summary="Wan2.1-VACE-14B",
            architecture=_LARGE_VACE,
            transformer=_VACE_LARGE,
            base=_VACE_LARGE_BASE,
            clip=_CLIP,
            references=3,
        ),
        ModelSpec(
            name="refalign-tiny",
            family=Family.REFALIGN,
            summary="RefAlign's procedure with small random weights, for tests on CPU",
            architecture=_TINY,
            transformer=None,
            base=None,
            clip=None,
            references=3,
        ),
        ModelSpec(
            name="phantom-tiny",
            family=Family.PHANTOM,
            summary="Phantom's procedure with small random weights, for tests on CPU",
            architecture=_TINY,
            transformer=None,
            base=None,
            clip=None,
            references=4,
        ),
        ModelSpec(
            name="vace-tiny",
            family=Family.VACE,
            summary="VACE's procedure with small random weights, for tests on CPU",
            architecture=_TINY_VACE,
            transformer=None,
            base=None,
            clip=None,
            references=3,
        ),
    )
}

BASES = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="wan2.1-t2v-1.3b",
            family=Family.REFALIGN,
            summary="Wan2.1-T2V-1.3B, to train RefAlign from",
            architecture=_SMALL,
            transformer=Source(repository="Wan-AI/Wan2.1-T2V-1.3B", patterns=_WAN_FILES),
            base=_BASE,
            clip=_CLIP,
            references=3,
        ),
        ModelSpec(
            name="wan2.1-t2v-14b",
            family=Family.REFALIGN,
            summary="Wan2.1-T2V-14B, to train RefAlign from",
            architecture=_LARGE,
            transformer=Source(repository="Wan-AI/Wan2.1-T2V-14B", patterns=_WAN_FILES),
            base=_BASE,
            clip=_CLIP,
            references=3,
        ),
        replace(MODELS["refalign-tiny"], name="wan-tiny", summary="small random weights, to try training on a CPU"),
    )
}
"""What training starts from, by ``network.base`` of its recipe; no generators."""

MATTING = Source(repository="ZhengPeng7/BiRefNet", patterns=("*.py", "*.json", "*.safetensors"))
