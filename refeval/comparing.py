"""Two systems on the same cases: what differs, how sure that is, and which cases are behind it. A pure function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refeval.baselines import Baseline
from refeval.cases import Domain
from refeval.catalogue import METRIC_BY_ID
from refeval.comparability import Difference, find_differences, find_unrecorded, refuse_differences
from refeval.errors import BadInput
from refeval.metrics.judges.calibration import Drift
from refeval.protocols import ProtocolName, slots
from refeval.sides import CategoryDelta, Coverage, Loss, ScoredSide, case_losses, category_deltas
from refeval.statistics import (
    Delta,
    Resampling,
    compare_runs,
    compare_seeds,
)

TOTAL_LABEL = "TotalScore"
_DEFAULT = Resampling()
_NATURAL = METRIC_BY_ID["natural"].id


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How two sides are compared.

    Attributes:
        protocol: how scores become totals.
        domain: weights of another domain than the suite's.
        allow_missing: compare what is there, also where applicable cases have no value.
        allowed: differences that are accepted, by name of :data:`refeval.comparability.ALLOWANCES`.
        resampling: of intervals and p-values.
    """

    protocol: ProtocolName = ProtocolName.V1_1
    domain: Domain | None = None
    allow_missing: bool = False
    allowed: frozenset[str] = frozenset()
    resampling: Resampling = _DEFAULT


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side, as reports name it.

    Attributes:
        model: as the manifest has it.
        seeds: of its runs.
        refeval_version: that rendered them.
    """

    model: str
    seeds: tuple[int, ...]
    refeval_version: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.model}, seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One metric, or the total.

    Attributes:
        label: as published.
        delta: values are normalised (fractions of the metric's range): higher is better for every metric.
        base: coverage of the base.
        candidate: coverage of the candidate.
    """

    label: str
    delta: Delta
    base: Coverage
    candidate: Coverage

    @property
    def complete(self) -> bool:
        """Every applicable case has a value, on both sides."""
        return all(coverage.scored == coverage.applicable for coverage in (self.base, self.candidate))

    @property
    def measured(self) -> bool:
        """The suite has a case that counts for it."""
        return min(self.base.applicable, self.candidate.applicable) > 0


@dataclass(frozen=True, kw_only=True)
class JudgeDrift:
    """How far the judge has moved between the base's first run and one of the candidate.

    Attributes:
        seed: of the candidate's run.
        drift: None where it is not known.
        reason: why it is not known.
    """

    seed: int
    drift: Drift | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What :func:`compare` found.

    Attributes:
        rows: the metrics of the total, then the total.
        categories: by category and metric.
        losses: every case and metric that takes from the total, the largest first.
        drifts: of the judge; empty where not both sides have a NaturalScore.
        accepted: differences that were allowed.
        notes: what a reader should know, each a sentence.
        identical: both sides have the same values everywhere.
    """

    protocol: ProtocolName
    domain: Domain
    suite: str
    base: Side
    candidate: Side
    rows: tuple[Row, ...]
    categories: tuple[CategoryDelta, ...]
    losses: tuple[Loss, ...]
    drifts: tuple[JudgeDrift, ...]
    accepted: tuple[Difference, ...]
    notes: tuple[str, ...]
    identical: bool
    allow_missing: bool

    @property
    def complete(self) -> bool:
        """Every applicable case of every metric has a value, on both sides, and there is at least one."""
        return all(row.complete for row in self.rows) and self.rows[-1].measured

    @property
    def resampling(self) -> Resampling:
        return self.rows[-1].delta.resampling

    def as_json(self, worst: int) -> dict[str, Any]:
        """Everything, with every digit: values are fractions, as in ``refeval total --json``.

        Args:
            worst: how many of the losses.
        """
        return {
            "protocol": self.protocol.value,
            "domain": self.domain.value,
            "suite": self.suite,
            "base": asdict(self.base),
            "candidate": asdict(self.candidate),
            "rows": [_row_json(row) for row in self.rows],
            "categories": [{**asdict(entry), "delta": entry.delta} for entry in self.categories],
            "losses": [asdict(loss) for loss in self.losses[:worst]],
            "judge_drift": [
                {"seed": d.seed, "drift": d.drift.model_dump() if d.drift else None, "reason": d.reason}
                for d in self.drifts
            ],
            "accepted": [asdict(difference) for difference in self.accepted],
            "notes": list(self.notes),
            "identical": self.identical,
            "complete": self.complete,
            "resampling": asdict(self.resampling),
        }


def compare(base: Sequence[Baseline], candidate: Sequence[Baseline], terms: Terms) -> Comparison:
    """Compare two systems; one run each, or several seeds each.

    Args:
        base: what is compared with.
        candidate: what is in question.
        terms: how.

    Raises:
        BadInput: other suites, judges, decoders, ... that are not allowed to differ (with the whole list), other
            cases, or several seeds on one side only.
    """
    domain = common_domain(base, candidate, terms.domain)
    metrics = [slot.metric for slot in slots(terms.protocol, domain)]
    differences = find_differences(base, candidate, metrics)
    refuse_differences(differences, terms.allowed)
    sides = [
        ScoredSide.read(runs, terms.protocol, domain, allow_missing=terms.allow_missing) for runs in (base, candidate)
    ]
    deltas = _deltas(sides[0], sides[1], terms)
    identical = [_values(run) for run in base] == [_values(run) for run in candidate]
    return Comparison(
        protocol=terms.protocol,
        domain=domain,
        suite=str(base[0].suite["name"]),
        base=_side(base),
        candidate=_side(candidate),
        rows=tuple(_row(delta, sides[0], sides[1]) for delta in deltas),
        categories=category_deltas(sides[0], sides[1]),
        losses=case_losses(sides[0], sides[1]),
        drifts=_drifts(base, candidate),
        accepted=tuple(differences),
        notes=tuple(_notes(base, candidate, metrics, identical)),
        identical=identical,
        allow_missing=terms.allow_missing,
    )


def common_domain(base: Sequence[Baseline], candidate: Sequence[Baseline], wanted: Domain | None) -> Domain:
    """The domain whose weights both sides get: the one that is wanted, or that of all runs.

    Raises:
        BadInput: none is wanted, and the runs are of different ones.
    """
    domains = sorted({run.domain for run in (*base, *candidate)})
    if wanted is None and len(domains) > 1:
        what = f"the runs are of different domains: {' and '.join(domains)}"
        raise BadInput(what, cure=f"--domain {domains[0]} weighs both alike")
    return wanted or domains[0]


def _deltas(base: ScoredSide, candidate: ScoredSide, terms: Terms) -> tuple[Delta, ...]:
    if len(base.scores) == len(candidate.scores) == 1:
        return compare_runs(
            base.scores[0],
            candidate.scores[0],
            terms.protocol,
            allow_missing=terms.allow_missing,
            resampling=terms.resampling,
        )
    if min(len(base.scores), len(candidate.scores)) == 1:
        what = f"the seeds cannot be compared: {len(base.scores)} of the base, {len(candidate.scores)} of the candidate"
        raise BadInput(what, cure="give one run on each side, or two or more on each")
    return compare_seeds(
        base.scores,
        candidate.scores,
        terms.protocol,
        allow_missing=terms.allow_missing,
        resampling=terms.resampling,
    )


def _values(run: Baseline) -> dict[str, dict[str, Any]]:
    return {metric: table for metric, table in run.scores.items() if table}


def _side(runs: Sequence[Baseline]) -> Side:
    return Side(
        model=runs[0].model,
        seeds=tuple(run.seed for run in runs),
        refeval_version=tuple(sorted({run.refeval_version for run in runs})),
    )


def _row(delta: Delta, base: ScoredSide, candidate: ScoredSide) -> Row:
    labels = {metric.metric: metric.label for metric in base.totals[0].metrics}
    return Row(
        label=labels.get(delta.of, TOTAL_LABEL),
        delta=delta,
        base=base.coverage(delta.of),
        candidate=candidate.coverage(delta.of),
    )


def _row_json(row: Row) -> dict[str, Any]:
    delta = {key: value for key, value in asdict(row.delta).items() if key != "resampling"}
    coverage = {"base_coverage": asdict(row.base), "candidate_coverage": asdict(row.candidate)}
    return {"label": row.label, **delta, **coverage, "complete": row.complete}


def _drifts(base: Sequence[Baseline], candidate: Sequence[Baseline]) -> tuple[JudgeDrift, ...]:
    if not all(run.made_by.get(_NATURAL) for run in (*base, *candidate)):
        return ()
    return tuple(_drift(base[0], run) for run in candidate)


def _drift(base: Baseline, run: Baseline) -> JudgeDrift:
    for name, one in (("base", base), ("candidate", run)):
        if one.calibration is None or one.calibration.reason is not None:
            reason = one.calibration.reason if one.calibration else "it holds no calibration"
            return JudgeDrift(seed=run.seed, drift=None, reason=f"the judge of the {name} was not calibrated: {reason}")
    assert base.calibration is not None and run.calibration is not None
    try:
        return JudgeDrift(seed=run.seed, drift=run.calibration.drift_from(base.calibration), reason=None)
    except BadInput as error:
        return JudgeDrift(seed=run.seed, drift=None, reason=error.what)


def _notes(
    base: Sequence[Baseline], candidate: Sequence[Baseline], metrics: Sequence[str], identical: bool
) -> Iterable[str]:
    if identical:
        yield "The two sides are identical: every case has the same value under every metric."
    seeds = [tuple(run.seed for run in side) for side in (base, candidate)]
    if len(base) == len(candidate) == 1 and seeds[0] != seeds[1]:
        yield f"One run each, of seeds {seeds[0][0]} and {seeds[1][0]}: the deltas also hold what a seed moves."
    sizes = Counter(base[0].categories())
    lonely = [name for name, cases in sizes.items() if cases == 1]
    if len(lonely) == len(sizes):
        yield "No category has two cases, so nothing is known of the spread: there are no intervals."
    elif lonely:
        yield (f"Categories of one case show no spread, and the intervals leave their share out: {', '.join(lonely)}.")
    lacking = [(name, find_unrecorded(side, metrics)) for name, side in (("base", base), ("candidate", candidate))]
    for metric_ids in {tuple(found): None for _, found in lacking if found}:
        whose = " and the ".join(name for name, found in lacking if tuple(found) == metric_ids)
        labels = ", ".join(METRIC_BY_ID[metric].label for metric in metric_ids)
        yield (
            f"How the scores were made is not recorded in the {whose} (an earlier release), so decoder, versions, "
            f"settings and weights could not be held against each other: {labels}."
        )
