"""Annotations that Actions reads as one command each, and a summary in Markdown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from refeval.cases import Domain
from refeval.comparing import Comparison, Terms, compare
from refeval.errors import BadInput
from refeval.gates import judge, parse_gates
from refeval.protocols import ProtocolName
from refeval.reports.github import annotation_lines, refusal, summary_text
from refeval.sides import Coverage
from refeval.statistics import Resampling
from tests.refeval.small_sides import even, side, suite_of


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("github")
    base = side(folder / "base", even(suite_of(), 0.6))
    new = side(folder / "new", even(suite_of()), model="a|b <script>")
    return compare([base], [new], Terms(resampling=Resampling(resamples=200)))


def test_one_annotation_per_breach(comparison: Comparison) -> None:
    gates = parse_gates(["FaceSim:-1%", "gme:-50", "all:-50"], ProtocolName.V1_1, Domain.OPEN)
    (line,) = annotation_lines(judge(comparison, gates))
    assert line.startswith("::error title=refeval gate FaceSim%3A-1%25::FaceSim: -10.00 points (60.00 to 50.00)")
    assert "-1%25, -0.60 points" in line


def test_missing_values_without_gates_are_told(comparison: Comparison) -> None:
    assert annotation_lines(judge(comparison, ())) == []
    less = replace(comparison.rows[0], base=Coverage(scored=1, applicable=20))
    (line,) = annotation_lines(judge(replace(comparison, rows=(less, *comparison.rows[1:])), ()))
    assert line.startswith("::error title=refeval compare::incomplete")


def test_a_refusal_is_one_line() -> None:
    error = BadInput("not comparable: a, b", details=(("clip", "100% other\r\n::warning::x"),), cure="--allow a,b")
    text, (line,) = refusal(error)
    assert line.count("\n") == line.count("\r") == 0
    assert line.startswith(
        "::error title=refeval compare%3A refused::not comparable: a, b%0A  clip  100%25 other%0D%0A::"
    )
    assert all(row.startswith("    ") for row in text.split("refused\n\n")[1].splitlines()), "code, not Markdown"


def test_the_summary_begins_with_the_gates(comparison: Comparison) -> None:
    text = summary_text(judge(comparison, parse_gates(["total:-1"], ProtocolName.V1_1, Domain.OPEN)), 2)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings[0] == "## refeval compare: 1 of 1 gates breached"
    assert headings[1] == "### Gates"
    assert headings[2].startswith(r"### a\|b \<script\>, seed 0 against")
    assert "| BREACH | total:-1 | TotalScore: -10.00 points" in text
    assert text.endswith("\n")
