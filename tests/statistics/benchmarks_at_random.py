"""Made-up benchmarks with the shapes of real ones, whose true values are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr
from scipy.stats import beta, gamma

from refeval.cases import Domain
from refeval.protocols import ProtocolName
from refeval.statistics.aggregation import Aggregation, aggregate
from refeval.statistics.scores import CaseScores, FloatArray, Reading

METRICS = ("aesthetics", "motion_smoothness", "motion_amplitude", "facesim", "gme", "nexus", "natural")
_IN_POPULATION = 3000


def scores_of(categories: list[str], columns: dict[str, FloatArray], *, domain: Domain = Domain.OPEN) -> CaseScores:
    """Scores whose official and strict values agree; NaN is a case that the suite does not count."""
    read = {metric: Reading(values=x, applicable=~np.isnan(x)) for metric, x in columns.items()}
    cases = tuple(f"{category}_{i}" for i, category in enumerate(categories))
    return CaseScores(domain=domain, cases=cases, categories=tuple(categories), official=read, strict=read)


def values_from(z_nm: FloatArray, category_n: FloatArray) -> dict[str, FloatArray]:
    """Seven metrics from seven standard normal numbers per case, (N, 7), and a number 0..1 per category.

    Bounded, skewed, with zeros: FaceSim is 0 in about one case in five, NexusScore in one of three to seven in ten;
    MotionAmplitude and NexusScore have a long tail that the official clamp cuts; NaturalScore is in thirds.
    """
    u = ndtr(z_nm)
    zeros = 0.3 + 0.4 * category_n
    skewed = beta.ppf(np.clip((u[:, 5] - zeros) / (1 - zeros), 0, 1), 0.7, 2.5)
    return {
        "aesthetics": 5.3 + 0.4 * z_nm[:, 0] + 0.5 * category_n,
        "motion_smoothness": 1 - 0.5 * (1 - u[:, 1]) ** 6,
        "motion_amplitude": gamma.ppf(np.clip(u[:, 2], 0, 1 - 1e-9), 0.6) * (0.1 + 0.4 * category_n),
        "facesim": np.where(u[:, 3] < 0.2, 0.0, beta.ppf(np.clip((u[:, 3] - 0.2) / 0.8, 0, 1), 2, 2.5 + category_n)),
        "gme": 0.68 + 0.06 * z_nm[:, 4],
        "nexus": np.where(u[:, 5] <= zeros, 0.0, 0.1 * skewed),
        "natural": np.round(3 * np.clip(3.4 + 0.9 * z_nm[:, 6] - category_n, 1, 5)) / 3,
    }


def normal_scores(n: int, rng: np.random.Generator, *, shared: float = 0.3) -> FloatArray:
    """Standard normal numbers, (n, 7), correlated within a case as a better clip is better in most respects."""
    return np.sqrt(shared) * rng.normal(size=(n, 1)) + np.sqrt(1 - shared) * rng.normal(size=(n, len(METRICS)))


@dataclass(frozen=True, kw_only=True)
class Population:
    """Many cases of every category, of one or of two systems, from which benchmarks are drawn.

    Attributes:
        runs: one per system: the protocol's view of all cases of the population.
        categories: how many.
        per_category: how many cases of each a benchmark has.
    """

    runs: tuple[Aggregation, ...]
    categories: int
    per_category: int

    def draw(self, rng: np.random.Generator) -> tuple[Aggregation, ...]:
        """A benchmark: the same cases of every system."""
        size = len(self.runs[0].x_nm) // self.categories
        rows = rng.integers(size, size=(self.categories, self.per_category))
        index = (rows + size * np.arange(self.categories)[:, None]).ravel()
        return tuple(
            replace(run, x_nm=run.x_nm[index], mask_nm=run.mask_nm[index], lost_nm=run.lost_nm[index])
            for run in self.runs
        )

    def without_difference(self) -> Population:
        """Two systems that nothing tells apart: every case once as it is, and once with its two records swapped."""
        first, second = self.runs
        pairs = ((first, second), (second, first))
        return replace(self, runs=tuple(_interleaved(a, b, self.categories) for a, b in pairs))

    @property
    def labels(self) -> list[str]:
        """The category of each case of a benchmark."""
        return [f"c{k}" for k in range(self.categories) for _ in range(self.per_category)]


def population(
    protocol: ProtocolName, *, categories: int, per_category: int, systems: int = 1, better: float = 0.0
) -> Population:
    """A population of cases of systems that agree case by case to .6, each ``better`` (in sigmas) than the last.

    NexusScore leaves a case in six out, and FaceSim every fourth category, as the suites do.
    """
    rng = np.random.default_rng(0)
    n = categories * _IN_POPULATION
    category_n = np.repeat(np.arange(categories) / max(1, categories - 1), _IN_POPULATION)
    no_face = np.repeat(np.arange(categories) % 4 == 3, _IN_POPULATION)
    no_nexus = rng.random(n) < 1 / 6
    common = normal_scores(n, rng)
    runs = []
    for system in range(systems):
        z = np.sqrt(0.6) * common + np.sqrt(0.4) * normal_scores(n, rng) + better * system
        columns = values_from(z, category_n)
        columns["facesim"] = np.where(no_face, np.nan, columns["facesim"])
        scale = 10 if protocol is ProtocolName.STRICT else 1  # from 0..0.1 to the 0..1 of the strict protocol
        columns["nexus"] = np.where(no_nexus, np.nan, scale * columns["nexus"])
        runs.append(aggregate(scores_of(["c"] * n, columns), protocol))
    return Population(runs=tuple(runs), categories=categories, per_category=per_category)


def shifted(run: Aggregation, metric: int, by: float) -> Aggregation:
    """The run with so much added to one metric of every case; the metric's range is 0..1 and its mean has all cases."""
    return replace(run, x_nm=run.x_nm + by * (np.arange(len(run.slots)) == metric))


def _interleaved(first: Aggregation, second: Aggregation, categories: int) -> Aggregation:
    def joined(a: FloatArray, b: FloatArray) -> FloatArray:
        by_category = [x.reshape(categories, -1, x.shape[1]) for x in (a, b)]
        return np.concatenate(by_category, axis=1).reshape(-1, a.shape[1])

    return replace(
        first,
        x_nm=joined(first.x_nm, second.x_nm),
        mask_nm=joined(first.mask_nm, second.mask_nm),
        lost_nm=joined(first.lost_nm, second.lost_nm),
    )
