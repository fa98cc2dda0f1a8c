"""The regression gate as one call: for the command line, for tests, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refeval.baselines import read_side
from refeval.comparing import Terms, common_domain, compare
from refeval.gates import Judged, judge, parse_gates


def hold_against(base: Sequence[Path], candidate: Sequence[Path], gates: Sequence[str], terms: Terms) -> Judged:
    """Compare two sides and hold them against gates; nothing is written.

    Args:
        base: as :func:`refeval.baselines.read_side` takes it.
        candidate: likewise.
        gates: expressions of :mod:`refeval.gates`.
        terms: how to compare.

    Raises:
        BadInput: a side, a gate, or two sides that are not comparable.
        CorruptFile: a damaged file.
    """
    first, second = read_side(base), read_side(candidate)
    parsed = parse_gates(gates, terms.protocol, common_domain(first, second, terms.domain))
    return judge(compare(first, second, terms), parsed)
