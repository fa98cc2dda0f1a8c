"""JUnit XML: elements, attributes and counts as its readers expect them, and no text that breaks it."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from refeval.baselines import Baseline
from refeval.cases import Domain
from refeval.comparing import Comparison, Row, Terms, compare
from refeval.gates import Judged, judge, parse_gates
from refeval.protocols import ProtocolName
from refeval.reports.junit import junit_xml
from refeval.sides import Coverage
from refeval.statistics import Resampling
from tests.refeval.small_sides import even, side, suite_of

# Attributes and children of each element in the schema that Jenkins publishes (junit-10.xsd), required ones marked.
ALLOWED: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"name", "tests", "failures", "errors", "time", "disabled"}, set(), {"testsuite"}),
    "testsuite": (
        {
            "name",
            "tests",
            "failures",
            "errors",
            "time",
            "skipped",
            "disabled",
            "timestamp",
            "hostname",
            "id",
            "package",
        },
        {"name", "tests"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "testcase": (
        {"name", "classname", "time", "status", "assertions"},
        {"name", "classname", "time"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"message", "type"}, {"message"}, set()),
    "skipped": ({"message", "type"}, {"message"}, set()),
    "system-out": (set(), set(), set()),
}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("junit")
    base: Baseline = side(folder / "base", even(suite_of(), 0.6))
    return compare([base], [side(folder / "new", even(suite_of()))], Terms(resampling=Resampling(resamples=200)))


def _judged(comparison: Comparison, *gates: str) -> Judged:
    return judge(comparison, parse_gates(gates, ProtocolName.V1_1, Domain.OPEN))


def _checked(content: bytes) -> ElementTree.Element:
    root = ElementTree.fromstring(content)
    assert root.tag == "testsuites"
    for element in root.iter():
        known, required, children = ALLOWED[element.tag]
        assert required <= set(element.attrib) <= known, element.tag
        assert {child.tag for child in element} <= children, element.tag
    (suite,) = root
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == int(root.attrib["tests"]) == len(cases)
    assert int(suite.attrib["failures"]) == int(root.attrib["failures"]) == len(suite.findall("testcase/failure"))
    assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
    return suite


def _coverage(suite: ElementTree.Element, label: str) -> ElementTree.Element:
    (case,) = [c for c in suite if c.get("classname") == "refeval.coverage" and c.get("name") == label]
    return case


def test_one_case_per_gate_and_one_per_coverage(comparison: Comparison) -> None:
    judged = _judged(comparison, "TotalScore:-0.5", "facesim:-50%")
    suite = _checked(junit_xml(judged))
    gates = [case for case in suite if case.get("classname") == "refeval.gates"]
    assert [case.get("name") for case in gates] == ["TotalScore:-0.5", "facesim:-50%"]
    failure = gates[0].find("failure")
    assert failure is not None
    assert failure.text == failure.get("message") == judged.verdicts[0].reason
    assert "-10.00 points" in (failure.text or "")
    assert gates[1].find("failure") is None
    covered = [case.get("name") for case in suite if case.get("classname") == "refeval.coverage"]
    assert covered == [row.label for row in comparison.rows]
    assert junit_xml(judged) == junit_xml(judged)


@pytest.mark.parametrize(
    ("gates", "allow_missing", "outcome"),
    [
        (("gme:-90",), False, "failure"),
        (("facesim:-90",), False, "skipped"),
        ((), False, "failure"),
        (("gme:-90",), True, "skipped"),
        ((), True, "skipped"),
    ],
)
def test_coverage_fails_where_the_command_does(
    comparison: Comparison, gates: tuple[str, ...], allow_missing: bool, outcome: str
) -> None:
    def less(row: Row) -> Row:
        return replace(row, base=Coverage(scored=7, applicable=20)) if row.delta.of == "gme" else row

    lacking = replace(comparison, rows=tuple(map(less, comparison.rows)), allow_missing=allow_missing)
    judged = _judged(lacking, *gates)
    suite = _checked(junit_xml(judged))
    case = _coverage(suite, "GmeScore")
    assert [child.tag for child in case] == [outcome]
    assert "7/20 scored in the base" in (case[0].get("message") or "")
    assert (int(suite.attrib["failures"]) > 0) == (judged.exit_code != 0)


def test_no_text_breaks_it(comparison: Comparison) -> None:
    hostile = "a<b>&\"'\x00\x1b[31m\ud800 ü \U0001f600]]>"
    model = replace(comparison.candidate, model=hostile)
    suite = _checked(junit_xml(_judged(replace(comparison, candidate=model))))
    values = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert values["candidate"] == "a<b>&\"'??[31m? ü \U0001f600]]>, seed 0"
