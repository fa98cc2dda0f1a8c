"""MotionAmplitude against the official procedure and against the bare Farneback calls, interleaved."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refeval.clips import encode_clip

_ROOT = Path(__file__).resolve().parents[1]
_ROUNDS = 5
_GOALS = {"wall": 0.58, "rss": 0.25, "over_farneback": 1.1}
_LIBRARIES = ("numpy", "opencv-python-headless", "av", "decord", "pillow")

Measured = dict[str, float]


class ChildSeconds:
    """A clock that shows the seconds that children measured, so that the statistics leave their start out."""

    __name__ = "seconds measured in the child"

    def __init__(self) -> None:
        self.shown = 0.0

    def __call__(self) -> float:
        return self.shown


_CLOCK = ChildSeconds()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """The demo clip, or a drawn one of the same size and length."""
    folder = Path(os.environ.get("REFEVAL_OPENS2V") or _ROOT.parent / "shared/opens2v")
    demo = folder / "demo/videos/faceobj_14.mp4"
    return demo if demo.is_file() else _draw(tmp_path / "drawn.mp4")


@pytest.mark.benchmark(group="motion_amplitude", timer=_CLOCK)
def test_motion_amplitude(benchmark: Any, clip: Path) -> None:
    measured: dict[str, list[Measured]] = defaultdict(list)
    load = os.getloadavg()

    def measure(which: str) -> Measured:
        measured[which].append(_child(which, clip))
        return measured[which][-1]

    def others() -> None:
        measure("official")
        measure("farneback")

    def ours() -> None:
        _CLOCK.shown += measure("ours")["wall"]

    benchmark.pedantic(ours, setup=others, rounds=_ROUNDS, warmup_rounds=0)
    values = {row["value"] for which in ("official", "ours") for row in measured[which]}
    assert len(values) == 1, f"the two procedures do not give one number: {values}"

    medians = {which: _medians(rows) for which, rows in measured.items()}
    ratios = _ratios(medians)
    benchmark.extra_info.update(clip=clip.name, value=values.pop(), medians=medians, ratios=ratios, load=load)
    sys.stdout.write(_table(clip, medians, ratios, load, rounds=len(measured["ours"])))


def _child(which: str, clip: Path) -> Measured:
    command = [sys.executable, "-m", "benchmarks.child", which, str(clip)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    found: Measured = json.loads(done.stdout)
    return found


def _medians(rows: list[Measured]) -> Measured:
    return {key: statistics.median(row[key] for row in rows) for key in ("wall", "cpu", "rss")}


def _ratios(medians: dict[str, Measured]) -> Measured:
    ours, official = medians["ours"], medians["official"]
    return {
        "wall": ours["wall"] / official["wall"],
        "cpu": ours["cpu"] / official["cpu"],
        "rss": ours["rss"] / official["rss"],
        "over_farneback": ours["wall"] / medians["farneback"]["wall"],
    }


def _table(clip: Path, medians: dict[str, Measured], ratios: Measured, load: tuple[float, ...], *, rounds: int) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    lines = [
        "",
        f"MotionAmplitude on {clip.name}: medians of {rounds} interleaved rounds, each in a fresh process",
        f"{'':<12}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}",
    ]
    lines += [f"{which:<12}{row['wall']:>9.2f}{row['cpu']:>9.2f}{row['rss']:>9.0f}" for which, row in medians.items()]
    lines += [
        f"ours / official    wall {ratios['wall']:.2f} (goal {_GOALS['wall']})   CPU {ratios['cpu']:.2f}   "
        f"memory {ratios['rss']:.2f} (goal {_GOALS['rss']})",
        f"ours / farneback   wall {ratios['over_farneback']:.2f} (goal {_GOALS['over_farneback']})",
        f"load before {' '.join(f'{x:.2f}' for x in load)}, after {' '.join(f'{x:.2f}' for x in os.getloadavg())}; "
        f"{len(os.sched_getaffinity(0))} cores of {_processor()}",
        f"Python {platform.python_version()}, {libraries}",
        "",
    ]
    return "\n".join(lines)


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].split(":", 1)[1].strip() if names else platform.machine()


def _draw(path: Path) -> Path:
    rng = np.random.default_rng(14)
    plane = rng.integers(0, 256, (60, 208, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    frames = (np.roll(plane, 3 * i, axis=1)[:, :832] for i in range(69))
    path.write_bytes(encode_clip(frames, Fraction(16)))
    return path
