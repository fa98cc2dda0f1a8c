"""Ablations: runs that differ in one choice of training, several seeds of each, published values beside them.

A run belongs to an ablation where the settings in its manifest say so:
``"ablation": {"study": "loss" | "encoder" | "depth", "member": "A"}``. Runs of one member of one suite are its seeds.
"""

from __future__ import annotations

import csv
import importlib.resources
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, ValidationError

from refeval.catalogue import METRIC_BY_ID, PUBLISHED_METRICS
from refeval.errors import BadInput
from refeval.protocols import ProtocolName
from refeval.reports.breakdowns import QUANTITIES, quantity_number
from refeval.reports.cells import BEST_NOTE, NO_PART, Cell, Number, mark_best
from refeval.reports.published_rows import is_published_suite, left_out_note
from refeval.reports.readings import RunReading, interval_note
from refeval.reports.table import Section, Table
from refeval.statistics.aggregation import TOTAL
from refeval.statistics.repeats import estimate_seeds

_PROTOCOL = ProtocolName.V1_1
_SEEDS_NOTE = (
    "Mean over the seeds; sd: sample standard deviation of the seeds' values; intervals of several seeds are for other "
    "seeds and other cases. Below: scored/applicable cases, summed over the seeds."
)


class Study(StrEnum):
    """What an ablation varies: one table each."""

    LOSS = "loss"
    ENCODER = "encoder"
    DEPTH = "depth"


class Ablation(BaseModel):
    """The place of a run in an ablation, as its manifest holds it.

    Attributes:
        study: what is varied.
        member: the choice made, e.g. ``A``, ``dinov3-b`` or ``9``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    study: Study
    member: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One choice, over its seeds.

    Attributes:
        name: the choice.
        runs: one per seed, by seed.
        numbers: mean per metric id and ``total`` in per cent, with interval, spread and counts.
    """

    name: str
    runs: tuple[RunReading, ...]
    numbers: Mapping[str, Number]

    @property
    def seeds(self) -> str:
        return ", ".join(str(run.view.manifest.seed) for run in self.runs)

    @property
    def depth(self) -> int | None:
        return depth_of(self.name)


@dataclass(frozen=True, kw_only=True)
class PublishedMember:
    """One member as its source prints it, per cent; columns that are not known are absent."""

    study: Study
    name: str
    meaning: str
    columns: Mapping[str, float]
    source: str

    @property
    def depth(self) -> int | None:
        return depth_of(self.name)


def depth_of(name: str) -> int | None:
    """The number in a member's name, e.g. 9 for ``9`` or ``K=9``; None where there is not just one."""
    found = re.findall(r"\d+", name)
    return int(found[0]) if len(found) == 1 else None


def ablation_of(run: RunReading) -> Ablation | None:
    """The place of a run in an ablation; None where its settings name none.

    Raises:
        BadInput: they name one that is not of the form above.
    """
    content = run.view.manifest.settings.get("ablation")
    if content is None:
        return None
    try:
        return Ablation.model_validate(content)
    except ValidationError as error:
        field = ".".join(["ablation", *map(str, error.errors()[0]["loc"])])
        raise BadInput(
            f"the settings of run {run.label} do not say to which ablation it belongs",
            details=((field, error.errors()[0]["msg"]), ("wanted", '{"study": "loss|encoder|depth", "member": "A"}')),
            cure="write the settings in this form when the run is made",
        ) from error


def compared(runs: Sequence[RunReading]) -> list[RunReading]:
    """The runs that stand beside each other: not those of an ablation, which has tables of its own.

    Where there are no others, those of the ablation.
    """
    return [run for run in runs if ablation_of(run) is None] or list(runs)


def ablation_members(runs: Sequence[RunReading], study: Study) -> tuple[Member, ...]:
    """The members of a study among runs of one suite: depths in order, others by name."""
    found: dict[str, list[RunReading]] = {}
    for run in runs:
        place = ablation_of(run)
        if place and place.study is study:
            found.setdefault(place.member, []).append(run)
    members = [_member(name, sorted(seeds, key=lambda run: run.view.manifest.seed)) for name, seeds in found.items()]
    if study is Study.DEPTH:
        return tuple(sorted(members, key=lambda member: (member.depth is None, member.depth or 0, member.name)))
    return tuple(sorted(members, key=lambda member: member.name))


def published_members(study: Study) -> tuple[PublishedMember, ...]:
    """What is published of a study; nothing for those whose tables are known from prose only."""
    file = importlib.resources.files("refeval") / "data" / "published_ablations.csv"
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(_published(row) for row in rows if row["study"] == study)


def ablation_table(runs: Sequence[RunReading], study: Study) -> Table | None:
    """Members of a study among runs of one suite under opens2v-v1.1; None where no run belongs to it."""
    members = ablation_members(runs, study)
    if not members:
        return None
    suite, domain = runs[0].suite[0], runs[0].view.manifest.domain
    published = published_members(study) if is_published_suite(suite) else ()
    rows: list[tuple[str, ...]] = [
        (member.name, member.seeds, *(Cell(member.numbers[of]) for of in QUANTITIES)) for member in members
    ]
    rows += [_published_row(member) for member in published]
    sections = [Section(first=0, heading="runs")]
    notes = [BEST_NOTE, _SEEDS_NOTE, interval_note(runs[0].resampling)]
    if published:
        sections.append(Section(first=len(members), heading="published", kind="published"))
        notes += [f"published: {source}; not run here." for source in dict.fromkeys(p.source for p in published)]
        notes += [f"{member.name}: {member.meaning}." for member in published]
    elif not is_published_suite(suite):
        notes.append(left_out_note(suite))
    return Table(
        title=f"Ablation of {study}, {suite}, {domain} domain, {_PROTOCOL}, in per cent",
        columns=(study.value, "seeds", "TotalScore", *(metric.label for metric in PUBLISHED_METRICS)),
        rows=mark_best(rows, [section.first for section in sections]),
        notes=tuple(notes),
        left=2,
        sections=tuple(sections),
    )


def _member(name: str, runs: Sequence[RunReading]) -> Member:
    alone = len(runs) == 1
    numbers = {of: [quantity_number(run, _PROTOCOL, of, interval=alone) for run in runs] for of in QUANTITIES}
    merged = {of: _over_seeds(found) for of, found in numbers.items()}
    if not alone:
        for estimate in estimate_seeds([run.scores for run in runs], _PROTOCOL, resampling=runs[0].resampling):
            number = merged[estimate.of]
            if number.comparable and estimate.low is not None and estimate.high is not None:
                merged[estimate.of] = replace(number, low=100 * estimate.low, high=100 * estimate.high)
    return Member(name=name, runs=tuple(runs), numbers=merged)


def _over_seeds(numbers: Sequence[Number]) -> Number:
    """Mean and spread of the same quantity; what is wrong with one seed is wrong with the mean."""
    if len(numbers) == 1:
        return numbers[0]
    first, values = numbers[0], [number.value for number in numbers if number.value is not None]
    counted = first.applicable is not None
    whole = len(values) == len(numbers)
    return Number(
        value=statistics.fmean(values) if whole else None,
        spread=statistics.stdev(values) if whole else None,
        scored=sum(number.scored or 0 for number in numbers) if counted else None,
        applicable=sum(number.applicable or 0 for number in numbers) if counted else None,
        mark=next((number.mark for number in numbers if number.mark), ""),
        word=next((number.word for number in numbers if number.value is None), NO_PART),
        comparable=all(number.comparable for number in numbers),
    )


def _published(row: Mapping[str, str]) -> PublishedMember:
    columns = {of: float(row[of]) for of in (TOTAL, *METRIC_BY_ID) if row[of]}
    return PublishedMember(
        study=Study(row["study"]),
        name=row["member"],
        meaning=row["meaning"],
        columns=columns,
        source=f"{row['source']}; {row['note']}",
    )


def _published_row(member: PublishedMember) -> tuple[str, ...]:
    return (member.name, "published", *(Cell(Number(value=member.columns.get(of))) for of in QUANTITIES))
