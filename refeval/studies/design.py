"""Who sees what, on which side and in which order: pure functions of a seed.

Every unit (case, pair of arms, question) is seen equally often (within one vote), and each of its arms stands left
as often as right (within one vote). Repeats and attention checks come on top.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refeval.cases import Case
from refeval.errors import BadInput
from refeval.studies.comparisons import PairKind, Question

LARGEST_SHEET = 90
"""Real pairs on a sheet unless the user says otherwise: about half an hour with clips of five seconds."""


@dataclass(frozen=True, order=True)
class Unit:
    """What is asked: which of two arms (numbers) is better on a case."""

    case: str
    arms: tuple[int, int]
    question: Question


@dataclass(frozen=True)
class Shown:
    """A clip on a screen.

    Attributes:
        arm: its number.
        case: that the clip was made for; not that of the screen for a decoy of other references.
        frozen: a still, blurred picture of the clip instead of the clip.
    """

    arm: int
    case: str
    frozen: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedScreen:
    """One screen with everything that the rater must not know.

    Attributes:
        repeats: place (from 0) on the same sheet of the screen that this one repeats.
    """

    kind: PairKind
    case: str
    question: Question
    left: Shown
    right: Shown
    repeats: int | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedSheet:
    """A rater's screens in order, and the seed that gave the order."""

    seed: int
    screens: tuple[PlannedScreen, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the design is made from.

    Attributes:
        cases: ids.
        arms: how many, 2 or more.
        questions: asked.
        raters: how many.
        per_rater: real pairs on a sheet; None for all of them, up to :data:`LARGEST_SHEET`.
        repeats: part of a sheet's real pairs that come back with their sides changed, 0 to 1/2.
        checks: attention checks, as a part of a sheet's real pairs, 0 to 1/2.
        foreign: case -> another case, whose clip cannot be taken for one of this case's references.
    """

    cases: tuple[str, ...]
    arms: int
    questions: tuple[Question, ...]
    raters: int
    per_rater: int | None = None
    repeats: float = 0.05
    checks: float = 0.10
    foreign: Mapping[str, str]

    @property
    def units(self) -> list[Unit]:
        """Every unit, sorted by case as given, pair and question."""
        pairs = list(itertools.combinations(range(self.arms), 2))
        return [Unit(case, pair, question) for case in self.cases for pair in pairs for question in self.questions]

    @property
    def block(self) -> int:
        """Real pairs on one sheet."""
        return min(len(self.units), self.per_rater or LARGEST_SHEET)


def choose_cases(cases: Sequence[Case], number: int, seed: int) -> list[Case]:
    """So many cases, each category as often as the others where it has enough of them; in the order given.

    Raises:
        BadInput: there are fewer.
    """
    if number > len(cases):
        what = f"{number} cases are asked for, {len(cases)} are rendered in every arm"
        raise BadInput(what, cure=f"--cases {len(cases)}, or render more" if cases else "refeval render the same cases")
    draw = random.Random(f"cases/{seed}")
    by_category: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_category[case.category.value].append(case)
    queues = [draw.sample(group, len(group)) for _, group in sorted(by_category.items())]
    draw.shuffle(queues)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    chosen = {case.id for case in itertools.islice((case for case in turns if case), number)}
    return [case for case in cases if case.id in chosen]


def make_sheets(plan: Plan, secret: str) -> list[PlannedSheet]:
    """The sheet of every rater.

    Args:
        plan: of the study.
        secret: what all draws come from; it must not be derivable from what raters can see.

    Raises:
        BadInput: fewer than two arms, no rater, no question, or parts outside of 0 to 1/2.
    """
    _refuse_impossible(plan)
    blocks = _blocks(plan, random.Random(f"blocks/{secret}"))
    lefts = _lefts(blocks, random.Random(f"sides/{secret}"))
    sheets = []
    for rater, block in enumerate(blocks):
        # 32 bits: the seed is written down, and every reader of JSON knows such a number.
        seed = random.Random(f"order/{secret}/{rater}").getrandbits(32)
        real = [_real(unit, lefts[unit, rater]) for unit in sorted(block, key=lambda unit: _hidden(unit, secret))]
        sheets.append(PlannedSheet(seed=seed, screens=_in_order(plan, real, _checks(plan, rater, secret), seed)))
    return sheets


def _hidden(unit: Unit, secret: str) -> tuple[str, float, Question]:
    """Place of a unit before the order is drawn: the pairs of a case by lot.

    A rater can read the seed of the order and undo it. Were the pairs sorted by arm, that would tell which clips of
    different cases are of one arm.
    """
    return unit.case, random.Random(f"pairs/{secret}/{unit.case}/{unit.arms}").random(), unit.question


def _refuse_impossible(plan: Plan) -> None:
    if plan.arms < 2:
        raise BadInput("a study compares two arms or more", cure="--arms RUN,RUN")
    if not plan.questions:
        raise BadInput("no question", cure="--questions quality,reference,text")
    if plan.raters < 1 or not plan.cases or (plan.per_rater is not None and plan.per_rater < 1):
        raise BadInput("a study needs a case, a rater and a pair for each rater")
    for name, part in (("repeats", plan.repeats), ("checks", plan.checks)):
        if not 0 <= part <= 0.5:
            raise BadInput(f"--{name} {part:g}", cure=f"--{name} from 0 to 0.5")


def _blocks(plan: Plan, draw: random.Random) -> list[list[Unit]]:
    """Units per rater: those seen least often come first, so that no two differ by more than one."""
    seen = dict.fromkeys(plan.units, 0)
    blocks = []
    for _ in range(plan.raters):
        lot = {unit: draw.random() for unit in seen}
        kinds: Counter[tuple[tuple[int, int], Question]] = Counter()
        cases: Counter[str] = Counter()
        left = set(seen)
        block: list[Unit] = []
        while len(block) < plan.block:
            unit = min(
                left,
                key=lambda u: (seen[u], kinds[u.arms, u.question], cases[u.case], lot[u]),
            )
            left.remove(unit)
            block.append(unit)
            kinds[unit.arms, unit.question] += 1
            cases[unit.case] += 1
        for unit in block:
            seen[unit] += 1
        blocks.append(block)
    return blocks


def _lefts(blocks: Sequence[Sequence[Unit]], draw: random.Random) -> dict[tuple[Unit, int], int]:
    """The arm on the left for every unit and rater.

    Over the raters of a unit, and over all votes on a case and a pair, sides differ by at most one; of the ways to
    do that one is taken that is also even for each rater.
    """
    raters_of: defaultdict[Unit, list[int]] = defaultdict(list)
    for rater, block in enumerate(blocks):
        for unit in block:
            raters_of[unit].append(rater)
    surplus: Counter[tuple[str, tuple[int, int]]] = Counter()
    lean: Counter[tuple[int, tuple[int, int]]] = Counter()
    lefts: dict[tuple[Unit, int], int] = {}
    units = sorted(raters_of)
    draw.shuffle(units)
    for unit in units:
        pair, pairing = (unit.case, unit.arms), unit.arms
        raters = raters_of[unit]
        half, odd = divmod(len(raters), 2)
        extra = 0
        if odd:
            extra = 1 if surplus[pair] < 0 or (surplus[pair] == 0 and draw.random() < 0.5) else 0
            surplus[pair] += 1 if extra else -1
        lots = {rater: draw.random() for rater in raters}
        for place, rater in enumerate(sorted(raters, key=lambda r: (lean[r, pairing], lots[r]))):
            first = place < half + extra
            lefts[unit, rater] = pairing[0] if first else pairing[1]
            lean[rater, pairing] += 1 if first else -1
    return lefts


def _real(unit: Unit, left: int) -> PlannedScreen:
    right = unit.arms[1] if left == unit.arms[0] else unit.arms[0]
    return PlannedScreen(
        kind=PairKind.REAL,
        case=unit.case,
        question=unit.question,
        left=Shown(left, unit.case),
        right=Shown(right, unit.case),
    )


def _checks(plan: Plan, rater: int, secret: str) -> list[PlannedScreen]:
    """Attention checks of a rater: kinds, cases and arms take turns over all raters."""
    number = max(1, round(plan.checks * plan.block)) if plan.checks else 0
    draw = random.Random(f"checks/{secret}/{rater}")
    order = random.Random(f"checks/{secret}").sample(plan.cases, len(plan.cases))
    kinds = _check_kinds(plan)
    checks = []
    for turn in range(rater * number, (rater + 1) * number):
        case, (spoilt, question) = order[turn % len(order)], kinds[turn % len(kinds)]
        # Every arm in turn, in an order of each round's own: no place of a check tells which arm it shows.
        arms = random.Random(f"checks/{secret}/arms/{turn // plan.arms}").sample(range(plan.arms), plan.arms)
        arm = arms[turn % plan.arms]
        good = Shown(arm, case)
        if spoilt == "foreign" and case in plan.foreign:
            other = Shown(arm, plan.foreign[case])
        else:
            other = good if spoilt == "identical" else Shown(arm, case, frozen=True)
        kind = PairKind.IDENTICAL if other == good else PairKind.DECOY
        left, right = (good, other) if draw.random() < 0.5 else (other, good)
        checks.append(PlannedScreen(kind=kind, case=case, question=question, left=left, right=right))
    return checks


def _check_kinds(plan: Plan) -> list[tuple[str, Question]]:
    """A still picture is worse to look at; a clip of other references shows neither the references nor the text."""
    kinds: list[tuple[str, Question]] = []
    for question in plan.questions:
        kinds.append(("frozen" if question is Question.QUALITY else "foreign", question))
        kinds.append(("identical", question))
    return kinds


def _in_order(
    plan: Plan, real: Sequence[PlannedScreen], checks: Sequence[PlannedScreen], seed: int
) -> tuple[PlannedScreen, ...]:
    """Real pairs by lot, checks anywhere, repeats at least half a sheet after what they repeat."""
    draw = random.Random(seed)
    shuffled = draw.sample(real, len(real))
    places: list[tuple[float, PlannedScreen, PlannedScreen | None]] = [
        (float(place), screen, None) for place, screen in enumerate(shuffled)
    ]
    places += [(draw.uniform(0, len(real)), check, None) for check in checks]
    half = max(1, len(real) // 2)
    for place in draw.sample(range(half), min(half, math.ceil(plan.repeats * len(real)))):
        first = shuffled[place]
        again = PlannedScreen(
            kind=PairKind.REPEAT, case=first.case, question=first.question, left=first.right, right=first.left
        )
        places.append((draw.uniform(place + len(real) / 2, len(real)), again, first))
    places.sort(key=lambda entry: entry[0])
    number = {id(screen): place for place, (_, screen, _) in enumerate(places)}
    return tuple(screen if first is None else _repeating(screen, number[id(first)]) for _, screen, first in places)


def _repeating(screen: PlannedScreen, place: int) -> PlannedScreen:
    return PlannedScreen(
        kind=screen.kind,
        case=screen.case,
        question=screen.question,
        left=screen.left,
        right=screen.right,
        repeats=place,
    )
