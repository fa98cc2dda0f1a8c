"""``did you mean``: what stands behind an unknown name in a message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``. Did you mean 'x'?`` for the closest known name, or an empty text."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f". Did you mean '{close[0]}'?" if close else ""
