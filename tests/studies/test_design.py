"""Balance, repeats, checks and determinism of the design, for studies of any shape."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refeval.cases import Suite
from refeval.errors import BadInput
from refeval.studies.comparisons import PairKind, Question
from refeval.studies.design import LARGEST_SHEET, Plan, PlannedScreen, PlannedSheet, Shown, choose_cases, make_sheets

CHECKS = (PairKind.IDENTICAL, PairKind.DECOY)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    cases = tuple(f"case_{i}" for i in range(draw(st.integers(1, 9))))
    questions = draw(st.lists(st.sampled_from(Question), min_size=1, max_size=3, unique=True))
    return Plan(
        cases=cases,
        arms=draw(st.integers(2, 4)),
        questions=tuple(questions),
        raters=draw(st.integers(1, 9)),
        per_rater=draw(st.none() | st.integers(1, 60)),
        repeats=draw(st.sampled_from([0.0, 0.05, 0.25, 0.5])),
        checks=draw(st.sampled_from([0.0, 0.1, 0.5])),
        foreign={case: cases[i - 1] for i, case in enumerate(cases) if len(cases) > 1 and i % 3},
    )


def arms(screen: PlannedScreen) -> tuple[int, int]:
    first, second = sorted((screen.left.arm, screen.right.arm))
    return first, second


def of_kind(sheet: PlannedSheet, *kinds: PairKind) -> list[PlannedScreen]:
    return [screen for screen in sheet.screens if screen.kind in kinds]


@settings(max_examples=60)
@given(plan=plans(), secret=st.text(max_size=4))
def test_every_unit_is_seen_equally_often_and_each_arm_stands_left_as_often_as_right(plan: Plan, secret: str) -> None:
    sheets = make_sheets(plan, secret)
    seen: Counter[tuple[object, ...]] = Counter()
    lean: Counter[tuple[object, ...]] = Counter()
    for sheet in sheets:
        real = of_kind(sheet, PairKind.REAL)
        assert len(real) == plan.block <= (plan.per_rater or LARGEST_SHEET)
        assert len({(s.case, arms(s), s.question) for s in real}) == len(real), "no unit twice on a sheet"
        for screen in real:
            assert screen.left != screen.right and screen.left.case == screen.right.case == screen.case
            side = 1 if screen.left.arm < screen.right.arm else -1
            seen[screen.case, arms(screen), screen.question] += 1
            lean[screen.case, arms(screen), screen.question] += side
            lean[screen.case, arms(screen)] += side
    counts = [seen[u.case, u.arms, u.question] for u in plan.units]
    assert max(counts) - min(counts) <= 1
    assert max(abs(value) for value in lean.values()) <= 1


@settings(max_examples=60)
@given(plan=plans(), secret=st.text(max_size=4))
def test_repeats_change_sides_and_come_late_and_checks_are_what_they_say(plan: Plan, secret: str) -> None:
    for sheet in make_sheets(plan, secret):
        real = of_kind(sheet, PairKind.REAL)
        repeats = [(i, s) for i, s in enumerate(sheet.screens) if s.kind is PairKind.REPEAT]
        assert len(repeats) >= min(plan.repeats * len(real), max(1, len(real) // 2))
        assert (not repeats) == (plan.repeats == 0)
        for place, screen in repeats:
            assert screen.repeats is not None
            first = sheet.screens[screen.repeats]
            assert first.kind is PairKind.REAL and place - screen.repeats >= len(real) / 2
            same = (first.case, first.question, first.right, first.left)
            assert (screen.case, screen.question, screen.left, screen.right) == same
        checks = of_kind(sheet, *CHECKS)
        assert len(checks) == (max(1, round(plan.checks * len(real))) if plan.checks else 0)
        for screen in checks:
            sides = {screen.left, screen.right}
            good = Shown(screen.left.arm, screen.case)
            assert good in sides and screen.left.arm == screen.right.arm
            assert (len(sides) == 1) == (screen.kind is PairKind.IDENTICAL)
            for spoilt in sides - {good}:
                assert spoilt.frozen or (spoilt.case == plan.foreign[screen.case] and screen.question != "quality")


def test_the_same_secret_gives_the_same_sheets_and_another_one_gives_others() -> None:
    cases = tuple(f"case_{i}" for i in range(8))
    plan = Plan(cases=cases, arms=3, questions=tuple(Question), raters=6, per_rater=20, foreign={})
    assert make_sheets(plan, "a") == make_sheets(plan, "a")
    assert make_sheets(plan, "a") != make_sheets(plan, "b")
    first, second = make_sheets(plan, "a")[:2]
    assert first.seed != second.seed


def test_a_block_is_even_over_questions_pairs_and_cases_and_a_rater_sees_each_side_as_often() -> None:
    cases = tuple(f"case_{i}" for i in range(30))
    plan = Plan(cases=cases, arms=3, questions=tuple(Question), raters=30, foreign={})
    for sheet in make_sheets(plan, "x"):
        real = of_kind(sheet, PairKind.REAL)
        assert set(Counter((arms(s), s.question) for s in real).values()) == {10}
        assert set(Counter(s.case for s in real).values()) <= {2, 3, 4}
        assert len(of_kind(sheet, PairKind.REPEAT)) == 5 and len(of_kind(sheet, *CHECKS)) == 9
        for pair in {arms(s) for s in real}:
            lefts = [s.left.arm == pair[0] for s in real if arms(s) == pair]
            assert abs(2 * sum(lefts) - len(lefts)) <= 4


def test_the_seed_of_a_sheet_does_not_tell_which_clips_are_of_one_arm() -> None:
    """What a curious rater can do: undo the order by the seed that the sheet holds, and look for a pattern in arms."""
    cases = tuple(f"case_{i}" for i in range(10))
    plan = Plan(cases=cases, arms=3, questions=(Question.QUALITY,), raters=12, checks=0.5, foreign={})
    turns: list[int] = []
    for sheet in make_sheets(plan, "x"):
        real, checks = of_kind(sheet, PairKind.REAL), of_kind(sheet, *CHECKS)
        draw = random.Random(sheet.seed)
        before = [
            screen for _, screen in sorted(zip(draw.sample(range(30), 30), real, strict=True), key=lambda e: e[0])
        ]
        assert [screen.case for screen in before] == [case for case in cases for _ in range(3)], "the order is undone"
        orders = {tuple(arms(screen) for screen in before if screen.case == case) for case in cases}
        assert len(orders) >= 3, "of the six orders of the three pairs"
        lots = [draw.uniform(0, 30) for _ in checks]
        turns += [checks[sorted(lots).index(lot)].left.arm for lot in lots]
    rounds = [tuple(turns[i : i + 3]) for i in range(0, len(turns), 3)]
    assert {tuple(sorted(one)) for one in rounds} == {(0, 1, 2)}, "each arm is checked as often"
    assert len(set(rounds)) == 6, "in every order"


def test_decoys_of_all_sheets_stand_on_both_sides_and_use_every_arm() -> None:
    cases = tuple(f"case_{i}" for i in range(6))
    foreign = {case: cases[i - 1] for i, case in enumerate(cases)}
    plan = Plan(cases=cases, arms=2, questions=tuple(Question), raters=12, checks=0.5, foreign=foreign)
    decoys = [s for sheet in make_sheets(plan, "x") for s in of_kind(sheet, PairKind.DECOY)]
    lefts = sum(s.left != Shown(s.left.arm, s.case) for s in decoys)
    assert 0.3 < lefts / len(decoys) < 0.7
    assert {s.left.arm for s in decoys} == {0, 1}
    assert {s.question for s in decoys} == set(Question)


@pytest.mark.parametrize("change", [{"arms": 1}, {"questions": ()}, {"raters": 0}, {"repeats": 0.6}, {"checks": -0.1}])
def test_numbers_that_make_no_study_are_refused(change: dict[str, object]) -> None:
    plan = Plan(cases=("a",), arms=2, questions=(Question.TEXT,), raters=1, foreign={})
    with pytest.raises(BadInput):
        make_sheets(replace(plan, **change), "x")


def test_cases_are_even_over_categories_and_too_few_are_counted(mixed_suite: Suite) -> None:
    for seed in range(10):
        chosen = choose_cases(mixed_suite.cases, 8, seed)
        assert len({case.category for case in chosen}) == 8
        assert [c.id for c in chosen] == [c.id for c in mixed_suite.cases if c in chosen]
    assert {c.id for s in range(20) for c in choose_cases(mixed_suite.cases, 8, s)} >= {"multiface_1", "multiface_2"}
    assert len(choose_cases(mixed_suite.cases, 9, 0)) == 9
    with pytest.raises(BadInput, match="10 cases are asked for, 9 are rendered"):
        choose_cases(mixed_suite.cases, 10, 0)
