"""Sampling at full size with random weights on a GPU, ours against the official loop in the same run.

``python benchmarks/gpu_sampling.py --model refalign-1.3b --compile``; ``--tiny`` runs the same on a CPU, to see that
it runs. Weights are random (bfloat16, made on the device): what is computed takes as long as with published ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.flops import token_counts, transformer_flops
from benchmarks.machine import cores, processor, versions
from benchmarks.official_sampling import OfficialRefAlign
from benchmarks.our_sampling import OurRefAlign
from benchmarks.sampling_models import TINY, Job, RandomModels, Rendered, Size, full_size, jobs, summed
from refeval.errors import BadInput, MissingPrerequisite
from refeval.generators.refalign import RefAlignSettings

_LIBRARIES = ("torch", "diffusers", "transformers")
_OFFICIAL, _OURS, _COMPILED = "official", "ours", "ours, compiled"
_CHECK_STEPS = 2
_BRANCHES = 3
# Relative L2 of the latents after two steps. float32: 1e-6 measured. bfloat16 keeps 8 bits (4e-3), guidance
# multiplies what differs by up to 7.5; the size on a GPU is not measured yet.
_TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 5e-2}
_GIB = 1024**3
_MATMUL, _TINY_MATMUL = 8192, 512


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """One way to make the clips.

    Attributes:
        attention: backend of diffusers.
        compiled: whether compiled blocks may run; otherwise the same modules run uncompiled.
        make: gives, with what it needs on the device, the function from jobs and steps to clips.
    """

    attention: str
    compiled: bool
    make: Callable[[], Callable[[list[Job], int], list[Rendered]]]


def main() -> int:
    """Measure and write; the exit status is 1 where the numbers differ, 2 where nothing can be measured."""
    options = _arguments()
    if not options.tiny and not torch.cuda.is_available():
        return _fail("torch sees no GPU; --tiny runs small sizes on the CPU instead")
    diffusers_logging.set_verbosity_error()
    try:
        found = _measure(options, _models(options))
    except (BadInput, MissingPrerequisite) as error:
        return _fail(str(error))
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else _table(found))
    return 0 if found["same_numbers"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="seconds per clip, TFLOP/s and share of the matmul peak")
    parser.add_argument("--model", choices=("refalign-1.3b", "refalign-14b"), default="refalign-1.3b")
    parser.add_argument("--clips", type=_positive, default=1, help="per round (default: 1)")
    parser.add_argument("--rounds", type=_positive, default=1, help="interleaved, of which medians are taken")
    parser.add_argument("--steps", type=_positive, default=50)
    parser.add_argument("--frames", type=_positive, default=81, help="4 k + 1")
    parser.add_argument("--attention", default="auto", help="of ours; the official loop has PyTorch's own")
    parser.add_argument("--memory", default="auto", help="preset of ours that keeps all on the GPU: full or in-turn")
    parser.add_argument("--compile", action="store_true", help="ours also with compiled blocks")
    parser.add_argument("--no-text", action="store_true", help="a small text encoder in place of umT5-xxl")
    parser.add_argument("--tiny", action="store_true", help="small sizes, float32, on the CPU")
    parser.add_argument("--json", action="store_true", help="write JSON instead of the table")
    options = parser.parse_args()
    if options.frames % 4 != 1:
        parser.error(f"--frames {options.frames}: give 4 k + 1")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not 1 or more")
    return number


def _fail(reason: str) -> int:
    sys.stderr.write(f"gpu_sampling: {reason}\n")
    return 2


def _models(options: argparse.Namespace) -> RandomModels:
    if options.tiny:
        return RandomModels(TINY, torch.device("cpu"))
    size = full_size(options.model, options.frames, text=not options.no_text)
    return RandomModels(size, torch.device("cuda", 0), torch.bfloat16)


def _measure(options: argparse.Namespace, models: RandomModels) -> dict[str, Any]:
    work, peak = jobs(models.size, options.clips), _matmul_peak(models)
    procedures = _procedures(options, models)
    first = {name: _run(procedure, models, work[:1], _CHECK_STEPS) for name, procedure in procedures.items()}
    differences = _differences({name: clips[0].latents for name, (clips, _) in first.items()})
    rounds: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(options.rounds):
        for name in (name for name in procedures if name != "check"):
            clips, memory = _run(procedures[name], models, work, options.steps)
            row = _row(models.size, clips, options.steps, peak)
            rounds[name].append(row if memory is None else row | {"peak_gib": memory})
    rows = {name: {key: statistics.median(row[key] for row in of) for key in of[0]} for name, of in rounds.items()}
    found = _circumstances(options, models) | {"matmul_peak_tflops": peak / 1e12}
    if _COMPILED in rows:
        took = first[_COMPILED][0][0].seconds.sampling
        found["compiling_s"] = max(took - _CHECK_STEPS * rows[_COMPILED]["step_s"], 0.0)
    tolerance = _TOLERANCES[models.dtype]
    same = all(difference <= tolerance for difference in differences.values())
    return found | {"differences": differences, "tolerance": tolerance, "same_numbers": same, "rows": rows}


def _procedures(options: argparse.Namespace, models: RandomModels) -> dict[str, Procedure]:
    """By name; ``check`` differs from the official loop in nothing that changes a bit, and is not timed."""
    names = {_OURS: False, _COMPILED: True} if options.compile else {_OURS: False}
    ours = {name: _ours(options, models, compiled=compiled) for name, compiled in names.items()}
    in_turn = _ours(options, models, compiled=False, together="no", attention="native")
    return {
        _OFFICIAL: Procedure(attention="native", compiled=False, make=lambda: _official(models)),
        "check": Procedure(attention="native", compiled=False, make=lambda: in_turn.render),
        **{name: _procedure(engine, compiled=names[name]) for name, engine in ours.items()},
    }


def _ours(options: argparse.Namespace, models: RandomModels, *, compiled: bool, **changed: str) -> OurRefAlign:
    precision = "fp32" if models.dtype is torch.float32 else "bf16"
    own = {"precision": precision, "latents": precision, "vae": precision, "attention": options.attention}
    # The first engine is made before anything is on the device, so that the preset is chosen by all its memory.
    made = OurRefAlign(models, RefAlignSettings(**{**own, **changed, "compile": compiled}), options.memory)
    if not made.engine.preset.resident:
        raise MissingPrerequisite(f"the device is too small to hold all of {models.size.spec.name} at once")
    options.memory = made.engine.preset.name
    return made


def _procedure(ours: OurRefAlign, *, compiled: bool) -> Procedure:
    return Procedure(attention=ours.engine.attention, compiled=compiled, make=lambda: ours.render)


def _official(models: RandomModels) -> Callable[[list[Job], int], list[Rendered]]:
    official = OfficialRefAlign(models)
    return lambda work, steps: [official.render(job, steps) for job in work]


def _run(
    procedure: Procedure, models: RandomModels, work: list[Job], steps: int
) -> tuple[list[Rendered], float | None]:
    """The clips, and the peak of memory in GiB after the texts were encoded (None on a CPU)."""
    render = procedure.make()
    models.transformer.set_attention_backend(procedure.attention)
    with _eager(not procedure.compiled):
        clips = render(work, steps)
    return clips, torch.cuda.max_memory_allocated() / _GIB if models.device.type == "cuda" else None


@contextmanager
def _eager(wanted: bool) -> Iterator[None]:
    """The procedures share the transformer, which is compiled for one of them only."""
    with torch.compiler.set_stance("force_eager" if wanted else "default"):
        yield


def _differences(latents: Mapping[str, Tensor]) -> dict[str, float]:
    """Relative L2 from the official latents, by name."""
    official = latents[_OFFICIAL].float()
    others = {name: tensor.float() for name, tensor in latents.items() if name != _OFFICIAL}
    return {name: float((tensor - official).norm() / official.norm()) for name, tensor in others.items()}


def _row(size: Size, clips: list[Rendered], steps: int, peak: float) -> dict[str, float]:
    seconds = summed(clips)
    parts = {f"{name}_s": value / len(clips) for name, value in seconds.parts().items()}
    flops = _BRANCHES * transformer_flops(size.architecture, *token_counts(size.clip, size.references))
    step = parts["sampling_s"] / steps
    speed = flops / step
    return {
        **parts,
        "clip_s": seconds.total / len(clips),
        "step_s": step,
        "tflops": speed / 1e12,
        "of_peak": speed / peak,
    }


def _matmul_peak(models: RandomModels) -> float:
    """FLOP/s of square products in the models' dtype: the best of five loops of ten."""
    cuda = models.device.type == "cuda"
    side = _MATMUL if cuda else _TINY_MATMUL
    left, right = (torch.randn(side, side, device=models.device, dtype=models.dtype) for _ in range(2))

    def loop() -> None:
        for _ in range(10):
            left @ right

    seconds = [_cuda_seconds(loop) if cuda else _cpu_seconds(loop) for _ in range(6)]
    return 10 * 2 * side**3 / min(seconds[1:])


def _cuda_seconds(run: Callable[[], None]) -> float:
    events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
    start, end = events
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def _cpu_seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _circumstances(options: argparse.Namespace, models: RandomModels) -> dict[str, Any]:
    size, cuda = models.size, models.device.type == "cuda"
    _, tokens = token_counts(size.clip, size.references)
    return {
        "model": size.spec.name,
        "device": torch.cuda.get_device_name() if cuda else f"{cores()} cores of {processor()}",
        "versions": versions(_LIBRARIES) + (f", CUDA {torch.version.cuda}" if cuda else ""),
        "dtype": str(models.dtype).removeprefix("torch."),
        "clip": f"{size.clip.width}x{size.clip.height}, {size.clip.frames} frames, {size.references} references",
        "tokens": tokens,
        "clips": options.clips,
        "rounds": options.rounds,
        "steps": options.steps,
        "text_encoder": "small" if options.tiny or options.no_text else "umT5-xxl",
        "memory": options.memory,
        "together": options.memory == "full",
        "matmul": _MATMUL if cuda else _TINY_MATMUL,
    }


# Heading, key, decimals, factor.
_COLUMNS = (
    ("text s", "text_s", 3, 1),
    ("refs s", "references_s", 3, 1),
    ("sampling s", "sampling_s", 2, 1),
    ("decoding s", "decoding_s", 2, 1),
    ("clip s", "clip_s", 2, 1),
    ("step s", "step_s", 3, 1),
    ("TFLOP/s", "tflops", 3, 1),
    ("% of peak", "of_peak", 1, 100),
    ("peak GiB", "peak_gib", 1, 1),
)


def _table(found: Mapping[str, Any]) -> str:
    branches = "one batch" if found["together"] else "in turn"
    lines = [
        f"{found['model']}, random {found['dtype']} weights: {found['clip']}, {found['tokens']} tokens, "
        f"{found['steps']} steps, text encoder {found['text_encoder']}",
        f"{found['device']}; {found['versions']}",
        f"matmul peak {found['matmul_peak_tflops']:.3f} TFLOP/s ({found['dtype']}, {found['matmul']}^3)",
        f"ours: memory preset {found['memory']}, branches {branches}",
        f"interleaved rounds: {found['rounds']} (medians), clips in each: {found['clips']}; all figures per clip; "
        "peak: after the texts were encoded",
        "",
        f"{'':<18}" + "".join(f"{heading:>12}" for heading, *_ in _COLUMNS),
    ]
    rows: Mapping[str, Mapping[str, float]] = found["rows"]
    lines += [f"{name:<18}" + _cells(row) for name, row in rows.items()]
    lines += [_ratio(name, row, rows[_OFFICIAL]) for name, row in rows.items() if name != _OFFICIAL]
    if "compiling_s" in found:
        lines.append(f"compiling, once: {found['compiling_s']:.1f} s (not in the seconds above)")
    return "\n".join([*lines, "", *_verdict(found), ""])


def _cells(row: Mapping[str, float]) -> str:
    return "".join(
        f"{row[key] * factor:>12.{decimals}f}" if key in row else f"{'-':>12}" for _, key, decimals, factor in _COLUMNS
    )


def _ratio(name: str, row: Mapping[str, float], official: Mapping[str, float]) -> str:
    return f"{name}: {row['clip_s'] / official['clip_s']:.2f} of the official seconds per clip"


def _verdict(found: Mapping[str, Any]) -> list[str]:
    word = "same numbers" if found["same_numbers"] else "THE NUMBERS DIFFER"
    notes = {"check": "   (in turn, uncompiled, the official attention: 0 means the same bits)"}
    return [
        f"{word}: latents after {_CHECK_STEPS} steps against the official, relative L2, at most {found['tolerance']:g}",
        *(f"{name:<18}{value:>12.1e}{notes.get(name, '')}" for name, value in found["differences"].items()),
    ]


if __name__ == "__main__":
    sys.exit(main())
