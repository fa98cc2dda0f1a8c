"""The vectorised protocols against ``run_total``, on runs and on resamples written out as suites of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refeval.cases import Case, Domain, Suite
from refeval.errors import BadInput
from refeval.protocols import ProtocolName, Total, run_total
from refeval.records import ScoreRecord, ScoreStatus
from refeval.statistics.aggregation import aggregate, pool
from refeval.statistics.scores import FloatArray, from_records, require_same_cases
from tests.statistics.benchmarks_at_random import population

RecordLists = st.SearchStrategy[list[ScoreRecord]]
RULES = [(protocol, allow) for protocol in ProtocolName for allow in (False, True)]


def duplicated(suite: Suite, records: Sequence[ScoreRecord], copies: Sequence[int]) -> tuple[Suite, list[ScoreRecord]]:
    """The suite with so many copies of each case, and their records."""
    cases: list[Case] = []
    rows: list[ScoreRecord] = []
    for case, count in zip(suite.cases, copies, strict=True):
        for copy in range(count):
            twin = replace(case, id=f"{case.id}.{copy}")
            cases.append(twin)
            rows += [record.model_copy(update={"case": twin.id}) for record in records if record.case == case.id]
    return replace(suite, cases=tuple(cases)), rows


def numbers(total: Total) -> list[float]:
    values = [*(metric.normalised for metric in total.metrics), total.total]
    return [np.nan if value is None else value for value in values]


@given(data=st.data(), domain=st.sampled_from(Domain))
def test_a_run_is_aggregated_as_its_total_is(
    mixed_suite: Suite, score_records: RecordLists, data: st.DataObject, domain: Domain
) -> None:
    records = data.draw(score_records)
    scores = from_records(mixed_suite, records, domain=domain)
    for protocol, allow in RULES:
        total = run_total(mixed_suite, records, protocol=protocol, domain=domain, allow_missing=allow)
        ours = aggregate(scores, protocol, allow_missing=allow)
        assert ours.quantities == (*(metric.metric for metric in total.metrics), "total")
        np.testing.assert_allclose(ours.values(), numbers(total), rtol=0, atol=1e-12)
        if protocol != ProtocolName.STRICT or allow:
            assert list(ours.counted().sum(axis=0)[:-1]) == [metric.averaged for metric in total.metrics]


@given(data=st.data())
def test_weights_are_numbers_of_copies(mixed_suite: Suite, score_records: RecordLists, data: st.DataObject) -> None:
    records = data.draw(score_records)
    size = len(mixed_suite.cases)
    copies = data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size).filter(any))
    suite, rows = duplicated(mixed_suite, records, copies)
    scores = from_records(mixed_suite, records)
    for protocol, allow in RULES:
        total = run_total(suite, rows, protocol=protocol, allow_missing=allow)
        ours = aggregate(scores, protocol, allow_missing=allow).totals(np.array([copies], dtype=np.float64))
        np.testing.assert_allclose(ours[0], numbers(total), rtol=0, atol=1e-12)


def test_losing_a_case_hurts_each_protocol_as_it_does_the_total(mixed_suite: Suite) -> None:
    records = [
        ScoreRecord(metric="gme", case=case.id, status=ScoreStatus.SCORED, value=v, strict_value=v, task_key="0")
        for case, v in zip(mixed_suite.cases, np.linspace(0.1, 0.9, 9), strict=True)
    ]
    failed = ScoreRecord(metric="gme", case=records[0].case, status=ScoreStatus.FAILED, reason="planted", task_key="0")
    scores = from_records(mixed_suite, [failed, *records[1:]])
    official = aggregate(scores, ProtocolName.V1_1)
    gme = official.quantities.index("gme")
    assert official.values()[gme] == pytest.approx(0.55)  # the worst case has left the mean: .50 becomes .55
    assert np.isnan(aggregate(scores, ProtocolName.STRICT).values()[gme])
    assert aggregate(scores, ProtocolName.STRICT, allow_missing=True).values()[gme] == pytest.approx(4.4 / 9)


def test_official_and_strict_values_stay_apart(mixed_suite: Suite) -> None:
    record = ScoreRecord(
        metric="nexus", case="faceobj_1", status=ScoreStatus.SCORED, value=0.04, strict_value=0.3, task_key="0"
    )
    scores = from_records(mixed_suite, [record])
    row = scores.cases.index("faceobj_1")
    assert scores.official["nexus"].values[row] == 0.04 and scores.strict["nexus"].values[row] == 0.3
    assert np.isnan(np.delete(scores.official["nexus"].values, row)).all()
    assert scores.strict["facesim"].applicable.sum() > scores.official["facesim"].applicable.sum()


@pytest.mark.parametrize("protocol", ProtocolName)
def test_influence_is_the_derivative_by_the_weight_of_a_case(protocol: ProtocolName) -> None:
    (run,) = population(protocol, categories=4, per_category=5).draw(np.random.default_rng(0))
    step = 1e-5
    steps = step * np.eye(len(run.x_nm))
    slopes: FloatArray = (run.totals(1 + steps) - run.totals(1 - steps)) / (2 * step)
    np.testing.assert_allclose(run.influence(), slopes, atol=1e-8)


def test_influence_around_a_pool_adds_up_to_the_distance_from_it() -> None:
    drawn = population(ProtocolName.STRICT, categories=4, per_category=5, systems=3).draw(np.random.default_rng(0))
    around = pool(drawn)
    mean = np.mean([run.values() for run in drawn], axis=0)
    for run in drawn:
        np.testing.assert_allclose(run.influence(around).sum(axis=0), run.values() - mean, atol=1e-12)


def test_runs_that_cannot_be_paired_are_refused(mixed_suite: Suite) -> None:
    scores = from_records(mixed_suite, [])
    fewer = from_records(replace(mixed_suite, cases=mixed_suite.cases[1:]), [])
    with pytest.raises(BadInput, match="cannot be paired"):
        require_same_cases([scores, fewer])
    with pytest.raises(BadInput, match="different domains"):
        require_same_cases([scores, from_records(mixed_suite, [], domain=Domain.HUMAN)])
    with pytest.raises(BadInput, match="no run"):
        require_same_cases([])
