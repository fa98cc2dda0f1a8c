"""What the figures of runs share: an empty figure, looks of several series, labels that do not overlap."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from refeval.reports.figures.style import BLUE, INK, SOFT

WIDTH = 7.2
_HEADING = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Aesthe-tics, Smooth-ness, Ampli-tude.
_LONG = re.compile(r"(?<=[a-z])(?=tics$|ness$|tude$)")


@dataclass(frozen=True, kw_only=True)
class Series:
    """How one run looks: colour, marker and dashes all differ, so any one of them is enough.

    Attributes:
        colour: of Okabe and Ito's set, the first five also apart in lightness.
        marker: of matplotlib.
        dash: of its lines.
        line: colour of its lines, where the colour itself is too light for one on white.
    """

    colour: str
    marker: str
    dash: tuple[int, tuple[float, ...]]
    line: str


_SOLID: tuple[int, tuple[float, ...]] = (0, ())
SERIES = (
    Series(colour=BLUE, marker="o", dash=_SOLID, line=BLUE),
    Series(colour="#e69f00", marker="s", dash=(0, (5, 1.5)), line="#e69f00"),
    Series(colour="#009e73", marker="^", dash=(0, (2, 1.2)), line="#009e73"),
    Series(colour=INK, marker="D", dash=(0, (6, 1.5, 1, 1.5)), line=INK),
    Series(colour="#f0e442", marker="v", dash=(0, (1, 1)), line=SOFT),
    Series(colour="#cc79a7", marker="P", dash=_SOLID, line="#cc79a7"),
    Series(colour="#56b4e9", marker="X", dash=(0, (4, 1, 1, 1, 1, 1)), line="#56b4e9"),
    Series(colour="#d55e00", marker="<", dash=(0, (8, 2)), line="#d55e00"),
)


def empty_figure(width: float, height: float, **settings: Any) -> Figure:
    """A figure in inches that needs no window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", **settings)
    FigureCanvasAgg(figure)
    return figure


def series(place: int) -> Series:
    """The look of the run at a place; looks come again after eight."""
    return SERIES[place % len(SERIES)]


def broken(heading: str, *, narrow: bool = False) -> str:
    """A metric's name over several lines, e.g. Motion / Smoothness; ``narrow`` also divides long words."""
    lines = _HEADING.sub("\n", heading)
    return _LONG.sub("-\n", lines) if narrow else lines


def short(name: str, width: int, lines: int = 1) -> str:
    """A run's name in at most so many lines of ``width`` letters; what is cut off is marked."""
    found = textwrap.wrap(name, width, break_long_words=True) or [""]
    if len(found) <= lines:
        return "\n".join(found)
    return "\n".join([*found[: lines - 1], found[lines - 1][: width - 1] + "…"])


def filled(look: Series, *, whole: bool = True) -> dict[str, Any]:
    """Settings of a marker; an open one says that its value lacks cases."""
    return {
        "markerfacecolor": look.colour if whole else "white",
        "markeredgecolor": INK,
        "markeredgewidth": 0.7,
        "linestyle": "none",
        "marker": look.marker,
    }


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places for labels as near to the wanted ones as a smallest gap between them allows.

    Labels that are too near form a block around the mean of their wanted places; the order is kept.

    Args:
        places: wanted, in any order.
        gap: smallest distance of two labels, in the same unit.

    Returns:
        One place per wanted place, in the same order.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    # A block is (sum of wanted places, each less its rank in the block times the gap; its labels).
    blocks: list[tuple[float, list[int]]] = []
    for i in order:
        blocks.append((places[i], [i]))
        while len(blocks) > 1 and _start(blocks[-2]) + len(blocks[-2][1]) * gap > _start(blocks[-1]):
            wanted, labels = blocks.pop()
            before, earlier = blocks.pop()
            blocks.append((before + wanted - len(labels) * len(earlier) * gap, earlier + labels))
    found = [0.0] * len(places)
    for block in blocks:
        for rank, i in enumerate(block[1]):
            found[i] = _start(block) + rank * gap
    return found


def _start(block: tuple[float, list[int]]) -> float:
    return block[0] / len(block[1])
