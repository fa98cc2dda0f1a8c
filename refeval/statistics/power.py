"""How small a true difference a suite can show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from refeval.errors import BadInput
from refeval.protocols import ProtocolName
from refeval.statistics.aggregation import aggregate
from refeval.statistics.scores import CaseScores
from refeval.statistics.strata import Strata

ALPHA = 0.05
POWER = 0.80


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison with one more run could show.

    Attributes:
        of: metric id, or ``total``.
        standard_error: of the run's own value, normalised; None where undefined or unknown (see :class:`Estimate`).
        correlation: assumed between the two runs, case by case.
        detectable: the true delta found with the power asked for; None likewise.
    """

    of: str
    standard_error: float | None
    correlation: float
    detectable: float | None


def detectable_effect(standard_error: float, degrees: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest true delta that a two-sided test at ``alpha`` finds with the given power.

    (t(1 - alpha / 2) + t(power)) * standard error, Student's t of ``degrees`` of freedom: about 2.8 standard errors.
    Assumes a delta that is near normal over draws of the cases, with the same spread whatever its size.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition, 1988, chapter 2.
    """
    return float((stdtrit(degrees, 1 - alpha / 2) + stdtrit(degrees, power)) * standard_error)


def plan_comparison(
    scores: CaseScores,
    protocol: ProtocolName,
    *,
    correlation: float,
    allow_missing: bool = False,
    alpha: float = ALPHA,
    power: float = POWER,
) -> tuple[Plan, ...]:
    """What a comparison could show, from one run.

    The standard error of the delta is that of the run times sqrt(2 (1 - correlation)). Assumes a second run of the
    same spread.

    Args:
        scores: of the run.
        protocol: how they become a total.
        correlation: between the two runs' values of a case, below 1. Near 0 for unrelated systems; checkpoints of
            one training are far more alike. 0 is the cautious choice.
        allow_missing: as in :func:`refeval.protocols.run_total`.
        alpha: chance of a false alarm.
        power: chance to find a true delta of the size returned.

    Raises:
        BadInput: a correlation outside of -1..1.
    """
    if not -1 <= correlation < 1:
        raise BadInput(f"a correlation of {correlation:g}", cure="give a number from -1 to below 1; 0 is cautious")
    run, strata = aggregate(scores, protocol, allow_missing=allow_missing), Strata(scores.categories)
    errors = np.where(strata.varies(run.counted()), np.sqrt(strata.variance(run.influence())), np.nan)
    plans = []
    for of, value, error in zip(run.quantities, run.values(), errors, strict=True):
        defined = not (np.isnan(value) or np.isnan(error))
        effect = detectable_effect(error * math.sqrt(2 * (1 - correlation)), strata.degrees, alpha=alpha, power=power)
        plans.append(
            Plan(
                of=of,
                standard_error=float(error) if defined else None,
                correlation=correlation,
                detectable=effect if defined else None,
            )
        )
    return tuple(plans)
