"""Phantom-Data's annotations as rows: a clip, with pictures of its subjects from other clips.

Of the dataset's two files of Parquet only ``koala36M_multi_ref_merged_filtered.parquet`` is needed, with columns
``vid``, ``video_caption`` and ``cross_pair`` (noun phrase -> {obj_from_tgt_video, refer_result: [{vid, frame_idx,
bbox}]}). The other one, ``koala36M_multi_ref_meta_info_merged.parquet``, says where the videos are fetched; on the disk
a video is ``VID.mp4``. A frame is given as a share of the video's frames, so the videos of references must be there.
The files themselves were not seen: whether ``cross_pair`` is JSON, a map or a struct is told from the first rows, and
``vid`` and ``frame_idx`` of a ``refer_result`` are names that its description uses elsewhere.

Source: the dataset ZhuoweiChen/Phantom-data-Koala36M, and its reader in the released RefAlign code @6f91526
(utils_phantom, recovered from bytecode): frame ``int(frames * frame_idx)``, boxes in a frame whose long side is 768,
every subject, cut out with what is around it. Which of several pictures of a subject that reader takes is not known;
here row k of a clip has the k-th of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import av
from pydantic import BaseModel, Field, ValidationError

from refeval.errors import BadInput, UnusableClip
from refeval.training.data.annotations import Seen
from refeval.training.data.decoding import count_frames
from refeval.training.data.importing import JsonRow, Tally, Unusable, Videos, prompts_of, turns
from refeval.training.data.row_files import import_parquet

LONG_SIDE = 768
"""Of the frames that boxes were measured in, pixels."""

_COLUMNS = ("vid", "video_caption", "cross_pair")
_BATCH = 256
_BUFFER = 1 << 20
_VIDEOS_COUNTED = 4096

_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Picture(BaseModel):
    vid: str
    frame_idx: Annotated[float, Field(ge=0, le=1)]
    bbox: tuple[_Number, _Number, _Number, _Number]


def phantom_rows(sources: Sequence[Path], videos: Videos, tally: Tally, seen: Seen, *, most: int) -> Iterator[JsonRow]:
    """Rows of each clip with a caption, a video, and a subject that another video shows.

    Args:
        sources: files of Parquet; one without ``cross_pair`` is passed over if another one has it.
        videos: where the videos are.
        tally: counts what is not used.
        seen: is told of the bytes read.
        most: rows of a clip; each shows all of its subjects, with other pictures.

    Raises:
        BadInput: a file is damaged or cut short, or no file has the columns.
        MissingPrerequisite: pyarrow is not installed.
    """
    for source in _annotated(sources):
        for row in _read(source, seen):
            try:
                yield from _rows_of(row, videos, tally, most)
            except Unusable as error:
                tally.skipped[str(error)] += 1


def _annotated(sources: Sequence[Path]) -> list[Path]:
    """The files that have the columns."""
    columns = {source: _opened(source).schema_arrow.names for source in sources}
    found = [source for source in sources if set(_COLUMNS) <= set(columns[source])]
    if not found:
        raise BadInput(
            "no file has the columns of Phantom-Data's pairs",
            details=(
                ("wanted", ", ".join(_COLUMNS)),
                *((str(source), ", ".join(names[:12])) for source, names in columns.items()),
            ),
            cure="give koala36M_multi_ref_merged_filtered.parquet",
        )
    return found


def _opened(source: Path) -> Any:
    try:
        # So a column of a group is read piece by piece, however many rows the group has.
        return import_parquet().ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False)
    except (OSError, ValueError) as error:
        details = (("size", f"{source.stat().st_size:,} bytes"), ("reason", str(error)))
        cure = "fetch the file again, and compare its size"
        raise BadInput(f"{source} is cut short, or is not Parquet", details=details, cure=cure) from error


def _read(source: Path, seen: Seen) -> Iterator[dict[str, Any]]:
    file, size = _opened(source), source.stat().st_size
    rows, read = file.metadata.num_rows, 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH, columns=list(_COLUMNS), use_threads=False):
            yield from batch.to_pylist()
            seen(size * (read + len(batch)) // rows - size * read // rows)
            read += len(batch)
    except (OSError, ValueError) as error:
        details = (("read", f"{read:,} of {rows:,} rows"), ("reason", str(error)))
        raise BadInput(f"{source} is damaged", details=details, cure="fetch the file again") from error


def _rows_of(content: dict[str, Any], videos: Videos, tally: Tally, most: int) -> Iterator[JsonRow]:
    vid, prompts = str(content["vid"]), prompts_of(content["video_caption"])
    clip = {"video": videos.named(videos.find(f"{vid}.mp4")), "prompt": prompts, "pair": "cross"}
    groups: list[list[JsonRow]] = []
    for phrase, subject in _subjects(content["cross_pair"]):
        found: list[JsonRow] = []
        groups.append(found)
        for picture in _pictures(subject):
            try:
                found.append({**_reference(picture, vid, videos), "name": phrase})
            except Unusable as error:
                tally.left_out[str(error)] += 1
    if not any(groups):
        raise Unusable("no picture of a subject can be used")
    for number, references in enumerate(turns(groups, most), 1):
        yield {"id": f"{vid}/{number}", **clip, "references": references}


def _subjects(value: Any) -> list[tuple[str, Any]]:
    """Noun phrases and what belongs to them, from JSON, a struct or a map."""
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except ValueError:
            raise Unusable("cross_pair is text, but not JSON") from None
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise Unusable(f"cross_pair is no object: {type(value).__name__}")
    # A struct has every phrase of the file in every row.
    return [(str(phrase), subject) for phrase, subject in pairs if subject is not None]


def _pictures(subject: Any) -> list[Any]:
    """Where a subject is seen in other videos."""
    pictures = subject.get("refer_result") if isinstance(subject, Mapping) else None
    if not isinstance(pictures, list):
        raise Unusable(f"a subject has no list 'refer_result', but {_fields(subject)}")
    return pictures


def _reference(content: Any, vid: str, videos: Videos) -> JsonRow:
    """A part of a frame, with what is around the subject."""
    try:
        picture = _Picture.model_validate(content)
    except ValidationError as error:
        wrong = ".".join(map(str, error.errors()[0]["loc"][:1])) or "all of it"
        raise Unusable(f"a picture is laid out differently: {wrong}; it has {_fields(content)}") from None
    if picture.vid == vid:
        raise Unusable("the clip is its own partner")
    left, upper, right, lower = picture.bbox
    if not (left < right and upper < lower):
        raise Unusable("the box is empty")
    video = videos.find(f"{picture.vid}.mp4")
    frames = _frames(video)
    return {
        "video": videos.named(video),
        # A share of 1 is the end: it has no frame of its own.
        "frame": min(int(frames * picture.frame_idx), frames - 1),
        "box": [left, upper, right, lower],
        "long_side": LONG_SIDE,
    }


@lru_cache(maxsize=_VIDEOS_COUNTED)
def _frames(video: Path) -> int:
    """How many frames a video has: by its header, which is read in no time, or else counted."""
    if not video.is_file():
        raise Unusable("the video of a picture is missing, so its frames cannot be counted")
    try:
        with av.open(str(video), metadata_errors="replace") as container:
            announced = container.streams.video[0].frames
    except (av.FFmpegError, IndexError):
        raise Unusable("the video of a picture cannot be read") from None
    try:
        frames = announced or count_frames(video)
    except UnusableClip:
        frames = 0
    if not frames:
        raise Unusable("the video of a picture cannot be read")
    return frames


def _fields(content: Any) -> str:
    """What there is instead of what was looked for."""
    return ", ".join(sorted(map(str, content))[:8]) if isinstance(content, Mapping) else type(content).__name__
