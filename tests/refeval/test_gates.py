"""Gates: the grammar, and what is a breach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refeval.baselines import baseline_of
from refeval.cases import Domain
from refeval.comparing import Comparison, Row, Terms, compare
from refeval.errors import BadInput, ExitCode
from refeval.gates import Gate, Limit, judge, parse_gates
from refeval.protocols import ProtocolName
from refeval.sides import Coverage
from refeval.statistics import Resampling
from tests.refeval.small_sides import even, folder_of, side, suite_of

V1_1, OPEN = ProtocolName.V1_1, Domain.OPEN
FULL = Coverage(scored=20, applicable=20)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    one = side(tmp_path_factory.mktemp("gates") / "run", even(suite_of()))
    return compare([one], [one], Terms(resampling=Resampling(resamples=100)))


@pytest.mark.parametrize(
    ("text", "of", "limit", "significant"),
    [
        ("TotalScore:-0.5", "total", (-0.5, False), False),
        ("total:-.5", "total", (-0.5, False), False),
        ("FACESIM:-1%", "facesim", (-1, True), False),
        ("motion_smoothness:-2", "motion_smoothness", (-2, False), False),
        ("MotionSmoothness:+1", "motion_smoothness", (1, False), False),
        ("gme:0", "gme", (0, False), False),
        ("GmeScore:-0%", "gme", (0, True), False),
        ("NaturalScore:significant", "natural", None, True),
        ("TotalScore:-0.5:Significant", "total", (-0.5, False), True),
        (" all : significant : -3 ", "all", (-3, False), True),
    ],
)
def test_expressions(text: str, of: str, limit: tuple[float, bool] | None, significant: bool) -> None:
    wanted = Limit(value=limit[0], relative=limit[1]) if limit else None
    assert parse_gates([text], V1_1, OPEN) == (Gate(text=text, of=of, limit=wanted, significant=significant),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FaceSin:-1", "Did you mean 'FaceSim'?"),
        ("totalscor:-1", "Did you mean 'TotalScore'?"),
        ("TotalScore", "not NAME:CONDITION"),
        ("TotalScore:-1:-2", "not NAME:CONDITION"),
        ("TotalScore:significant:significant", "not NAME:CONDITION"),
        ("TotalScore:signifcant", "Did you mean 'significant'?"),
        ("TotalScore:", "'' is no condition"),
        ("TotalScore:-1e3", "'-1e3' is no condition"),
        ("TotalScore:-nan", "'-nan' is no condition"),
        ("TotalScore:0.5", "-0.5 allows a loss of so much, \\+0.5 asks for a gain"),
        ("TotalScore:+1:significant", "not a loss that is significant"),
    ],
)
def test_wrong_expressions_are_told(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as error:
        parse_gates([text], V1_1, OPEN)
    assert f"--gate {text}" in str(error.value)


def test_names_are_those_of_the_protocol_and_the_domain() -> None:
    with pytest.raises(BadInput, match=r"NexusScore is no part of opens2v-v1\.1 in the human domain"):
        parse_gates(["nexus:-1"], V1_1, Domain.HUMAN)
    (gate,) = parse_gates(["Motion:-1"], ProtocolName.V1_0, OPEN)
    assert gate.of == "motion_amplitude"


@pytest.mark.parametrize(
    ("gate", "base", "candidate", "p", "breach"),
    [
        ("gme:-0.5", 0.5, 0.494, 1.0, True),
        ("gme:-0.5", 0.5, 0.495, 1.0, False),
        ("gme:-0.5", 0.5, 0.495 - 1e-9, 1.0, True),
        ("gme:-0.5", 0.5, 0.9, 0.001, False),
        ("gme:0", 0.5, 0.5 - 1e-9, 1.0, True),
        ("gme:0", 0.5, 0.5, 1.0, False),
        ("gme:+1", 0.5, 0.509, 0.001, True),
        ("gme:+1", 0.5, 0.51, 0.001, False),
        ("gme:-1%", 0.5, 0.4951, 1.0, False),
        ("gme:-1%", 0.5, 0.4949, 1.0, True),
        ("gme:-1%", 0.0, -0.001, 1.0, True),
        ("gme:-10%", -0.5, -0.54, 1.0, False),
        ("gme:-10%", -0.5, -0.56, 1.0, True),
        ("gme:significant", 0.5, 0.49, 0.049, True),
        ("gme:significant", 0.5, 0.49, 0.05, False),
        ("gme:significant", 0.5, 0.6, 0.001, False),
        ("gme:significant", 0.5, 0.49, None, True),
        ("gme:significant", 0.5, 0.5, None, False),
        ("gme:significant", 0.5, 0.51, None, False),
        ("gme:-2:significant", 0.5, 0.49, None, False),
        ("gme:-0.5:significant", 0.5, 0.49, None, True),
        ("gme:+5%", 0.0, 0.0, 1.0, False),
        ("gme:-0.5:significant", 0.5, 0.49, 0.01, True),
        ("gme:-0.5:significant", 0.5, 0.49, 0.2, False),
        ("gme:-0.5:significant", 0.5, 0.499, 0.01, False),
        ("gme:0:significant", 0.5, 0.51, 0.01, False),
    ],
)
def test_a_breach(
    comparison: Comparison, gate: str, base: float, candidate: float, p: float | None, breach: bool
) -> None:
    changed = _changed(comparison, base=base, candidate=candidate, delta=candidate - base, p=0.0, p_holm=p)
    judged = judge(changed, parse_gates([gate], V1_1, OPEN))
    assert [verdict.breach for verdict in judged.verdicts] == [breach]
    assert "+0" not in judged.verdicts[0].reason.replace("+0.", "")
    assert judged.exit_code is (ExitCode.BREACH if breach else ExitCode.OK)
    assert f"{100 * candidate:.2f}" in judged.verdicts[0].reason


@pytest.mark.parametrize("allow_missing", [False, True])
@pytest.mark.parametrize("who", ["base", "candidate"])
def test_less_than_full_coverage_is_a_breach(comparison: Comparison, who: str, allow_missing: bool) -> None:
    less = replace(_row(comparison), **{who: Coverage(scored=19, applicable=20)})
    changed = replace(_with(comparison, less), allow_missing=allow_missing)
    judged = judge(changed, parse_gates(["gme:-50", "facesim:-50"], V1_1, OPEN))
    assert [verdict.breach for verdict in judged.verdicts] == [not allow_missing, False]
    if not allow_missing:
        assert "19/20" in judged.verdicts[0].reason
    assert judge(changed, ()).exit_code is (ExitCode.OK if allow_missing else ExitCode.INCOMPLETE)
    other = judge(changed, parse_gates(["facesim:-50"], V1_1, OPEN))
    assert other.exit_code is ExitCode.OK, "what no gate asks for does not fail it"


def test_what_is_undefined_or_measures_nothing_is_a_breach(comparison: Comparison) -> None:
    nothing = Coverage(scored=0, applicable=0)
    gates = parse_gates(["gme:-50"], V1_1, OPEN)
    undefined = judge(_changed(comparison, candidate=None, delta=None), gates)
    assert [v.reason for v in undefined.breaches] == ["GmeScore: undefined"]
    empty = _with(comparison, replace(_row(comparison), base=nothing, candidate=nothing))
    assert [v.reason for v in judge(empty, gates).breaches] == ["GmeScore: no case of the suite counts for it"]
    labels = [v.label for v in judge(empty, parse_gates(["all:significant"], V1_1, OPEN)).verdicts]
    assert labels == ["Aesthetics", "MotionSmoothness", "MotionAmplitude", "FaceSim", "NexusScore", "NaturalScore"]


@pytest.mark.parametrize("who", ["base", "candidate"])
def test_a_side_without_any_value_holds_nothing(comparison: Comparison, who: str) -> None:
    empty = Coverage(scored=0, applicable=20)
    one = replace(_with(comparison, replace(_row(comparison), **{who: empty})), allow_missing=True)
    both = replace(_with(comparison, replace(_row(comparison), base=empty, candidate=empty)), allow_missing=True)
    for changed in (one, both):
        (verdict,) = judge(changed, parse_gates(["gme:-50"], V1_1, OPEN)).verdicts
        assert verdict.breach and "there is nothing to compare: " in verdict.reason and "0/20" in verdict.reason
    every = parse_gates(["all:-50"], V1_1, OPEN)
    assert [v.label for v in judge(one, every).breaches] == ["GmeScore"]
    assert "GmeScore" not in [v.label for v in judge(both, every).verdicts] and not judge(both, every).breaches
    rows = tuple(replace(row, base=empty, candidate=empty) for row in comparison.rows)
    nothing = judge(replace(comparison, rows=rows, allow_missing=True), every)
    assert nothing.exit_code is ExitCode.BREACH and "no metric to look at" in nothing.breaches[0].reason


def test_no_case_that_counts_is_a_breach_though_missing_values_are_allowed(comparison: Comparison) -> None:
    none = Coverage(scored=0, applicable=0)
    changed = replace(_with(comparison, replace(_row(comparison), base=none, candidate=none)), allow_missing=True)
    (verdict,) = judge(changed, parse_gates(["gme:-50"], V1_1, OPEN)).verdicts
    assert verdict.breach and "no case of the suite counts" in verdict.reason


def test_a_metric_that_collapses_to_nothing_is_significantly_worse(tmp_path: Path) -> None:
    """The official NexusScore leaves zeros out: no case is in the mean of both sides, and that must not be no test."""
    suite = suite_of()
    runs = [folder_of(tmp_path / name, even(suite)) for name in ("base", "candidate")]
    for record in runs[1].score_records():
        if record.metric == "nexus":
            runs[1].write_score(record.model_copy(update={"value": 0.0, "strict_value": 0.0}))
    found = compare(*([baseline_of(run)] for run in runs), Terms(resampling=Resampling(resamples=1000)))
    row = next(row for row in found.rows if row.delta.of == "nexus")
    assert row.complete and row.delta.n_pairs == 0 and row.delta.p is not None and 0 < row.delta.p < 0.01
    judged = judge(found, parse_gates(["all:significant"], V1_1, OPEN))
    assert [verdict.label for verdict in judged.breaches] == ["NexusScore"]


def test_all_names_the_metric(comparison: Comparison) -> None:
    changed = _changed(comparison, base=0.5, candidate=0.4, delta=-0.1, p=0.001, p_holm=0.007)
    judged = judge(changed, parse_gates(["ALL:significant"], V1_1, OPEN))
    assert [verdict.name for verdict in judged.breaches] == ["ALL:significant (GmeScore)"]
    assert judged.summary() == "1 of 7 gates breached"


def _row(comparison: Comparison) -> Row:
    return next(row for row in comparison.rows if row.delta.of == "gme")


def _with(comparison: Comparison, row: Row) -> Comparison:
    return replace(comparison, rows=tuple(row if old.delta.of == "gme" else old for old in comparison.rows))


def _changed(comparison: Comparison, **values: float | None) -> Comparison:
    row = _row(comparison)
    return _with(comparison, replace(row, delta=replace(row.delta, **values)))


def test_the_gates_of_the_docs_are_gates() -> None:
    page = (Path(__file__).parents[2] / "docs/ci.md").read_text()
    table = page.split("| expression |")[1].split("\n\n")[0]
    expressions = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert len(parse_gates(expressions, V1_1, OPEN)) == len(expressions) > 5
