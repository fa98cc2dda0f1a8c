"""Studies of made-up raters: small designs, their votes, and the document that goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from refeval.studies.comparisons import Answer, Comparison, PairKind, Question
from refeval.studies.design import Plan, PlannedSheet, make_sheets
from refeval.studies.exclusion import ExclusionRule
from refeval.studies.simulate import Taste, simulate
from refeval.studies.study import ClipProfile, PowerNote, StudyDocument


@cache
def sheets(
    *,
    arms: int = 2,
    cases: int = 40,
    raters: int = 20,
    per_rater: int = 30,
    checks: float = 0.1,
    repeats: float = 0.05,
    questions: tuple[Question, ...] = (Question.QUALITY,),
) -> tuple[PlannedSheet, ...]:
    """The sheets of a balanced design."""
    ids = tuple(f"case_{i:03d}" for i in range(cases))
    plan = Plan(
        cases=ids,
        arms=arms,
        questions=questions,
        raters=raters,
        per_rater=per_rater,
        checks=checks,
        repeats=repeats,
        foreign={case: ids[i - 1] for i, case in enumerate(ids)},
    )
    return tuple(make_sheets(plan, "made up"))


def real_votes(taste: Taste, seed: int, **design: int) -> list[Comparison]:
    """Votes on pairs of arms alone."""
    votes = simulate(sheets(checks=0, repeats=0, **design), taste, seed=seed)
    return [vote for vote in votes if vote.kind is PairKind.REAL]


def vote(
    case: str,
    left: str,
    right: str,
    answer: Answer,
    *,
    rater: str = "r01",
    item: str = "i000",
    kind: PairKind = PairKind.REAL,
    repeats: str | None = None,
) -> Comparison:
    """One vote on the quality."""
    return Comparison(
        rater=rater,
        item=item,
        case=case,
        question=Question.QUALITY,
        kind=kind,
        left=left,
        right=right,
        answer=answer,
        seconds=3.0,
        repeats=repeats,
    )


def document(planned: Sequence[PlannedSheet], arms: int, questions: Sequence[Question]) -> StudyDocument:
    """``study.json`` of a study that was never made."""
    lengths = [len(sheet.screens) for sheet in planned]
    rule = ExclusionRule()
    return StudyDocument(
        refeval_version="0",
        suite="opens2v-open",
        seed=0,
        arms=arms,
        cases=sorted({screen.case for sheet in planned for screen in sheet.screens}),
        questions={question: f"Which is better in {question.value}?" for question in questions},
        answers=list(Answer),
        raters=[f"r{i + 1:02d}" for i in range(len(planned))],
        repeats=0.05,
        checks=0.1,
        exclusion=rule,
        passed_by_guessing=rule.passed_by_guessing(3),
        profile=ClipProfile(width=832, height=480, fps="16", crf=18),
        screens_per_rater=(min(lengths), max(lengths)),
        votes_needed={},
        power=PowerNote(votes=0, cases=0, detectable=None, detectable_by_case=None),
        policy="",
        files={},
    )
