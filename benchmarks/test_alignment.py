"""The alignment loss against the formulation with masks over all pairs of tokens, interleaved, in fresh processes."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine

_ROOT = Path(__file__).resolve().parents[1]
_ROUNDS = 5
_GOALS = {"wall": 0.40, "rss": 0.45}
_WHICH = ("official", "ours", "compiled")


@pytest.mark.benchmark(group="alignment")
def test_alignment(benchmark: Any) -> None:
    measured: dict[str, list[dict[str, float]]] = defaultdict(list)
    before = machine.load()

    def measure(which: str) -> None:
        command = [sys.executable, "-m", "benchmarks.alignment_child", which]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
        measured[which].append(json.loads(done.stdout))

    def a_round() -> None:
        for which in _WHICH:
            measure(which)

    benchmark.pedantic(a_round, rounds=_ROUNDS, warmup_rounds=0)
    for key in ("value", "gradient"):
        found = [row[key] for rows in measured.values() for row in rows]
        assert all(math.isclose(one, found[0], rel_tol=1e-4) for one in found), (key, found)
    medians = {
        which: {key: statistics.median(row[key] for row in rows) for key in ("wall", "cpu", "rss")}
        for which, rows in measured.items()
    }
    benchmark.extra_info.update(medians=medians)
    lines = ["", "alignment loss, 3 x 1560 tokens of width 1024, forward and backward, float32"]
    lines.append(f"{'':<12}{'wall s':>9}{'CPU s':>9}{'extra MB':>10}{'wall':>8}{'memory':>8}")
    for which, row in medians.items():
        wall, memory = (row[key] / medians["official"][key] for key in ("wall", "rss"))
        lines.append(f"{which:<12}{row['wall']:>9.2f}{row['cpu']:>9.2f}{row['rss']:>10.0f}{wall:>8.2f}{memory:>8.2f}")
    lines.append(f"goals: wall {_GOALS['wall']}, memory {_GOALS['rss']} of the official formulation; {_ROUNDS} rounds")
    lines.append(f"{machine.cores()} cores of {machine.processor()}; load before {before}, after {machine.load()}")
    lines.append(machine.versions(("torch",)))
    sys.stdout.write("\n".join([*lines, ""]))
