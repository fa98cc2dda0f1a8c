"""Several runs of one system: what the seed adds to the uncertainty, and what repeating alone moves."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, stdtr, stdtrit

from refeval.errors import BadInput
from refeval.protocols import ProtocolName
from refeval.statistics.aggregation import Aggregation, aggregate, pool
from refeval.statistics.comparison import SEED_STREAM, deltas, draw_weights, estimates, interval
from refeval.statistics.power import ALPHA, detectable_effect
from refeval.statistics.results import Delta, Estimate, Resampling
from refeval.statistics.scores import CaseScores, FloatArray, require_same_cases
from refeval.statistics.strata import Strata

_DEFAULT = Resampling()


@dataclass(frozen=True, kw_only=True)
class VarianceSplit:
    """Where the spread of one run's value comes from: standard deviations, normalised; None where undefined.

    The variance of the mean of R seeds is ``cases``^2 + (``seeds``^2 + ``noise``^2) / R: more seeds shrink the last
    two only, more cases the first and the last.

    Attributes:
        of: metric id, or ``total``.
        seeds: what a seed moves in all cases of a category alike; about 0 where seeds of cases are independent.
        cases: what other cases of the same categories would move, whatever the seed.
        noise: what a seed moves in each case on its own.
        runs: how many seeds.
    """

    of: str
    seeds: float | None
    cases: float | None
    noise: float | None
    runs: int


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """What a value moves when the same thing is done again: normalised; None where undefined.

    Attributes:
        of: metric id, or ``total``.
        spread: standard deviation between the runs, from their values alone.
        floor: a delta of two further runs that repeating alone exceeds in ``alpha`` of the times; from ``spread``.
        spread_by_case: the same standard deviation from how much each case moves, if cases move independently;
            far more precise with few runs.
        floor_by_case: as ``floor``, from ``spread_by_case``.
        p_drift: chance of a ``spread`` at least this large if cases move independently; small: something moves all
            cases together (another judge version, another machine), and only ``floor`` holds. None where no case moves.
        runs: how many.
    """

    of: str
    spread: float | None
    floor: float | None
    spread_by_case: float | None
    floor_by_case: float | None
    p_drift: float | None
    runs: int


def estimate_seeds(
    runs: Sequence[CaseScores],
    protocol: ProtocolName,
    *,
    allow_missing: bool = False,
    resampling: Resampling = _DEFAULT,
) -> tuple[Estimate, ...]:
    """The mean over the seeds of a system, with intervals for other seeds and other cases.

    Two levels: effects of seeds are drawn with replacement, then cases within their categories, the same for every
    seed, since all seeds render the same cases. The spread of the runs' values also contains the noise of single
    cases, which the case level already carries; the seeds' deviations are shrunk by that share, so that no part
    counts twice. Drawing whole runs instead counts the noise three times (Owen 2007).

    Assumes seeds and cases drawn independently. With few seeds the between-seed part is itself poorly known; the
    degrees of freedom (Satterthwaite) widen the interval for it.

    Source: Carpenter, Goldstein and Rasbash, A novel bootstrap procedure for assessing the relationship between
    class size and achievement, Applied Statistics 52 (2003) 431-443 (residuals rescaled to their component);
    Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1 (2007) 386-411.

    Args:
        runs: one per seed, two or more, of the same cases.
        protocol: how they become a total.
        allow_missing: as in :func:`refeval.protocols.run_total`.
        resampling: number of draws, seed, level, method.

    Raises:
        BadInput: fewer than two runs, or runs of different cases.
    """
    system, strata = _Repeated.read(runs, protocol, allow_missing), Strata(runs[0].categories)
    weights_bn = draw_weights(strata, resampling)
    draws_bq = system.draws(weights_bn, strata, np.random.default_rng([resampling.seed, SEED_STREAM]))
    rows_q = np.vstack([strata.centred(system.influence_rnq.mean(axis=0)), system.seed_effects(strata)])
    _, degrees_q = _variance([system], system.influence_rnq.mean(axis=0), strata)
    ends = _intervals(draws_bq, system.values_rq.mean(axis=0), rows_q, degrees_q, resampling)
    ends[:, ~strata.varies(system.counted_in_any())] = np.nan
    return estimates(system.quantities, system.values_rq.mean(axis=0), ends, system.counted(), resampling)


def compare_seeds(
    base: Sequence[CaseScores],
    candidate: Sequence[CaseScores],
    protocol: ProtocolName,
    *,
    allow_missing: bool = False,
    resampling: Resampling = _DEFAULT,
) -> tuple[Delta, ...]:
    """The difference of two systems with several seeds each, candidate minus base.

    Cases are paired, seeds are not: both systems are drawn as in :func:`estimate_seeds`, on the same drawn cases.
    p is that of delta / standard error under Student's t with Satterthwaite's degrees of freedom: seeds of two
    systems cannot be swapped case by case without breaking what a seed moves in all cases.

    Args:
        base: runs of the system compared with, one per seed.
        candidate: runs of the system in question; the numbers of seeds may differ.
        protocol: how they become a total.
        allow_missing: as in :func:`refeval.protocols.run_total`.
        resampling: number of draws, seed, level, method.

    Raises:
        BadInput: fewer than two runs of a system, or runs of different cases.
    """
    require_same_cases([*base, *candidate])
    strata = Strata(base[0].categories)
    first, second = (_Repeated.read(runs, protocol, allow_missing) for runs in (base, candidate))
    weights_bn, rng = draw_weights(strata, resampling), np.random.default_rng([resampling.seed, SEED_STREAM])
    draws_bq = -first.draws(weights_bn, strata, rng) + second.draws(weights_bn, strata, rng)
    influence_nq = second.influence_rnq.mean(axis=0) - first.influence_rnq.mean(axis=0)
    rows_q = np.vstack([strata.centred(influence_nq), -first.seed_effects(strata), second.seed_effects(strata)])
    base_q, candidate_q = first.values_rq.mean(axis=0), second.values_rq.mean(axis=0)
    variance_q, degrees_q = _variance([first, second], influence_nq, strata)
    ends = _intervals(draws_bq, candidate_q - base_q, rows_q, degrees_q, resampling)
    varies_q = strata.varies(np.maximum(first.counted_in_any(), second.counted_in_any()))
    ends[:, ~varies_q], errors = np.nan, np.where(varies_q, np.sqrt(variance_q), np.nan)
    tested_q = np.any([run.scored for system in (first, second) for run in system.runs], axis=0)
    p_values = [
        _t_test(delta, error, degrees) if tested else None
        for delta, error, degrees, tested in zip(candidate_q - base_q, errors, degrees_q, tested_q, strict=True)
    ]
    effects = [detectable_effect(e, f) for e, f in zip(errors, degrees_q, strict=True)]
    pairs = np.minimum(first.counted(), second.counted())
    return deltas(first.quantities, base_q, candidate_q, ends, p_values, pairs, effects, resampling)


def split_variance(
    runs: Sequence[CaseScores], protocol: ProtocolName, *, allow_missing: bool = False
) -> tuple[VarianceSplit, ...]:
    """How the spread of a run's value divides between seeds, cases and noise.

    A two-way analysis of variance, seeds by cases, of what each case adds to each quantity, within categories.
    Estimates that come out below 0 are 0, so a component may read 0 by chance.

    Source: Searle, Casella and McCulloch, Variance Components, Wiley 1992, section 4.3.

    Args:
        runs: one per seed, two or more, of the same cases.
        protocol: how they become a total.
        allow_missing: as in :func:`refeval.protocols.run_total`.

    Raises:
        BadInput: fewer than two runs, or runs of different cases.
    """
    system, strata = _Repeated.read(runs, protocol, allow_missing), Strata(runs[0].categories)
    noise_q = system.noise(strata)
    cases_q = np.maximum(0, strata.variance(system.influence_rnq.mean(axis=0)) - noise_q / len(runs))
    components = np.sqrt([system.seed_variance(strata), cases_q, noise_q])
    components[:, np.isnan(system.values_rq).any(axis=0)] = np.nan
    found = []
    for of, column in zip(system.quantities, components.T, strict=True):
        seeds, cases, noise = (None if math.isnan(part) else float(part) for part in column)
        found.append(VarianceSplit(of=of, seeds=seeds, cases=cases, noise=noise, runs=len(runs)))
    return tuple(found)


def noise_floor(
    runs: Sequence[CaseScores], protocol: ProtocolName, *, allow_missing: bool = False, alpha: float = ALPHA
) -> tuple[NoiseFloor, ...]:
    """What delta is mere noise: from runs that repeat the same thing, such as the same clips judged again.

    floor = t(1 - alpha / 2, R - 1) * sqrt(2) * spread; by case the degrees of freedom come from the cases.

    Source: Bland and Altman, Measurement error, BMJ 312 (1996) 1654 (repeatability).

    Args:
        runs: two or more, of the same cases.
        protocol: how they become a total.
        allow_missing: as in :func:`refeval.protocols.run_total`.
        alpha: share of pairs of repeated runs that may differ by more than the floor.

    Raises:
        BadInput: fewer than two runs, or runs of different cases.
    """
    system = _Repeated.read(runs, protocol, allow_missing)
    spread_q = system.apart().std(axis=0, ddof=1)
    by_case_nq = system.cases_apart().var(axis=0, ddof=1)
    return tuple(
        _floor(of, float(spread), by_case_nq[:, q], len(runs), alpha)
        for q, (of, spread) in enumerate(zip(system.quantities, spread_q, strict=True))
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Repeated:
    """Runs of one system: values (R, Q), and what each case adds to each of them (R, N, Q)."""

    runs: tuple[Aggregation, ...]
    values_rq: FloatArray
    influence_rnq: FloatArray

    @classmethod
    def read(cls, scores: Sequence[CaseScores], protocol: ProtocolName, allow_missing: bool) -> _Repeated:
        require_same_cases(scores)
        if len(scores) < 2:
            raise BadInput("one run does not show what repeating moves", cure="give two runs or more")
        runs = tuple(aggregate(run, protocol, allow_missing=allow_missing) for run in scores)
        values_rq = np.array([run.values() for run in runs])
        around = pool(runs)
        return cls(runs=runs, values_rq=values_rq, influence_rnq=np.array([run.influence(around) for run in runs]))

    @property
    def quantities(self) -> tuple[str, ...]:
        return self.runs[0].quantities

    def counted(self) -> FloatArray:
        """Cases that are in the mean of every run, float64 (Q,)."""
        return np.asarray(np.min([run.counted() for run in self.runs], axis=0).sum(axis=0))

    def counted_in_any(self) -> FloatArray:
        """Which cases are in which mean of at least one run, float64 (N, Q) of 0 and 1."""
        return np.asarray(np.max([run.counted() for run in self.runs], axis=0))

    def apart(self) -> FloatArray:
        """How far each run's value is from the first's, float64 (R, Q): exactly 0 where a run repeats it."""
        return np.asarray(self.values_rq - self.values_rq[0])

    def cases_apart(self) -> FloatArray:
        """The same of what each case adds, float64 (R, N, Q)."""
        return np.asarray(self.influence_rnq - self.influence_rnq[0])

    def noise(self, strata: Strata) -> FloatArray:
        """Variance of one run's value by what a seed moves in each case on its own, float64 (Q,)."""
        apart_rnq = self.cases_apart() - self.cases_apart().mean(axis=0)
        return np.asarray(sum(strata.variance(apart_nq) for apart_nq in apart_rnq) / (len(self.runs) - 1))

    def seed_variance(self, strata: Strata) -> FloatArray:
        """Variance of one run's value by what a seed moves in all cases alike, float64 (Q,), 0 or more."""
        return np.asarray(np.maximum(0, self.apart().var(axis=0, ddof=1) - self.noise(strata)))

    def seed_effects(self, strata: Strata) -> FloatArray:
        """What each seed adds to the mean over seeds, shrunk to the seeds' own variance, float64 (R, Q)."""
        apart_rq = self.apart() - self.apart().mean(axis=0)
        spread_q = self.apart().var(axis=0, ddof=1)
        share_q = np.divide(self.seed_variance(strata), spread_q, out=np.zeros_like(spread_q), where=spread_q > 0)
        return np.asarray(apart_rq * np.sqrt(share_q) / len(self.runs))

    def draws(self, weights_bn: FloatArray, strata: Strata, rng: np.random.Generator) -> FloatArray:
        """The mean over seeds in every resample, float64 (B, Q)."""
        cases_bq = np.mean([run.totals(weights_bn) for run in self.runs], axis=0)
        seed_weights_br = Strata(["seed"] * len(self.runs)).draw(len(weights_bn), rng)
        return np.asarray(cases_bq + seed_weights_br @ self.seed_effects(strata))


def _variance(
    systems: Sequence[_Repeated],
    influence_nq: FloatArray,
    strata: Strata,
) -> tuple[FloatArray, FloatArray]:
    """Variance of a mean over seeds, or of a difference of two, and its degrees of freedom: both float64 (Q,).

    Source: Satterthwaite, An approximate distribution of estimates of variance components, Biometrics 2 (1946).
    """
    parts = [(strata.variance(influence_nq), strata.degrees)]
    parts += [(s.seed_variance(strata) / len(s.runs), len(s.runs) - 1) for s in systems]
    whole_q = np.sum([part for part, _ in parts], axis=0)
    uncertain_q = np.sum([part**2 / degrees for part, degrees in parts], axis=0)
    # No variance at all, or an undefined one: the degrees no longer matter.
    degrees_q = np.divide(
        whole_q**2, uncertain_q, out=np.full_like(whole_q, strata.degrees, dtype=np.float64), where=uncertain_q > 0
    )
    return whole_q, degrees_q


def _intervals(
    draws_bq: FloatArray,
    values_q: FloatArray,
    rows_q: FloatArray,
    degrees_q: FloatArray,
    resampling: Resampling,
) -> FloatArray:
    """As :func:`refeval.statistics.comparison.interval`, with degrees of freedom of every quantity's own."""
    ends = [
        interval(draws_bq[:, [q]], values_q[[q]], rows_q[:, [q]], float(degrees), resampling)
        for q, degrees in enumerate(degrees_q)
    ]
    return np.column_stack(ends)


def _t_test(delta: float, error: float, degrees: float) -> float | None:
    if math.isnan(delta) or math.isnan(error):
        return None
    if error == 0:
        # Nothing tells how far luck would have moved the delta.
        return 1.0 if delta == 0 else None
    return _above_0(2 * stdtr(degrees, -abs(delta) / error))


def _above_0(p: float) -> float:
    """A tail that is too small for a float64 is still no 0."""
    return max(float(p), sys.float_info.min)


def _floor(of: str, spread: float, by_case_n: FloatArray, runs: int, alpha: float) -> NoiseFloor:
    if math.isnan(spread):
        return NoiseFloor(
            of=of, spread=None, floor=None, spread_by_case=None, floor_by_case=None, p_drift=None, runs=runs
        )
    variance = float(by_case_n.sum())
    degrees = (runs - 1) * variance**2 / float((by_case_n**2).sum()) if variance else math.inf
    reach = math.sqrt(2) * float(stdtrit(runs - 1, 1 - alpha / 2))
    reach_by_case = math.sqrt(2) * float(stdtrit(degrees, 1 - alpha / 2)) if variance else 0.0
    return NoiseFloor(
        of=of,
        spread=spread,
        floor=reach * spread,
        spread_by_case=math.sqrt(variance),
        floor_by_case=reach_by_case * math.sqrt(variance),
        p_drift=_above_0(chdtrc(runs - 1, (runs - 1) * spread**2 / variance)) if variance else None,
        runs=runs,
    )
