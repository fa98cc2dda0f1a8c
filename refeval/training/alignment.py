"""The reference alignment loss: reference features of the transformer beside those of a vision foundation model.

Letters of shapes: B batch, M references of a sample, T tokens of a reference, C width of the teacher, D width of the
transformer.

Source: RefAlign (ECCV 2026, arXiv 2603.25743) equations 8 to 10, and its code @6f91526
diffsynth/pipelines/wan_video_new6.py:1928-1981, 2661-2697, models/wan_video_dit.py:593-602. Differs: samples of a batch
are kept apart, their numbers of references may differ, and no mask over all pairs of tokens is ever made: pairs of one
subject are not computed, and the gradient of the others is taken together with their sum, a few rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize, relu

# The most numbers of the matrix of similarities that are held at once: 32 MB in float32.
_CHUNK = 8 << 20


class Projector(nn.Module):
    """From the width of the transformer to the teacher's; one per aligned block, left out of inference.

    Args:
        width: of the transformer.
        teacher_width: of the teacher's features.
    """

    def __init__(self, width: int, teacher_width: int) -> None:
        super().__init__()
        # The published keys are blocks.N.input_mlp.proj.{0,2}.weight.
        self.proj = nn.Sequential(
            nn.Linear(width, width // 2, bias=False), nn.SiLU(), nn.Linear(width // 2, teacher_width, bias=False)
        )

    def forward(self, states: Tensor) -> Tensor:
        """(..., D) to (..., C)."""
        projected: Tensor = self.proj(states)
        return projected


@dataclass(frozen=True)
class Alignment:
    """The two terms of one block, per sample, float32 (B,); 0 for a sample without references.

    Attributes:
        positive: mean of ``relu(1 - cos)`` between tokens of the same place and subject, 0 to 2.
        negative: mean of ``relu(margin - (1 - cos))`` between tokens of different subjects, 0 to ``1 + margin``; 0 for
            a sample with one reference.
    """

    positive: Tensor
    negative: Tensor


def align(
    student_bmtc: Tensor, teacher_bmtc: Tensor, present_bm: Tensor | None = None, *, margin: float = 1.0
) -> Alignment:
    """Pull the reference features of a subject to the teacher's, push them from those of the other subjects.

    Computed in float32 also under autocast: the terms are means over millions of pairs.

    Args:
        student_bmtc: projected reference features of one block, (B, M, T, C), floating.
        teacher_bmtc: the teacher's, same shape; no gradient reaches them.
        present_bm: bool (B, M): which references a sample has; None: all. What is absent does not count at all.
        margin: of the negative term; 1 is the paper's, for which the term is ``relu(cos)``.

    Returns:
        Both terms, differentiable once with respect to the student.

    Raises:
        ValueError: shapes that do not fit together.
    """
    if student_bmtc.shape != teacher_bmtc.shape or student_bmtc.ndim != 4:
        raise ValueError(f"student {tuple(student_bmtc.shape)} and teacher {tuple(teacher_bmtc.shape)} do not fit")
    if present_bm is None:
        present_bm = torch.ones(student_bmtc.shape[:2], dtype=torch.bool, device=student_bmtc.device)
    with torch.autocast(student_bmtc.device.type, enabled=False):
        return _align(student_bmtc.float(), teacher_bmtc.detach().float(), present_bm, margin)


def _align(student_bmtc: Tensor, teacher_bmtc: Tensor, present_bm: Tensor, margin: float) -> Alignment:
    student = normalize(student_bmtc, dim=-1, eps=1e-12)
    teacher = normalize(teacher_bmtc, dim=-1, eps=1e-12)
    tokens = student.shape[2]
    present = present_bm.to(torch.float32)
    counts_b = present.sum(dim=1)
    apart_bm = relu(1 - (student * teacher).sum(dim=-1)).float().sum(dim=-1)
    positive = (apart_bm * present).sum(dim=1) / (counts_b * tokens).clamp(min=1)
    pairs_b = counts_b * (counts_b - 1) * tokens**2
    close_b = torch.stack([_push(*sample, margin) for sample in zip(student, teacher, present_bm, strict=True)])
    return Alignment(positive=positive, negative=close_b / pairs_b.clamp(min=1))


def _push(student_mtc: Tensor, teacher_mtc: Tensor, present_m: Tensor, margin: float) -> Tensor:
    """Sum of ``relu(cos - (1 - margin))`` over the pairs of tokens of different subjects of one sample."""
    there = present_m.nonzero().flatten().tolist()
    total = student_mtc.new_zeros((), dtype=torch.float32)
    for subject in there:
        others = [other for other in there if other != subject]
        if others:
            total = total + _Closeness.apply(  # type: ignore[no-untyped-call]
                student_mtc[subject], teacher_mtc[others].flatten(0, 1), 1 - margin
            )
    return total


class _Closeness(torch.autograd.Function):
    """``sum(relu(a b^T - threshold))`` of a (N, C) and b (K, C), with the gradient of a only.

    Autograd would keep the (N, K) matrix of every subject and block until the backward pass; the gradient, of the
    size of a, is known as soon as the matrix is.
    """

    @staticmethod
    def forward(ctx: Any, a_nc: Tensor, b_kc: Tensor, threshold: float) -> Tensor:
        total = a_nc.new_zeros((), dtype=torch.float32)
        wanted = ctx.needs_input_grad[0]
        gradient_nc = torch.empty_like(a_nc) if wanted else None
        rows = max(1, _CHUNK // max(1, len(b_kc)))
        for start in range(0, len(a_nc), rows):
            above = a_nc[start : start + rows] @ b_kc.T
            above.sub_(threshold).relu_()
            total = total + above.sum(dtype=torch.float32)
            if gradient_nc is not None:
                gradient_nc[start : start + rows] = above.sign_() @ b_kc
        if gradient_nc is not None:
            ctx.save_for_backward(gradient_nc)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient_nc,) = ctx.saved_tensors
        return gradient_nc * grad.to(gradient_nc.dtype), None, None
