"""The alignment loss: the official values and gradients, what the batch may hold, and what it must not cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from refeval.training.alignment import Projector, align
from refeval.training.flow import Flow
from tests.generators.golden_models import tensors

BLOCKS = 9


def golden_projectors(goldens: Path) -> list[Projector]:
    state = tensors(goldens, "refalign_tiny/state_dict")
    made = []
    for block in range(BLOCKS):
        own = {
            key.partition("input_mlp.")[2]: value for key, value in state.items() if f"blocks.{block}.input_mlp." in key
        }
        projector = Projector(96, 48)
        projector.load_state_dict(own)
        made.append(projector)
    return made


def written_out(student: Tensor, teacher: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """The formulas of the paper for one sample, pair by pair: (M, T, C) each."""
    student, teacher = normalize(student, dim=-1), normalize(teacher, dim=-1)
    positive = relu(1 - (student * teacher).sum(-1)).mean()
    subjects = range(len(student))
    close = [relu(margin - (1 - student[i] @ teacher[j].T)).mean() for i in subjects for j in subjects if i != j]
    return positive, torch.stack(close).mean() if close else torch.zeros(())


@pytest.mark.parametrize("count", [1, 3])
def test_every_block_has_the_official_terms(count: int, goldens: Path) -> None:
    golden = tensors(goldens, "refalign_tiny/ra_loss_lowres")
    teacher = tensors(goldens, "refalign_tiny/forward_lowres")["teacher"][:, :, :count]
    teacher = teacher.permute(0, 2, 3, 4, 1).flatten(2, 3)
    for block, projector in enumerate(golden_projectors(goldens)):
        projected = projector(golden[f"M{count}.ref_hidden"][block])
        torch.testing.assert_close(projected, golden[f"M{count}.projected"][block], rtol=1e-5, atol=1e-6)
        terms = align(projected.view(1, count, 24, 48), teacher)
        assert abs(terms.positive.item() - golden[f"M{count}.pos"][block].item()) < 1e-6
        assert abs(terms.negative.item() - golden[f"M{count}.neg"][block].item()) < 1e-6


def test_the_schedule_is_the_official_one(goldens: Path) -> None:
    golden = tensors(goldens, "refalign_tiny/scheduler")
    flow = Flow()
    torch.testing.assert_close(flow.sigmas, golden["train.sigmas"], rtol=0, atol=1e-6)
    torch.testing.assert_close(flow.timesteps, golden["train.timesteps"], rtol=0, atol=1e-3)
    torch.testing.assert_close(flow.weights, golden["train.weights"], rtol=0, atol=1e-5)
    drawn = Flow(rounded=True).at(torch.arange(1000))
    assert torch.equal(drawn.timesteps, golden["train.timesteps_bf16"].float())
    assert torch.equal(drawn.sigmas, flow.sigmas[golden["train.bf16_snap_id"]])
    torch.testing.assert_close(flow.at(torch.arange(1000)).gate(3), golden["gate.train"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("margin", [0.7, 1.0, 1.3])
def test_samples_of_a_batch_do_not_touch(margin: float) -> None:
    generator = torch.Generator().manual_seed(1)
    student = torch.randn(4, 3, 5, 8, generator=generator).requires_grad_()
    teacher = torch.randn(4, 3, 5, 8, generator=generator) + 0.5
    present = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    terms = align(student, teacher, present, margin=margin)
    (terms.positive + terms.negative).sum().backward()
    alone = student.detach().clone().requires_grad_()
    total = torch.zeros(())
    for sample, there in enumerate(present):
        if not there.any():
            assert terms.positive[sample] == terms.negative[sample] == 0
            continue
        positive, negative = written_out(alone[sample, there], teacher[sample, there], margin)
        assert terms.positive[sample].item() == pytest.approx(positive.item(), rel=1e-5)
        assert terms.negative[sample].item() == pytest.approx(negative.item(), rel=1e-5, abs=1e-7)
        total = total + positive + negative
    total.backward()
    torch.testing.assert_close(student.grad, alone.grad, rtol=1e-4, atol=1e-7)
    assert student.grad is not None and not student.grad[~present].any()


def test_chunks_change_nothing_and_the_teacher_learns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    student = torch.randn(1, 3, 40, 16, generator=generator, requires_grad=True)
    teacher = torch.randn(1, 3, 40, 16, generator=generator, requires_grad=True)

    def terms() -> tuple[Tensor, Tensor | None, Tensor | None]:
        found = align(student, teacher)
        inputs = (student, teacher)
        return found.negative, *torch.autograd.grad((found.positive + found.negative).sum(), inputs, allow_unused=True)

    whole, gradient, none = terms()
    assert none is None
    monkeypatch.setattr("refeval.training.alignment._CHUNK", 7 * 80)
    parts, gradient_in_parts, _ = terms()
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(gradient_in_parts, gradient)


def test_terms_are_float32_also_where_the_forward_pass_is_not() -> None:
    generator = torch.Generator().manual_seed(3)
    student = torch.randn(1, 2, 40, 16, generator=generator, requires_grad=True)
    teacher = torch.randn(1, 2, 40, 16, generator=generator)
    exact = align(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        found = align(student, teacher)
        rough = align(student.bfloat16(), teacher)
    assert torch.equal(found.positive, exact.positive) and torch.equal(found.negative, exact.negative)
    assert rough.negative.dtype == torch.float32


def test_what_is_pulled_and_what_is_pushed() -> None:
    subjects = normalize(torch.eye(3)[:, None].expand(3, 4, 3), dim=-1)[None].contiguous()
    same = align(subjects, subjects)
    assert (same.positive.item(), same.negative.item()) == (0, 0)
    swapped = align(subjects[:, [1, 2, 0]], subjects)
    assert (swapped.positive.item(), swapped.negative.item()) == (1, 0.5)
    one = align(subjects[:, :1], subjects[:, :1])
    assert one.negative.item() == 0
    with pytest.raises(ValueError, match="do not fit"):
        align(subjects, subjects[:, :2])
