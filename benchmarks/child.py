"""One measurement in a process of its own: ``python -m benchmarks.child official|ours|farneback CLIP``.

Writes a JSON object: the value, wall and CPU seconds, the peak of resident memory. Start of the interpreter and
imports are outside the seconds (the memory of what is imported is inside the peak); decoding is inside.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

Run = Callable[[], float]


def official(path: Path) -> Run:
    """Every step of the official script."""
    from benchmarks.official_motion_amplitude import motion_amplitude

    return lambda: motion_amplitude(path)


def ours(path: Path) -> Run:
    """The metric as a run calls it: streamed, with the health check."""
    from refeval.cases import Case, Category
    from refeval.clips import open_clip
    from refeval.health import HealthCheck
    from refeval.metrics.motion_amplitude import MotionAmplitude

    case = Case(id="faceobj_14", category=Category.FACEOBJ, prompt="", references=())
    return lambda: MotionAmplitude().score(case, open_clip(path, check=HealthCheck())).value


def farneback(path: Path) -> Run:
    """Only the calls for the flow, on one thread per core; the grey pictures are there beforehand."""
    from refeval.clips import open_clip
    from refeval.metrics.motion_amplitude import grey, optical_flow

    pairs = list(pairwise([grey(frame) for frame in open_clip(path)]))
    threads = len(os.sched_getaffinity(0))

    def run() -> float:
        with ThreadPoolExecutor(threads) as pool:
            return float(sum(pool.map(lambda pair: optical_flow(*pair).shape[0], pairs)))

    return run


def peak_megabytes() -> float:
    """Peak of resident memory.

    ``ru_maxrss`` would not do: Linux keeps it over ``exec``, so that a child starts with the peak of its parent.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def main(which: str, clip: str) -> None:
    """Measure and write the result."""
    run = {"official": official, "ours": ours, "farneback": farneback}[which](Path(clip))
    wall, cpu = time.perf_counter(), time.process_time()
    value = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    json.dump({"value": value, "wall": wall, "cpu": cpu, "rss": peak_megabytes()}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
