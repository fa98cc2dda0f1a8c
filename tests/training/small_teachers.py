"""Small models of the teachers' architectures, written as they are published, and pictures to show them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
)

from refeval.training.teacher_catalogue import TEACHERS, TeacherSpec

WIDTH = 32
DINO = replace(TEACHERS["dinov3-b"], width=WIDTH, depth=3, layer=3)
SIGLIP = replace(TEACHERS["siglip2-so"], width=WIDTH, depth=3, layer=3)
QWEN = replace(TEACHERS["qwen2.5-vl"], width=WIDTH, depth=3, layer=3, merged_width=24)
SHAPES: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
# The fields of the published file, with its old names; the second of three blocks sees the whole picture.
QWEN_VISION: dict[str, Any] = {
    "depth": 3,
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "intermediate_size": 60,
    "num_heads": 2,
    "in_chans": 3,
    "out_hidden_size": 24,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "spatial_patch_size": 14,
    "window_size": 112,
    "fullatt_block_indexes": [1],
    "tokens_per_second": 2,
    "temporal_patch_size": 2,
}


def pictures(count: int = 2, height: int = 48, width: int = 80) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def randomised(model: Any) -> Any:
    """No weight at a neutral value, such as the 1 and 0 of a fresh norm."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def write_dinov3(folder: Path) -> Any:
    model = randomised(DINOv3ViTModel(DINOv3ViTConfig(num_register_tokens=4, **SHAPES)))
    model.save_pretrained(folder)
    return model


def write_siglip2(folder: Path, patch: int = 16) -> SiglipModel:
    """With the text model, as it is published."""
    vision = SiglipVisionConfig(image_size=64, patch_size=patch, **SHAPES)
    text = SiglipTextConfig(vocab_size=10, max_position_embeddings=4, **SHAPES)
    model = randomised(SiglipModel(SiglipConfig(vision_config=vision.to_dict(), text_config=text.to_dict())))
    model.save_pretrained(folder)
    return model


def write_qwen(folder: Path, **changes: Any) -> Any:
    """In shards with an index and with the language model, as it is published; gives the vision tower."""
    sizes = {**SHAPES, "num_hidden_layers": 1, "num_key_value_heads": 1, "vocab_size": 10, "max_position_embeddings": 4}
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id"))
    config = Qwen2_5_VLConfig(vision_config=QWEN_VISION | changes, text_config=sizes | tokens)
    model = randomised(Qwen2_5_VLForConditionalGeneration(config))
    model.save_pretrained(folder, max_shard_size="100KB")
    return model.model.visual


def normalised(spec: TeacherSpec, given: Tensor) -> Tensor:
    """Channel by channel."""
    values = given.double() / 255
    return torch.stack([(values[:, i] - spec.mean[i]) / spec.std[i] for i in range(3)], dim=1).float()
