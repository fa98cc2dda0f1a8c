"""Looks that differ without colour, labels that do not overlap."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refeval.reports.figures.canvas import SERIES, broken, series, short, spread

_CHANNELS = (0.2126, 0.7152, 0.0722)


def lightness(colour: str) -> float:
    """CIE L* of an sRGB colour, 0..100: what is left of it in greyscale."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = sum(weight * part for weight, part in zip(_CHANNELS, linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


def test_lightness_is_that_of_the_definition() -> None:
    assert [round(lightness(colour)) for colour in ("#000000", "#777777", "#ffffff")] == [0, 50, 100]


def test_the_first_five_looks_are_apart_in_greyscale() -> None:
    greys = sorted(lightness(look.colour) for look in SERIES[:5])
    assert min(second - first for first, second in pairwise(greys)) >= 11


def test_no_two_looks_share_a_marker_a_colour_or_dashes() -> None:
    for one, other in combinations(SERIES, 2):
        assert one.marker != other.marker and one.colour != other.colour
        assert one.dash != other.dash or abs(lightness(one.line) - lightness(other.line)) > 20


def test_every_line_is_seen_on_white() -> None:
    assert max(lightness(look.line) for look in SERIES) <= 75


def test_looks_come_again_after_the_last() -> None:
    assert series(len(SERIES) + 1) is SERIES[1]


PLACES = st.lists(st.floats(0, 100), min_size=1, max_size=8)


@given(PLACES, st.floats(0.1, 20))
def test_labels_keep_their_order_and_a_gap(places: list[float], gap: float) -> None:
    found = spread(places, gap)
    order = sorted(range(len(places)), key=lambda i: places[i])
    for lower, upper in pairwise(order):
        assert found[upper] - found[lower] >= gap - 1e-9
    assert sum(found) == pytest.approx(sum(places))


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([40, 10, 70], 5) == [40, 10, 70]
    assert spread([50, 51, 90], 5) == pytest.approx([48, 53, 90])


def test_names_are_broken_between_words_and_cut_with_a_mark() -> None:
    assert [broken(name) for name in ("MotionSmoothness", "FaceSim")] == ["Motion\nSmoothness", "Face\nSim"]
    assert broken("MotionAmplitude", narrow=True) == "Motion\nAmpli-\ntude"
    assert broken("Aesthetics", narrow=True) == "Aesthe-\ntics"
    assert short("refalign-1.3b", 20) == "refalign-1.3b"
    assert short("a" * 30, 10) == "a" * 9 + "…"
    assert short("one two three four", 8, lines=2) == "one two\nthree…"
