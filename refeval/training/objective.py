"""What one training step minimises: the velocity's error, and the alignment of the reference features.

Letters of shapes: B batch, M references of a sample, T tokens of a reference, C width of the teacher; others as in
:mod:`refeval.generators.wan.transformer`.

Source: RefAlign (arXiv 2603.25743) section 3.3 and A.1 (``paper``), and its code @6f91526,
diffsynth/pipelines/wan_video_new6.py:504-523, 1928-1981 with trainers/utils_os2v (``released``). They differ in the
gate: the paper weighs the alignment alike at every noise level, the code by ``(t / 1000) ** 3``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from refeval.generators.wan.transformer import ReferenceTransformer
from refeval.training.alignment import Alignment, Projector, align
from refeval.training.dual import DualReferenceTransformer
from refeval.training.flow import Drawn, Flow, squared_error


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a step sees.

    Attributes:
        latents: clean video, (B, C, F, H, W).
        text: embedded prompts, (B, L, text width), zeros beyond their ends.
        references: clean latents of the references, (B, C, M, H', W').
        teacher: features of the references, (B, M, T, C).
        present: bool (B, M): which references a sample has; one that was dropped has zero latents and is not present.
        emphasis: weights of the squared error, float32 (B, F, H, W); None: all 1.
    """

    latents: Tensor
    text: Tensor
    references: Tensor
    teacher: Tensor
    present: Tensor
    emphasis: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The parts of a step's loss, float32, averaged over the samples.

    Attributes:
        error: weighted squared error of the velocity.
        positive: of the alignment per aligned block, gated, (K,).
        negative: likewise.
        total: what is minimised: error + eta (mean of positive + lambda times mean of negative).
    """

    error: Tensor
    positive: Tensor
    negative: Tensor
    total: Tensor


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How the loss is put together.

    Attributes:
        depth: K, how many blocks from the first are aligned; 0: none.
        eta: weight of the alignment.
        negative_weight: lambda, weight of its negative term.
        margin: of the negative term.
        gate_power: the alignment counts ``(t / 1000) ** gate_power``; 0: alike at every noise level.
        flow: noise levels and their weights.
    """

    depth: int = 9
    eta: float = 1.0
    negative_weight: float = 1.0
    margin: float = 1.0
    gate_power: float = 0.0
    flow: Flow = field(default_factory=Flow)

    @classmethod
    def paper(cls) -> Self:
        """As the paper describes it."""
        return cls()

    @classmethod
    def released(cls) -> Self:
        """As the released code computes it: gated, and timesteps looked up in bfloat16."""
        return replace(cls(), gate_power=3.0, flow=Flow(rounded=True))

    def losses(
        self, model: ReferenceTransformer, projectors: Sequence[Projector], batch: Batch, drawn: Drawn, noise: Tensor
    ) -> Losses:
        """One forward pass.

        Args:
            model: in training mode or not; gradients flow through it and the projectors.
            projectors: one for each of the first ``depth`` blocks.
            batch: of B samples.
            drawn: their noise levels.
            noise: as the latents.

        Raises:
            ValueError: another number of projectors than aligned blocks.
        """
        if len(projectors) != self.depth:
            raise ValueError(f"{len(projectors)} projectors for {self.depth} aligned blocks")
        noisy = drawn.noisy(batch.latents, noise)
        features = batch.teacher if isinstance(model, DualReferenceTransformer) else None
        found = model(
            noisy, drawn.timesteps.to(noisy.device), batch.text, batch.references, range(self.depth), features
        )
        error = (
            drawn.weights.to(noisy.device) * squared_error(found.velocity, batch.latents, noise, batch.emphasis)
        ).mean()
        terms = [
            self._align(projector(states), batch)
            for projector, states in zip(projectors, found.reference_states, strict=True)
        ]
        gate = drawn.gate(self.gate_power).to(noisy.device)
        positive, negative = (
            torch.stack([(gate * part).mean() for part in parts]) if parts else error.new_zeros(0)
            for parts in ([term.positive for term in terms], [term.negative for term in terms])
        )
        aligned = (positive + self.negative_weight * negative).mean() if terms else error.new_zeros(())
        return Losses(error=error, positive=positive, negative=negative, total=error + self.eta * aligned)

    def _align(self, projected: Tensor, batch: Batch) -> Alignment:
        # Reference tokens come subject by subject, each row by row.
        return align(projected.view_as(batch.teacher), batch.teacher, batch.present, margin=self.margin)
