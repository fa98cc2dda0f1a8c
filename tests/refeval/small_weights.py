"""Repositories of weights with the published file names and small contents."""

from __future__ import annotations

import hashlib
import json

from refeval.generators.wan.catalogue import MATTING

BASE = "Wan-AI/Wan2.1-T2V-1.3B"
REFALIGN = "gudaochangsheng/RefAlign-1.3B"
PHANTOM = "bytedance-research/Phantom"
VACE = "Wan-AI/Wan2.1-VACE-14B"
TEXT = "models_t5_umt5-xxl-enc-bf16.pth"
VAE = "Wan2.1_VAE.pth"
SHARDS = [f"Phantom_Wan_14B-0000{n}-of-00002.safetensors" for n in (1, 2)]
PHANTOM_INDEX = "Phantom_Wan_14B.safetensors.index.json"


def weights_of(name: str) -> bytes:
    """64 kB that differ from file to file."""
    return hashlib.sha256(name.encode()).digest() * 2000


def published_weights() -> dict[str, dict[str, bytes]]:
    """Files by repository, with others that are not wanted."""
    base = [TEXT, VAE, "google/umt5-xxl/spiece.model", "google/umt5-xxl/tokenizer.json"]
    index = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
    names = {
        BASE: [*base, "diffusion_pytorch_model.safetensors", "README.md"],
        REFALIGN: ["model.safetensors", "config.json", ".gitattributes", "demo.mp4"],
        PHANTOM: ["Phantom-Wan-1.3B.pth", *SHARDS],
        VACE: [*base, "diffusion_pytorch_model-00001-of-00002.safetensors", "config.json"],
        MATTING.repository: ["birefnet.py", "config.json", "model.safetensors"],
    }
    repositories = {repository: {name: weights_of(name) for name in files} for repository, files in names.items()}
    repositories[PHANTOM][PHANTOM_INDEX] = json.dumps(index).encode()
    return repositories
