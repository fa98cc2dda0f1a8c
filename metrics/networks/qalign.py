"""Q-Align (mPLUG-Owl2): how good a few frames look, as the logits of five words from excellent to bad.

Shape suffixes: b windows or images, v visual tokens of a window, l positions, c channels, k levels.

Source: OpenS2V-Nexus eval/get_motion_smoothness.py at 210eb08 with the modules it imports; keys and shapes of
q-future/one-align. Differs: needs no fork of transformers; looking at a frame and judging a window are two steps, so
that windows share what was seen; of the vocabulary, only the levels' logits at the last position are computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, nn

from refeval.metrics.networks.qalign_input import Question
from refeval.metrics.networks.qalign_language import DecoderLayer, LanguageConfig, RmsNorm, rotation_of
from refeval.metrics.networks.qalign_vision import Abstractor, AbstractorConfig, VisionConfig, VisionTower
from refeval.stored_weights import open_checkpoint
from refeval.wanted_tensors import refuse_others, shapes_of
from refeval.weights import fetch_command

# Exports of older transformers hold this constant in every layer.
_CONSTANT = ".rotary_emb.inv_freq"
_LEVEL_WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)


@dataclass(frozen=True, kw_only=True)
class QAlignConfig:
    """The size of the whole; the defaults are q-future/one-align, 8.2 billion parameters.

    Attributes:
        vision: the vision tower.
        abstractor: what makes tokens of its patches.
        language: the language model.
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    abstractor: AbstractorConfig = field(default_factory=AbstractorConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)


TINY = QAlignConfig(
    vision=VisionConfig(image=56, layers=2, width=32, heads=4, inner=64),
    abstractor=AbstractorConfig(queries=4, layers=1, heads=4, inner=48),
    language=LanguageConfig(vocabulary=64, layers=2, width=32, heads=4, inner=64),
)
"""Small enough for a test on a CPU."""

TINY_QUESTION = Question(before=(1, 20, 21, 22), after=(23, 24, 25), levels=(11, 12, 13, 14, 15))


class QAlign(nn.Module):
    """The network, with the names of the checkpoint.

    Args:
        config: its size.
    """

    def __init__(self, config: QAlignConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _Model(config)
        self.lm_head = nn.Linear(config.language.width, config.language.vocabulary, bias=False)

    def see(self, pixels: Tensor) -> Tensor:
        """Look at images, each for itself.

        Args:
            pixels: shape (images, 3, side, side), normalised.

        Returns:
            Shape (images, queries + 1, width of the language model).
        """
        tokens: Tensor = self.model.visual_abstractor(self.model.vision_model(pixels))
        return tokens

    def read(self, question: Question, visual_bvc: Tensor) -> Tensor:
        """The language model's last, normalised states over the question with the images in it.

        Args:
            question: the same for every window.
            visual_bvc: of :meth:`see`, those of all images of a window one after another.

        Returns:
            Shape (b, l, c), l = tokens before + v + tokens after.
        """
        batch, tokens, _ = visual_bvc.shape
        before_blc, after_blc = (self._embed(ids, batch) for ids in (question.before, question.after))
        x_blc = torch.cat([before_blc, visual_bvc, after_blc], dim=1)
        start = len(question.before)
        states: Tensor = self.model(x_blc, slice(start, start + tokens))
        return states

    def forward(self, question: Question, visual_bvc: Tensor) -> Tensor:
        """Judge windows: the logits of the levels as the next word, shape (b, k)."""
        last_bc = self.read(question, visual_bvc)[:, -1]
        return F.linear(last_bc, self.lm_head.weight[list(question.levels)])

    def _embed(self, ids: tuple[int, ...], batch: int) -> Tensor:
        device = self.lm_head.weight.device
        embedded: Tensor = self.model.embed_tokens(torch.tensor(ids, device=device))
        return embedded.expand(batch, -1, -1)


class _Model(nn.Module):
    def __init__(self, config: QAlignConfig) -> None:
        super().__init__()
        language = config.language
        self.language = language
        self.embed_tokens = nn.Embedding(language.vocabulary, language.width)
        self.layers = nn.ModuleList([DecoderLayer(language) for _ in range(language.layers)])
        self.norm = RmsNorm(language.width, language.eps)
        self.vision_model = VisionTower(config.vision)
        self.visual_abstractor = Abstractor(config.abstractor, config.vision, language.width)

    def forward(self, x_blc: Tensor, visual: slice) -> Tensor:
        rotation = rotation_of(x_blc.shape[1], self.language, x_blc)
        for layer in self.layers:
            x_blc = layer(x_blc, visual, rotation)
        states: Tensor = self.norm(x_blc)
        return states


def expected_levels(logits_bk: Tensor) -> list[float]:
    """The expected quality, 0 (bad) to 1 (excellent): ``softmax(logits) @ (1, 0.75, 0.5, 0.25, 0)``.

    Computed in the dtype of the logits, in which the official numbers are rounded, and on the CPU.
    """
    shares_bk = logits_bk.cpu().softmax(-1)
    weighted: list[float] = (shares_bk @ torch.tensor(_LEVEL_WEIGHTS, dtype=shares_bk.dtype)).tolist()
    return weighted


def load_qalign(
    path: Path, *, dtype: torch.dtype, device: torch.device | str = "cpu", config: QAlignConfig | None = None
) -> QAlign:
    """Load the published weights, one tensor after another.

    Args:
        path: a checkpoint as :func:`refeval.stored_weights.open_checkpoint` takes it.
        dtype: of the network.
        device: that it ends on.
        config: its size; the published one if None.

    Raises:
        BadInput: other weights; missing, unexpected and misshapen tensors are named.
        MissingPrerequisite: no such file.
        CorruptFile: a file that cannot be read.
    """
    checkpoint = open_checkpoint(path, "motion_smoothness")
    network = _empty(config or QAlignConfig())
    stored = {key: tensor for key, tensor in checkpoint.tensors.items() if not key.endswith(_CONSTANT)}
    found = {key: tensor.shape for key, tensor in stored.items()}
    refuse_others(path, found, shapes_of(network), "Q-Align", fetch_command("motion_smoothness", None))
    # Without the copy a parameter would live in the mapped file.
    state = {key: tensor.read().to(device, dtype, copy=True) for key, tensor in stored.items()}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def tiny_qalign() -> QAlign:
    """A network of size :data:`TINY` with random weights, always the same; float32, on the CPU."""
    network = _empty(TINY)
    generator = torch.Generator().manual_seed(0)
    state = {key: _random(key, shape, generator) for key, shape in sorted(shapes_of(network).items())}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _empty(config: QAlignConfig) -> QAlign:
    """A network without memory, for ``load_state_dict(..., assign=True)``."""
    with torch.device("meta"):
        return QAlign(config)


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return values / math.sqrt(math.prod(shape[1:]))
    return 1 + 0.1 * values if key.endswith("weight") else 0.1 * values
