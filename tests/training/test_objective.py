"""A whole training step: the official losses and gradients, one sample or many, aligned or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from refeval.training.flow import Drawn, Flow
from refeval.training.objective import Batch, Losses, Objective
from tests.generators.golden_models import golden_transformer, tensors
from tests.training.test_alignment import BLOCKS, golden_projectors

# The official code, but for timesteps that are looked up exactly: the goldens were made in float32.
OFFICIAL = replace(Objective.released(), flow=Flow())


def golden_batch(goldens: Path, count: int, latents: Tensor) -> Batch:
    inputs = tensors(goldens, "refalign_tiny/forward_lowres")
    return Batch(
        latents=latents,
        text=inputs["context"],
        references=inputs["subject_latents"][:, :, :count],
        teacher=inputs["teacher"][:, :, :count].permute(0, 2, 3, 4, 1).flatten(2, 3),
        present=torch.ones(1, count, dtype=torch.bool),
    )


def joined(*batches: Batch) -> Batch:
    fields = ("latents", "text", "references", "teacher", "present")
    return Batch(**{name: torch.cat([getattr(batch, name) for batch in batches]) for name in fields})


def level(flow: Flow, *indices: int) -> Drawn:
    return flow.at(torch.tensor(indices))


@pytest.mark.parametrize(("count", "seed"), [(1, 5), (1, 6), (3, 5), (3, 6)])
def test_a_step_has_the_official_losses_and_gradients(count: int, seed: int, goldens: Path) -> None:
    step = tensors(goldens, "refalign_tiny/training_step_lowres")
    name = f"M{count}.seed{seed}"
    case = json.loads((goldens / "dit/refalign_tiny/training_step_lowres.json").read_text())["cases"][name]
    model, projectors = golden_transformer(goldens, "refalign_tiny"), golden_projectors(goldens)
    drawn = level(OFFICIAL.flow, case["timestep_id"])
    assert drawn.timesteps.item() == pytest.approx(case["timestep"], rel=1e-7)
    losses = OFFICIAL.losses(
        model, projectors, golden_batch(goldens, count, step[f"{name}.x0"]), drawn, step[f"{name}.noise"]
    )
    assert losses.error.item() == pytest.approx(case["loss_mse_weighted"], rel=1e-5)
    assert losses.negative.mean().item() == pytest.approx(case["neg_gated"], rel=1e-5, abs=1e-9)
    assert (losses.positive + losses.negative).mean().item() == pytest.approx(case["align_gated"], rel=1e-5)
    assert losses.total.item() == pytest.approx(case["total"], rel=1e-5)
    losses.total.backward()
    found = {
        "blocks.0.self_attn.q.weight": model.blocks[0].attn1.to_q.weight.grad,
        "blocks.8.input_mlp.proj.2.weight": projectors[8].proj[2].weight.grad,
        "head.head.weight": model.proj_out.weight.grad,
    }
    for key, gradient in found.items():
        expected = step[f"{name}.grad.{key}"]
        assert (gradient - expected).norm() < 1e-4 * expected.norm(), key


def test_at_full_resolution_every_block_has_the_official_terms(goldens: Path) -> None:
    golden = tensors(goldens, "refalign_tiny/fullres_480x832")
    model, projectors = golden_transformer(goldens, "refalign_tiny"), golden_projectors(goldens)
    teacher = golden["teacher"].permute(0, 2, 3, 4, 1).flatten(2, 3)
    latents = golden["latents"]
    batch = Batch(
        latents=latents,
        text=golden["context"],
        references=golden["subject_latents"],
        teacher=teacher,
        present=torch.ones(1, 3, dtype=torch.bool),
    )
    # Without noise the model sees the latents of the golden at its timestep.
    drawn = Drawn(timesteps=golden["timestep"], sigmas=torch.zeros(1), weights=torch.ones(1))
    losses = Objective.paper().losses(model, projectors, batch, drawn, torch.zeros_like(latents))
    torch.testing.assert_close(losses.positive, golden["pos"], rtol=0, atol=1e-5)
    torch.testing.assert_close(losses.negative, golden["neg"], rtol=0, atol=1e-5)
    (losses.positive + losses.negative).mean().backward()
    found = {
        "blocks.0.self_attn.q.weight": model.blocks[0].attn1.to_q.weight.grad,
        "blocks.3.self_attn.v.weight": model.blocks[3].attn1.to_v.weight.grad,
        "blocks.8.input_mlp.proj.0.weight": projectors[8].proj[0].weight.grad,
        "patch_embedding.weight": model.patch_embedding.weight.grad,
    }
    for key, gradient in found.items():
        expected = golden[f"grad.{key}"]
        assert (gradient - expected).norm() < 1e-3 * expected.norm(), key


@pytest.fixture
def two(goldens: Path) -> tuple[Batch, Batch, Tensor]:
    step = tensors(goldens, "refalign_tiny/training_step_lowres")
    first, second = (golden_batch(goldens, 3, step[f"M3.seed{seed}.x0"]) for seed in (5, 6))
    absent = torch.tensor([[True, True, False]])
    second = replace(second, present=absent, references=second.references * absent[:, None, :, None, None])
    return first, second, torch.cat([step[f"M3.seed{seed}.noise"] for seed in (5, 6)])


def test_a_batch_is_the_mean_of_its_samples(two: tuple[Batch, Batch, Tensor], goldens: Path) -> None:
    first, second, noise = two
    model, projectors = golden_transformer(goldens, "refalign_tiny"), golden_projectors(goldens)

    def losses(batch: Batch, drawn: Drawn, noise: Tensor) -> Losses:
        with torch.no_grad():
            return OFFICIAL.losses(model, projectors, batch, drawn, noise)

    together = losses(joined(first, second), level(OFFICIAL.flow, 411, 130), noise)
    apart = [losses(first, level(OFFICIAL.flow, 411), noise[:1]), losses(second, level(OFFICIAL.flow, 130), noise[1:])]
    for name in ("error", "positive", "negative", "total"):
        expected = (getattr(apart[0], name) + getattr(apart[1], name)) / 2
        torch.testing.assert_close(getattr(together, name), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("eta", "negative_weight"), [(0.5, 1.0), (1.0, 0.0), (2.0, 0.25)])
def test_weights_are_where_the_paper_has_them(
    eta: float, negative_weight: float, two: tuple[Batch, Batch, Tensor], goldens: Path
) -> None:
    batch, _, noise = two
    model, projectors = golden_transformer(goldens, "refalign_tiny"), golden_projectors(goldens)
    objective = replace(OFFICIAL, eta=eta, negative_weight=negative_weight)
    with torch.no_grad():
        losses = objective.losses(model, projectors, batch, level(OFFICIAL.flow, 411), noise[:1])
    error, positive, negative = (part.mean().item() for part in (losses.error, losses.positive, losses.negative))
    assert losses.total.item() == pytest.approx(error + eta * (positive + negative_weight * negative), rel=1e-6)


def test_the_gate_is_off_in_the_papers_recipe_and_depth_chooses_the_blocks(
    two: tuple[Batch, Batch, Tensor], goldens: Path
) -> None:
    batch, _, noise = two
    model, projectors = golden_transformer(goldens, "refalign_tiny"), golden_projectors(goldens)
    drawn = level(OFFICIAL.flow, 411)
    gate = drawn.gate(3).item()
    with torch.no_grad():
        paper, gated = (
            objective.losses(model, projectors, batch, drawn, noise[:1]) for objective in (Objective.paper(), OFFICIAL)
        )
        shallow = replace(OFFICIAL, depth=2).losses(model, projectors[:2], batch, drawn, noise[:1])
        none = replace(OFFICIAL, depth=0).losses(model, [], batch, drawn, noise[:1])
    torch.testing.assert_close(gated.positive, gate * paper.positive)
    torch.testing.assert_close(shallow.positive, gated.positive[:2])
    assert none.total.item() == none.error.item() == paper.error.item()
    with pytest.raises(ValueError, match=f"{BLOCKS} projectors for 2"):
        replace(OFFICIAL, depth=2).losses(model, projectors, batch, drawn, noise[:1])
