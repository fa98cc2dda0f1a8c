"""A share over seeds: what it is for one seed, how it widens, and how often it holds the true value."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from refeval.errors import BadInput
from refeval.statistics import share_over_seeds, wilson_interval


def test_one_seed_has_wilsons_interval_and_no_spread() -> None:
    share = share_over_seeds([96], 128)
    assert (share.value, share.spread, share.runs) == (0.75, None, 1)
    assert (share.low, share.high) == pytest.approx(wilson_interval(96, 128))


def test_seeds_that_agree_are_as_sure_as_one_because_they_answer_the_same_questions() -> None:
    one, three = share_over_seeds([96], 128), share_over_seeds([96, 96, 96], 128)
    assert (three.low, three.high) == pytest.approx((one.low, one.high))
    assert three.spread == 0


def test_seeds_that_differ_widen_the_interval_and_more_of_them_narrow_it() -> None:
    right = [84.0, 96.0, 108.0]
    share = share_over_seeds(right, 128)
    assert share.value == pytest.approx(0.75)
    assert share.spread == pytest.approx(statistics.stdev(one / 128 for one in right))
    widths = [end.high - end.low for end in (share_over_seeds([96] * 3, 128), share, share_over_seeds(right * 4, 128))]
    assert widths[1] > widths[2] > widths[0]


@pytest.mark.parametrize(("right", "end"), [([0, 0, 0], 0.0), ([20, 20], 1.0)])
def test_none_or_all_of_the_answers_still_have_an_interval(right: list[float], end: float) -> None:
    share = share_over_seeds(right, 20)
    assert share.value == end and end in (share.low, share.high)
    assert 0.1 < share.high - share.low < 0.2


@pytest.mark.parametrize(("right", "asked"), [([], 10), ([1], 0), ([11], 10), ([-1], 10)])
def test_what_is_no_share_is_refused(right: list[float], asked: float) -> None:
    with pytest.raises(BadInput):
        share_over_seeds(right, asked)


@pytest.mark.parametrize(("common", "seeds_apart", "least"), [(1.0, 0.0, 0.93), (0.5, 0.05, 0.95), (1.0, 0.15, 0.91)])
def test_it_holds_the_true_share_as_often_as_it_says(common: float, seeds_apart: float, least: float) -> None:
    """Made-up systems: a part of the questions is as hard for every seed, and each seed is as good as luck has it."""
    rng, truth, asked, repeats = np.random.default_rng(0), 0.6, 128, 600
    held = 0
    for _ in range(repeats):
        skill_r = np.clip(truth + seeds_apart * rng.standard_normal(3), 0, 1)
        same = rng.random(asked) < common
        hard_rn = np.where(same, rng.random(asked), rng.random((3, asked)))
        share = share_over_seeds((hard_rn < skill_r[:, None]).sum(axis=1).tolist(), asked)
        held += share.low <= truth <= share.high
    assert held / repeats >= least
