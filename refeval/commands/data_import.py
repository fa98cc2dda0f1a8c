"""What ``refeval data import`` does and prints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from refeval.commands.console import ERR, print_json, say
from refeval.commands.data import require_torch
from refeval.errors import ExitCode

if TYPE_CHECKING:
    from refeval.training.data.annotations import Seen
    from refeval.training.data.importing import JsonRow, Tally
    from refeval.training.data.opens2v_record import FrameNumbers


@dataclass(frozen=True, kw_only=True)
class Import:
    """What is the same for every dataset.

    Attributes:
        sources: annotation files.
        videos: folder of the videos.
        out: file of rows.
        keep_missing: also write rows whose videos are not there.
        limit: stop after so many rows.
        as_json: print JSON.
    """

    sources: Sequence[Path]
    videos: Path
    out: Path
    keep_missing: bool
    limit: int | None
    as_json: bool


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """Which subjects of OpenS2V-5M become references; see :class:`refeval.training.data.opens2v_5m.SubjectRule`."""

    aesthetics: float
    match: float
    area: float
    most: int


def opens2v_5m(
    what: Import, *, subjects: Subjects, numbers: FrameNumbers, cross: Sequence[Path], per_clip: int
) -> ExitCode:
    """``refeval data import opens2v-5m``; with files of cross pairs: rows of these."""
    require_torch()
    from refeval.training.data.importing import Tally, Videos
    from refeval.training.data.opens2v_5m import SubjectRule, read_opens2v, regular_rows
    from refeval.training.data.opens2v_pairs import cross_rows, read_pairs

    tally = Tally()
    videos = Videos(what.videos, beside=what.out, keep_missing=what.keep_missing)
    with _progress([*cross, *what.sources]) as seen:
        records = read_opens2v(what.sources, tally, seen)
        if cross:
            pairs, folder = read_pairs(cross, seen), what.out.parent
            rows = cross_rows(records, pairs, videos, tally, numbers=numbers, most=per_clip, folder=folder)
        else:
            rule = SubjectRule(**asdict(subjects))
            rows = regular_rows(records, videos, tally, rule=rule, numbers=numbers)
        return _write(what, rows, tally)


def phantom_data(what: Import, *, per_clip: int) -> ExitCode:
    """``refeval data import phantom-data``."""
    require_torch()
    from refeval.training.data.importing import Tally, Videos
    from refeval.training.data.phantom_data import phantom_rows

    tally = Tally()
    videos = Videos(what.videos, beside=what.out, keep_missing=what.keep_missing)
    with _progress(what.sources) as seen:
        return _write(what, phantom_rows(what.sources, videos, tally, seen, most=per_clip), tally)


@contextlib.contextmanager
def _progress(sources: Sequence[Path]) -> Iterator[Seen]:
    """Bytes of the sources, on a terminal."""
    from refeval.training.data.importing import sizes

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=ERR, transient=True, disable=not ERR.is_terminal) as bar:
        task = bar.add_task("read", total=sizes(sources))
        yield lambda size: bar.advance(task, size)


def _write(what: Import, rows: Iterable[JsonRow], tally: Tally) -> ExitCode:
    from refeval.training.data.importing import write_rows

    write_rows(rows, what.out, tally=tally, limit=what.limit)
    skipped, left_out = dict(tally.skipped.most_common()), dict(tally.left_out.most_common())
    if what.as_json:
        print_json({"out": str(what.out), "rows": tally.rows, "skipped": skipped, "left_out": left_out})
        return ExitCode.OK
    say(f"rows        {tally.rows:,} in {what.out}")
    for reason, count in skipped.items():
        say(f"skipped     {count:,} clips: {reason}")
    for reason, count in left_out.items():
        say(f"left out    {count:,} references: {reason}")
    say(f"look        refeval data check {what.out}")
    return ExitCode.OK
