"""Which cases of a suite a command works on: where and how, never part of what a run is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from refeval.cases import Case, Category, Suite, select_cases
from refeval.errors import BadInput
from refeval.suggestions import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A choice of cases; every part narrows it further.

    Attributes:
        ids: only these.
        category: only this one.
        limit: only so many, from the start.
        shard: ``i/n``: every n-th case from the i-th (from 1), for n machines that share a suite.
    """

    ids: tuple[str, ...] = ()
    category: str | None = None
    limit: int | None = None
    shard: str | None = None

    def of(self, suite: Suite) -> list[Case]:
        """The selected cases in suite order.

        Raises:
            BadInput: unknown ids or category, a shard that is not ``i/n``, or nothing is left.
        """
        cases = select_cases(suite, self.ids) if self.ids else list(suite.cases)
        if self.category:
            category = _category(self.category)
            cases = [case for case in cases if case.category is category]
        if self.shard:
            number, count = parse_shard(self.shard)
            cases = cases[number - 1 :: count]
        if self.limit is not None:
            cases = cases[: self.limit]
        if not cases:
            raise BadInput(f"no case of suite {suite.name} is left after --cases, --category, --shard and --limit")
        return cases


def _category(name: str) -> Category:
    try:
        return Category(name)
    except ValueError:
        known = [category.value for category in Category]
        details = (("known", ", ".join(known)),)
        raise BadInput(f"unknown category '{name}'{did_you_mean(name, known)}", details=details) from None


def parse_shard(text: str) -> tuple[int, int]:
    """``i/n`` as two numbers.

    Raises:
        BadInput: it is not that, with i from 1 to n.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise BadInput(f"--shard {text} is not i/n", cure="give e.g. --shard 2/8, with i from 1 to n")
    return number, count
