"""How every figure looks, and how it is stored: the same data give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refeval.documents import write_bytes
from refeval.errors import MissingPrerequisite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#23262b", "#666b73", "#c9c6bf"
# Dark, light and middling, so that they differ in print without colour; no red beside green.
BLUE, PALE, ORANGE = "#0b4f8a", "#eceae4", "#e69f2e"
_DOTS_PER_INCH = 200
_SETTINGS: dict[Any, Any] = {
    # DejaVu comes with matplotlib: no figure depends on the fonts of a machine.
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "hatch.linewidth": 0.6,
    # Names of models are texts, whatever they hold.
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "refeval",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """The settings of matplotlib for one figure; those outside stay as they are.

    Raises:
        MissingPrerequisite: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        what = "figures are drawn with matplotlib, which is not installed"
        raise MissingPrerequisite(what, cure="pip install 'refeval[figures]'") from error
    with matplotlib.rc_context():
        # What the user has set in a matplotlibrc is no part of a report.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def write_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``<name>.svg`` and ``<name>.png`` without dates; returns the files.

    Args:
        figure: made without pyplot, so that no window system is asked for; within :func:`figure_style`.
        folder: it is made.
        name: of the files.
    """
    paths = []
    for suffix, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=_DOTS_PER_INCH, metadata=metadata, bbox_inches="tight")
        write_bytes(folder / f"{name}.{suffix}", buffer.getvalue())
        paths.append(folder / f"{name}.{suffix}")
    return paths
