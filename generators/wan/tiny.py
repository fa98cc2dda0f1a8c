"""Small random weights on the real architectures: whole clips on a CPU in seconds, for tests and for a first try."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

from refeval.generators.wan.catalogue import Architecture

_VAE = {"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
_TEXT = {"vocab_size": 384, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
_SEEDS = {"transformer": 1, "vae": 2, "text_encoder": 3}


def randomise(module: Any, seed: int) -> None:
    """Fill a module: each parameter from a generator of its own, so that adding one changes no other."""
    for index, (name, parameter) in enumerate(sorted(module.named_parameters())):
        generator = torch.Generator().manual_seed(seed * 100_000 + index)
        values = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            values *= 0.05
        elif parameter.dim() == 1 or name.endswith("gamma"):
            values = 1 + 0.1 * values
        else:
            values /= max(parameter[0].numel(), 1) ** 0.5
        parameter.data.copy_(values)


def tiny_transformer(cls: type[Any], architecture: Architecture) -> Any:
    """A transformer of one of the three classes, float32, on the CPU."""
    return _random(cls(**architecture.config()), "transformer")


def tiny_vae() -> Any:
    """A VAE with Wan2.1's factors of 8 in space and 4 in time, float32, on the CPU."""
    return _random(AutoencoderKLWan(**_VAE), "vae")


def tiny_text_encoder(architecture: Architecture) -> tuple[Any, Any]:
    """A tokenizer of bytes, which needs no vocabulary, and a umT5 encoder, float32, on the CPU."""
    config = UMT5Config(**_TEXT, d_model=architecture.text_dim, feed_forward_proj="gated-gelu")
    return ByT5Tokenizer(), _random(UMT5EncoderModel(config), "text_encoder")


def _random(module: Any, name: str) -> Any:
    randomise(module, _SEEDS[name])
    return module.eval()
