"""Prompts to embeddings: umT5, loaded for a list of prompts at once and let go of afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from refeval.generators.wan.prompts import clean_prompt


class TextEmbeddings:
    """Embeddings by prompt. Each prompt is encoded once; the encoder is in memory only while it is needed.

    Source: RefAlign @6f91526 diffsynth/prompters/wan_prompter.py; Phantom and VACE do the same.

    Args:
        load: gives tokenizer and encoder, the latter on the device.
        tokens: length that embeddings are padded to.
    """

    def __init__(self, load: Callable[[], tuple[Any, Any]], tokens: int) -> None:
        self._load = load
        self._tokens = tokens
        self._known: dict[str, Tensor] = {}

    def learn(self, prompts: Sequence[str]) -> None:
        """Encode prompts that are not known yet."""
        wanted = [text for text in dict.fromkeys(map(clean_prompt, prompts)) if text not in self._known]
        if not wanted:
            return
        tokenizer, encoder = self._load()
        for text in wanted:
            self._known[text] = encode_prompt(tokenizer, encoder, text, self._tokens)

    def embedding(self, prompt: str, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The embedding of a prompt: (1, tokens, text_dim), zeros beyond its end."""
        self.learn([prompt])
        known = self._known[clean_prompt(prompt)].to(device, dtype)
        return functional.pad(known, (0, 0, 0, self._tokens - known.shape[1]))


@torch.no_grad()
def encode_prompt(tokenizer: Any, encoder: Any, text: str, tokens: int) -> Tensor:
    """Embed one prompt.

    Args:
        tokenizer: of umT5.
        encoder: in evaluation mode.
        text: cleaned; what is longer than ``tokens`` is cut off.
        tokens: the most that it may have.

    Returns:
        (1, length of the text, text_dim), in the encoder's dtype, on the CPU.
    """
    batch = tokenizer(text, max_length=tokens, truncation=True, padding="max_length", return_tensors="pt")
    ids, mask = batch.input_ids.to(encoder.device), batch.attention_mask.to(encoder.device)
    hidden: Tensor = encoder(ids, attention_mask=mask).last_hidden_state
    return hidden[:, : int(mask.sum())].cpu()
