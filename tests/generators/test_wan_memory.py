"""Presets of memory, and what happens where memory runs out, as far as a CPU can show it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from refeval.cases import Case
from refeval.errors import BadInput, MissingPrerequisite
from refeval.generators.wan import checkpoints
from refeval.generators.wan.catalogue import MODELS
from refeval.generators.wan.engine import Engine, velocity_of
from refeval.generators.wan.generator import WanGenerator
from refeval.generators.wan.memory import PRESETS, choose, need, transformer_parameters
from refeval.generators.wan.parts import parts_of
from refeval.generators.wan.schedules import UniPC
from refeval.place import Place
from refeval.registry import load_generator
from refeval.weights import WeightsStore

GIB = 2**30
REAL = {name: spec for name, spec in MODELS.items() if spec.clip}
FAMILIES = ("refalign-tiny", "phantom-tiny", "vace-tiny")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def inputs(name: str) -> dict[str, Tensor]:
    """Of one forward of a tiny model."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    given = {
        "hidden_states": noise(2, 16, 2, 4, 6),
        "timestep": torch.tensor([500.0, 500.0]),
        "encoder_hidden_states": noise(2, 8, 64),
    }
    if name == "refalign-tiny":
        given["reference_latents"] = noise(2, 16, 1, 4, 6)
    if name == "vace-tiny":
        given["control_hidden_states"] = noise(2, 96, 2, 4, 6)
        given["control_hidden_states_scale"] = torch.ones(2)
    return given


def engine(name: str, device: str) -> Engine:
    generator = load_generator(name, Place(device=device))
    assert isinstance(generator, WanGenerator)
    return Engine(generator.spec, generator.options, generator.place, parts_of(generator.spec, generator.store))


def test_a_tiny_model_takes_a_gpu_only_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert engine("refalign-tiny", "auto").device == torch.device("cpu")
    assert engine("refalign-tiny", "cuda").device == torch.device("cuda", 0)


def test_a_real_model_never_takes_the_cpu_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingPrerequisite, match=r"^model 'refalign-1\.3b' needs a GPU and torch sees none") as caught:
        engine("refalign-1.3b", "auto")
    assert "--device cpu, which takes days" in str(caught.value.cure)
    assert engine("refalign-1.3b", "cpu").device == torch.device("cpu")


@pytest.mark.parametrize("name", FAMILIES)
def test_streamed_blocks_compute_the_same(name: str) -> None:
    """The block-wise offloading of ``stream``, with the CPU in the place of the GPU."""
    make = parts_of(MODELS[name], WeightsStore(None)).transformer
    whole = velocity_of(make(torch.float32))(**inputs(name))
    streamed = make(torch.float32)
    streamed.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1, use_stream=False
    )
    assert torch.equal(velocity_of(streamed)(**inputs(name)), whole)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tiny_model_in_bf16_has_the_types_of_a_loaded_one(name: str) -> None:
    transformer = parts_of(MODELS[name], WeightsStore(None)).transformer(torch.bfloat16)
    types = {key: parameter.dtype for key, parameter in transformer.named_parameters()}
    assert types["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    for kept in ("blocks.0.scale_shift_table", "blocks.0.norm2.weight", "scale_shift_table"):
        assert types[kept] == torch.float32
    assert types["condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    given = {key: tensor.bfloat16() for key, tensor in inputs(name).items()}
    assert velocity_of(transformer)(**given).isfinite().all()


def test_needs_fall_from_preset_to_preset_and_the_first_that_fits_is_chosen() -> None:
    for spec in REAL.values():
        assert spec.clip is not None
        needs = [need(spec, spec.clip, preset) for preset in PRESETS.values()]
        assert needs == sorted(needs, reverse=True)
        assert choose("auto", spec, spec.clip, 140 * GIB).name == "full"
        assert choose("auto", spec, spec.clip, needs[-1]).name in ("stream", "offload", "in-turn", "full")
        with pytest.raises(MissingPrerequisite, match=f"'{spec.name}' does not fit") as error:
            choose("auto", spec, spec.clip, needs[-1] - 1)
        assert "stream" in str(error.value) and "free" in str(error.value)
    large = MODELS["refalign-14b"]
    assert large.clip is not None
    assert choose("auto", large, large.clip, 24 * GIB).name == "stream"
    assert need(large, large.clip, PRESETS["full"], gpus=2) < need(large, large.clip, PRESETS["full"])
    with pytest.raises(BadInput, match="cannot be used with --gpus-per-clip"):
        choose("stream", large, large.clip, None, gpus=2)


def test_parameters_are_counted_as_the_architecture_has_them() -> None:
    for name in FAMILIES:
        transformer = parts_of(MODELS[name], WeightsStore(None)).transformer(torch.float32)
        assert transformer_parameters(MODELS[name].architecture) == sum(p.numel() for p in transformer.parameters())


@pytest.mark.parametrize("place", [Place(device="cpu"), Place(gpus_per_clip=2), Place()])
def test_what_cannot_be_spared_is_not_promised(place: Place) -> None:
    """A CPU, a team, and a worker whose machine, not its GPU, ran out of memory before it began."""
    assert load_generator("refalign-1.3b", place).save_memory() is None


def test_a_model_whose_loading_ran_out_begins_with_the_sparing_preset() -> None:
    generator: Any = load_generator("refalign-1.3b", Place())
    generator._began_loading = True
    assert generator.save_memory() == "stream"
    assert generator.place.memory == "stream"


def test_a_failure_in_the_background_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    generator: Any = load_generator("phantom-tiny")
    case: Any = type("AnyCase", (), {"id": "singleobj_1"})()
    tries = []

    def pictures(asked: Case, _clip: object) -> list[Tensor]:
        tries.append(asked.id)
        if len(tries) == 1:
            raise torch.OutOfMemoryError("once")
        return []

    monkeypatch.setattr(generator, "_pictures", pictures)
    generator._next = (case.id, generator._background.submit(pictures, case, None))
    assert generator._references(case, None) == []
    assert generator._references(case, None) == []
    assert len(tries) == 3, "what was prepared is used once"


@pytest.mark.parametrize(("steps", "shift"), [(100, 16.0), (400, 5.0)])
def test_timesteps_that_come_twice_are_stepped_through(steps: int, shift: float) -> None:
    schedule = UniPC(steps, shift)
    assert len(set(schedule.timesteps.tolist())) < steps, "some timesteps come twice"
    latents = torch.ones(1, 16, 1, 2, 2)
    for index in range(steps):
        latents = schedule.step(torch.zeros_like(latents), index, latents)
    assert latents.isfinite().all()


def test_two_parts_may_be_loaded_at_once() -> None:
    """Making a model without memory patches torch for the whole process; it must not stay so."""

    def make() -> None:
        checkpoints._empty(lambda: AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1))

    for _ in range(5):
        threads = [threading.Thread(target=make) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert nn.Linear(2, 2).weight.device.type == "cpu"


def test_a_smaller_clip_needs_less() -> None:
    spec = MODELS["phantom-14b"]
    assert spec.clip is not None
    shorter = replace(spec.clip, frames=81)
    assert need(spec, shorter, PRESETS["full"]) < need(spec, spec.clip, PRESETS["full"])
