"""OpenS2V-5M's cross pairs as rows: a clip, with pictures of its subjects from other clips.

A file of pairs names both clips and the subjects that are alike; what the clips show stands in the annotations, which
are read once, in any order. What pairs need of a record goes to a temporary file beside the rows: memory grows with the
number of pairs (a few hundred bytes each), not with masks and prompts.

Source: the dataset BestWishYsh/OpenS2V-5M, files ``cross_video_pairs``: cluster id -> [{cur_id, aft_id, cur_class_id,
aft_class_id, cur_class_name, aft_class_name, text_similarity, image_similarity, cur_frame_idx, aft_frame_idx}]. The
files themselves were not seen. Every pair is used as it stands: what chose the pairs looked at both pictures.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from refeval.errors import BadInput
from refeval.training.data.annotations import Seen, read_entries
from refeval.training.data.importing import JsonRow, Tally, Unusable, Videos, turns
from refeval.training.data.opens2v_record import FrameNumbers, Record


class _Pair(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    cur_id: str
    cur_class_id: str
    aft_id: str
    aft_class_id: str
    aft_frame_idx: int


class Partner(NamedTuple):
    """The picture of a subject in another clip.

    Attributes:
        id: of the clip.
        mask: key of the subject's masks there.
        frame: key of the frame.
    """

    id: str
    mask: str
    frame: str


Pairs = dict[str, dict[str, list[Partner]]]
"""Id of a clip -> key of its subject -> partners of the subject."""


def read_pairs(files: Sequence[Path], seen: Seen) -> Pairs:
    """Read which subject of which clip is seen where else.

    Args:
        files: of pairs.
        seen: is told of the bytes read.

    Raises:
        BadInput: as :func:`refeval.training.data.annotations.read_entries`; or a pair is laid out differently.
    """
    pairs: Pairs = {}
    for file in files:
        for cluster, entries in read_entries(file, seen):
            for entry in entries if isinstance(entries, list) else [entries]:
                pair = _pair(entry, f"{file}: cluster {cluster}")
                partner = Partner(pair.aft_id, pair.aft_class_id, str(pair.aft_frame_idx))
                pairs.setdefault(pair.cur_id, {}).setdefault(pair.cur_class_id, []).append(partner)
    return pairs


def cross_rows(
    records: Iterable[Record],
    pairs: Pairs,
    videos: Videos,
    tally: Tally,
    *,
    numbers: FrameNumbers,
    most: int,
    folder: Path,
) -> Iterator[JsonRow]:
    """Rows of every clip that has partners, after all records were read; in the order of the pairs.

    Args:
        records: from :func:`refeval.training.data.opens2v_5m.read_opens2v`.
        pairs: from :func:`read_pairs`.
        videos: where the videos are.
        tally: counts what is not used.
        numbers: what the numbers of annotated frames count.
        most: rows of a clip; each shows all of its subjects, with other partners.
        folder: for the temporary file.
    """
    wanted: dict[str, set[Partner]] = {}
    for subjects in pairs.values():
        for partner in itertools.chain.from_iterable(subjects.values()):
            wanted.setdefault(partner.id, set()).add(partner)
    with tempfile.TemporaryFile(dir=folder, prefix=".", suffix=".tmp") as file:
        kept = _Kept(file)
        for record in records:
            if record.id in pairs:
                kept.keep(record.id, partial(record.clip, videos, numbers))
            for partner in wanted.get(record.id, ()):
                kept.keep(partner, partial(_picture, record, partner, videos, numbers))
        for clip, subjects in pairs.items():
            try:
                yield from _rows_of(clip, subjects, kept, tally, most)
            except Unusable as error:
                tally.skipped[str(error)] += 1


class _Kept:
    """What rows are put together from, in a file; of what cannot be used only the reason is kept."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[str | Partner, tuple[int, int] | str] = {}

    def keep(self, key: str | Partner, make: Callable[[], JsonRow]) -> None:
        try:
            content = json.dumps(make()).encode()
        except Unusable as error:
            self._places[key] = str(error)
            return
        self._places[key] = (self._file.seek(0, os.SEEK_END), len(content))
        self._file.write(content)

    def get(self, key: str | Partner) -> JsonRow:
        """What was kept.

        Raises:
            Unusable: it could not be made, or no record had it.
        """
        place = self._places.get(key, "the clip of a pair is not annotated")
        if isinstance(place, str):
            raise Unusable(place)
        self._file.seek(place[0])
        content: JsonRow = json.loads(self._file.read(place[1]))
        return content


def _picture(record: Record, partner: Partner, videos: Videos, numbers: FrameNumbers) -> JsonRow:
    video = videos.named(record.video(videos))
    return {"video": video, **record.reference(partner.mask, partner.frame, numbers)}


def _rows_of(clip: str, subjects: dict[str, list[Partner]], kept: _Kept, tally: Tally, most: int) -> Iterator[JsonRow]:
    row = kept.get(clip)
    found = []
    for partners in subjects.values():
        pictures = []
        for partner in partners:
            try:
                if partner.id == clip:
                    raise Unusable("the clip is its own partner")
                pictures.append(kept.get(partner))
            except Unusable as error:
                tally.left_out[str(error)] += 1
        found.append(pictures)
    if not any(found):
        raise Unusable("no partner can be used")
    for number, references in enumerate(turns(found, most), 1):
        yield {**row, "id": f"{clip}/{number}", "pair": "cross", "references": references}


def _pair(entry: Any, where: str) -> _Pair:
    try:
        return _Pair.model_validate(entry)
    except ValidationError as error:
        fields = ", ".join(list(entry)[:8]) if isinstance(entry, dict) else type(entry).__name__
        raise BadInput(
            f"{where}: a pair is laid out differently",
            details=(("first fields", fields), ("wanted", ", ".join(_Pair.model_fields))),
        ) from error
