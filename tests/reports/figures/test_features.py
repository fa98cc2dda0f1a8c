"""How far apart the features of subjects are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refeval.errors import BadInput
from refeval.reports.figures.features import Separation, draw_features, embed, features_figure, separation
from refeval.reports.figures.style import figure_style
from refeval.statistics.scores import FloatArray


def clusters(spread: float, *, subjects: int = 4, each: int = 6) -> tuple[FloatArray, list[str]]:
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(subjects, 16)), each, axis=0)
    return centres + spread * rng.normal(size=centres.shape), [f"s{i // each}" for i in range(len(centres))]


def test_separation_by_hand() -> None:
    features = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    found = separation(features, ["a", "a", "b"])
    assert found.within == pytest.approx(1)
    assert found.between == pytest.approx((2 + 1) / 2)
    assert found.ratio == pytest.approx(1.5)
    assert Separation(within=0, between=1).ratio == float("inf")


def test_tighter_subjects_are_better_separated() -> None:
    ratios = [separation(*clusters(spread)).ratio for spread in (0.1, 0.5, 2.0)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 10 and ratios[-1] < 2


def test_lengths_and_order_do_not_matter() -> None:
    features, subjects = clusters(0.5)
    order = np.random.default_rng(1).permutation(len(features))
    scaled = features[order] * np.linspace(0.1, 9, len(features))[:, None]
    found, again = separation(features, subjects), separation(scaled, [subjects[i] for i in order])
    assert (again.within, again.between) == pytest.approx((found.within, found.between))


@pytest.mark.parametrize(
    ("features", "subjects"),
    [
        (np.ones((2, 3)), ["a"]),
        (np.ones(3), ["a", "b", "c"]),
        (np.zeros((3, 2)), ["a", "a", "b"]),
        (np.full((3, 2), np.nan), ["a", "a", "b"]),
        (np.ones((3, 2)), ["a", "a", "a"]),
        (np.ones((3, 2)), ["a", "b", "c"]),
    ],
)
def test_features_that_say_nothing_are_refused(features: FloatArray, subjects: list[str]) -> None:
    with pytest.raises(BadInput):
        separation(features, subjects)


def test_a_map_keeps_neighbours_and_is_the_same_every_time() -> None:
    features, subjects = clusters(0.2)
    places = embed(features)
    assert places.shape == (24, 2)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag([np.inf] * 24)
    assert all(subjects[i] == subjects[j] for i, j in enumerate(apart.argmin(axis=1)))
    assert np.array_equal(embed(features), places)
    assert not np.array_equal(embed(features, seed=1), places)
    with pytest.raises(BadInput):
        embed(features[:3])


def test_the_map_shows_every_picture_with_its_subject(tmp_path: Path) -> None:
    features, subjects = clusters(0.2)
    places, found = np.arange(48, dtype=np.float64).reshape(24, 2), separation(features, subjects)
    with figure_style():
        [panel] = features_figure(places, subjects, found).axes
    drawn = [np.column_stack(line.get_data()) for line in panel.lines]
    assert [np.array_equal(part, places[6 * i : 6 * i + 6]) for i, part in enumerate(drawn)] == [True] * 4
    assert [text.get_text() for text in panel.texts] == ["s0", "s1", "s2", "s3"]
    assert f"{found.ratio:.2f}" in panel.get_xlabel()
    first = [path.read_bytes() for path in draw_features(features, subjects, tmp_path / "a", "map")]
    assert first == [path.read_bytes() for path in draw_features(features, subjects, tmp_path / "b", "map")]


def test_sixteen_subjects_look_different() -> None:
    features, subjects = clusters(0.2, subjects=16, each=2)
    with figure_style():
        [panel] = features_figure(features[:, :2], subjects, separation(features, subjects)).axes
    looks = {(line.get_marker(), line.get_markerfacecolor()) for line in panel.lines}
    assert len(looks) == len(panel.lines) == 16
