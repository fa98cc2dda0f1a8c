"""The networks of the metrics in their published sizes with random weights, made on the device in their final dtype.

What is computed takes as long as with published weights, but for NexusScore, which takes the longer the more boxes the
detector finds: its bias is set so that there is about one of every reference on a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Qwen2VLConfig, Qwen2VLModel

from refeval.clips import Frame
from refeval.metrics.base import Metric
from refeval.metrics.faces_models import FaceModels
from refeval.metrics.faces_sprites import SpriteFaceDetector
from refeval.metrics.networks.aesthetic_head import AestheticHead
from refeval.metrics.networks.aesthetic_raters import Rater
from refeval.metrics.networks.curricularface import CurricularFace
from refeval.metrics.networks.gme import Gme
from refeval.metrics.networks.gme_tiny import SPECIAL_TOKENS
from refeval.metrics.networks.qalign import TINY, QAlign, QAlignConfig
from refeval.metrics.networks.qalign_input import Question
from refeval.metrics.networks.qalign_scorer import WindowScorer
from refeval.metrics.networks.yolo_world import Contrast, YoloWorld, YoloWorldSize
from refeval.metrics.networks.yolo_world_boxes import letterbox, network_input
from refeval.metrics.networks.yolo_world_detector import Detector
from refeval.registry import metric_class

# About as many tokens as Llama's tokenizer makes of the question.
_QUESTION = Question(before=tuple(range(1, 19)), after=tuple(range(20, 32)), levels=(40, 41, 42, 43, 44))
# Cells whose confidence is above 0.6 per frame and reference, on average.
_CONFIDENT_CELLS = 1
_LOGIT_OF_CONFIDENT = 0.405
_CLIP_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 768,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
}
_CLIP_BASE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
}
_QWEN2_7B = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
_QWEN2_VISION = {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16}
_SMALL_CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
_SMALL_QWEN2 = {
    **_QWEN2_7B,
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large every network is; the defaults are the published sizes.

    Attributes:
        half: dtype of Q-Align and GME; the others are in float32.
        qalign: Q-Align.
        gme_text: language model of GME.
        gme_vision: its vision tower.
        aesthetic_clip: CLIP ViT-L/14.
        yolo: YOLO-World-v2-L.
        prompt_clip: CLIP ViT-B/32, which sees the references for the detector.
        face: arguments of CurricularFace; IR-101.
    """

    half: torch.dtype = torch.float16
    qalign: QAlignConfig = field(default_factory=QAlignConfig)
    gme_text: Mapping[str, Any] = field(default_factory=lambda: _QWEN2_7B)
    gme_vision: Mapping[str, Any] = field(default_factory=lambda: _QWEN2_VISION)
    aesthetic_clip: Mapping[str, Any] = field(default_factory=lambda: _CLIP_L)
    yolo: YoloWorldSize = field(default_factory=YoloWorldSize)
    prompt_clip: Mapping[str, Any] = field(default_factory=lambda: _CLIP_BASE)
    face: Mapping[str, Any] = field(default_factory=dict)


FULL = Sizes()
SMALL = Sizes(
    half=torch.float32,
    qalign=TINY,
    gme_text=_SMALL_QWEN2,
    gme_vision={"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2},
    aesthetic_clip={**_CLIP_L, **_SMALL_CLIP, "patch_size": 32},
    yolo=YoloWorldSize(
        side=128, stem=8, stages=(16, 16, 32, 32), depths=(1, 1, 1, 1), neck_depth=1, prompt=32, head_width=8, tower=16
    ),
    prompt_clip={**_CLIP_BASE, **_SMALL_CLIP, "projection_dim": 32},
    face={"stages": ((8, 1), (8, 1), (16, 1), (16, 1)), "width": 32},
)
"""The same code on a CPU in seconds."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What networks are made for.

    Attributes:
        sizes: of the networks.
        device: to make them on.
        frames: uint8 RGB, shape (H, W, 3) each, like those that will be scored.
        references: as those of the cases.
    """

    sizes: Sizes
    device: torch.device
    frames: Sequence[Frame]
    references: Sequence[Image.Image]


_Parts = tuple[Mapping[str, Any], list[nn.Module]]


def load_metric(metric_id: str, setup: Setup) -> tuple[Metric, list[nn.Module]]:
    """A metric ready to score, one of :data:`METRICS`, and its networks."""
    metric: Metric = metric_class(metric_id)()
    parts, networks = METRICS[metric_id](setup)
    for name, part in parts.items():
        assert hasattr(metric, name), f"metric '{metric_id}' keeps its networks elsewhere now"
        setattr(metric, name, part)
    return metric, networks


def _aesthetics(setup: Setup) -> _Parts:
    with _made(setup.device, torch.float32):
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**setup.sizes.aesthetic_clip)).eval()
        head = AestheticHead().eval()
    return {"_rater": Rater(lambda pixels: clip(pixel_values=pixels).image_embeds, head, setup.device)}, [clip, head]


def _motion_smoothness(setup: Setup) -> _Parts:
    with _made(setup.device, setup.sizes.half):
        network = QAlign(setup.sizes.qalign).eval().requires_grad_(False)
    return {"_scorer": WindowScorer(network, _QUESTION)}, [network]


def _facesim(setup: Setup) -> _Parts:
    with _made(setup.device, torch.float32):
        network = CurricularFace(**setup.sizes.face).eval()
    return {"_models": FaceModels(detector=SpriteFaceDetector(), network=network, recognition=None)}, [network]


def _gme_score(setup: Setup) -> _Parts:
    gme = make_gme(setup)
    return {"_gme": gme}, [gme.model]


def _nexus(setup: Setup) -> _Parts:
    gme, (detector, clip) = make_gme(setup), make_detector(setup)
    return {"_networks": (detector, gme)}, [gme.model, detector.network, clip]


METRICS: Mapping[str, Callable[[Setup], _Parts]] = {
    "aesthetics": _aesthetics,
    "motion_smoothness": _motion_smoothness,
    "motion_amplitude": lambda _: ({}, []),
    "facesim": _facesim,
    "gme": _gme_score,
    "nexus": _nexus,
}
"""All but NaturalScore, whose judge is not in the process."""


def make_gme(setup: Setup) -> Gme:
    """GME with a tokenizer of words, which makes about as many tokens of a text as the published one."""
    tokenizer = _word_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config = Qwen2VLConfig(
        text_config={**setup.sizes.gme_text, "bos_token_id": None, "eos_token_id": ids["<|im_end|>"]},
        vision_config=dict(setup.sizes.gme_vision),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    config._attn_implementation = "sdpa"
    with _made(setup.device, setup.sizes.half):
        model = Qwen2VLModel(config).eval().requires_grad_(False)
    return Gme(model, tokenizer)


def make_detector(setup: Setup) -> tuple[Detector, nn.Module]:
    """YOLO-World that finds about one box of every reference on a frame, and the CLIP that sees the references."""
    size = setup.sizes.yolo
    with _made(setup.device, torch.float32):
        network = YoloWorld(size)
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**setup.sizes.prompt_clip))
    detector = Detector(network, clip, setup.device)
    pixels = network_input([letterbox(frame, size.side) for frame in setup.frames], setup.device)
    _settle(network, pixels, detector.embed_prompts(setup.references).clone())
    return detector, clip


@torch.no_grad()
def _settle(network: YoloWorld, images_b3ss: Tensor, prompts_pd: Tensor) -> None:
    """Norms get the statistics of the images, without which they would fade from layer to layer; then the bias."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network(network.train().features(images_b3ss), prompts_pd)
    features = network.eval().features(images_b3ss)
    levels = [level for prompt_d in prompts_pd for level in network(features, prompt_d[None])]
    logits_n = torch.cat([level.logits_bphw.flatten() for level in levels])
    least = logits_n.topk(_CONFIDENT_CELLS * len(images_b3ss) * len(prompts_pd)).values[-1]
    for module in network.modules():
        if isinstance(module, Contrast):
            module.bias.fill_(_LOGIT_OF_CONFIDENT - float(least))


def _word_tokenizer() -> Any:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(vocab={"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=SPECIAL_TOKENS[0])


@contextmanager
def _made(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Whatever module is made in here has the same random weights every time."""
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)
