"""Scores at full size with random weights on a GPU: seconds per clip and metric, peak memory, and what 180 clips take.

``python benchmarks/gpu_metrics.py``; ``--tiny`` runs the same on a CPU, to see that it runs. One metric after another
is loaded, scores every clip, and is let go of, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.full_size_metrics import FULL, METRICS, SMALL, Setup, Sizes, load_metric
from benchmarks.machine import cores, load, processor, versions
from refeval.cases import Case, ClipSpec
from refeval.catalogue import METRIC_BY_ID
from refeval.clips import Clip, Linspace, encode_clip, open_clip
from refeval.generators.base import RenderJob
from refeval.generators.copy_paste import CopyPaste
from refeval.suites import load_suite

_LIBRARIES = ("torch", "transformers", "opencv-python-headless", "av")
# Each shows a face and has two references that NexusScore looks for.
_CASES = ("faceobj_1", "humanobj_3", "faceobj_4")
_FULL_CLIP = ClipSpec(width=832, height=480, frames=81, fps=Fraction(16))
_SMALL_CLIP = ClipSpec(width=192, height=112, frames=9, fps=Fraction(16))
_SUITE_CLIPS = 180
_DECODING = "decoding"
_GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A clip of a case, decoded."""

    case: Case
    clip: Clip


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured, and where."""

    sizes: Sizes
    device: torch.device
    clip: ClipSpec
    rounds: int


def main() -> int:
    """Measure and write; the exit status is 1 where a score is no number, 2 where nothing can be measured."""
    options = _arguments()
    if not options.tiny and not torch.cuda.is_available():
        sys.stderr.write("gpu_metrics: torch sees no GPU; --tiny runs small sizes on the CPU instead\n")
        return 2
    if options.tiny:
        bench = Bench(sizes=SMALL, device=torch.device("cpu"), clip=_SMALL_CLIP, rounds=options.rounds)
    else:
        bench = Bench(sizes=FULL, device=torch.device("cuda", 0), clip=_FULL_CLIP, rounds=options.rounds)
    found = _measure(bench, options.metrics)
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else _table(found))
    return 0 if found["all_numbers"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="seconds per clip and metric, peak memory, hours of a suite")
    parser.add_argument("--metrics", nargs="+", choices=tuple(METRICS), default=list(METRICS), metavar="ID")
    parser.add_argument("--rounds", type=_positive, default=2, help="of all clips, of which medians are taken")
    parser.add_argument("--tiny", action="store_true", help="small sizes, float32, on the CPU")
    parser.add_argument("--json", action="store_true", help="write JSON instead of the table")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not 1 or more")
    return number


def _measure(bench: Bench, metric_ids: Sequence[str]) -> dict[str, Any]:
    before = load()
    with tempfile.TemporaryDirectory() as folder:
        scenes, decoding = _scenes(bench, Path(folder))
    rows = {metric_id: _scored(bench, metric_id, scenes) for metric_id in metric_ids}
    clip_s = decoding + sum(row["clip_s"] for row in rows.values())
    return {
        "device": _name(bench.device),
        "versions": versions(_LIBRARIES) + (f", CUDA {torch.version.cuda}" if bench.device.type == "cuda" else ""),
        "load": before,
        "dtype": str(bench.sizes.half).removeprefix("torch."),
        "clip": f"{bench.clip.width}x{bench.clip.height}, {bench.clip.frames} frames",
        "clips": len(scenes),
        "rounds": bench.rounds,
        "decoding_s": decoding,
        "rows": rows,
        "clip_s": clip_s,
        "suite_clips": _SUITE_CLIPS,
        "suite_h": clip_s * _SUITE_CLIPS / 3600,
        "all_numbers": all(row.pop("is_number") for row in rows.values()),
    }


def _scenes(bench: Bench, folder: Path) -> tuple[list[Scene], float]:
    """The clips, and how many seconds it takes to decode one."""
    suite, scenes, seconds = load_suite("sprites"), [], []
    for case in (case for case in suite.cases if case.id in _CASES):
        job = RenderJob(case=case, seed=0, clip=bench.clip, scratch=folder, log=folder / "log")
        path = folder / f"{case.id}.mp4"
        path.write_bytes(encode_clip(CopyPaste().render(job), bench.clip.fps))
        started = time.perf_counter()
        clip = open_clip(path)
        assert len(clip) == bench.clip.frames
        seconds.append(time.perf_counter() - started)
        scenes.append(Scene(case=case, clip=clip))
    return scenes, statistics.median(seconds)


def _scored(bench: Bench, metric_id: str, scenes: Sequence[Scene]) -> dict[str, Any]:
    cuda = bench.device.type == "cuda"
    started = time.perf_counter()
    metric, networks = load_metric(metric_id, _setup(bench, scenes))
    _finish(bench.device)
    making = time.perf_counter() - started
    # The first one warms up.
    values = [metric.score(scenes[0].case, scenes[0].clip).value]
    if cuda:
        torch.cuda.reset_peak_memory_stats(bench.device)
    images = _ImageCounter(networks)
    seconds = []
    for scene in [*scenes] * bench.rounds:
        started = time.perf_counter()
        values.append(metric.score(scene.case, scene.clip).value)
        _finish(bench.device)
        seconds.append(time.perf_counter() - started)
    row: dict[str, Any] = {
        "clip_s": statistics.median(seconds),
        "making_s": making,
        "parameters": sum(parameter.numel() for network in networks for parameter in network.parameters()),
        "is_number": all(map(math.isfinite, values)),
    }
    if images.seen:
        row["images_of_gme"] = images.seen / len(seconds)
    if cuda:
        row["peak_gib"] = torch.cuda.max_memory_allocated(bench.device) / _GIB
    images.remove()
    del metric, networks
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
    return row


def _setup(bench: Bench, scenes: Sequence[Scene]) -> Setup:
    frames = [frame for scene in scenes for frame in scene.clip.take(Linspace(3))]
    files = [file for scene in scenes for file in scene.case.reference_files()]
    references = [Image.open(file).convert("RGB") for file in files]
    return Setup(sizes=bench.sizes, device=bench.device, frames=frames, references=references)


class _ImageCounter:
    """How many images GME's vision tower has seen: of NexusScore, the crops and the references."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.seen = 0
        towers: list[Any] = [network.visual for network in networks if hasattr(network, "visual")]
        self._hooks = [tower.register_forward_hook(self._see, with_kwargs=True) for tower in towers]

    def remove(self) -> None:
        """Look away."""
        for hook in self._hooks:
            hook.remove()

    def _see(self, module: nn.Module, args: Any, named: Mapping[str, Any], output: Any) -> None:
        self.seen += len(named["grid_thw"])


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _name(device: torch.device) -> str:
    where = f"{cores()} cores of {processor()}"
    return f"{torch.cuda.get_device_name(device)}, {where}" if device.type == "cuda" else where


def _table(found: Mapping[str, Any]) -> str:
    rows: Mapping[str, Mapping[str, Any]] = found["rows"]
    hours = found["suite_h"]
    lines = [
        f"scores of {found['clips']} clips of {found['clip']}, random weights (Q-Align, GME: {found['dtype']})",
        f"{found['device']}; {found['versions']}; load before {found['load']}",
        f"medians of {found['rounds']} rounds",
        "",
        f"{'':<20}{'clip s':>10}{'180 clips h':>13}{'peak GiB':>10}{'parameters':>16}{'GME images':>12}",
        f"{_DECODING:<20}{found['decoding_s']:>10.3f}{_hours(found['decoding_s']):>13.3f}",
    ]
    for metric_id, row in rows.items():
        peak = f"{row['peak_gib']:>10.1f}" if "peak_gib" in row else f"{'-':>10}"
        images = f"{row['images_of_gme']:>12.1f}" if "images_of_gme" in row else f"{'-':>12}"
        label, seconds = METRIC_BY_ID[metric_id].label, row["clip_s"]
        lines.append(f"{label:<20}{seconds:>10.3f}{_hours(seconds):>13.3f}{peak}{row['parameters']:>16,}{images}")
    lines += [
        f"{'all':<20}{found['clip_s']:>10.3f}{hours:>13.3f}",
        "",
        "not in it: the face detector (a file of the published pack; here drawn faces are found by their colour),",
        "the judge of NaturalScore, loading",
    ]
    if not found["all_numbers"]:
        lines.append("A SCORE IS NO NUMBER")
    return "\n".join([*lines, ""])


def _hours(seconds: float) -> float:
    return seconds * _SUITE_CLIPS / 3600


if __name__ == "__main__":
    sys.exit(main())
