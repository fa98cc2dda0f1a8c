"""Votes as bars: wins, ties and losses of each pair of arms, one panel per question."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refeval.reports.figures.style import BLUE, INK, ORANGE, PALE, SOFT, figure_style, write_figure
from refeval.studies.analysis_pairs import PairResult
from refeval.studies.sheets import QUESTIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "votes"
_WIDTH, _BAR, _FRAME = 7.2, 0.42, 0.62
_NAME_WIDTH = 22


def draw_votes(pairs: Sequence[PairResult], folder: Path) -> list[Path]:
    """Write ``votes.svg`` and ``votes.png``.

    Each bar is all votes of a pair: wins of the arm on its left, ties, wins of the arm on its right. The brackets on
    the two borders are the intervals of the two arms' shares, clustered by case and rater.

    Args:
        pairs: of one or more questions, in the order to be drawn.
        folder: for the files.

    Returns:
        The two files.

    Raises:
        MissingPrerequisite: matplotlib is not installed.
    """
    questions = list(dict.fromkeys(pair.question for pair in pairs))
    grouped = [[pair for pair in pairs if pair.question is question] for question in questions]
    heights = [_BAR * len(group) + _FRAME for group in grouped]
    with figure_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH, sum(heights) + 0.5), layout="constrained")
        panels = figure.subplots(len(grouped), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for panel, question, group in zip(panels, questions, grouped, strict=True):
            _panel(panel, QUESTIONS[question][0], group)
        panels[-1].set_xlabel(f"votes, %; brackets: {pairs[0].win_share.level:.0%} intervals by case and rater")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles[:3], labels[:3], loc="outside upper center", ncols=3, frameon=False)
        return write_figure(figure, folder, NAME)


def _panel(panel: Axes, title: str, pairs: Sequence[PairResult]) -> None:
    rows = range(len(pairs))
    parts = (
        ("arm on the left is better", [100 * pair.win_share.value for pair in pairs], BLUE, "", "white"),
        ("no difference", [100 * pair.tie_share.value for pair in pairs], PALE, "", INK),
        ("arm on the right is better", [100 * pair.loss_share.value for pair in pairs], ORANGE, "///", INK),
    )
    start = [0.0] * len(pairs)
    for label, widths, colour, hatch, ink in parts:
        panel.barh(
            rows,
            widths,
            left=start,
            height=0.62,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.8,
            label=label,
        )
        for row, (begin, width) in enumerate(zip(start, widths, strict=True)):
            if width >= 9:
                box = {"facecolor": colour, "edgecolor": "none", "pad": 1.2}
                panel.text(begin + width / 2, row, f"{width:.0f}", ha="center", va="center", color=ink, bbox=box)
        start = [begin + width for begin, width in zip(start, widths, strict=True)]
    for row, pair in enumerate(pairs):
        win, loss = pair.win_share, pair.loss_share
        _bracket(panel, row - 0.2, 100 * win.value, *(100 * end for end in win.clustered))
        _bracket(panel, row + 0.2, 100 - 100 * loss.value, *(100 - 100 * end for end in loss.clustered))
    panel.set(xlim=(0, 100), ylim=(len(pairs) - 0.5, -0.5), title=title)
    panel.set_yticks(rows, [_short(pair.first) for pair in pairs])
    panel.tick_params(axis="y", length=0)
    right = panel.secondary_yaxis("right")
    right.set_yticks(rows, [_short(pair.second) for pair in pairs])
    right.tick_params(axis="y", length=0)
    for spine in (panel.spines["left"], right.spines["right"]):
        spine.set_visible(False)
    panel.axvline(50, color=SOFT, linewidth=0.7, linestyle=(0, (2, 2)), zorder=0.5)


def _bracket(panel: Axes, row: float, at: float, one: float, other: float) -> None:
    from matplotlib.patheffects import withStroke

    ends = [[abs(at - min(one, other))], [abs(max(one, other) - at)]]
    _, caps, lines = panel.errorbar(
        [at], [row], xerr=ends, fmt="none", ecolor=INK, elinewidth=1.2, capsize=2.6, capthick=1.2, zorder=4
    )
    # A white rim: seen on dark and on light bars.
    for artist in (*lines, *caps):
        artist.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _short(name: str) -> str:
    return "\n".join(textwrap.wrap(name, _NAME_WIDTH, break_long_words=True)[:2])
