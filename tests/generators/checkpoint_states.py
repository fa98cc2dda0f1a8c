"""Small random models, and their weights in every published format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="weights need the extra 'render'")
pytest.importorskip("diffusers", reason="weights need the extra 'render'")
pytest.importorskip("transformers", reason="weights need the extra 'render'")

from diffusers import AutoencoderKLWan, WanTransformer3DModel, WanVACETransformer3DModel  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import UMT5Config, UMT5EncoderModel  # noqa: E402

from refeval.generators.wan.catalogue import MODELS  # noqa: E402
from refeval.generators.wan.checkpoints import UMT5_XXL, save_transformer  # noqa: E402
from tests.refeval.weight_files import State, as_single  # noqa: E402

SMALL = MODELS["refalign-tiny"].architecture
SMALL_VACE = MODELS["vace-tiny"].architecture
KINDS = {"t2v": (WanTransformer3DModel, SMALL), "vace": (WanVACETransformer3DModel, SMALL_VACE)}
VAE = {"base_dim": 8, "z_dim": 16}
TEXT = {**UMT5_XXL, "vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4}


def random_transformer(kind: str, seed: int = 0) -> Any:
    model_class, architecture = KINDS[kind]
    torch.manual_seed(seed)
    return model_class(**architecture.config()).eval()


def random_projectors(width: int = SMALL.width) -> State:
    generator = torch.Generator().manual_seed(5)
    shapes = {"0": (width // 2, width), "2": (48, width // 2)}
    return {
        f"blocks.{block}.input_mlp.proj.{part}.weight": torch.randn(shape, generator=generator)
        for block in range(2)
        for part, shape in shapes.items()
    }


def original_state(model: Any, folder: Path) -> State:
    save_transformer(model, folder / "original.safetensors")
    return load_file(folder / "original.safetensors")


def as_prefixed(state: State, folder: Path) -> Path:
    return as_single({f"module.model.diffusion_model.{key}": value for key, value in state.items()}, folder)


def to_original_vae(state: State) -> State:
    """Wan's own names for a VAE of diffusers."""
    inner = {
        r"\.norm1\.": ".residual.0.",
        r"\.conv1\.": ".residual.2.",
        r"\.norm2\.": ".residual.3.",
        r"\.conv2\.": ".residual.6.",
        r"\.conv_shortcut\.": ".shortcut.",
    }
    outer = {
        r"^quant_conv": "conv1",
        r"^post_quant_conv": "conv2",
        r"\.conv_in\.": ".conv1.",
        r"\.norm_out\.": ".head.0.",
        r"\.conv_out\.": ".head.2.",
        r"mid_block\.attentions\.0": "middle.1",
        r"mid_block\.resnets\.0": "middle.0",
        r"mid_block\.resnets\.1": "middle.2",
        r"down_blocks": "downsamples",
    }

    def flat(match: re.Match[str]) -> str:
        return f"upsamples.{4 * int(match[1]) + (int(match[3]) if match[2] == 'resnets' else 3)}"

    def rename(key: str) -> str:
        for pattern, new in {**(inner if "_block" in key else {}), **outer}.items():
            key = re.sub(pattern, new, key)
        return re.sub(r"up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)", flat, key)

    return {rename(key): tensor for key, tensor in state.items()}


def to_original_text(state: State) -> State:
    """Wan's own names for an umT5 encoder of transformers."""
    parts = {
        "layer.0.layer_norm": "norm1",
        "layer.1.layer_norm": "norm2",
        "layer.0.SelfAttention.relative_attention_bias": "pos_embedding.embedding",
        "layer.0.SelfAttention": "attn",
        "layer.1.DenseReluDense.wi_0": "ffn.gate.0",
        "layer.1.DenseReluDense.wi_1": "ffn.fc1",
        "layer.1.DenseReluDense.wo": "ffn.fc2",
        "encoder.block": "blocks",
        "encoder.final_layer_norm": "norm",
        "shared": "token_embedding",
    }

    def rename(key: str) -> str:
        for theirs, wan in parts.items():
            key = key.replace(theirs, wan)
        return key

    return {rename(key): tensor for key, tensor in state.items() if key != "encoder.embed_tokens.weight"}


def random_vae() -> Any:
    torch.manual_seed(1)
    return AutoencoderKLWan(**VAE).eval()


def random_text_encoder() -> Any:
    torch.manual_seed(2)
    return UMT5EncoderModel(UMT5Config(**TEXT)).eval()
