"""Strengths of several arms from pairwise votes: Bradley and Terry's model with Davidson's ties and a side effect.

With d = strength(left) - strength(right) + position, the odds of left : tie : right are
exp(d / 2) : exp(tie) : exp(-d / 2). Strengths add up to 0; their difference is the log odds of a decisive vote.

Source: Davidson, On extending the Bradley-Terry model to accommodate ties in paired comparison experiments, JASA 65
(1970) 317-328; the side: Davidson and Beaver, On extending the Bradley-Terry model to incorporate within-pair order
effects, Biometrics 33 (1977) 693-702, with their tie parameter divided by the root of their order effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from refeval.errors import BadInput
from refeval.statistics.results import Resampling
from refeval.statistics.scores import FloatArray
from refeval.studies.analysis_clusters import Clusters
from refeval.studies.comparisons import Answer, Comparison

_STEPS, _HALVINGS, _STILL = 60, 40, 1e-10
_CURE = "collect more votes"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A number of the model, in log odds, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Strength:
    """One arm.

    Attributes:
        arm: label.
        strength: log odds against an average arm.
        ranks: best and worst rank that the votes allow, 1 is best.
        group: of arms whose ranks overlap, 1 is best; arms of one group are not told apart.
    """

    arm: str
    strength: Parameter
    ranks: tuple[int, int]
    group: int


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The fitted model.

    Attributes:
        arms: the strongest first.
        tie: log of Davidson's parameter; None without a tie.
        position: log odds that a decisive vote between equals goes to the left; None where the sides cannot tell.
        votes: that it rests on.
        level: of the intervals.
    """

    arms: tuple[Strength, ...]
    tie: Parameter | None
    position: Parameter | None
    votes: int
    level: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """The maximum of the likelihood.

    Attributes:
        arms: labels, sorted.
        strengths: float64 (n_arms,), adding up to 0.
        tie: None without a tie.
        position: None where it cannot be told from the strengths.
        influence: float64 (votes, n_arms + 2): how far each strength, tie and position move with a vote's weight.
        log_likelihood: natural logarithm.
    """

    arms: tuple[str, ...]
    strengths: FloatArray
    tie: float | None
    position: float | None
    influence: FloatArray
    log_likelihood: float


def rank_arms(votes: Sequence[Comparison], resampling: Resampling) -> Ranking:
    """Strengths and ranks with intervals over other cases and raters (:meth:`Clusters.errors`).

    An arm's best rank is one more than the number of arms that are surely better, its worst allows for all that are
    not surely worse; "surely" is at the level for all its comparisons at once.

    Source: Mogstad, Romano, Shaikh and Wilhelm, Inference for ranks with applications to mobility across
    neighbourhoods and academic achievement across countries, Review of Economic Studies 91 (2024) 476-518, with
    Bonferroni's bound.

    Args:
        votes: of one question, between arms.
        resampling: number of draws, seed, level.

    Raises:
        BadInput: as :func:`fit_davidson`.
    """
    fit, clusters = fit_davidson(votes), Clusters(votes, resampling)
    count = len(fit.arms)
    errors = clusters.errors(fit.influence)
    ranks = _ranks(fit, clusters)
    order = sorted(range(count), key=lambda i: (-fit.strengths[i], fit.arms[i]))
    groups = _groups([ranks[i] for i in order])

    def parameter(value: float, error: float) -> Parameter:
        half = clusters.half_width(float(error))
        return Parameter(value=float(value), low=float(value) - half, high=float(value) + half)

    return Ranking(
        arms=tuple(
            Strength(arm=fit.arms[i], strength=parameter(fit.strengths[i], errors[i]), ranks=ranks[i], group=group)
            for i, group in zip(order, groups, strict=True)
        ),
        tie=None if fit.tie is None else parameter(fit.tie, errors[count]),
        position=None if fit.position is None else parameter(fit.position, errors[count + 1]),
        votes=len(votes),
        level=resampling.level,
    )


def fit_davidson(votes: Sequence[Comparison]) -> Fit:
    """The maximum of the likelihood, by Newton's method; it is concave, so there is one at most.

    Without ties the tie parameter is left out; where every pair always shows the same arm on the left, the side
    effect is.

    Args:
        votes: between arms; "both bad" is a tie.

    Raises:
        BadInput: no vote; votes that do not connect all arms, in both directions; or answers that follow the side
            without exception.
    """
    arms = tuple(sorted({arm for vote in votes for arm in (vote.left, vote.right)}))
    place = {arm: i for i, arm in enumerate(arms)}
    left_v, right_v = (np.array([place[getattr(v, side)] for v in votes], dtype=np.intp) for side in ("left", "right"))
    outcome_v = np.array([{Answer.LEFT: 1, Answer.RIGHT: -1}.get(vote.answer, 0) for vote in votes])
    _refuse_disconnected(arms, left_v, right_v, outcome_v)
    x_vp, sided = _design(left_v, right_v, len(arms))
    tied_v = (outcome_v == 0).astype(np.float64) if np.any(outcome_v == 0) else None
    params, scores_vp, information_pp, value = _maximise(x_vp, outcome_v / 2, tied_v)
    influence_vp = np.linalg.solve(information_pp, scores_vp.T).T
    # From the parameters of the fit (arm 0 at 0) to strengths that add up to 0, the tie and the side.
    to = np.zeros((len(params), len(arms) + 2))
    to[: len(arms) - 1, : len(arms)] = np.eye(len(arms))[1:] - 1 / len(arms)
    if sided:
        to[len(arms) - 1, len(arms) + 1] = 1
    if tied_v is not None:
        to[-1, len(arms)] = 1
    found = params @ to
    return Fit(
        arms=arms,
        strengths=found[: len(arms)],
        tie=None if tied_v is None else float(found[-2]),
        position=float(found[-1]) if sided else None,
        influence=influence_vp @ to,
        log_likelihood=value,
    )


def _design(left_v: npt.NDArray[np.intp], right_v: npt.NDArray[np.intp], count: int) -> tuple[FloatArray, bool]:
    x_vk = np.eye(count)[left_v] - np.eye(count)[right_v]
    x_vp = np.column_stack([x_vk[:, 1:], np.ones(len(left_v))])
    sided = int(np.linalg.matrix_rank(x_vp)) == count
    return (x_vp if sided else x_vp[:, :-1]), sided


def _maximise(
    x_vp: FloatArray, half_v: FloatArray, tied_v: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Parameters (the tie last), scores of the votes, information, log likelihood."""
    params = np.zeros(x_vp.shape[1] + (tied_v is not None))
    value, scores, information = _likelihood(params, x_vp, half_v, tied_v)
    for _ in range(_STEPS):
        try:
            step = np.linalg.solve(information, scores.sum(axis=0))
        except np.linalg.LinAlgError:
            break
        if np.abs(step).max() < _STILL:
            return params, scores, information, value
        for halving in range(_HALVINGS):
            nearer = params + step / 2**halving
            found, scores, information = _likelihood(nearer, x_vp, half_v, tied_v)
            # At the top, sums in another order differ in their last bits.
            if found >= value - 1e-12 * abs(value):
                break
        params, value = nearer, found
    raise BadInput("the votes have no most likely strengths: the answers follow the side without exception", cure=_CURE)


def _likelihood(
    params: FloatArray, x_vp: FloatArray, half_v: FloatArray, tied_v: FloatArray | None
) -> tuple[float, FloatArray, FloatArray]:
    """Log likelihood, its derivative by vote, and minus its second derivative; ``half_v`` is 1/2, 0 or -1/2."""
    d_v = x_vp @ params[: x_vp.shape[1]]
    logits = [d_v / 2, -d_v / 2, np.full_like(d_v, -np.inf if tied_v is None else params[-1])]
    total_v = np.logaddexp.reduce(logits, axis=0)
    left_v, right_v, tie_v = np.exp(np.array(logits) - total_v)
    mean_v = (left_v - right_v) / 2
    value = float((d_v * half_v - total_v).sum())
    bend_v = (left_v + right_v) / 4 - mean_v**2
    scores, information = x_vp * (half_v - mean_v)[:, None], (x_vp * bend_v[:, None]).T @ x_vp
    if tied_v is None:
        return value, scores, information
    cross_p = -(x_vp.T @ (tie_v * mean_v))
    corner = np.array([[tie_v @ (1 - tie_v)]])
    return (
        value + float(tied_v.sum()) * float(params[-1]),
        np.column_stack([scores, tied_v - tie_v]),
        np.block([[information, cross_p[:, None]], [cross_p[None, :], corner]]),
    )


def _refuse_disconnected(
    arms: Sequence[str], left_v: npt.NDArray[np.intp], right_v: npt.NDArray[np.intp], outcome_v: npt.NDArray[np.int_]
) -> None:
    if not arms:
        raise BadInput("no vote to rank arms by", cure=_CURE)
    # An edge from whoever was not beaten to whoever did not win: a tie is an edge both ways.
    ahead, behind = outcome_v >= 0, outcome_v <= 0
    start = np.concatenate([left_v[ahead], right_v[behind]])
    end = np.concatenate([right_v[ahead], left_v[behind]])
    graph = coo_array((np.ones(len(start)), (start, end)), shape=(len(arms), len(arms))).tocsr()
    for connection, what in (
        ("weak", "the arms cannot be ranked: no vote compares these groups"),
        ("strong", "the arms cannot be ranked: a group of arms never lost, or never won, against the others"),
    ):
        count, label_k = connected_components(graph, directed=True, connection=connection)
        if count > 1:
            groups = sorted([arm for arm, label in zip(arms, label_k, strict=True) if label == k] for k in range(count))
            details = tuple((f"group {k}", ", ".join(group)) for k, group in enumerate(groups, 1))
            raise BadInput(what, details=details, cure=_CURE)


def _ranks(fit: Fit, clusters: Clusters) -> list[tuple[int, int]]:
    count = len(fit.arms)
    first, second = np.triu_indices(count, 1)
    error_kk = np.zeros((count, count))
    error_kk[first, second] = clusters.errors(fit.influence[:, first] - fit.influence[:, second])
    error_kk += error_kk.T
    # ahead[i, j]: arm i is surely better than arm j.
    ahead = fit.strengths[:, None] - fit.strengths > clusters.half_width(1, tests=max(1, count - 1)) * error_kk
    np.fill_diagonal(ahead, False)
    return [(1 + int(ahead[:, i].sum()), count - int(ahead[i].sum())) for i in range(count)]


def _groups(ranks: Sequence[tuple[int, int]]) -> list[int]:
    """A group ends where the next arm's best rank lies beyond the worst rank of all before it."""
    groups, worst = [1], ranks[0][1]
    for _, after in pairwise(ranks):
        groups.append(groups[-1] + (after[0] > worst))
        worst = max(worst, after[1])
    return groups
