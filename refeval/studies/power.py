"""How many votes a win rate needs, and what a study of a given size can show."""

from __future__ import annotations

import math
from statistics import NormalDist

from refeval.errors import BadInput

ALPHA = 0.05
POWER = 0.80
TABLE_RATES = (0.55, 0.60, 0.65, 0.70, 0.75)
_FINEST = 1e-6


def votes_needed(win_rate: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Decisive, independent votes with which a two-sided test against 1/2 finds a true win rate.

    n = ((z(1 - alpha / 2) / 2 + z(power) sqrt(p (1 - p))) / (p - 1/2))^2, rounded up; z: standard normal quantile.

    Args:
        win_rate: p, 0 to 1 and not 1/2.
        alpha: chance of a false alarm.
        power: chance to find a win rate of this size.

    Raises:
        BadInput: a win rate of 1/2, or outside of 0..1.

    Source: Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions, 3rd edition, 2003, chapter 2.
    """
    if not 0 <= win_rate <= 1 or win_rate == 0.5:
        raise BadInput(f"a win rate of {win_rate:g}", cure="give a number from 0 to 1 that is not 0.5")
    return math.ceil(_needed(win_rate, alpha, power))


def detectable_win_rate(votes: int, *, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """The smallest win rate above 1/2 that so many decisive, independent votes find; None where not even 1 is found."""
    if votes < 1 or _needed(1.0, alpha, power) > votes:
        return None
    low, high = 0.5, 1.0
    while high - low > _FINEST:
        middle = (low + high) / 2
        low, high = (low, middle) if _needed(middle, alpha, power) <= votes else (middle, high)
    return high


def _needed(rate: float, alpha: float, power: float) -> float:
    normal = NormalDist()
    spread = normal.inv_cdf(1 - alpha / 2) / 2 + normal.inv_cdf(power) * math.sqrt(rate * (1 - rate))
    return (spread / (rate - 0.5)) ** 2
