"""Sampling of clips against the official loop, and one step of the guidance in its variants, interleaved, on the CPU.

One thread, and CPU seconds beside those of the clock: on a machine that others use too, two threads that wait for
each other show mostly how busy it is.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.flops import token_counts, transformer_flops
from benchmarks.machine import cores, load, processor, versions
from benchmarks.official_sampling import OfficialRefAlign
from benchmarks.our_sampling import OurRefAlign
from benchmarks.sampling_models import LONGER, MIDDLE, TINY, RandomModels, Rendered, Seconds, Size, jobs, summed
from refeval.generators.refalign import RefAlignSettings
from refeval.generators.wan.conditions import RefAlignConditions
from refeval.generators.wan.engine import velocity_of

_CLIPS, _STEPS = 2, 2
_ROUNDS = 3
# Of the largest latent. A batch sums in another order: 1e-6 to 2e-6 was measured after three steps.
_TOLERANCE = 2e-5
_LIBRARIES = ("torch", "diffusers", "transformers")
_CPU = torch.device("cpu")

Step = Callable[[], Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """See above."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """What was compiled before, in this process or another, would hide how long it takes."""
    torch.compiler.reset()
    with torch.compiler.config.patch(force_disable_caches=True):  # type: ignore[attr-defined]
        yield


@pytest.mark.benchmark(group="sampling: clips")
@pytest.mark.parametrize("size", [TINY, MIDDLE], ids=lambda size: size.spec.name)
def test_clips(benchmark: Any, size: Size) -> None:
    models, work, before = RandomModels(size, _CPU, clock=time.process_time), jobs(size, _CLIPS), load()
    official, together, in_turn = OfficialRefAlign(models), _ours(models, "auto"), _ours(models, "no")
    procedures: dict[str, Callable[[], list[Rendered]]] = {
        "official": lambda: [official.render(job, _STEPS) for job in work],
        "ours in turn": lambda: in_turn.render(work, _STEPS),
        "ours": lambda: together.render(work, _STEPS),
    }
    _assert_same_numbers({name: run() for name, run in procedures.items()})
    measured: dict[str, list[tuple[Seconds, float]]] = defaultdict(list)

    def measure(name: str) -> None:
        start = time.perf_counter()
        clips = procedures[name]()
        measured[name].append((summed(clips), time.perf_counter() - start))

    def others() -> None:
        measure("official")
        measure("ours in turn")

    benchmark.pedantic(measure, args=("ours",), setup=others, rounds=_ROUNDS, warmup_rounds=0)
    medians = {name: _medians(measured[name]) for name in procedures}
    benchmark.extra_info.update(medians=medians, load=before)
    sys.stdout.write(_clip_table(size, medians, before))


def _ours(models: RandomModels, together: str) -> OurRefAlign:
    settings = RefAlignSettings(precision="fp32", latents="fp32", vae="fp32", together=together)
    return OurRefAlign(models, settings)


def _assert_same_numbers(clips: Mapping[str, Sequence[Rendered]]) -> None:
    """In turn the bits are the official ones; in one batch they agree to the stated tolerance."""
    for official, in_turn, together in zip(
        *(clips[name] for name in ("official", "ours in turn", "ours")), strict=True
    ):
        assert torch.equal(official.latents, in_turn.latents)
        assert torch.equal(official.frames, in_turn.frames)
        assert _difference(official.latents, together.latents) < _TOLERANCE


def _difference(expected: Tensor, found: Tensor) -> float:
    return float((expected - found).abs().max() / expected.abs().max())


def _medians(rows: Sequence[tuple[Seconds, float]]) -> dict[str, float]:
    parts = {name: statistics.median(cpu.parts()[name] for cpu, _ in rows) for name in Seconds().parts()}
    total = statistics.median(cpu.total for cpu, _ in rows)
    return {**parts, "all": total, "wall": statistics.median(wall for _, wall in rows)}


def _clip_table(size: Size, medians: Mapping[str, Mapping[str, float]], before: str) -> str:
    columns = list(medians["official"])
    lines = [
        f"{_CLIPS} clips of {_STEPS} steps, {_describe(size)}",
        f"CPU seconds, medians of {_ROUNDS} interleaved rounds; the last column by the clock",
        f"{'':<14}" + "".join(f"{column:>12}" for column in columns),
    ]
    lines += [f"{name:<14}" + "".join(f"{row[column]:>12.3f}" for column in columns) for name, row in medians.items()]
    for name in ("ours in turn", "ours"):
        ratios = (medians[name][column] / medians["official"][column] for column in columns)
        lines.append(f"{'/ official':<14}" + "".join(f"{ratio:>12.2f}" for ratio in ratios) + f"   {name}")
    return _framed(lines, before)


@pytest.mark.benchmark(group="sampling: one step")
@pytest.mark.parametrize("size", [MIDDLE, LONGER], ids=lambda size: size.spec.name)
@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_step(benchmark: Any, size: Size) -> None:
    before, eager, compiled = load(), RandomModels(size, _CPU), RandomModels(size, _CPU)
    compiled.transformer.compile_repeated_blocks()
    steps = {
        **_steps(eager),
        **{f"{name}, compiled": step for name, step in _steps(compiled).items()},
    }
    first = {name: _timed(step) for name, step in steps.items()}
    for name, (_, _, velocity) in first.items():
        assert _difference(first["in turn"][2], velocity) < _TOLERANCE, name
    measured: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def measure() -> None:
        for name, step in steps.items():
            measured[name].append(_timed(step)[:2])

    benchmark.pedantic(measure, rounds=_ROUNDS, warmup_rounds=0)
    medians = {
        name: tuple(statistics.median(column) for column in zip(*rows, strict=True)) for name, rows in measured.items()
    }
    compiling = {name: first[name][1] - medians[name][1] for name in steps if "compiled" in name}
    benchmark.extra_info.update(medians=medians, compiling=compiling, load=before)
    sys.stdout.write(_step_table(size, medians, compiling, before))


def _steps(models: RandomModels) -> dict[str, Step]:
    """One step's three predictions, one after the other as the official loop has them, and in one batch."""
    size = models.size
    clip, architecture = size.clip, size.architecture
    generator = torch.Generator().manual_seed(5)
    place = (clip.height // 8, clip.width // 8)
    noise, references, prompt, negative = (
        torch.randn(shape, generator=generator)
        for shape in (
            (1, 16, (clip.frames - 1) // 4 + 1, *place),
            (1, 16, size.references, *place),
            *[(1, architecture.text_tokens, architecture.text_dim)] * 2,
        )
    )
    conditions = RefAlignConditions(
        velocity_of(models.transformer), prompt=prompt, negative=negative, references=references, image=5.0, text=7.5
    )
    timestep = torch.tensor([936.0])
    return {
        "in turn": lambda: torch.cat([conditions.predict(noise, timestep, slice(i, i + 1)) for i in range(3)]),
        "one batch": lambda: conditions.predict(noise, timestep, slice(0, 3)),
    }


def _timed(step: Step) -> tuple[float, float, Tensor]:
    cpu, wall = time.process_time(), time.perf_counter()
    velocity = step()
    return time.process_time() - cpu, time.perf_counter() - wall, velocity


def _step_table(size: Size, medians: Mapping[str, Sequence[float]], compiling: Mapping[str, float], before: str) -> str:
    video, tokens = token_counts(size.clip, size.references)
    flops = 3 * transformer_flops(size.architecture, video, tokens)
    official = medians["in turn"][0]
    lines = [
        f"One step (three predictions), {_describe(size)}, {flops / 1e9:.1f} GFLOP",
        f"medians of {_ROUNDS} interleaved rounds; compiling: what the first call took longer, by the clock",
        f"{'':<20}{'CPU s':>10}{'wall s':>10}{'/ in turn':>12}{'GFLOP/s':>10}{'compiling s':>14}",
    ]
    for name, (cpu, wall) in medians.items():
        once = f"{compiling[name]:>14.1f}" if name in compiling else f"{'-':>14}"
        lines.append(f"{name:<20}{cpu:>10.3f}{wall:>10.3f}{cpu / official:>12.2f}{flops / cpu / 1e9:>10.1f}{once}")
    return _framed(lines, before)


def _describe(size: Size) -> str:
    architecture, clip = size.architecture, size.clip
    video, tokens = token_counts(clip, size.references)
    return (
        f"{size.spec.name}: {architecture.layers} layers of width {architecture.width}, {clip.width}x{clip.height}, "
        f"{clip.frames} frames, {tokens} tokens ({tokens - video} of references), float32"
    )


def _framed(lines: Sequence[str], before: str) -> str:
    where = f"1 thread on one of {cores()} cores of {processor()}; load before {before}, after {load()}"
    return "\n".join(["", *lines, where, versions(_LIBRARIES), ""])
