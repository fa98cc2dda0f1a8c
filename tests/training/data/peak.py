"""How much memory a process has held at most."""

from __future__ import annotations

from pathlib import Path

import pytest

_STATUS = Path("/proc/self/status")

needs_peak = pytest.mark.skipif(not _STATUS.exists(), reason=f"there is no {_STATUS} to read the peak of memory from")


def peak_kilobytes() -> int:
    """Of this process since it began.

    Not ``ru_maxrss``: a new process starts from the peak of its parent, under which any growth would be hidden.
    """
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])
