"""The scores of a run as arrays, one row per case: what every statistic starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refeval.cases import Domain, Suite
from refeval.catalogue import METRIC_BY_ID, PUBLISHED_METRICS
from refeval.errors import BadInput
from refeval.protocols import ProtocolName, applies, records_by_metric_and_case
from refeval.records import ScoreRecord

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_SAME_SUITE = "evaluate both on the same suite: refeval run --suite SUITE"


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What a protocol reads of one metric.

    Attributes:
        values: float64 (n_cases,), raw unit; NaN: not counted by the protocol, or without a value.
        applicable: bool (n_cases,): the suite counts the case for this metric.
    """

    values: FloatArray
    applicable: BoolArray


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseScores:
    """The scores of one run of a suite.

    The official protocols and ``strict`` read different numbers of the same record, so they are kept apart.

    Attributes:
        domain: selects the weights of the total.
        cases: ids in suite order.
        categories: of each case; the strata of every resampling.
        official: metric id -> what ``opens2v-v1.1`` and ``opens2v-v1.0`` read.
        strict: metric id -> what ``strict`` reads.
    """

    domain: Domain
    cases: tuple[str, ...]
    categories: tuple[str, ...]
    official: Mapping[str, Reading]
    strict: Mapping[str, Reading]

    def read_by(self, protocol: ProtocolName) -> Mapping[str, Reading]:
        """The numbers that a protocol reads, by metric id."""
        return self.strict if protocol is ProtocolName.STRICT else self.official


def from_records(suite: Suite, records: Iterable[ScoreRecord], *, domain: Domain | None = None) -> CaseScores:
    """The scores of a run.

    Args:
        suite: its cases, their categories, and which of them count for which metric.
        records: at most one per metric and case; metrics that no protocol knows are passed over.
        domain: weights of another domain than the suite's.

    Raises:
        BadInput: a record of a case that the suite does not have, or two of the same metric and case.
    """
    table = records_by_metric_and_case(suite, records)
    cases = tuple(case.id for case in suite.cases)

    def read(protocol: ProtocolName) -> dict[str, Reading]:
        found = {}
        for metric in PUBLISHED_METRICS:
            counted = set(applies(protocol, metric.id, suite))
            rows = [table.get((metric.id, case)) if case in counted else None for case in cases]
            strict = protocol is ProtocolName.STRICT
            values = [row and (row.strict_value if strict else row.value) for row in rows]
            found[metric.id] = Reading(
                values=np.array([np.nan if value is None else value for value in values], dtype=np.float64),
                applicable=np.array([case in counted for case in cases], dtype=np.bool_),
            )
        return found

    return CaseScores(
        domain=domain or suite.domain,
        cases=cases,
        categories=tuple(str(case.category) for case in suite.cases),
        # Both official protocols read the same values of the same cases.
        official=read(ProtocolName.V1_1),
        strict=read(ProtocolName.STRICT),
    )


def require_same_cases(runs: Sequence[CaseScores]) -> None:
    """Refuse runs that cannot be paired case by case.

    Raises:
        BadInput: no run at all, or runs that differ in cases, categories, domain or in what the suite counts.
    """
    if not runs:
        raise BadInput("no run to look at")
    first = runs[0]
    for other in runs[1:]:
        if (first.cases, first.categories) != (other.cases, other.categories):
            differing = sorted(set(first.cases) ^ set(other.cases))
            details = (("in one run only", ", ".join(differing[:5])),) if differing else ()
            raise BadInput("the runs are of different cases and cannot be paired", details=details, cure=_SAME_SUITE)
        if first.domain != other.domain:
            what = f"the runs are weighted by different domains: {first.domain} and {other.domain}"
            raise BadInput(what, cure="give both the same domain")
        _require_same_applicable(first, other)


def _require_same_applicable(first: CaseScores, other: CaseScores) -> None:
    """Cases of one id may have other references: means over different cases would be subtracted."""
    for one, two in ((first.official, other.official), (first.strict, other.strict)):
        for metric, reading in one.items():
            differing = np.flatnonzero(reading.applicable != two[metric].applicable)
            if len(differing):
                what = f"the suites of the runs count different cases for {METRIC_BY_ID[metric].label}"
                details = (("for example", ", ".join(first.cases[n] for n in differing[:5])),)
                raise BadInput(what, details=details, cure=_SAME_SUITE)
