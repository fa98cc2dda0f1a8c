"""OpenS2V-5M's annotations (files ``total_partN.json``) as rows: references cut from the annotated frame of the clip.

Source: the released RefAlign code @6f91526, diffsynth/trainers/.ipynb_checkpoints/utils_os2v-checkpoint.py, for which
subjects are taken, the prompt (``face_cap_qwen``) and the cut-out on white. Differs: a subject without a mask is passed
over before the three largest are taken, and references stand in the order of the annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from refeval.training.data.annotations import Seen, read_records
from refeval.training.data.importing import JsonRow, Tally, Unusable, Videos
from refeval.training.data.opens2v_record import FrameNumbers, Record, Subject

_FIELDS = ("annotation", "metadata")


@dataclass(frozen=True, kw_only=True)
class SubjectRule:
    """Which annotated subjects become references.

    Attributes:
        aesthetics: kept with an ``aes_score`` of this or more,
        match: or with a ``gme_score`` (of picture and class name) of this or more,
        area: if the box has this share of the frame's area or more, 0 to 1;
        most: of these, so many, the largest.
    """

    aesthetics: float = 4.5
    match: float = 0.6
    area: float = 0.1
    most: int = 3

    def passes(self, subject: Subject) -> bool:
        """Whether a subject is good and large enough."""
        return (subject.aesthetics >= self.aesthetics or subject.match >= self.match) and subject.area >= self.area


def read_opens2v(sources: Sequence[Path], tally: Tally, seen: Seen) -> Iterator[Record]:
    """The records of annotation files, one after another; one file is open at a time, one record in memory.

    Args:
        sources: files ``total_partN.json``.
        tally: counts records that are laid out differently.
        seen: is told of the bytes read.

    Raises:
        BadInput: as :func:`refeval.training.data.annotations.read_records`.
    """
    for source in sources:
        for key, content in read_records(source, _FIELDS, seen):
            try:
                record = Record(key, content, part=source.stem)
            except Unusable as error:
                tally.skipped[str(error)] += 1
                continue
            yield record


def regular_rows(
    records: Iterable[Record], videos: Videos, tally: Tally, *, rule: SubjectRule, numbers: FrameNumbers
) -> Iterator[JsonRow]:
    """A row for each record with a prompt, a video, and a subject that the rule keeps.

    Args:
        records: from :func:`read_opens2v`.
        videos: where the videos are.
        tally: counts what is not used.
        rule: which subjects are taken.
        numbers: what the numbers of annotated frames count.
    """
    for record in records:
        try:
            yield {
                **record.clip(videos, numbers),
                "pair": "regular",
                "references": _references(record, rule, numbers, tally),
            }
        except Unusable as error:
            tally.skipped[str(error)] += 1


def _references(record: Record, rule: SubjectRule, numbers: FrameNumbers, tally: Tally) -> list[JsonRow]:
    found: list[tuple[float, int, JsonRow]] = []
    passing = [subject for subject in record.subjects if rule.passes(subject)]
    if not passing:
        raise Unusable("no subject is good and large enough")
    for place, subject in enumerate(passing):
        try:
            if subject.mask is None:
                raise Unusable("no mask is surely that of the subject")
            found.append((-subject.area, place, record.reference(subject.mask, record.frame, numbers)))
        except Unusable as error:
            tally.left_out[str(error)] += 1
    if not found:
        raise Unusable("no subject that is good and large enough can be cut out")
    largest = sorted(found, key=lambda one: one[:2])[: rule.most]
    return [reference for _, _, reference in sorted(largest, key=lambda one: one[1])]
