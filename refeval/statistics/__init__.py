"""How sure a number is: intervals, differences, tests and what a suite can show. See docs/statistics.md.

Starts from arrays (:class:`CaseScores`, made from records by :func:`from_records`) and needs no run folder.
"""

from refeval.statistics.aggregation import TOTAL, Aggregation, aggregate
from refeval.statistics.comparison import compare_runs, estimate_run
from refeval.statistics.intervals import bca_interval, percentile_interval, wilson_interval
from refeval.statistics.power import Plan, detectable_effect, plan_comparison
from refeval.statistics.repeats import (
    NoiseFloor,
    VarianceSplit,
    compare_seeds,
    estimate_seeds,
    noise_floor,
    split_variance,
)
from refeval.statistics.results import Delta, Estimate, IntervalMethod, Resampling
from refeval.statistics.scores import CaseScores, Reading, from_records
from refeval.statistics.shares import Share, share_over_seeds
from refeval.statistics.strata import Strata
from refeval.statistics.testing import holm, permutation_p

__all__ = [
    "TOTAL",
    "Aggregation",
    "CaseScores",
    "Delta",
    "Estimate",
    "IntervalMethod",
    "NoiseFloor",
    "Plan",
    "Reading",
    "Resampling",
    "Share",
    "Strata",
    "VarianceSplit",
    "aggregate",
    "bca_interval",
    "compare_runs",
    "compare_seeds",
    "detectable_effect",
    "estimate_run",
    "estimate_seeds",
    "from_records",
    "holm",
    "noise_floor",
    "percentile_interval",
    "permutation_p",
    "plan_comparison",
    "share_over_seeds",
    "split_variance",
    "wilson_interval",
]
