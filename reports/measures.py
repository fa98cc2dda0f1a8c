"""What was learned, member by member of a study: shares of right answers, and how far apart references lie."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refeval.reports.cells import BEST_NOTE, Cell, Number, mark_best
from refeval.reports.table import ColumnGroup, Section, Table
from refeval.statistics.shares import LEVEL, share_over_seeds

Question = tuple[str, str]
"""Name of a measure, and whose references the clips have."""

_SEEDS_NOTE = "Mean over the seeds of the training; sd: sample standard deviation of the seeds' values."
_NOTES = (
    BEST_NOTE,
    "Clips of held-out subjects. own: with the references of their own scene; swapped: with those of another scene, "
    "whose subjects they then have to show. both-ways: nearer to its own reference, and with the swapped one nearer to "
    "that.",
    _SEEDS_NOTE,
    f"[low, high]: {100 * LEVEL:g} % interval for other seeds and other clips: Wilson's, with the number of "
    "independent answers that has the variance p (1 - p) / n + sd^2 / seeds, and Student's t for the few seeds "
    "(Satterthwaite). All seeds are asked about the same n clips, so more seeds do not shrink the first part. One "
    "seed: Wilson's. Answers about one clip are taken as independent.",
    "chance: the share that guessing gives; real clips: what the same questions give for clips of the data themselves.",
)


@dataclass(frozen=True, kw_only=True)
class MemberMeasures:
    """One member of a study.

    Attributes:
        name: the choice made.
        seeds: of its trainings, in order.
        measures: of each seed, as ``assessment.json`` holds them (:class:`refeval.training.worlds.Measure`).
        blocks: of each seed, as ``separability.json`` holds them.
    """

    name: str
    seeds: tuple[int, ...]
    measures: tuple[Sequence[Mapping[str, Any]], ...]
    blocks: tuple[Sequence[Mapping[str, Any]], ...]

    @property
    def trained_with(self) -> str:
        """The seeds, as a cell."""
        return ", ".join(map(str, self.seeds))


def measures_table(study: str, members: Sequence[MemberMeasures]) -> Table:
    """Members of a study side by side, a section for each number of subjects, in per cent.

    Args:
        study: what is varied.
        members: one or more, of trainings that were asked the same questions.
    """
    asked = members[0].measures[0]
    questions = list(dict.fromkeys((one["name"], one["references"]) for one in asked))
    rows: list[tuple[str, ...]] = []
    sections = []
    for subjects in dict.fromkeys(one["subjects"] for one in asked):
        sections.append(Section(first=len(rows), heading="1 subject" if subjects == 1 else f"{subjects} subjects"))
        rows += [_member_row(member, subjects, questions) for member in members]
        rows += [_beside(label, field, asked, subjects, questions) for label, field in _BESIDE]
    return Table(
        title=f"Ablation of {study}, sprites world, in per cent",
        columns=(study, "seeds", *(name for name, _ in questions)),
        rows=mark_best(rows, [section.first for section in sections]),
        notes=_NOTES,
        left=2,
        sections=tuple(sections),
        groups=_groups(questions),
    )


def separability_table(study: str, members: Sequence[MemberMeasures]) -> Table:
    """How far apart references of different subjects lie after each block, member by member.

    Args:
        study: what is varied.
        members: one or more, whose trainings began with the same networks.
    """
    numbers = [row["block"] for row in members[0].blocks[0]]
    rows = [
        (member.name, member.trained_with, *(Cell(_ratio(member, index, "after")) for index in range(len(numbers))))
        for member in members
    ]
    first = members[0]
    rows.append(
        ("before", first.trained_with, *(Cell(_ratio(first, index, "before")) for index in range(len(numbers))))
    )
    return Table(
        title=f"Ablation of {study}, references apart",
        columns=(study, "seeds", *(f"block {number}" for number in numbers)),
        rows=mark_best(rows, [0]),
        notes=(
            BEST_NOTE,
            "Mean cosine distance of reference features of different subjects, over that of one subject seen twice; 1: "
            "not apart at all. before: of the networks that training began with.",
            _SEEDS_NOTE,
        ),
        left=2,
    )


def _ratio(member: MemberMeasures, index: int, when: str) -> Number:
    values = [rows[index][when]["ratio"] for rows in member.blocks]
    if any(value is None for value in values):
        return Number(value=None, comparable=False)
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Number(value=statistics.fmean(values), spread=spread, decimals=2, comparable=when == "after")


_BESIDE = (("chance", "chance"), ("real clips", "real"))


def _member_row(member: MemberMeasures, subjects: int, questions: Sequence[Question]) -> tuple[str, ...]:
    answers = [_of(measures, subjects) for measures in member.measures]
    return (
        member.name,
        member.trained_with,
        *(Cell(_number([found.get(one) for found in answers])) for one in questions),
    )


def _number(answers: Sequence[Mapping[str, Any] | None]) -> Number:
    found = [answer for answer in answers if answer is not None]
    if len(found) < len(answers) or len({answer["asked"] for answer in found}) != 1:
        return Number(value=None, comparable=False)
    share = share_over_seeds([answer["right"] for answer in found], found[0]["asked"])
    return Number(
        value=100 * share.value,
        low=100 * share.low,
        high=100 * share.high,
        spread=None if share.spread is None else 100 * share.spread,
        decimals=1,
    )


def _beside(
    label: str, field: str, measures: Sequence[Mapping[str, Any]], subjects: int, questions: Sequence[Question]
) -> tuple[str, ...]:
    found = _of(measures, subjects)
    values = [100 * found[one][field] if one in found else None for one in questions]
    return (label, "", *(Cell(Number(value=value, decimals=1, comparable=False)) for value in values))


def _of(measures: Sequence[Mapping[str, Any]], subjects: int) -> dict[Question, Mapping[str, Any]]:
    return {(one["name"], one["references"]): one for one in measures if one["subjects"] == subjects}


def _groups(questions: Sequence[Question]) -> tuple[ColumnGroup, ...]:
    """A heading over the columns of each kind of references, which stand together."""
    kinds = [references for _, references in questions]
    return tuple(
        ColumnGroup(
            first=2 + kinds.index(kind), last=1 + len(kinds) - kinds[::-1].index(kind), heading=f"{kind} references"
        )
        for kind in dict.fromkeys(kinds)
    )
