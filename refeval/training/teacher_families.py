"""The architectures of teachers: how transformers names their weights, runs them, and what their configurations say.

Letters of shapes: N pictures, H and W height and width in pixels, T patches of a picture, C width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Qwen2_5_VisionTransformerPretrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from refeval.training.teacher_catalogue import FamilyName, TeacherSpec

ATTENTION = "sdpa"
"""Works on every device and gives the same features to float error; others need packages of their own."""

_TINY_HEADS = 2


@dataclass(frozen=True, kw_only=True)
class Family:
    """An architecture of transformers.

    Attributes:
        model_class: without a head for classes or a language model.
        own_name: published name of a tensor -> name in the model, None for what is not of the vision model.
        blocks: where they are in the model.
        norm: the module after the last block.
        unused: what the model would compute of its patches after that norm; it is left out.
        states: the model's output for normalised pictures, float (N, 3, H, W): (N, T, C), row by row.
        facts: of a configuration, by the attributes of :class:`TeacherSpec` that they must agree with.
        tiny: the configuration of a small model with the shapes of a spec.
    """

    model_class: Any
    own_name: Callable[[str], str | None]
    blocks: str
    norm: str
    unused: tuple[str, ...] = ()
    states: Callable[[Any, Tensor], Tensor]
    facts: Callable[[Any], Mapping[str, int]]
    tiny: Callable[[TeacherSpec], Any]


def _shapes(spec: TeacherSpec) -> dict[str, Any]:
    return {
        "hidden_size": spec.width,
        "intermediate_size": 2 * spec.width,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": _TINY_HEADS,
        "patch_size": spec.patch,
        "attn_implementation": ATTENTION,
    }


def _facts(config: Any) -> dict[str, int]:
    return {
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "patch": config.patch_size,
        "special_tokens": 0,
        "merge": 1,
        "merged_width": 0,
    }


def _dinov3_name(key: str) -> str:
    return f"model.{key}" if key.startswith("layer.") else key


def _dinov3_facts(config: Any) -> dict[str, int]:
    return _facts(config) | {"special_tokens": 1 + config.num_register_tokens}


def _dinov3_states(model: Any, pixels_n3hw: Tensor) -> Tensor:
    states: Tensor = model(pixels_n3hw).last_hidden_state
    return states[:, _dinov3_facts(model.config)["special_tokens"] :]


def _dinov3_tiny(spec: TeacherSpec) -> Any:
    return DINOv3ViTConfig(num_register_tokens=spec.special_tokens - 1, **_shapes(spec))


def _siglip2_name(key: str) -> str | None:
    """The published files hold the text model too."""
    return key.removeprefix("vision_model.") if key.startswith("vision_model.") else None


def _siglip2_states(model: Any, pixels_n3hw: Tensor) -> Tensor:
    states: Tensor = model(pixels_n3hw, interpolate_pos_encoding=True).last_hidden_state
    return states


def _siglip2_tiny(spec: TeacherSpec) -> Any:
    return SiglipVisionConfig(image_size=4 * spec.patch, **_shapes(spec))


def _qwen_name(key: str) -> str | None:
    """The published files hold the language model too; newer versions of transformers say ``model.visual``."""
    key = key.removeprefix("model.")
    return key.removeprefix("visual.") if key.startswith("visual.") else None


def _qwen_facts(config: Any) -> dict[str, int]:
    return _facts(config) | {"merge": config.spatial_merge_size, "merged_width": config.out_hidden_size}


def qwen_patches(pixels_n3hw: Tensor, patch: int, merge: int, frames: int) -> Tensor:
    """Cut pictures into patches as Qwen's image processor does, each picture shown for all frames of a patch.

    Args:
        pixels_n3hw: normalised; sides are multiples of ``merge * patch``.
        patch: pixels of a side.
        merge: patches of a side of a square; the patches of a square lie together.
        frames: of a patch.

    Returns:
        (N * T, 3 * frames * patch * patch): squares row by row, in each its patches row by row.
    """
    count, channels, height, width = pixels_n3hw.shape
    rows, columns = height // patch // merge, width // patch // merge
    cut = pixels_n3hw.reshape(count, channels, rows, merge, patch, columns, merge, patch)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    return cut.expand(*[-1] * 6, frames, -1, -1).reshape(-1, channels * frames * patch**2)


def _qwen_states(model: Any, pixels_n3hw: Tensor) -> Tensor:
    config = model.config
    merge, count = config.spatial_merge_size, len(pixels_n3hw)
    rows, columns = (side // config.patch_size for side in pixels_n3hw.shape[2:])
    patches = qwen_patches(pixels_n3hw, config.patch_size, merge, config.temporal_patch_size)
    grids = torch.tensor([[1, rows, columns]] * count, device=patches.device)
    # The blocks see patches in the order of their windows. The model puts squares back in order after its merger,
    # which without its layers only lays the patches of a square side by side.
    squares: Tensor = model(patches, grid_thw=grids).pooler_output
    found = squares.view(count, rows // merge, columns // merge, merge, merge, -1).permute(0, 1, 3, 2, 4, 5)
    return found.reshape(count, rows * columns, -1)


def _qwen_tiny(spec: TeacherSpec) -> Any:
    return Qwen2_5_VisionTransformerPretrainedModel.config_class(
        window_size=4 * spec.merge * spec.patch,
        fullatt_block_indexes=[spec.depth - 1],
        spatial_merge_size=spec.merge,
        out_hidden_size=spec.merged_width,
        **_shapes(spec),
    )


FAMILIES: Mapping[FamilyName, Family] = {
    "dinov3": Family(
        model_class=DINOv3ViTModel,
        own_name=_dinov3_name,
        blocks="model.layer",
        norm="norm",
        states=_dinov3_states,
        facts=_dinov3_facts,
        tiny=_dinov3_tiny,
    ),
    "siglip2": Family(
        model_class=SiglipVisionModel,
        own_name=_siglip2_name,
        blocks="encoder.layers",
        norm="post_layernorm",
        states=_siglip2_states,
        facts=_facts,
        tiny=_siglip2_tiny,
    ),
    "qwen2.5-vl": Family(
        model_class=Qwen2_5_VisionTransformerPretrainedModel,
        own_name=_qwen_name,
        blocks="blocks",
        norm="merger.ln_q",
        unused=("merger.mlp",),
        states=_qwen_states,
        facts=_qwen_facts,
        tiny=_qwen_tiny,
    ),
}
