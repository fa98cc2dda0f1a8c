"""A small Qwen2-VL with random weights and a tokenizer of bytes: GME's whole procedure on a CPU in seconds."""

from __future__ import annotations

from typing import Any

import torch

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""As the tokenizer of Qwen2-VL has them; here they get the ids from 256 on."""
_SEED = 4


def tiny_tokenizer() -> Any:
    """A tokenizer whose tokens are bytes, ids 0 to 255, and Qwen2-VL's special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=SPECIAL_TOKENS[0])


def tiny_model(attention: str = "sdpa") -> Any:
    """A ``Qwen2VLModel``, float32, on the CPU, with the same random weights in every process."""
    from transformers import Qwen2VLConfig, Qwen2VLModel

    ids = {token: 256 + index for index, token in enumerate(SPECIAL_TOKENS)}
    text = {
        "vocab_size": 256 + len(SPECIAL_TOKENS),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
    }
    config = Qwen2VLConfig(
        text_config=text,
        vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    config._attn_implementation = attention
    model = Qwen2VLModel(config).eval()
    fill_randomly(model)
    return model


@torch.no_grad()
def fill_randomly(model: torch.nn.Module) -> None:
    """Fill matrices with numbers that keep the scale; norms become 1 and biases 0."""
    generator = torch.Generator().manual_seed(_SEED)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim > 1:
            bound = (3 / parameter[0].numel()) ** 0.5
            parameter.uniform_(-bound, bound, generator=generator)
        else:
            parameter.fill_(float(name.endswith("weight")))
