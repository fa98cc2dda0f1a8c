"""Named points where a test can kill the whole command, to prove that a crash there loses nothing."""

from __future__ import annotations

import os
import signal

FAULT_POINTS = ("lease-taken", "rendered", "before-replace", "after-replace", "decoded", "scored", "before-release")
"""Of ``refeval run``."""
TRAINING_FAULT_POINTS = ("lease-taken", "before-replace", "after-replace", "trained", "checkpoint-written")
"""Of ``refeval train``."""
_VARIABLE = "REFEVAL_FAULT"
_visits: dict[str, int] = {}


def fault_point(name: str) -> None:
    """Kill the process group by SIGKILL if ``REFEVAL_FAULT`` is ``name:n`` and this is the n-th visit (from 1).

    The group holds the supervisor and all its workers: it is as if the machine had lost its power.
    """
    wanted, _, count = os.environ.get(_VARIABLE, "").partition(":")
    if wanted != name:
        return
    _visits[name] = _visits.get(name, 0) + 1
    if _visits[name] == int(count or 1):
        os.killpg(os.getpgid(0), signal.SIGKILL)
