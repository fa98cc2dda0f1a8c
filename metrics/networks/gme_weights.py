"""Where the weights of GME are published, and how it may be run. No torch here: listing imports this."""

from __future__ import annotations

from refeval.weights import Source

GME = Source(
    repository="Alibaba-NLP/gme-Qwen2-VL-7B-Instruct",
    patterns=("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer.json"),
)
PRECISIONS = ("float16", "bfloat16", "float32")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
BATCH = 32
