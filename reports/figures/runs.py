"""The figures of a report: which ones the runs allow, and where they are written."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from refeval.reports.ablations import Study, ablation_members, compared, published_members
from refeval.reports.figures.canvas import SERIES
from refeval.reports.figures.categories import draw_categories
from refeval.reports.figures.depth import draw_depths
from refeval.reports.figures.distributions import draw_distributions
from refeval.reports.figures.profile import draw_profiles
from refeval.reports.figures.protocols import draw_protocols
from refeval.reports.readings import RunReading, by_suite

_DRAWINGS = (
    ("profiles", draw_profiles),
    ("categories", draw_categories),
    ("distributions", draw_distributions),
    ("protocols", draw_protocols),
)


def write_figures(runs: Sequence[RunReading], out: Path) -> tuple[list[Path], list[str]]:
    """Write every figure that the runs allow as ``figures/<name>.svg`` and ``.png``.

    Args:
        runs: one or more; runs of differing suites get figures of their own.
        out: folder of the report.

    Returns:
        The files, and a sentence for everything that was left out.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return [], ["figures are left out: matplotlib is not installed (pip install 'refeval[figures]')"]
    written: list[Path] = []
    left_out: list[str] = []
    for part, end in by_suite(runs):
        shown = compared(part)
        if len(shown) > len(SERIES):
            left_out.append(f"figures show the first {len(SERIES)} of {len(shown)} runs of {part[0].suite[0]}")
        for name, draw in _DRAWINGS:
            written += draw(shown[: len(SERIES)], out / "figures", f"{name}{end}")
        depths = [member for member in ablation_members(part, Study.DEPTH) if member.depth is not None]
        if len(depths) > 1:
            written += draw_depths(depths, published_members(Study.DEPTH), out / "figures", f"depth{end}")
    return written, left_out
