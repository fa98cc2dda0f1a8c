"""Passes: which metrics share a device, for the cards that people have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refeval.errors import BadInput
from refeval.metrics.base import MemoryNeed
from refeval.passes import device_memory, plan_passes
from refeval.place import Place
from refeval.registry import metric_class

# Cards are sold by the GiB.
_GIB = 2**30 / 1e9
_WITH_MODELS = ("aesthetics", "facesim", "gme", "motion_smoothness", "nexus")


def _published_needs() -> dict[str, MemoryNeed]:
    needs = {metric_id: metric_class(metric_id)().memory() for metric_id in _WITH_MODELS}
    return {**needs, "motion_amplitude": MemoryNeed()}


@pytest.mark.parametrize(
    ("gibibytes", "expected"),
    [
        (24, [{"gme", "nexus"}, {"motion_smoothness", "aesthetics", "facesim"}]),
        (48, [{"gme", "nexus", "motion_smoothness", "aesthetics", "facesim"}]),
        (80, [{"gme", "nexus", "motion_smoothness", "aesthetics", "facesim"}]),
    ],
)
def test_every_common_card_gets_a_plan_that_fits(gibibytes: int, expected: list[set[str]]) -> None:
    passes = plan_passes(_published_needs(), gibibytes * _GIB)
    assert all(one.fits and one.gigabytes < gibibytes * _GIB for one in passes)
    assert sorted(metric_id for one in passes for metric_id in one.metrics) == sorted(_published_needs())
    # GME is in memory once for both of its metrics, and one pass holds all that fits.
    assert len(passes) == len(expected)
    for group, one in zip(expected, passes, strict=True):
        assert group <= set(one.metrics)


def test_a_shared_model_counts_once_and_work_does_not_add_up() -> None:
    needs = {
        "a": MemoryNeed(models={"shared": 10, "own": 1}, work=2),
        "b": MemoryNeed(models={"shared": 10}, work=5),
    }
    (both,) = plan_passes(needs, 20)
    assert both.gigabytes == 16
    first, second = plan_passes(needs, 17)
    assert (first.metrics, first.gigabytes) == (("b",), 15)
    assert (second.metrics, second.gigabytes) == (("a",), 13)


def test_what_fits_nowhere_is_tried_alone_and_said() -> None:
    needs = {"large": MemoryNeed(models={"x": 30}), "small": MemoryNeed(models={"y": 1})}
    large, small = plan_passes(needs, 24)
    assert (large.metrics, large.fits) == (("large",), False)
    assert (small.metrics, small.fits) == (("small",), True)


def test_unknown_memory_means_one_pass() -> None:
    assert [one.metrics for one in plan_passes(_published_needs(), None)] == [tuple(sorted(_published_needs()))]
    assert plan_passes({}, 24) == []


_needs = st.dictionaries(
    st.sampled_from("abcdefg"),
    st.builds(
        MemoryNeed,
        models=st.dictionaries(st.sampled_from("xyz"), st.sampled_from([1.0, 8.0, 17.0]), max_size=2),
        work=st.sampled_from([0.0, 2.0]),
    ),
)


@given(needs=_needs, available=st.floats(1, 100))
def test_every_metric_is_in_one_pass_and_none_overflows_in_company(
    needs: dict[str, MemoryNeed], available: float
) -> None:
    passes = plan_passes(needs, available)
    assert sorted(metric_id for one in passes for metric_id in one.metrics) == sorted(needs)
    assert all(one.fits or len(one.metrics) == 1 for one in passes)
    assert passes == plan_passes(dict(reversed(list(needs.items()))), available)


def test_memory_that_is_given_is_shared_by_the_processes_of_a_gpu() -> None:
    assert device_memory(Place(), given=48, sharing=2) == 24
    with pytest.raises(BadInput, match="--gpu-memory 0"):
        device_memory(Place(), given=0, sharing=1)


def test_without_a_gpu_the_machine_counts() -> None:
    whole = device_memory(Place(device="cpu"), given=None, sharing=1)
    assert whole is not None and whole > 0.1
    assert device_memory(Place(device="cpu"), given=None, sharing=4) == whole / 4
