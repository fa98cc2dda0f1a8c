"""Named points where a test can kill the process, to prove that a crash there loses nothing."""

from __future__ import annotations

import os
import signal

FAULT_POINTS = (
    "lease-taken",
    "rendered",
    "before-replace",
    "after-replace",
    "decoded",
    "scored",
    "before-release",
)
_VARIABLE = "REFEVAL_FAULT"
_visits: dict[str, int] = {}


def fault_point(name: str) -> None:
    """Die by SIGKILL if ``REFEVAL_FAULT`` is ``name`` or ``name:n`` and this is the n-th visit (from 1)."""
    wanted, _, count = os.environ.get(_VARIABLE, "").partition(":")
    if wanted != name:
        return
    _visits[name] = _visits.get(name, 0) + 1
    if _visits[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
