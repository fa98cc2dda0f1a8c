"""A comparison as JUnit XML: a test case for every gate, and one for the coverage of every metric.

Source: the elements and attributes that Jenkins, GitLab and the common actions of GitHub read; there is no one schema.
No times and no dates: the same comparison gives the same bytes.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from refeval.comparing import Row
from refeval.errors import ExitCode
from refeval.gates import Judged

_SUITE = "refeval compare"
# What XML 1.0 cannot hold, not even as a reference.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(judged: Judged) -> bytes:
    """The document, UTF-8.

    Coverage that no gate and no exit code asks for is ``skipped`` with the numbers, so that the report fails where the
    command does.
    """
    cases = [_case("refeval.gates", verdict.name) for verdict in judged.verdicts]
    for case, verdict in zip(cases, judged.verdicts, strict=True):
        if verdict.breach:
            _add(case, "failure", verdict.reason)
        else:
            ElementTree.SubElement(case, "system-out").text = _clean(verdict.reason)
    cases += [_coverage(row, judged) for row in judged.comparison.rows]
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": "0",
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": "0",
    }
    # The outer element has no count of skipped tests in any of the schemas.
    outer = {name: count for name, count in counts.items() if name != "skipped"}
    root = ElementTree.Element("testsuites", {"name": _SUITE, **outer})
    suite = ElementTree.SubElement(root, "testsuite", {"name": _SUITE, **counts})
    properties = ElementTree.SubElement(suite, "properties")
    comparison = judged.comparison
    for name, value in (
        ("base", comparison.base),
        ("candidate", comparison.candidate),
        ("suite", comparison.suite),
        ("protocol", comparison.protocol),
        ("domain", comparison.domain),
        ("summary", judged.summary()),
    ):
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(str(value))})
    suite.extend(cases)
    ElementTree.indent(root, " ")
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _coverage(row: Row, judged: Judged) -> ElementTree.Element:
    case = _case("refeval.coverage", row.label)
    if row.complete:
        return case
    message = f"{row.label}: {row.base} scored in the base, {row.candidate} in the candidate"
    gated = row.delta.of in {verdict.of for verdict in judged.verdicts}
    if judged.comparison.allow_missing:
        _add(case, "skipped", f"{message}; allowed by --allow-missing")
    elif gated or judged.exit_code is ExitCode.INCOMPLETE:
        _add(case, "failure", message)
    else:
        _add(case, "skipped", f"{message}; no gate looks at it")
    return case


def _case(classname: str, name: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", {"classname": classname, "name": _clean(name), "time": "0"})


def _add(case: ElementTree.Element, kind: str, message: str) -> None:
    element = ElementTree.SubElement(case, kind, {"message": _clean(message)})
    if kind == "failure":
        element.set("type", case.attrib["classname"])
        element.text = _clean(message)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
