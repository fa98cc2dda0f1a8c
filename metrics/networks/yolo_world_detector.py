"""YOLO-World ready to use: reference images become prompts, frames become boxes.

Letters of shapes: B frames, P prompts, D width of a prompt.

Source: OpenS2V-Nexus eval/get_nexusscore.py at 210eb08. Differs: frames go through the backbone in batches and once
for all prompts; a prompt is encoded once; TensorFloat-32 is off, so that a GPU finds the boxes that a CPU finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from refeval.clips import Frame
from refeval.metrics.networks.yolo_world import Contrast, YoloWorld, YoloWorldSize
from refeval.metrics.networks.yolo_world_boxes import (
    Detections,
    choose,
    decode,
    letterbox,
    network_input,
    place_boxes,
)
from refeval.stored_weights import StoredTensor, open_checkpoint
from refeval.wanted_tensors import refuse_others, shapes_of
from refeval.weights import fetch_command

LOWEST_CONFIDENCE = 0.5
MOST_BOXES = 100
_FRAMES_AT_ONCE = 8
# Towers that are in the published file and not used: texts, and a copy of CLIP's image tower.
_UNUSED = ("backbone.text_model.", "image_prompt_encoder.image_encoder.")
_CLIP_PARTS = ("vision_model.", "visual_projection.")
# Files of early versions of transformers hold the numbers 0 to 49 as a tensor.
_CLIP_COUNTER = "vision_model.embeddings.position_ids"
_CLIP_BASE_PATCH32 = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_TINY_SIZE = YoloWorldSize(
    side=128, stem=8, stages=(16, 16, 32, 32), depths=(1, 1, 1, 1), neck_depth=1, prompt=32, head_width=8, tower=16
)
_TINY_SEED, _TINY_BIAS = 20, -2.0
_TINY_CLIP = {
    **_CLIP_BASE_PATCH32,
    "hidden_size": 32,
    "intermediate_size": 64,
    "projection_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


class Detector:
    """Finds what reference images show.

    Args:
        network: the detector.
        vision: transformers' ``CLIPVisionModelWithProjection``.
        device: to work on.
    """

    def __init__(self, network: YoloWorld, vision: Any, device: torch.device) -> None:
        self.network = network.to(device).eval()
        self._vision = vision.to(device).eval()
        self._device = device
        side = vision.config.image_size
        # The fast processor, which transformers takes where it finds torchvision, gives other pixels.
        self._processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    @torch.inference_mode()
    def embed_prompts(self, images: Sequence[Image.Image]) -> Tensor:
        """Prompts of length 1, shape (P, D), from reference images in mode RGB.

        Args:
            images: of any size; the longer side is cropped to a square around the centre.
        """
        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(self._device)
        with _full_precision():
            prompts: Tensor = self.network.image_prompt_encoder(self._vision(pixel_values=pixels).image_embeds)
        return prompts

    @torch.inference_mode()
    def detect(self, frames: Sequence[Frame], prompts_pd: Tensor) -> list[list[Detections]]:
        """The boxes of every prompt on every frame, ``[frame][prompt]``: at most 100, scores above 0.5, on the CPU.

        Args:
            frames: uint8 RGB, shape (H, W, 3) each.
            prompts_pd: of :meth:`embed_prompts`; each is looked for by itself.
        """
        found = []
        with _full_precision():
            for start in range(0, len(frames), _FRAMES_AT_ONCE):
                found += self._detect_batch(frames[start : start + _FRAMES_AT_ONCE], prompts_pd)
        return found

    def _detect_batch(self, frames: Sequence[Frame], prompts_pd: Tensor) -> list[list[Detections]]:
        boxed = [letterbox(frame, self.network.size.side) for frame in frames]
        features = self.network.features(network_input(boxed, self._device))
        found: list[list[Detections]] = [[] for _ in frames]
        for prompt_d in prompts_pd:
            boxes_ba4, scores_bap = (part.cpu() for part in decode(self.network(features, prompt_d[None])))
            for index, one in enumerate(boxed):
                placed = place_boxes(boxes_ba4[index], scores_bap[index], one, above=LOWEST_CONFIDENCE)
                found[index].append(choose(placed, above=LOWEST_CONFIDENCE, most=MOST_BOXES))
        return found


def load_detector(checkpoint: Path, clip: Path, device: torch.device) -> Detector:
    """The published detector, float32.

    Args:
        checkpoint: YOLO-World-v2-L with the image-prompt adapter.
        clip: CLIP ViT-B/32, whole or its image tower.
        device: to work on.

    Raises:
        MissingPrerequisite: no such file.
        CorruptFile: a file that cannot be read.
        BadInput: other weights.
    """
    network = load_network(checkpoint)
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**_CLIP_BASE_PATCH32))
    stored = open_checkpoint(clip, "nexus").tensors
    wanted = {key: value for key, value in stored.items() if key.startswith(_CLIP_PARTS) and key != _CLIP_COUNTER}
    _fill(vision, wanted, clip, "CLIP ViT-B/32")
    return Detector(network, vision, device)


def load_network(checkpoint: Path) -> YoloWorld:
    """The detector without its CLIP tower, strictly from the published names.

    Raises:
        MissingPrerequisite: no such file.
        CorruptFile: a file that cannot be read.
        BadInput: other weights.
    """
    stored = open_checkpoint(checkpoint, "nexus").tensors
    wanted = {key: value for key, value in stored.items() if not key.startswith(_UNUSED)}
    network = YoloWorld()
    _fill(network, wanted, checkpoint, "YOLO-World-v2-L with the image-prompt adapter")
    return network.eval()


def tiny_detector() -> Detector:
    """The same modules with small random weights, on the CPU: they find something now and then, but no subject."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_TINY_SEED)
        network = YoloWorld(_TINY_SIZE)
        vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**_TINY_CLIP))
        noise_b3ss = torch.rand(4, 3, _TINY_SIZE.side, _TINY_SIZE.side)
        prompt_pd = torch.randn(1, _TINY_SIZE.prompt)
    _measure_norms(network, noise_b3ss, prompt_pd)
    for module in network.modules():
        if isinstance(module, Contrast):
            nn.init.constant_(module.bias, _TINY_BIAS)
    return Detector(network, vision, torch.device("cpu"))


@torch.no_grad()
def _measure_norms(network: YoloWorld, images_b3ss: Tensor, prompts_pd: Tensor) -> None:
    """Give the norms the statistics of a batch, as a training would: random layers alone let every image fade."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network(network.train().features(images_b3ss), prompts_pd)


def _full_precision() -> Any:
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def _fill(module: Any, stored: Mapping[str, StoredTensor], path: Path, name: str) -> None:
    """Fill every tensor of a module, and leave none of the file aside."""
    found = {key: tensor.shape for key, tensor in stored.items()}
    refuse_others(path, found, shapes_of(module), name, fetch_command("nexus", None))
    module.load_state_dict({key: tensor.read() for key, tensor in stored.items()})
