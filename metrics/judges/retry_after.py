"""The Retry-After header: how long a server asks to be left alone."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Seconds to wait, or None where the server does not say.

    Args:
        headers: of the response; names in any case the mapping knows. ``retry-after-ms`` goes before ``retry-after``.
        now: seconds since the epoch, for a date; by default the machine's.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _number(headers.get(name))
        if seconds is not None:
            return seconds * unit
    date = parsedate_tz(headers.get("retry-after") or "")
    if date is None:
        return None
    try:
        return max(mktime_tz(date) - (time.time() if now is None else now), 0.0)
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return max(value, 0.0) if math.isfinite(value) else None
