"""A judge in this process: Qwen2.5-VL through transformers, from a folder on this machine.

Source: the model card of Qwen/Qwen2.5-VL-7B-Instruct for the conversation around pictures and text. Sampling is that
of the official request to a server, which sets nothing: temperature 1 over all tokens.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from refeval.devices import pick_device
from refeval.digests import compute_sha256, known_sha256
from refeval.errors import MissingPrerequisite
from refeval.metrics.judges.base import Reply, Request

LONGEST_REPLY = 16
# The votes on one clip are asked for on two sets: the official pictures and the strict ones.
_KEPT_SETS = 2
_PICTURE = "<|image_pad|>"
_FILES = ("*.safetensors", "*config.json", "tokenizer*.json", "vocab.json", "merges.txt")


def model_files(folder: Path) -> list[Path]:
    """The files that a reply depends on.

    Raises:
        MissingPrerequisite: there is no model in the folder, or no library that runs it.
    """
    for library in ("torch", "transformers"):
        if importlib.util.find_spec(library) is None:
            raise MissingPrerequisite(f"a local judge needs {library}", cure="pip install 'refeval[score]'")
    files = sorted({file for pattern in _FILES for file in folder.glob(pattern)})
    if not any(file.suffix == ".safetensors" for file in files):
        cure = "REFEVAL_JUDGE_LOCAL=FOLDER that holds a Qwen2.5-VL as safetensors, e.g. Qwen/Qwen2.5-VL-7B-Instruct"
        raise MissingPrerequisite(f"the local judge is missing: no *.safetensors in {folder}", cure=cure)
    return files


def weights_of(folder: Path) -> dict[str, str]:
    """sha256 of those files by name; a large one is read once per machine.

    Raises:
        MissingPrerequisite: as :func:`model_files`.
    """
    return {file.name: known_sha256(file) or compute_sha256(file) for file in model_files(folder)}


def weights_size(folder: Path) -> float:
    """Gigabytes (1e9 bytes) of the weights, in the precision in which they are stored.

    Raises:
        MissingPrerequisite: as :func:`model_files`.
    """
    return sum(file.stat().st_size for file in model_files(folder) if file.suffix == ".safetensors") / 1e9


def local_model_name(name: str, weights: Mapping[str, str]) -> str:
    """What a local judge is called in settings and records: a name, and what its folder holds."""
    digest = hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()
    return f"{name}@{digest[:12]}"


class LocalJudge:
    """Qwen2.5-VL: pictures and rubric in, a short text out; the same request gets the same reply on the same machine.

    Loaded with the first request, in bfloat16 on a GPU and in float32 on the CPU. One request at a time, from whatever
    thread.

    Args:
        folder: as :func:`transformers.PreTrainedModel.save_pretrained` leaves it, with tokenizer and image processor.
        device: ``auto`` (the GPU that torch sees, else the CPU), ``cpu`` or ``cuda``.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self.folder = folder
        self.device = device
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, Mapping[str, Any]] = OrderedDict()

    def ask(self, request: Request) -> Reply:
        """See :class:`refeval.metrics.judges.base.Judge`."""
        with self._lock:
            started = time.monotonic()
            inputs = self._inputs(request)
            reply = self._sample(inputs, seed=int(request.key[:15], 16))
            return Reply(
                text=self._tokenizer.decode(reply, skip_special_tokens=True),
                model_served=request.model,
                input_tokens=int(inputs["input_ids"].shape[1]),
                output_tokens=len(reply),
                price=0.0,
                seconds=time.monotonic() - started,
            )

    def _sample(self, inputs: dict[str, Any], seed: int) -> list[int]:
        import torch

        devices = [self._model.device] if self._model.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(seed)
            # The model's own generation settings sample greedily and against repetition: three votes would be one.
            tokens = self._model.generate(
                **inputs,
                do_sample=True,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                repetition_penalty=1.0,
                max_new_tokens=LONGEST_REPLY,
            )
        return [int(token) for token in tokens[0, inputs["input_ids"].shape[1] :]]

    def _inputs(self, request: Request) -> dict[str, Any]:
        pixels = self._pixels(request)
        merged = self._processor.merge_size**2
        counts = [int(grid.prod()) // merged for grid in pixels["image_grid_thw"]]
        text = self._tokenizer(conversation(counts, request.rubric.text), return_tensors="pt")
        ids = text["input_ids"]
        inputs = {
            "input_ids": ids,
            "attention_mask": text["attention_mask"],
            "mm_token_type_ids": (ids == self._tokenizer.convert_tokens_to_ids(_PICTURE)).int(),
            "pixel_values": pixels["pixel_values"].to(self._model.dtype),
            "image_grid_thw": pixels["image_grid_thw"],
        }
        return {name: tensor.to(self._model.device) for name, tensor in inputs.items()}

    def _pixels(self, request: Request) -> Mapping[str, Any]:
        """Patches of the pictures, float32, shape (patches, values), and their grids; kept for the next votes."""
        pixels = self._seen.pop(request.pictures_sha256, None)
        if pixels is None:
            pictures = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in request.pictures]
            pixels = self._processor(images=pictures, return_tensors="pt")
        self._seen[request.pictures_sha256] = pixels
        while len(self._seen) > _KEPT_SETS:
            self._seen.popitem(last=False)
        return pixels

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import Qwen2_5_VLForConditionalGeneration

        device = pick_device(self.device, "natural")
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            self.folder, dtype=dtype, local_files_only=True, use_safetensors=True
        )
        return model.to(device).eval()

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)

    @cached_property
    def _processor(self) -> Any:
        # By name: with torchvision installed the automatic choice is another one, with other pixels.
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        return Qwen2VLImageProcessorPil.from_pretrained(self.folder, local_files_only=True)


def conversation(picture_tokens: Sequence[int], text: str) -> str:
    """The model's own format: the default system message, the pictures, then the text.

    Args:
        picture_tokens: how many tokens each picture takes.
        text: the rubric.
    """
    pictures = "".join(f"<|vision_start|>{_PICTURE * count}<|vision_end|>" for count in picture_tokens)
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    return f"{system}<|im_start|>user\n{pictures}{text}<|im_end|>\n<|im_start|>assistant\n"
