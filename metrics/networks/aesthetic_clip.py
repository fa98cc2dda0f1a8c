"""CLIP image towers for aesthetic heads: transformers' for the published metric, open_clip's for other heads.

Source: OpenS2V-Nexus eval/get_aesscore.py at 210eb08 (``image_embeds`` of CLIP ViT-L/14, float32); open_clip_torch
3.3.0 for its names of parameters.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refeval.errors import BadInput, MissingPrerequisite
from refeval.metrics.networks.gme_tiny import fill_randomly
from refeval.pretrained import load_pretrained
from refeval.stored_weights import open_checkpoint
from refeval.wanted_tensors import cured_by, refuse_others, shapes_of

Tower = Callable[[Tensor], Tensor]
"""Pixels, float32, shape (N, 3, S, S), to embeddings, (N, D), not normalised."""
_OTHER_PARTS = ("text_model.", "text_projection.", "logit_scale")
_RENAMED = {
    "vision_model.": "",
    "visual_projection.weight": "proj",
    "encoder.layers.": "transformer.resblocks.",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def load_clip(weights: Path, device: torch.device) -> Tower:
    """The image tower of a published CLIP in transformers' format.

    Args:
        weights: ``model.safetensors`` with its ``config.json`` beside it.
        device: where to.

    Raises:
        BadInput, MissingPrerequisite, CorruptFile: as ``load_pretrained``.
    """
    from transformers import CLIPVisionModelWithProjection

    model = load_pretrained(
        CLIPVisionModelWithProjection,
        weights,
        name="CLIP ViT-L/14",
        wanted_by="aesthetics",
        rename=_vision_key,
        dtype=torch.float32,
        attention="sdpa",
    )
    return partial(_image_embeds, model.to(device))


def load_open_clip(name: str, weights: Path, device: torch.device) -> tuple[Tower, int]:
    """The image tower of open_clip's architecture ``name``, a vision transformer.

    Args:
        name: as ``open_clip.list_models()`` has it, e.g. ``ViT-B-32-quickgelu``; OpenAI's weights want ``-quickgelu``.
        weights: a CLIP checkpoint with the names of transformers or of open_clip.
        device: where to.

    Returns:
        The tower, and the side of the square that it sees.

    Raises:
        MissingPrerequisite: open_clip is not installed.
        BadInput: an unknown architecture, or other weights.
    """
    open_clip = _import_open_clip()
    if name not in open_clip.list_models():
        raise BadInput(f"open_clip has no architecture '{name}'", cure="one of open_clip.list_models()")
    visual = open_clip.create_model(name, load_weights=False, pretrained_text=False).visual
    cure = f"give a whole file with the weights of open_clip's {name}"
    with cured_by(cure):
        stored = open_checkpoint(weights, "aesthetics").tensors
    state = to_open_clip({key: tensor.read() for key, tensor in stored.items()})
    found = {key: tuple(tensor.shape) for key, tensor in state.items()}
    refuse_others(weights, found, shapes_of(visual), f"open_clip's {name}", cure)
    visual.load_state_dict(state)
    return visual.float().eval().to(device), visual.image_size[0]


def to_open_clip(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of a CLIP image tower as open_clip's ``visual`` names them.

    Args:
        stored: a whole CLIP or its image tower, with the names of open_clip or of transformers.
    """
    own = {key.removeprefix("visual."): value for key, value in stored.items() if key.startswith("visual.")}
    if own:
        return own
    state = {_open_clip_key(key): value for key, value in stored.items() if _vision_key(key)}
    if "proj" in state:
        state["proj"] = state["proj"].T
    for first in [key for key in state if ".self_attn.q_proj." in key]:
        parts = [first.replace("q_proj", f"{letter}_proj") for letter in "qkv"]
        if all(part in state for part in parts):
            merged = first.replace("self_attn.q_proj.", "attn.in_proj_")
            state[merged] = torch.cat([state.pop(part) for part in parts])
    return state


def _open_clip_key(key: str) -> str:
    """Query, key and value keep the names that transformers gives them."""
    for ours, theirs in _RENAMED.items():
        key = key.replace(ours, theirs)
    return key


def tiny_clip() -> Tower:
    """A small tower with CLIP's interface and random weights, float32, on the CPU, the same in every process."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        patch_size=32,
        projection_dim=768,
    )
    model = CLIPVisionModelWithProjection(config).eval()
    fill_randomly(model)
    return partial(_image_embeds, model)


def _image_embeds(model: Any, pixels_nchw: Tensor) -> Tensor:
    embeds_nd: Tensor = model(pixel_values=pixels_nchw).image_embeds
    return embeds_nd


def _vision_key(stored: str) -> str | None:
    # Files of transformers 4 also hold the numbers of the positions, which are no weights.
    return None if stored.startswith(_OTHER_PARTS) or stored.endswith(".position_ids") else stored


def _import_open_clip() -> Any:
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        raise MissingPrerequisite(
            "open_clip is not installed", cure="pip install open_clip_torch, and the torchvision that fits torch"
        ) from error
