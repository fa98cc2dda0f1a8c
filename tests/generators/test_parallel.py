"""A transformer spread over two processes on gloo, against the same in one process, and what happens when one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from refeval.cases import ClipSpec
from refeval.errors import BadInput, MissingPrerequisite, RefevalError
from refeval.generators.wan.catalogue import MODELS
from refeval.generators.wan.engine import Engine, fastest_attention
from refeval.generators.wan.generator import WanGenerator
from refeval.generators.wan.parallel import check_team
from refeval.generators.wan.parts import parts_of
from refeval.place import Place
from refeval.registry import load_generator
from tests.generators.cases import make_case, make_job

CLIP = ClipSpec(width=64, height=48, frames=9, fps=Fraction(8))
FAMILIES = ("refalign", "phantom", "vace")
BOTH = Place(device="cpu", gpus_per_clip=2)
# Measured: 0 for all three. With other kernels, matrices of half as many rows may be summed in another order; a
# compiled VACE differs by 1e-6, a wrong token by more than 0.1. Velocities reach 4.5.
TOLERANCE = 2e-5
_DEADLINE_S = 30.0


def make(family: str, place: Place) -> WanGenerator:
    generator = load_generator(f"{family}-tiny:steps=2", place)
    assert isinstance(generator, WanGenerator)
    return generator


def make_engine(family: str, place: Place) -> Engine:
    generator = make(family, place)
    engine = Engine(generator.spec, generator.options, place, parts_of(generator.spec, generator.store))
    engine.load(["A thing."], CLIP)
    return engine


def inputs(family: str, frames: int, references: int) -> dict[str, Tensor | None]:
    """Random inputs of a forward: three branches, 12 tokens a frame."""
    generator = torch.Generator().manual_seed(frames * 10 + references)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    more: dict[str, Tensor | None] = {}
    if family == "refalign":
        more = {"reference_latents": noise(3, 16, references, 6, 8) if references else None}
    elif family == "phantom":
        frames += references
    else:
        frames += references
        context = noise(1, 96, frames, 6, 8).expand(3, -1, -1, -1, -1)
        more = {"control_hidden_states": context, "control_hidden_states_scale": torch.tensor([1.0, 0.5])}
    return {
        "hidden_states": noise(3, 16, frames, 6, 8),
        "timestep": torch.tensor([700.0, 700.0, 20.0]),
        "encoder_hidden_states": noise(3, 256, 64),
        **more,
    }


def test_a_whole_clip_is_the_same(tmp_path: Path) -> None:
    clips = []
    (tmp_path / "1.png").write_bytes(_picture())
    case = make_case(tmp_path, ("1.png", "dog"))
    for place in (Place(device="cpu"), BOTH, BOTH):
        generator = make("refalign", place)
        generator.foresee([case])
        generator.prepare(CLIP)
        folder = tmp_path / str(len(clips))
        folder.mkdir()
        made = generator.render(make_job(folder, case, clip=CLIP))
        assert not isinstance(made, Path)
        clips.append(np.stack(list(made.frames)).astype(int))
        generator.close()
    alone, spread, again = clips
    assert np.abs(alone - spread).max() <= 1, "float32 rounding: at most a level here and there"
    assert np.array_equal(spread, again), "two teams of the same size give the same bits"


def _picture() -> bytes:
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (64, 48), "red").save(buffer, "PNG")
    return buffer.getvalue()


def test_what_cannot_be_shared_is_refused_before_loading() -> None:
    with pytest.raises(BadInput, match="'refalign-tiny' has 4 attention heads, which cannot be shared by 3") as error:
        make_engine("refalign", replace(BOTH, gpus_per_clip=3))
    assert "--gpus-per-clip 1 or 2 or 4" in str(error.value)
    odd, cpu = replace(CLIP, width=80), torch.device("cpu")
    with pytest.raises(BadInput, match="80x48 has 5 x 3 = 15 tokens, which cannot be shared by 2"):
        check_team(MODELS["vace-tiny"], odd, "auto", cpu, 2)
    with pytest.raises(BadInput, match="setting 'attention' is '_flash_3'"):
        check_team(MODELS["vace-14b"], CLIP, "_flash_3", cpu, 2)
    with pytest.raises(MissingPrerequisite, match="needs 40 GPUs and this process sees"):
        check_team(MODELS["vace-14b"], replace(CLIP, width=320, height=128), "auto", torch.device("cuda"), 40)
    published = ClipSpec(width=832, height=480, frames=81, fps=Fraction(16))
    for size in (2, 4, 5, 8):
        check_team(MODELS["vace-14b"], published, "auto", cpu, size)
    assert fastest_attention(cpu, torch.bfloat16, split=True) == "native"


def test_a_follower_that_cannot_load_says_why() -> None:
    """Its own words are in the error of the worker."""
    generator = make("refalign", BOTH)
    spec = replace(generator.spec, name="refalign-unknown")
    engine = Engine(spec, generator.options, BOTH, parts_of(generator.spec, generator.store))
    with pytest.raises(
        RefevalError, match="process 1 of those that render a clip together ended with exit code"
    ) as error:
        engine.load(["A thing."], CLIP)
    assert "KeyError: 'refalign-unknown'" in str(error.value)
    engine.close()


_WORKER = """
import sys, time
from tests.generators.test_parallel import BOTH, inputs, make_engine
engine = make_engine("refalign", BOTH)
given = inputs("refalign", 3, 1)
engine.forward(**given)
team = engine._team
print(team.followers[0].process.pid, flush=True)
if sys.argv[1] == "hold":
    # The follower hears of a forward whose tensors never come.
    import torch.distributed
    torch.distributed.broadcast = lambda *_, **__: time.sleep(1000)
while True:
    engine.forward(**given)
"""


def _start(mode: str) -> tuple[subprocess.Popen[str], int]:
    root = Path(__file__).parents[2]
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER, mode],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        pytest.fail(worker.communicate()[1])
    return worker, int(line)


def _runs(pid: int) -> bool:
    # Where nobody collects orphans, a dead one stays in the table as a zombie.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while _runs(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.05)


def test_a_follower_that_is_killed_ends_the_worker() -> None:
    """Even out of a collective that it waits in."""
    worker, follower = _start("work")
    os.kill(follower, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(follower, signal.SIGKILL)
    _, said = worker.communicate(timeout=_DEADLINE_S)
    assert worker.returncode == 1
    assert "refeval: process 1 of those that render a clip together died of signal 9" in said
    assert not _runs(follower)


def test_a_worker_that_is_killed_takes_its_followers_along() -> None:
    """Even out of a collective that they wait in."""
    worker, follower = _start("hold")
    time.sleep(0.5)
    assert _runs(follower)
    worker.kill()
    worker.communicate(timeout=_DEADLINE_S)
    _wait_until_gone(follower)


# One process has one team at a time: tests that make another stand above those that use this one.
@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[str, Engine, Engine]]:
    """A family, its engine in one process, its engine over two."""
    family: str = request.param
    alone, spread = make_engine(family, Place(device="cpu")), make_engine(family, BOTH)
    yield family, alone, spread
    spread.close()


# (frames, references): the border between video and references lies in the second process's half, between the
# halves, and in the first one's half; and there are no references at all.
@pytest.mark.parametrize(("frames", "references"), [(3, 1), (3, 3), (1, 3), (2, 0)])
def test_two_processes_predict_what_one_does(pair: tuple[str, Engine, Engine], frames: int, references: int) -> None:
    family, alone, spread = pair
    given = inputs(family, frames, references)
    with torch.no_grad():
        expected = alone.forward(**given)
    velocity = spread.forward(**given)
    assert velocity.shape == expected.shape and velocity.dtype == expected.dtype
    assert float((velocity - expected).abs().max()) <= TOLERANCE
    assert torch.equal(velocity, spread.forward(**given)), "the same bits again"


def test_each_process_has_half_of_weights_and_tokens(pair: tuple[str, Engine, Engine]) -> None:
    family, _, spread = pair
    transformer: Any = spread._transformer
    seen: list[tuple[str, int]] = []
    blocks = {"block": transformer.blocks[1].ffn, "text": transformer.condition_embedder.text_embedder}
    if family == "vace":
        blocks["vace"] = transformer.vace_blocks[1].ffn
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen.append((name, args[0].shape[1])))
        for name, module in blocks.items()
    ]
    spread.forward(**inputs(family, 3, 1))
    for hook in hooks:
        hook.remove()
    assert dict(seen) == {"block": 24, "text": 256, **({"vace": 24} if family == "vace" else {})}
    parameters = list(transformer.parameters())
    assert all(isinstance(parameter, DTensor) for parameter in parameters)
    assert {parameter.placements for parameter in parameters} == {(Shard(0),)}
    here = sum(parameter.to_local().numel() for parameter in parameters)
    # Of a modulation table, which has one row, the first process has all.
    assert 0.5 <= here / sum(parameter.numel() for parameter in parameters) < 0.51
