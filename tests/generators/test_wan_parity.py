"""Forward passes, guidance, solvers and whole trajectories against the official implementations.

Tolerances are those of the goldens' README for an implementation with an exact sinusoid; what was measured (CPU,
float32) stands beside each. The float32 noise floor of the official code itself is about 2e-6 on one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from refeval.generators.wan.conditions import PhantomConditions, RefAlignConditions, VaceConditions, vace_context
from refeval.generators.wan.engine import velocity_of
from refeval.generators.wan.sampling import Conditions, denoise
from refeval.generators.wan.schedules import Euler, Schedule, UniPC
from tests.generators.golden_models import golden_transformer, tensors

IMAGE, TEXT = 5.0, 7.5
PREDICTED_ALONE, PREDICTED_TOGETHER = False, True


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def apart(ours: Tensor, official: Tensor) -> float:
    """Largest absolute difference."""
    assert ours.shape == official.shape
    return float((ours.float() - official.float()).abs().max())


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("branch", ["it", "i", "null"])
def test_refalign_forward_parity(goldens: Path, branch: str, count: int) -> None:
    """Measured 2.1e-6."""
    golden = tensors(goldens, "refalign_tiny/forward_lowres")
    references = golden["subject_latents"][:, :, :count] * (0 if branch == "null" else 1)
    text = golden["context" if branch == "it" else "null_context"]
    ours = golden_transformer(goldens, "refalign_tiny")(golden["latents"], golden["timestep"], text, references)
    assert apart(ours.velocity, golden[f"out.{branch}.M{count}"]) < 1e-5


def test_refalign_forward_parity_with_references_of_another_size_and_without_any(goldens: Path) -> None:
    """Measured 2.0e-6 and 1.8e-6."""
    golden = tensors(goldens, "refalign_tiny/forward_lowres")
    model = golden_transformer(goldens, "refalign_tiny")
    inputs = (golden["latents"], golden["timestep"], golden["context"])
    assert apart(model(*inputs, golden["odd_subject_latents"]).velocity, golden["out.it.odd"]) < 1e-5
    assert apart(model(*inputs).velocity, golden["out.t.noref"]) < 1e-5


def test_refalign_block_parity(goldens: Path) -> None:
    """The states of the reference tokens after the first and the last block, which training aligns. Measured 2.9e-6."""
    golden = tensors(goldens, "refalign_tiny/forward_lowres")
    model = golden_transformer(goldens, "refalign_tiny")
    last = len(model.blocks) - 1
    inputs = (golden["latents"], golden["timestep"], golden["context"], golden["subject_latents"])
    first_states, last_states = model(*inputs, reference_blocks=(0, last)).reference_states
    video = 3 * 4 * 6
    assert apart(first_states, golden["block_out.first.M3"][:, video:]) < 1e-5
    assert apart(last_states, golden["block_out.last.M3"][:, video:]) < 1e-5


def test_refalign_timestep_parity(goldens: Path) -> None:
    golden = tensors(goldens, "refalign_tiny/forward_lowres")
    embedder = golden_transformer(goldens, "refalign_tiny").condition_embedder
    sinusoid = embedder.timesteps_proj(golden["timestep"])
    assert torch.equal(sinusoid, golden["sinusoid"])
    assert apart(embedder.time_embedder(sinusoid), golden["t_emb"]) < 1e-5


@pytest.mark.parametrize("timestep", ["937.500", "731.250", "100.300"])
def test_refalign_bf16_parity(goldens: Path, timestep: str) -> None:
    """Against the official bf16 run, and against float32 at the timestep that it rounds to.

    Measured 0.011 (rel. L2; the official bf16 run is 0.010 from its own float32 run) and 2.1e-6. Not rounding the
    timestep costs 0.025 to 0.2, which the second bound would notice.
    """
    inputs = tensors(goldens, "refalign_tiny/forward_lowres")
    golden = tensors(goldens, "refalign_tiny/forward_lowres_bf16")
    rounded = torch.tensor([float(timestep)]).bfloat16()
    names = ("latents", "context", "subject_latents")
    latents, text, references = (inputs[name] for name in names)
    exact = golden_transformer(goldens, "refalign_tiny")(latents, rounded.float(), text, references).velocity
    assert apart(exact, golden[f"out.it.fp32_at_bf16t.t{timestep}"]) < 2e-5
    latents, text, references = (inputs[name].bfloat16() for name in names)
    model = golden_transformer(goldens, "refalign_tiny", torch.bfloat16)
    official = golden[f"out.it.bf16.t{timestep}"].float()
    velocity = model(latents, rounded.float(), text, references).velocity
    assert velocity.dtype == torch.bfloat16
    assert float((velocity.float() - official).norm() / official.norm()) < 2e-2


@pytest.mark.parametrize("steps", [4, 30, 50])
def test_euler_schedule_parity(goldens: Path, steps: int) -> None:
    golden = tensors(goldens, "refalign_tiny/scheduler")
    schedule = Euler(steps, 5.0)
    assert apart(schedule.sigmas[:-1], golden[f"sigmas{steps}"]) < 1e-6
    assert apart(schedule.timesteps, golden[f"timesteps{steps}"]) < 1e-3
    assert schedule.sigmas[-1] == 0


def test_bf16_timestep_parity(goldens: Path) -> None:
    """What the transformer is told at each of the 50 steps of the official run."""
    golden = tensors(goldens, "refalign_tiny/scheduler")["timesteps50_bf16"].float()
    told = []

    class Listening(Conditions):
        branches = 1

        def predict(self, latents: Tensor, timestep: Tensor, branches: slice) -> Tensor:
            told.append(float(timestep))
            return latents

        def combine(self, predictions: Tensor) -> Tensor:
            return predictions

        def video(self, latents: Tensor) -> Tensor:
            return latents

    noise = torch.zeros(1, 16, 1, 2, 2)
    denoise(noise, Euler(50, 5.0), Listening(), together=True, round_timesteps=True)
    assert told == golden.tolist()


@pytest.mark.parametrize(("steps", "shift"), [(50, 5), (50, 16), (30, 5)])
def test_unipc_schedule_parity(goldens: Path, steps: int, shift: int) -> None:
    """Wan2.1's own table; that of diffusers' ``flow_shift`` is up to 0.009 and 10 timesteps away."""
    golden = tensors(goldens, "phantom_tiny/unipc_tables")
    schedule = UniPC(steps, float(shift))
    assert apart(schedule.sigmas, golden[f"sigmas.n{steps}.shift{shift}"]) < 1e-6
    assert torch.equal(schedule.timesteps, golden[f"timesteps.n{steps}.shift{shift}"])


def test_refalign_trajectory_parity(goldens: Path) -> None:
    """Measured 2.6e-5 on the guided prediction (guidance amplifies by about 20), 1.7e-5 on the latents.

    The contexts of this golden differ in length (20 and 17), so that its branches cannot share a batch.
    """
    inputs = tensors(goldens, "refalign_tiny/forward_lowres")
    golden = tensors(goldens, "refalign_tiny/trajectory_lowres")
    conditions = RefAlignConditions(
        velocity_of(golden_transformer(goldens, "refalign_tiny")),
        prompt=inputs["context"],
        negative=inputs["null_context"],
        references=inputs["subject_latents"],
        image=IMAGE,
        text=TEXT,
    )
    assert torch.equal(_noise(42, golden["init_noise"]), golden["init_noise"])
    latents = _follow(golden, Euler(4, 5.0), conditions, together=PREDICTED_ALONE, tolerance=2e-4)
    assert apart(conditions.video(latents), golden["latents"][-1]) < 2e-4


def test_phantom_forward_parity(goldens: Path) -> None:
    """Measured 2.6e-6 on the branches, 1.9e-5 guided."""
    golden = tensors(goldens, "phantom_tiny/forward")
    conditions = _phantom(goldens)
    predictions = conditions.predict(golden["latents"][None], golden["timestep"].float(), slice(0, 3))
    for position, branch in enumerate(("it", "i", "neg")):
        assert apart(predictions[position], golden[f"out.{branch}"]) < 2e-5
    assert apart(conditions.combine(predictions)[0], golden["out.guided"]) < 1e-4


@pytest.mark.parametrize("together", [PREDICTED_ALONE, PREDICTED_TOGETHER])
def test_phantom_trajectory_parity(goldens: Path, together: bool) -> None:
    """Measured 1.9e-5 guided, 1.3e-5 on the latents."""
    golden = _batched(tensors(goldens, "phantom_tiny/trajectory"))
    assert torch.equal(_noise(42, golden["init_noise"]), golden["init_noise"])
    conditions = _phantom(goldens)
    latents = _follow(golden, UniPC(4, 5.0), conditions, together=together, tolerance=1e-4)
    assert apart(conditions.video(latents)[0], golden["final_video_latents"]) < 1e-4


@pytest.mark.parametrize("task", ["r2v", "edit"])
def test_vace_context_parity(goldens: Path, task: str) -> None:
    """The order of the references is the official one; diffusers' pipeline would reverse it. Measured 0."""
    golden = tensors(goldens, "vace_tiny/forward")
    assert torch.equal(_vace_context(golden, task)[0], golden[f"{task}.vace_context"])


@pytest.mark.parametrize("task", ["r2v", "edit"])
def test_vace_forward_parity(goldens: Path, task: str) -> None:
    """Measured 2.6e-6 on the branches, 1.2e-5 guided, 1.9e-6 with half the hints."""
    golden = tensors(goldens, "vace_tiny/forward")
    conditions = _vace(goldens, task)
    inputs = (golden["latents"][None], golden["timestep"].float())
    predictions = conditions.predict(*inputs, slice(0, 2))
    for position, branch in enumerate(("cond", "uncond")):
        assert apart(predictions[position], golden[f"{task}.out.{branch}"]) < 2e-5
    assert apart(conditions.combine(predictions)[0], golden[f"{task}.out.guided"]) < 1e-4
    halved = _vace(goldens, task, context_scale=0.5).predict(*inputs, slice(0, 1))
    assert apart(halved[0], golden[f"{task}.out.cond.scale0.5"]) < 2e-5


@pytest.mark.parametrize("together", [PREDICTED_ALONE, PREDICTED_TOGETHER])
def test_vace_trajectory_parity(goldens: Path, together: bool) -> None:
    """Measured 1.4e-5 guided, 1.2e-5 on the latents."""
    golden = _batched(tensors(goldens, "vace_tiny/trajectory"))
    assert torch.equal(_noise(42, golden["init_noise"]), golden["init_noise"])
    conditions = _vace(goldens, "r2v")
    latents = _follow(golden, UniPC(4, 16.0), conditions, together=together, tolerance=1e-4)
    assert apart(conditions.video(latents)[0], golden["final_video_latents"]) < 1e-4


def test_refalign_full_resolution_parity(goldens: Path) -> None:
    """480x832: 1560 tokens to each of three references. Measured 2.4e-6."""
    golden = tensors(goldens, "refalign_tiny/fullres_480x832")
    model = golden_transformer(goldens, "refalign_tiny")
    inputs = (golden["latents"], golden["timestep"], golden["context"], golden["subject_latents"])
    assert apart(model(*inputs).velocity, golden["out.it"]) < 1e-5


def _noise(seed: int, like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def _batched(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a golden that knows no batch, with one."""
    golden["init_noise"] = golden["init_noise"][None]
    golden["latents"] = golden["latents"][:, None]
    golden["guided_pred"] = golden["guided_pred"][:, None]
    return golden


def _follow(
    golden: dict[str, Tensor], schedule: Schedule, conditions: Conditions, *, together: bool, tolerance: float
) -> Tensor:
    """Sample, holding every step against the official one."""
    steps = 0

    def compare(index: int, velocity: Tensor, latents: Tensor) -> None:
        nonlocal steps
        steps += 1
        assert apart(velocity, golden["guided_pred"][index]) < tolerance
        assert apart(latents, golden["latents"][index]) < tolerance

    noise = golden["init_noise"]
    latents = denoise(noise, schedule, conditions, together=together, round_timesteps=False, on_step=compare)
    assert steps == len(golden["latents"])
    return latents


def _phantom(goldens: Path) -> PhantomConditions:
    golden = tensors(goldens, "phantom_tiny/forward")
    return PhantomConditions(
        velocity_of(golden_transformer(goldens, "phantom_tiny")),
        prompt=golden["context_padded"],
        negative=golden["null_context_padded"],
        references=golden["ref_latents"][None],
        image=IMAGE,
        text=TEXT,
    )


def _vace(goldens: Path, task: str, context_scale: float = 1.0) -> VaceConditions:
    golden = tensors(goldens, "vace_tiny/forward")
    transformer: Any = golden_transformer(goldens, "vace_tiny")
    return VaceConditions(
        velocity_of(transformer),
        prompt=golden["context_padded"],
        negative=golden["null_context_padded"],
        context=_vace_context(golden, task),
        references=len(golden["ref_images"]),
        scale=IMAGE,
        context_scale=context_scale,
        hints=len(transformer.config.vace_layers),
    )


def _vace_context(golden: dict[str, Tensor], task: str) -> Tensor:
    references = [picture[None].float() for picture in golden["ref_images"]]
    if task == "edit":
        video, mask = golden["edit.frames"][None].float(), golden["edit.mask"][None].float()
    else:
        video, mask = torch.zeros(1, 3, 9, 64, 96), torch.ones(1, 1, 9, 64, 96)
    return vace_context(_stub_vae(golden["stub_vae.W"], golden["stub_vae.b"]), references, video, mask)


def _stub_vae(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """The encoder that the goldens were made with: means over 8x8 pixels and four frames, then a linear map."""

    def encode(video: Tensor) -> Tensor:
        small = functional.avg_pool2d(video[0].movedim(1, 0), 8)
        groups = [small[:1], *small[1:].split(4)] if len(small) > 1 else [small]
        means = torch.cat([group.mean(0, keepdim=True) for group in groups])
        return (torch.einsum("oc,tchw->othw", weight, means) + bias[:, None, None, None])[None]

    return encode
