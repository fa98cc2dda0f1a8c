"""GME: texts and images in one space of embeddings, made by Qwen2-VL-7B from its last token.

Source: OpenS2V-Nexus eval/utils/gme/gme_model.py at 210eb08 (transformers 4.51.3). Differs: batches are padded on
the right whatever the attention (upstream pads left for flash attention; 2e-7 in float32 on a small model), the
language model's head is not loaded, and no list is too short: none gives none.

Shapes: N items, L tokens of the longest, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from refeval.devices import pick_device
from refeval.errors import BadInput, MissingPrerequisite
from refeval.metrics.networks.gme_images import patches_of
from refeval.metrics.networks.gme_tiny import tiny_model, tiny_tokenizer
from refeval.metrics.networks.gme_weights import ATTENTIONS, BATCH, GME, PRECISIONS
from refeval.place import Place
from refeval.pretrained import load_pretrained
from refeval.weights import WeightsStore

TEXT_INSTRUCTION = "Find an image that matches the given text."
IMAGE_INSTRUCTION = "You are a helpful assistant."
_LONGEST = 1800


def prompt_of(instruction: str, content: str) -> str:
    """The one string that an item becomes: system turn, user turn, and an assistant turn that ends at once."""
    return (
        f"<|im_start|>system\n{instruction}<|im_end|>\n"
        f"<|im_start|>user\n{content}<|im_end|>\n"
        "<|im_start|>assistant\n<|endoftext|>"
    )


def image_content(tokens: int) -> str:
    """The user turn of an image that becomes so many tokens."""
    return f"<|vision_start|>{'<|image_pad|>' * tokens}<|vision_end|>"


class Gme:
    """Embeds texts and images; the dot product of two embeddings is their cosine, -1 to 1.

    The language model gets plain one-dimensional positions, not Qwen2-VL's three: upstream calls it with embeddings
    and no positions. The stock forward gives other numbers for images (cosine to these 0.93 to 0.99).

    Args:
        model: a ``Qwen2VLModel``, in evaluation mode, on its device and in its dtype.
        tokenizer: its tokenizer.

    Attributes:
        model: as given.
        dtype: of the embeddings, the model's: float16 as upstream has it.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self.dtype: torch.dtype = model.dtype
        self._width: int = model.config.text_config.hidden_size

    def embed_texts(self, texts: Sequence[str], instruction: str = TEXT_INSTRUCTION) -> Tensor:
        """Embed texts; what goes beyond 1800 tokens is cut off.

        Args:
            texts: prompts or labels.
            instruction: the system turn; the default is a constant of the protocol.

        Returns:
            (N, D), L2-normalised, in the model's dtype, on the CPU.
        """
        prompts = [prompt_of(instruction, text) for text in texts]
        batches = [self._embed(prompts[i : i + BATCH]) for i in range(0, len(prompts), BATCH)]
        return torch.cat([self._none(), *batches])

    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Embed images of any sizes, in batches.

        Returns:
            (N, D), L2-normalised, in the model's dtype, on the CPU.

        Raises:
            UnusableClip: an image without area.
        """
        batches = [self._embed_images(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return torch.cat([self._none(), *batches])

    def tokens(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask of whole prompts, int64, both (N, L), padded on the right."""
        batch = self._tokenizer(
            list(prompts),
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=_LONGEST,
            return_tensors="pt",
        )
        return batch["input_ids"], batch["attention_mask"]

    @torch.inference_mode()
    def _embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        pixels, grids = patches_of(images)
        vision = self.model.visual
        features = vision(pixels.to(vision.device, vision.dtype), grid_thw=grids.to(vision.device)).pooler_output
        counts = (grids.prod(1) // vision.spatial_merge_size**2).tolist()
        return self._embed([prompt_of(IMAGE_INSTRUCTION, image_content(count)) for count in counts], features)

    @torch.inference_mode()
    def _embed(self, prompts: Sequence[str], image_features: Tensor | None = None) -> Tensor:
        ids, mask = (tensor.to(self.model.device) for tensor in self.tokens(prompts))
        embeds_nld = self.model.language_model.embed_tokens(ids)
        if image_features is not None:
            embeds_nld[ids == self.model.config.image_token_id] = image_features
        # Without positions the language model counts 0 to L - 1; the model around it would count rows and columns.
        outputs = self.model.language_model(inputs_embeds=embeds_nld, attention_mask=mask, use_cache=False)
        rows = torch.arange(len(prompts), device=mask.device)
        last_nd = outputs.last_hidden_state[rows, mask.sum(1) - 1]
        return functional.normalize(last_nd, dim=1).cpu()

    def _none(self) -> Tensor:
        return torch.empty(0, self._width, dtype=self.dtype)


def load_gme(place: Place, *, tiny: bool, precision: str = PRECISIONS[0], attention: str = ATTENTIONS[0]) -> Gme:
    """The model of this process: metrics that ask for the same one share it.

    Args:
        place: weights folder and device; ``auto`` is the GPU where there is one.
        tiny: small random weights and a tokenizer of bytes, float32 on the CPU; the same in every process.
        precision: ``float16`` as upstream has it, ``bfloat16`` or ``float32``; not looked at for the tiny model.
        attention: ``sdpa``, ``eager`` or ``flash_attention_2``.

    Raises:
        MissingPrerequisite: the weights are not there, or a GPU or an attention is asked for that is not there.
        BadInput: other weights, or an unknown precision, attention or device.
        CorruptFile: a file that cannot be read.
    """
    for asked, known in ((precision, PRECISIONS), (attention, ATTENTIONS)):
        if asked not in known:
            raise BadInput(f"GME: unknown setting '{asked}'", details=(("known", ", ".join(known)),))
    try:
        if tiny:
            return _tiny(attention)
        store = WeightsStore(place.weights)
        store.find(GME, "gme")
        return _published(store.checkpoint(GME, "gme"), pick_device(place.device, "gme"), precision, attention)
    except ImportError as error:
        cure = "pip install flash-attn, or choose the attention 'sdpa'"
        raise MissingPrerequisite(f"GME: attention '{attention}' is not available here", cure=cure) from error


@cache
def _tiny(attention: str) -> Gme:
    return Gme(tiny_model(attention), tiny_tokenizer())


@cache
def _published(weights: Path, device: torch.device, precision: str, attention: str) -> Gme:
    from transformers import PreTrainedTokenizerFast, Qwen2VLModel

    dtype = getattr(torch, precision)
    model = load_pretrained(
        Qwen2VLModel,
        weights,
        name="GME (Qwen2-VL-7B)",
        wanted_by="gme",
        rename=_model_key,
        dtype=dtype,
        attention=attention,
    )
    # The file as it is: the class of Qwen2 in transformers 5 builds rules of its own around the vocabulary.
    file = (weights if weights.is_dir() else weights.parent) / "tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<|endoftext|>")
    return Gme(model.to(device), tokenizer)


def _model_key(stored: str) -> str | None:
    """Stored name -> name in ``Qwen2VLModel``; files written before and after transformers 4.52 differ."""
    if stored.startswith("lm_head."):
        return None
    key = stored.removeprefix("model.")
    is_known = key.startswith(("visual.", "language_model."))
    return key if is_known else f"language_model.{key}"
