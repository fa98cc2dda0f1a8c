"""Votes: from the server's log and from exported files to comparisons, each vote once.

A rater may change an answer: every vote is kept, the last one on a screen counts.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from refeval.documents import write_bytes
from refeval.errors import BadInput, CorruptFile
from refeval.studies.comparisons import Answer, Comparison
from refeval.studies.key import key_rows
from refeval.studies.study import StudyFolder

LARGEST_EXPORT = 16 * 2**20
_DAY = 86_400.0
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Seconds = Annotated[float, Field(ge=0, le=30 * _DAY)]


class Vote(BaseModel):
    """One answer of a rater, as the sheet sends and exports it.

    Attributes:
        id: drawn by the sheet; a vote that comes twice is known by it.
        study: sha256 of ``study.json``.
        number: of the vote on its sheet, from 1; the highest on a screen counts.
        watched: seconds between the first opening of the screen and the end of the first showing.
        seconds: between the end of the first showing, or coming back to the screen, and the vote.
        at: when, by the clock of the rater's device: milliseconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    study: _Sha256
    rater: Annotated[str, Field(max_length=16)]
    item: Annotated[str, Field(max_length=16)]
    answer: Answer
    number: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    watched: _Seconds
    seconds: _Seconds
    at: Annotated[int, Field(ge=0, le=2**53)]


class VoteExport(BaseModel):
    """The file that a sheet saves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: _Sha256
    rater: str
    votes: list[Vote]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a rater has come: screens answered of screens."""

    rater: str
    answered: int
    screens: int


def check_vote(study: StudyFolder, vote: Vote) -> str | None:
    """Why a vote cannot belong to the study; None if it does."""
    if vote.study != study.digest:
        return "of another study"
    if vote.rater not in study.screens:
        return "unknown rater"
    if vote.item not in study.screens[vote.rater]:
        return "unknown item"
    if vote.answer not in study.document.answers:
        return "not an answer of this study"
    return None


def read_votes(study: StudyFolder, files: Iterable[Path] = ()) -> list[Vote]:
    """Every vote once: of the server's log, of files taken in before, and of the files given.

    Args:
        study: the study.
        files: exported by sheets, or written down from paper (CSV with ``rater,item,answer``), or folders of them.

    Returns:
        By rater and number.

    Raises:
        BadInput: a file that is none of these, votes of another study, or two files from paper that contradict each
            other: nothing in them says which is the later one.
        CorruptFile: a damaged line in the log.
    """
    found: dict[str, Vote] = {}
    paper: dict[tuple[str, str], tuple[Answer, Path]] = {}
    for path in [*_log(study), *_kept(study), *_files(files)]:
        votes = _read(study, path)
        for vote in votes:
            found.setdefault(vote.id, vote)
        if path.suffix.lower() == ".csv":
            _refuse_contradictions(study, paper, votes, path)
    return sorted(found.values(), key=lambda vote: (vote.rater, vote.number, vote.at, vote.id))


def take_in(study: StudyFolder, files: Iterable[Path]) -> list[Path]:
    """Copy exported files into ``votes/`` of the study, named by their sha256; all are read before any is copied.

    Raises:
        BadInput: as :func:`read_votes`.
    """
    files, contents = list(files), {}
    read_votes(study, files)
    for path in _files(files):
        content = path.read_bytes()
        contents[f"{hashlib.sha256(content).hexdigest()}{path.suffix.lower()}"] = content
    targets = [study.folder / "votes" / name for name in sorted(contents)]
    for target in targets:
        write_bytes(target, contents[target.name])
    return targets


def progress(study: StudyFolder, votes: Iterable[Vote]) -> list[Progress]:
    """How far each rater has come, by id; those without a vote too."""
    answered = {(vote.rater, vote.item) for vote in votes}
    return [
        Progress(rater=rater, answered=sum((rater, item) in answered for item in screens), screens=len(screens))
        for rater, screens in study.screens.items()
    ]


def read_comparisons(folder: Path, key: Path | None = None, files: Sequence[Path] = ()) -> list[Comparison]:
    """The votes with the key applied: of the votes on a screen the last one.

    Args:
        folder: of the study.
        key: the key folder, or a file in it; by default ``<STUDY>-key`` beside the study.
        files: as for :func:`read_votes`.

    Returns:
        By rater, in the order of the sheets.

    Raises:
        BadInput: no key, the key of another study, or as :func:`read_votes`.
        CorruptFile: a damaged key or log.
    """
    study = StudyFolder(folder)
    rows = key_rows(study, study.key_folder(key))
    last = {(vote.rater, vote.item): vote for vote in read_votes(study, files)}
    found = []
    for rater, screens in study.screens.items():
        for item in screens:
            if vote := last.get((rater, item)):
                row = {**rows[rater, item], "repeats": rows[rater, item]["repeats"] or None}
                given = {"answer": vote.answer.value, "seconds": vote.seconds}
                found.append(_COMPARISON.validate_python({**row, **given}))
    return found


_COMPARISON = TypeAdapter(Comparison)


def _log(study: StudyFolder) -> list[Path]:
    path = study.folder / "votes.jsonl"
    return [path] if path.is_file() else []


def _kept(study: StudyFolder) -> list[Path]:
    return sorted(path for path in (study.folder / "votes").glob("*") if not path.name.startswith("."))


def _files(files: Iterable[Path]) -> Iterator[Path]:
    for path in files:
        if path.is_dir():
            inside = sorted(one for one in path.iterdir() if one.suffix.lower() in (".json", ".csv"))
            if not inside:
                raise BadInput(f"{path} holds no file of votes", cure="give the folder of the exported JSON files")
            yield from inside
        elif path.is_file():
            yield path
        else:
            raise BadInput(f"{path} does not exist", cure="give the JSON files that the sheets have saved")


def _read(study: StudyFolder, path: Path) -> list[Vote]:
    if path.stat().st_size > LARGEST_EXPORT and path.suffix != ".jsonl":
        raise BadInput(f"{path} is too large to be a file of votes")
    try:
        votes = _PARSERS.get(path.suffix.lower(), _parse_export)(study, path.read_bytes())
    except (ValueError, KeyError) as error:
        if path.suffix == ".jsonl":
            raise CorruptFile(f"{path}: a line is no vote", cure="take the line out, or restore the file") from error
        cure = "give the JSON file that a sheet has saved, or a CSV file with the columns rater,item,answer"
        raise BadInput(f"{path} is not a file of votes", cure=cure) from error
    for vote in votes:
        if problem := check_vote(study, vote):
            raise BadInput(f"{path}: the vote on item '{vote.item}' of rater '{vote.rater}' is {problem}")
    return votes


def _parse_export(_study: StudyFolder, content: bytes) -> list[Vote]:
    export = VoteExport.model_validate_json(content)
    if any((vote.study, vote.rater) != (export.study, export.rater) for vote in export.votes):
        raise ValueError("votes of several sheets")
    return export.votes


def _parse_log(_study: StudyFolder, content: bytes) -> list[Vote]:
    # What follows the last line end was being written when the machine stopped, and never acknowledged.
    return [parse_line(line) for line in content.split(b"\n")[:-1]]


def parse_line(line: bytes) -> Vote:
    """A vote from a line of ``votes.jsonl``.

    Raises:
        ValueError: it is none.
    """
    row = json.loads(line)
    if not isinstance(row, dict) or not isinstance(row.pop("received", None), int):
        raise ValueError("no time of arrival")
    return Vote.model_validate(row)


def _parse_paper(study: StudyFolder, content: bytes) -> list[Vote]:
    """Answers from paper: no times; of two lines on one screen the later counts."""
    votes = []
    seen: Counter[tuple[str, str, str]] = Counter()
    rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    for number, row in enumerate(rows, 1):
        line = (row["rater"], row["item"], row["answer"])
        # A file that comes again is the same votes; a line that comes again, after another answer, is a vote.
        identity = json.dumps([study.digest, *line, seen[line]])
        seen[line] += 1
        votes.append(
            Vote(
                id=hashlib.sha256(identity.encode()).hexdigest()[:32],
                study=study.digest,
                rater=row["rater"],
                item=row["item"],
                answer=Answer(row["answer"]),
                number=number,
                watched=0,
                seconds=0,
                at=0,
            )
        )
    if not votes:
        raise ValueError("no line")
    return votes


def _refuse_contradictions(
    study: StudyFolder, paper: dict[tuple[str, str], tuple[Answer, Path]], votes: Iterable[Vote], path: Path
) -> None:
    last = {(vote.rater, vote.item): vote.answer for vote in votes}
    for (rater, item), answer in last.items():
        first, other = paper.setdefault((rater, item), (answer, path))
        if first is not answer:
            what = f"two files from paper give item '{item}' of rater '{rater}' two answers: {first} and {answer}"
            cure = f"remove the wrong file; those that were taken in before lie in {study.folder / 'votes'}"
            raise BadInput(what, details=((first.value, str(other)), (answer.value, str(path))), cure=cure)


_PARSERS = {".jsonl": _parse_log, ".csv": _parse_paper, ".json": _parse_export}
