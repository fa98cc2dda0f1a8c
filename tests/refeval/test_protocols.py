"""Totals of runs: what strict promises, and where the official protocols lose cases."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refeval.cases import Domain, Suite
from refeval.catalogue import PUBLISHED_METRICS
from refeval.errors import BadInput
from refeval.protocols import (
    ProtocolName,
    applies,
    case_contributions,
    official_total,
    run_total,
    slots,
    total_from_columns,
)
from refeval.records import ScoreRecord, ScoreStatus

V1_0, V1_1, STRICT = ProtocolName.V1_0, ProtocolName.V1_1, ProtocolName.STRICT
RecordLists = st.SearchStrategy[list[ScoreRecord]]


def scored(metric: str, case: str, value: float, strict: float | None = None) -> ScoreRecord:
    strict_value = value if strict is None else strict
    return ScoreRecord(
        metric=metric,
        case=case,
        status=ScoreStatus.SCORED,
        value=value,
        strict_value=strict_value,
        task_key="0",
    )


def unscored(metric: str, case: str, status: ScoreStatus = ScoreStatus.FAILED) -> ScoreRecord:
    return ScoreRecord(metric=metric, case=case, status=status, reason="planted", task_key="0")


def full_run(suite: Suite, part: float) -> list[ScoreRecord]:
    """Every metric of every case at the same part of its range."""
    ranges = {slot.metric: slot for slot in slots(V1_1, Domain.OPEN)}
    return [
        scored(metric, case.id, slot.low + part * (slot.high - slot.low), part if metric == "nexus" else None)
        for metric, slot in ranges.items()
        for case in suite.cases
    ]


def replaced(records: Iterable[ScoreRecord], *new: ScoreRecord) -> list[ScoreRecord]:
    keys = {(record.metric, record.case) for record in new}
    return [record for record in records if (record.metric, record.case) not in keys] + list(new)


@pytest.mark.parametrize("protocol", ProtocolName)
@pytest.mark.parametrize("domain", Domain)
def test_weights_add_up_and_columns_are_weighted(protocol: ProtocolName, domain: Domain) -> None:
    found = slots(protocol, domain)
    assert math.fsum(slot.weight for slot in found) == pytest.approx(1, abs=1e-12)
    columns = {metric.id: 50.0 for metric in PUBLISHED_METRICS}
    assert total_from_columns(columns, protocol=protocol, domain=domain) == pytest.approx(50)
    columns[found[0].metric] += 1
    weighted = total_from_columns(columns, protocol=protocol, domain=domain)
    assert weighted == pytest.approx(50 + found[0].weight)
    del columns[found[0].metric]
    with pytest.raises(BadInput, match=found[0].metric):
        total_from_columns(columns, protocol=protocol, domain=domain)


@given(data=st.data())
def test_order_of_records_does_not_matter(mixed_suite: Suite, score_records: RecordLists, data: st.DataObject) -> None:
    records = data.draw(score_records)
    shuffled = data.draw(st.permutations(records))
    for protocol in ProtocolName:
        first = run_total(mixed_suite, records, protocol=protocol, allow_missing=True)
        assert run_total(mixed_suite, shuffled, protocol=protocol, allow_missing=True) == first


def test_order_of_scores_does_not_move_the_last_bit() -> None:
    chance = random.Random(0)
    scores = [(str(number), chance.random()) for number in range(50)]
    totals = set()
    for _ in range(20):
        chance.shuffle(scores)
        totals.add(official_total({"gme": dict(scores)}, protocol=V1_1, domain=Domain.OPEN, applicable={}).total)
    assert len(totals) == 1


@given(data=st.data())
def test_deleting_records_never_raises_the_strict_total(
    mixed_suite: Suite, score_records: RecordLists, data: st.DataObject
) -> None:
    records = data.draw(score_records)
    kept = [record for record in records if data.draw(st.booleans())]
    whole = run_total(mixed_suite, records, protocol=STRICT, allow_missing=True)
    fewer = run_total(mixed_suite, kept, protocol=STRICT, allow_missing=True)
    assert whole.total is not None and fewer.total is not None
    assert 0 <= fewer.total <= whole.total <= 1


@given(data=st.data())
def test_a_better_value_never_lowers_the_strict_total(
    mixed_suite: Suite, score_records: RecordLists, data: st.DataObject
) -> None:
    records = replaced(data.draw(score_records), scored("gme", "faceobj_1", data.draw(st.floats(-1, 1))))
    old = data.draw(st.sampled_from([record for record in records if record.strict_value is not None]))
    assert old.strict_value is not None
    new = scored(old.metric, old.case, old.strict_value + data.draw(st.floats(0, 10)))
    before = run_total(mixed_suite, records, protocol=STRICT, allow_missing=True).total
    after = run_total(mixed_suite, replaced(records, new), protocol=STRICT, allow_missing=True).total
    assert before is not None and after is not None and after >= before


@pytest.mark.parametrize("domain", Domain)
@pytest.mark.parametrize(("part", "expected"), [(-0.5, 0), (0, 0), (0.25, 0.25), (1, 1), (1.5, 1)])
def test_strict_total_runs_from_0_to_1(mixed_suite: Suite, domain: Domain, part: float, expected: float) -> None:
    total = run_total(mixed_suite, full_run(mixed_suite, part), protocol=STRICT, domain=domain)
    assert total.total == pytest.approx(expected, abs=1e-12)
    assert total.complete and not total.problems
    assert [found.metric for found in total.metrics] == [slot.metric for slot in slots(STRICT, domain)]
    assert all(found.normalised == pytest.approx(expected, abs=1e-12) for found in total.metrics)


def test_strict_reads_the_strict_value(mixed_suite: Suite) -> None:
    records = replaced(full_run(mixed_suite, 0.5), scored("gme", "faceobj_1", 0.5, 0.95))
    strict = run_total(mixed_suite, records, protocol=STRICT).total
    assert strict == pytest.approx(0.5 + 0.12 * 0.45 / 9)
    assert run_total(mixed_suite, records, protocol=V1_1).total == pytest.approx(0.5)


@pytest.mark.parametrize("status", [None, *(s for s in ScoreStatus if s is not ScoreStatus.SCORED)])
def test_strict_is_undefined_while_a_case_has_no_value(mixed_suite: Suite, status: ScoreStatus | None) -> None:
    lost = [unscored("natural", "faceobj_1", status)] if status else []
    others = [r for r in full_run(mixed_suite, 1) if (r.metric, r.case) != ("natural", "faceobj_1")]
    total = run_total(mixed_suite, others + lost, protocol=STRICT)
    assert total.total is None and total.as_json()["natural_score"] is None
    assert total.as_json()["gme_score"] == 1
    name = (status or ScoreStatus.MISSING).value
    counts = {"scored": 8, "applicable": 9, "averaged": 0, name: 1}
    assert total.as_json()["counts"]["natural_score"] == counts
    assert not total.complete and "NaturalScore: 1 of 9 cases" in total.problems[0]
    bound = run_total(mixed_suite, others + lost, protocol=STRICT, allow_missing=True)
    assert bound.total == pytest.approx(1 - 0.24 / 9)
    assert not bound.complete and bound.problems == total.problems


def test_losing_the_hard_cases_raises_only_the_official_total(mixed_suite: Suite) -> None:
    hard = [scored("gme", case, 0.1) for case in ("multiobject_1", "multihuman_1")]
    records = replaced(full_run(mixed_suite, 0.6), *hard)
    kept = [record for record in records if record not in hard]
    for protocol in (V1_0, V1_1):
        whole, fewer = (run_total(mixed_suite, some, protocol=protocol) for some in (records, kept))
        assert whole.total is not None and fewer.total is not None and fewer.total > whole.total
        assert whole.complete and not fewer.complete
        assert fewer.problems == ("GmeScore: 2 of 9 cases missing",)
    assert run_total(mixed_suite, kept, protocol=STRICT).total is None


def test_nexus_zeros_leave_only_the_official_mean(mixed_suite: Suite) -> None:
    cases = applies(V1_1, "nexus", mixed_suite)
    everywhere = replaced(full_run(mixed_suite, 0.5), *(scored("nexus", case, 0.02, 0.7) for case in cases))
    once = replaced(everywhere, *(scored("nexus", case, 0.0, 0.0) for case in cases[1:]))
    for protocol in (V1_0, V1_1):
        all_found, one_found = (run_total(mixed_suite, some, protocol=protocol) for some in (everywhere, once))
        assert all_found.total == pytest.approx(one_found.total)
        counts = one_found.as_json()["counts"]["nexus_score"]
        assert counts == {"scored": len(cases), "applicable": len(cases), "averaged": 1}
    strict = run_total(mixed_suite, once, protocol=STRICT)
    assert strict.as_json()["nexus_score"] == pytest.approx(0.7 / len(cases))


def test_a_judge_that_fails_is_counted_and_kills_nothing(mixed_suite: Suite) -> None:
    judged = [
        unscored("natural", "faceobj_1", ScoreStatus.UNPARSEABLE),
        unscored("natural", "humanobj_1", ScoreStatus.FAILED),
    ]
    total = run_total(mixed_suite, replaced(full_run(mixed_suite, 0.5), *judged), protocol=V1_1)
    assert total.total == pytest.approx(0.5)
    assert total.problems == ("NaturalScore: 1 of 9 cases failed", "NaturalScore: 1 of 9 cases unparseable")


def test_the_suite_decides_which_cases_count(mixed_suite: Suite) -> None:
    records = replaced(full_run(mixed_suite, 0.5), scored("facesim", "multiface_1", 1.0))
    official, strict = (run_total(mixed_suite, records, protocol=p).as_json() for p in (V1_1, STRICT))
    assert official["facesim_cur"] == pytest.approx(0.5)
    assert official["counts"]["facesim_cur"]["applicable"] == 4
    assert strict["facesim_cur"] == pytest.approx(0.5 + 0.5 / 7)
    assert strict["counts"]["facesim_cur"]["applicable"] == 7
    # Only people, or only people and nothing else to look for: neither can have a NexusScore.
    assert set(applies(STRICT, "nexus", mixed_suite)).isdisjoint({"singleface_1", "multiface_1"})
    objects = [case for case in mixed_suite.cases if case.id == "singleobj_1"]
    small = Suite(**{**vars(mixed_suite), "cases": tuple(objects)})
    total = run_total(small, full_run(small, 1), protocol=STRICT)
    assert total.total is None and total.problems == ("FaceSim: no applicable case",)
    assert run_total(small, full_run(small, 1), protocol=STRICT, allow_missing=True).total == pytest.approx(0.8)


def test_records_of_unknown_cases_and_doubles_are_refused(mixed_suite: Suite) -> None:
    own = scored("my_metric", "elsewhere_1", 3.0)
    plain = run_total(mixed_suite, full_run(mixed_suite, 0.5), protocol=V1_1)
    assert run_total(mixed_suite, [own, *full_run(mixed_suite, 0.5), own], protocol=V1_1) == plain
    with pytest.raises(BadInput, match="elsewhere_1"):
        run_total(mixed_suite, [scored("gme", "elsewhere_1", 0.5)], protocol=V1_1)
    with pytest.raises(BadInput, match="two records of metric 'gme' and case 'faceobj_1'"):
        run_total(mixed_suite, [scored("gme", "faceobj_1", 0.5), unscored("gme", "faceobj_1")], protocol=V1_1)


def test_official_means_of_nothing_are_named(mixed_suite: Suite) -> None:
    total = run_total(mixed_suite, [], protocol=V1_1)
    assert total.total == pytest.approx(-0.16 * 4 / 3 - 0.24 / 4)
    assert not total.complete and "Aesthetics: 9 of 9 cases missing" in total.problems
    nothing = official_total({}, protocol=V1_1, domain=Domain.OPEN, applicable={})
    assert nothing.total == total.total and not nothing.complete


def test_official_total_does_not_die_of_infinities() -> None:
    wild = {"gme": {"a": -math.inf, "b": math.inf}, "nexus": {"a": -1e308, "b": -1e308}}
    total = official_total(wild, protocol=V1_1, domain=Domain.OPEN, applicable={})
    assert total.total == -math.inf
    assert "GmeScore: the mean is not a finite number" in total.problems


@pytest.mark.parametrize("protocol", ProtocolName)
@given(data=st.data())
def test_contributions_add_up_to_the_total(
    mixed_suite: Suite, score_records: RecordLists, protocol: ProtocolName, data: st.DataObject
) -> None:
    # The full run beneath keeps every mean from being empty.
    records = data.draw(score_records)
    taken = {(record.metric, record.case) for record in records if record.case != "faceobj_1"}
    base = [record for record in full_run(mixed_suite, 0.5) if (record.metric, record.case) not in taken]
    records = [record for record in records if record.case != "faceobj_1"] + base
    total = run_total(mixed_suite, records, protocol=protocol, allow_missing=True).total
    parts = [
        contribution.share
        for case in mixed_suite.cases
        for contribution in case_contributions(mixed_suite, records, case.id, protocol=protocol, allow_missing=True)
    ]
    assert math.fsum(part for part in parts if part is not None) == pytest.approx(total, abs=1e-12)


def test_contributions_say_why(mixed_suite: Suite) -> None:
    records = replaced(
        full_run(mixed_suite, 0.5),
        scored("nexus", "multiface_2", 0.0),
        scored("motion_amplitude", "multiface_2", -1.5),
        unscored("natural", "multiface_2", ScoreStatus.UNPARSEABLE),
    )
    records = [record for record in records if (record.metric, record.case) != ("gme", "multiface_2")]
    found = case_contributions(mixed_suite, records, "multiface_2", protocol=V1_1)
    table = {contribution.metric: contribution for contribution in found}
    assert (table["nexus"].raw, table["nexus"].share) == (0.0, None) and "zeros" in str(table["nexus"].reason)
    assert table["facesim"].status is ScoreStatus.NOT_APPLICABLE and table["facesim"].raw is None
    assert table["gme"].status is ScoreStatus.MISSING and table["gme"].reason == "no record"
    assert (table["natural"].status, table["natural"].reason) == (ScoreStatus.UNPARSEABLE, "planted")
    amplitude = table["motion_amplitude"]
    assert (amplitude.raw, amplitude.clamped, amplitude.normalised) == (-1.5, 1.0, 1.0)
    assert amplitude.share == pytest.approx(0.02 / 9)
    undefined = case_contributions(mixed_suite, records, "faceobj_1", protocol=STRICT)
    assert {part.metric for part in undefined if part.share is None} == {"gme", "natural"}
    with pytest.raises(BadInput, match="nobody_1"):
        case_contributions(mixed_suite, records, "nobody_1", protocol=V1_1)
