"""What a benchmark ran on, in words."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def processor() -> str:
    """The name of the processor."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].split(":", 1)[1].strip() if names else platform.machine()


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def versions(libraries: Sequence[str]) -> str:
    """Of Python and of libraries, on one line."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in libraries)])


def load() -> str:
    """The three load averages."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())
