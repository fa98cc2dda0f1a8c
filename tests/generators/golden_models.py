"""The transformers of the goldens, loaded as users' files are, and their tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel, WanVACETransformer3DModel
from safetensors.torch import load_file
from torch import Tensor

from refeval.generators.wan.catalogue import Architecture
from refeval.generators.wan.checkpoints import load_transformer
from refeval.generators.wan.transformer import ReferenceTransformer, use_exact_timesteps

_CLASSES: dict[str, Any] = {
    "refalign_tiny": ReferenceTransformer,
    "phantom_tiny": WanTransformer3DModel,
    "vace_tiny": WanVACETransformer3DModel,
}


def tensors(goldens: Path, name: str) -> dict[str, Tensor]:
    """Tensors of ``dit/<name>.safetensors``."""
    return load_file(goldens / "dit" / f"{name}.safetensors")


def architecture(goldens: Path, family: str) -> Architecture:
    """The size of a family's golden model, from the config beside its weights."""
    config = json.loads((goldens / "dit" / family / "state_dict.json").read_text())["config"]
    return Architecture(
        layers=config["num_layers"],
        heads=config["num_heads"],
        head_dim=config["dim"] // config["num_heads"],
        ffn_dim=config["ffn_dim"],
        text_dim=config["text_dim"],
        freq_dim=config["freq_dim"],
        vace_layers=tuple(config.get("vace_layers", ())),
    )


def golden_transformer(goldens: Path, family: str, dtype: torch.dtype = torch.float32) -> Any:
    """The transformer of ``dit/<family>/state_dict``, official keys, ready to run."""
    path = goldens / "dit" / family / "state_dict.safetensors"
    transformer, _ = load_transformer(path, _CLASSES[family], architecture(goldens, family), dtype=dtype)
    use_exact_timesteps(transformer)
    return transformer
