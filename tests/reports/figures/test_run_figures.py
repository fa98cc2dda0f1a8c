"""The figures of runs: the data that are drawn, marks for what lacks cases, the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from refeval.catalogue import METRIC_BY_ID, PUBLISHED_METRICS
from refeval.protocols import ProtocolName
from refeval.reports.ablations import PublishedMember, Study, ablation_members
from refeval.reports.breakdowns import QUANTITIES, quantity_number
from refeval.reports.cells import Number
from refeval.reports.figures.categories import categories_figure
from refeval.reports.figures.depth import depth_figure
from refeval.reports.figures.distributions import beeswarm, distributions_figure
from refeval.reports.figures.profile import profile_figure
from refeval.reports.figures.protocols import protocols_figure
from refeval.reports.figures.runs import write_figures
from refeval.reports.figures.style import ORANGE, figure_style
from refeval.reports.readings import RunReading
from refeval.reports.totals import category_means
from tests.reports.planted import member_run, planted_run, planted_suite, readings

V1_1, STRICT = ProtocolName.V1_1, ProtocolName.STRICT


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with figure_style():
        yield


@pytest.fixture
def runs(tmp_path: Path) -> tuple[RunReading, ...]:
    suite = planted_suite()
    lost = [("gme", "singleobj_1")]
    return readings(
        planted_run(tmp_path / "a", suite, model="whole"),
        planted_run(tmp_path / "b", suite, model="lacking", level=lambda place: 0.2 + 0.05 * place, without=lost),
    )


def markers(panel: Axes, marker: str) -> list[tuple[float, float]]:
    """Places of the single points with a marker, in the order of drawing."""
    lines = [line for line in panel.lines if line.get_marker() == marker and len(line.get_xdata()) == 1]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def texts(panel: Axes) -> list[str]:
    return [text.get_text() for text in panel.texts]


def overlap(figure: Figure, panel: Axes) -> list[tuple[str, str]]:
    """Pairs of texts of a panel that lie over each other."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in panel.texts if text.get_text()]
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[i + 1 :] if one.overlaps(other)]


def test_a_profile_shows_every_quantity_of_every_run(runs: tuple[RunReading, ...]) -> None:
    figure = profile_figure(runs)
    [panel] = figure.axes
    for run, marker in zip(runs, ("o", "s"), strict=True):
        drawn = {round(x): y for x, y in markers(panel, marker) if x < len(QUANTITIES) - 0.5}
        wanted = {i: quantity_number(run, V1_1, of).value for i, of in enumerate(QUANTITIES)}
        assert drawn == wanted
    intervals = [
        line.get_ydata() for line in panel.lines if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1
    ]
    wanted_ends = [
        [number.low, number.high]
        for run in runs
        for of in QUANTITIES
        if (number := quantity_number(run, V1_1, of)).low is not None
    ]
    assert sorted(map(list, intervals)) == sorted(wanted_ends)
    assert len(wanted_ends) == 8 + 6
    assert texts(panel) == ["whole", "lacking"]
    # The line of a run leads over its metrics and leaves the total out.
    [line] = [line for line in panel.lines if len(line.get_xdata()) == len(METRIC_BY_ID) and min(line.get_xdata()) < 1]
    assert list(line.get_ydata()) == [quantity_number(runs[0], V1_1, of).value for of in METRIC_BY_ID]
    assert overlap(figure, panel) == []


def test_what_lacks_cases_is_drawn_open(runs: tuple[RunReading, ...]) -> None:
    [panel] = profile_figure(runs).axes
    open_points = [round(float(line.get_xdata()[0])) for line in panel.lines if line.get_markerfacecolor() == "white"]
    assert open_points == [0, 1 + list(METRIC_BY_ID).index("gme")]
    assert "open: not every case has a value" in panel.get_xlabel()


def test_a_heat_map_writes_every_category_mean(runs: tuple[RunReading, ...]) -> None:
    figure = categories_figure(runs)
    for panel, run in zip(figure.axes, runs, strict=True):
        means = category_means(run.view, STRICT)
        wanted = [
            f"{mean.value:.1f}" + ("†" if mean.scored < mean.applicable else "")
            for row in means.values()
            for metric in METRIC_BY_ID
            if (mean := row[metric]).value is not None
        ]
        assert texts(panel) == wanted
        cells = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
        assert len(cells) == len(means) * len(METRIC_BY_ID)
        assert sum(cell.get_hatch() is not None for cell in cells) == len(cells) - len(wanted)
        assert overlap(figure, panel) == []
    assert any("†" in text for text in texts(figure.axes[1]))


def test_a_darker_cell_is_a_higher_mean(runs: tuple[RunReading, ...]) -> None:
    panel = categories_figure(runs).axes[0]
    column = [patch for patch in panel.patches if isinstance(patch, Rectangle) and patch.get_x() == -0.5]
    means = [row["aesthetics"].value for row in category_means(runs[0].view, STRICT).values()]
    light = [sum(patch.get_facecolor()[:3]) for patch in column]
    assert [light[i] for i in np.argsort(means)] == sorted(light, reverse=True)
    assert len(set(light)) == 4


def test_every_case_is_a_point_of_its_strip(runs: tuple[RunReading, ...]) -> None:
    figure = distributions_figure(runs)
    for panel, metric in zip(figure.axes, PUBLISHED_METRICS, strict=False):
        for collection, run in zip(panel.collections, runs, strict=True):
            records = [record for (m, _), record in run.view.scores.items() if m == metric.id]
            values = [record.strict_value for record in records if record.strict_value is not None]
            assert len(collection.get_offsets()) == len(values)
        number = quantity_number(runs[0], STRICT, metric.id)
        assert [number.value] * 2 in [list(line.get_xdata()) for line in panel.lines]
    first = figure.axes[0].collections[0].get_offsets()
    assert sorted(x for x, _ in np.asarray(first)) == pytest.approx([20, 30, 40, 50, 60, 70, 80, 90])
    gme = figure.axes[list(METRIC_BY_ID).index("gme")]
    assert texts(gme) == ["8/8", "7/8"]


def test_a_beeswarm_lays_equal_values_side_by_side() -> None:
    offsets = beeswarm(np.array([50.0] * 5 + [10.0]))
    assert sorted(offsets) == sorted([-1.0, -0.5, 0.0, 0.5, 1.0, 0.0])
    assert offsets[5] == 0
    assert beeswarm(np.array([])).size == 0


def test_the_protocols_are_joined_by_their_difference(tmp_path: Path) -> None:
    [run] = readings(planted_run(tmp_path / "run", planted_suite()))
    [panel] = protocols_figure([run]).axes
    official = {y: x for x, y in markers(panel, "o")}
    strict = {y: x for x, y in markers(panel, "D")}
    for row, of in enumerate(QUANTITIES):
        assert quantity_number(run, V1_1, of).value == official[row]
        assert quantity_number(run, STRICT, of).value == strict[row]
    facesim = list(QUANTITIES).index("facesim")
    assert texts(panel)[facesim] == f"{strict[facesim] - official[facesim]:+.1f}"
    assert texts(panel)[list(QUANTITIES).index("gme")] == "="


def test_an_undefined_strict_value_is_said(runs: tuple[RunReading, ...]) -> None:
    figure = protocols_figure(runs)
    assert texts(figure.axes[1]).count("strict undefined") == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "not every case has a value"


def depths(tmp_path: Path) -> tuple[RunReading, ...]:
    levels = {"1": 0.5, "9": 0.8, "11": 0.6}
    return readings(
        *(member_run(tmp_path, "depth", k, seed, level + seed / 50) for k, level in levels.items() for seed in (0, 1))
    )


def test_depth_curves_show_the_means_and_mark_the_peak(tmp_path: Path) -> None:
    members = ablation_members(depths(tmp_path), Study.DEPTH)
    figure = depth_figure(members)
    assert len(figure.axes) == len(QUANTITIES)
    for panel, of in zip(figure.axes, QUANTITIES, strict=True):
        curve = panel.lines[0]
        assert list(curve.get_xdata()) == [1, 9, 11]
        assert list(curve.get_ydata()) == [member.numbers[of].value for member in members]
        [peak] = [line for line in panel.lines if line.get_color() == ORANGE]
        assert (peak.get_xdata()[0], peak.get_ydata()[0]) == (9, members[1].numbers[of].value)
        assert texts(panel) == [f"{members[1].numbers[of].value:.1f}"]
        bars = [list(line.get_ydata()) for line in panel.lines if len(line.get_xdata()) == 2]
        assert bars == [[member.numbers[of].low, member.numbers[of].high] for member in members]


def test_a_depth_that_lacks_cases_is_never_the_peak(tmp_path: Path) -> None:
    read = depths(tmp_path)
    best = next(run for run in read if run.view.manifest.settings["ablation"]["member"] == "9")
    best.view.run.score_path("gme", "singleobj_1").unlink()
    members = ablation_members(readings(*(run.view.run for run in read)), Study.DEPTH)
    panel = depth_figure(members).axes[list(QUANTITIES).index("gme")]
    [peak] = [line for line in panel.lines if line.get_color() == ORANGE]
    assert peak.get_xdata()[0] == 11


def test_what_no_member_has_has_no_panel(tmp_path: Path) -> None:
    members = [
        replace(
            member,
            numbers={
                of: number if of in ("total", "gme") else Number(value=None) for of, number in member.numbers.items()
            },
        )
        for member in ablation_members(depths(tmp_path), Study.DEPTH)
    ]
    figure = depth_figure(members)
    assert [panel.get_title(loc="left") for panel in figure.axes if panel.get_visible()] == ["TotalScore", "GmeScore"]
    assert all(panel.lines for panel in figure.axes)


def test_published_depths_stand_beside(tmp_path: Path) -> None:
    members = ablation_members(depths(tmp_path), Study.DEPTH)
    published = PublishedMember(study=Study.DEPTH, name="K=9", meaning="", columns={"total": 55.5}, source="x")
    figure = depth_figure(members, [published])
    squares = [
        [list(line.get_xydata()[0]) for line in p.lines if line.get_marker() == "s" and len(line.get_xydata())]
        for p in figure.axes
    ]
    assert squares == [[[9, 55.5]], *[[]] * 7]


def test_the_same_runs_give_the_same_bytes(runs: tuple[RunReading, ...], tmp_path: Path) -> None:
    first, _ = write_figures(runs, tmp_path / "first")
    again, _ = write_figures(readings(*(run.view.run for run in runs)), tmp_path / "again")
    assert {path.name: path.read_bytes() for path in first} == {path.name: path.read_bytes() for path in again}
    for path in first:
        if path.suffix == ".png":
            assert np.asarray(Image.open(path).convert("L")).std() > 5
        else:
            assert b"<dc:date>" not in path.read_bytes()


def test_drawing_leaves_the_settings_of_others_alone(runs: tuple[RunReading, ...], tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    write_figures(runs[:1], tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_depths_are_drawn_where_there_are_two(tmp_path: Path) -> None:
    written, left_out = write_figures(depths(tmp_path), tmp_path / "out")
    assert {path.stem for path in written} == {"profiles", "categories", "distributions", "protocols", "depth"}
    assert left_out == []
    alone = readings(member_run(tmp_path / "alone", "depth", "9"))
    assert "depth" not in {path.stem for path in write_figures(alone, tmp_path / "one")[0]}


def test_more_runs_than_looks_are_left_out_and_said(tmp_path: Path) -> None:
    suite = planted_suite()
    many = readings(*(planted_run(tmp_path / str(seed), suite, seed=seed) for seed in range(9)))
    _, left_out = write_figures(many, tmp_path / "out")
    assert left_out == ["figures show the first 8 of 9 runs of opens2v-open"]
