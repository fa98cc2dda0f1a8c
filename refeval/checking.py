"""``refeval check``: every file of a run against its sha256, and what is missing, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from PIL import Image
from pydantic import ValidationError

from refeval.cases import Suite
from refeval.catalogue import METRIC_BY_ID
from refeval.documents import read_document
from refeval.errors import CorruptFile, ExitCode, MissingPrerequisite
from refeval.keys import file_sha256
from refeval.metrics.judges.evidence import damaged_documents, votes_without_reply
from refeval.records import RenderRecord, RenderStatus, ScoreRecord, ScoreStatus
from refeval.runs import Run, superseded_files

_Record = TypeVar("_Record", RenderRecord, ScoreRecord)


_NATURAL = METRIC_BY_ID["natural"]
# What the record of a judged case has; one that was brought from official files has none of it.
_JUDGED = {"votes", "strict_votes", "judge", "rubric"}
_LOST = (ScoreStatus.FAILED, ScoreStatus.UNPARSEABLE)


class Severity(StrEnum):
    """How bad a finding is."""

    CORRUPT = "corrupt"
    INCOMPLETE = "incomplete"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a check has found, as a sentence."""

    severity: Severity
    text: str


def check_run(run: Run) -> list[Finding]:
    """Verify a run folder.

    Every JSON document is held against its own digest, every clip against the sha256 of its record, every score
    against the clip that lies there, and a judge's votes against its replies; then it is counted what each case lacks.

    Raises:
        BadInput: not a run folder.
        CorruptFile: the manifest or the suite is damaged, so nothing else can be judged.
    """
    suite = run.suite()
    return [*_clips(run, suite), *_scores(run, suite), *_judge(run), *_leftovers(run)]


def exit_code(findings: list[Finding]) -> ExitCode:
    """CORRUPT before INCOMPLETE before OK."""
    severities = {finding.severity for finding in findings}
    if Severity.CORRUPT in severities:
        return ExitCode.CORRUPT
    return ExitCode.INCOMPLETE if Severity.INCOMPLETE in severities else ExitCode.OK


def _clips(run: Run, suite: Suite) -> Iterator[Finding]:
    known = {case.id for case in suite.cases}
    for path in sorted((run.folder / "videos").glob("*.mp4")):
        if path.stem not in known:
            yield Finding(severity=Severity.NOTE, text=f"videos/{path.name} belongs to no case of the suite")
        elif not run.render_path(path.stem).exists():
            text = f"videos/{path.name} has no record: its rendering was interrupted, and the next run renders it"
            yield Finding(severity=Severity.NOTE, text=text)
    absent = 0
    for case in suite.cases:
        path = run.render_path(case.id)
        if not path.exists():
            absent += 1
            continue
        yield from _clip(run, path)
    if absent:
        yield Finding(severity=Severity.INCOMPLETE, text=f"{absent} of {len(suite.cases)} cases were never rendered")


def _clip(run: Run, path: Path) -> Iterator[Finding]:
    try:
        record = _read(path, RenderRecord)
    except (CorruptFile, ValidationError) as error:
        yield _damaged(path, error)
        return
    name = f"videos/{record.case}.mp4"
    if record.status is not RenderStatus.RENDERED:
        text = f"{name}: {record.status.value}: {record.reason}"
        yield Finding(severity=Severity.INCOMPLETE, text=text)
        return
    clip = run.clip_path(record.case)
    if not clip.is_file():
        yield Finding(severity=Severity.CORRUPT, text=f"{name} is gone; the next run renders it again")
    elif (found := file_sha256(clip)) != record.sha256:
        text = (
            f"{name} is not the clip that was rendered: sha256 {found[:12]}..., recorded {str(record.sha256)[:12]}..."
        )
        yield Finding(severity=Severity.CORRUPT, text=f"{text}; the next run renders it again")


def _scores(run: Run, suite: Suite) -> Iterator[Finding]:
    if not any((run.folder / "scores").glob("*/*.json")):
        yield Finding(severity=Severity.INCOMPLETE, text="no metric has been scored")
    for folder in sorted(path for path in (run.folder / "scores").glob("*") if path.is_dir()):
        counts: Counter[str] = Counter()
        for path in sorted(folder.glob("*.json")):
            try:
                record = _read(path, ScoreRecord)
            except (CorruptFile, ValidationError) as error:
                yield _damaged(path, error)
                continue
            counts[record.status.value] += 1
            yield from _against_clip(run, record)
            if record.status in _LOST and record.clip_sha256:
                # Without a clip the reason stands with the clip already.
                text = f"{record.metric}, case '{record.case}': {record.status.value}: {record.reason}"
                yield Finding(severity=Severity.INCOMPLETE, text=text)
        absent = sum(not run.score_path(folder.name, case.id).exists() for case in suite.cases)
        lacking = {**counts, "without a record": absent}
        for fine in (ScoreStatus.SCORED.value, ScoreStatus.NOT_APPLICABLE.value):
            lacking.pop(fine, None)
        lacking = {status: number for status, number in lacking.items() if number}
        if lacking:
            parts = ", ".join(f"{number} {status}" for status, number in sorted(lacking.items()))
            yield Finding(severity=Severity.INCOMPLETE, text=f"{folder.name}: {parts} of {len(suite.cases)} cases")


def _against_clip(run: Run, record: ScoreRecord) -> Iterator[Finding]:
    clip = run.render_record(record.case)
    current = clip.sha256 if clip else None
    if record.clip_sha256 != current:
        text = f"scores/{record.metric}/{record.case}.json belongs to an earlier clip; the next run scores it again"
        yield Finding(severity=Severity.CORRUPT, text=text)


def _judge(run: Run) -> Iterator[Finding]:
    folder = run.folder / "judge"
    for path, error in damaged_documents(folder):
        yield _damaged(path, error, "it is made again when it is next needed")
    judged = [r for r in run.score_records() if r.metric == _NATURAL.id and set(r.details) >= _JUDGED]
    lacking = {r.case: names for r in judged if (names := votes_without_reply(folder, r.case, r.details))}
    if lacking:
        case, names = next(iter(lacking.items()))
        text = (
            f"{_NATURAL.label}: {len(lacking)} of {len(judged)} judged cases lack a reply of the judge (it is missing, "
            f"damaged or another one), e.g. '{case}', vote {', '.join(names)}; their scores stand, they cannot be "
            "replayed"
        )
        yield Finding(severity=Severity.NOTE, text=text)


def _leftovers(run: Run) -> Iterator[Finding]:
    superseded = len(list(superseded_files(run)))
    if superseded:
        yield Finding(severity=Severity.NOTE, text=f"{superseded} superseded files are kept and not used")
    temporary = len(list(run.folder.rglob(".*.tmp")))
    if temporary:
        text = f"{temporary} temporary files of interrupted writes; they can be deleted while nothing runs"
        yield Finding(severity=Severity.NOTE, text=text)


def _read(path: Path, kind: type[_Record]) -> _Record:
    record = kind.model_validate(read_document(path))
    if not record.belongs_at(path):
        raise CorruptFile(f"{path}: the record in it is that of case '{record.case}'")
    return record


def _damaged(path: Path, error: Exception, cure: str = "the next run makes it again") -> Finding:
    reason = error.what if isinstance(error, CorruptFile) else f"{path}: {str(error).splitlines()[0]}"
    return Finding(severity=Severity.CORRUPT, text=f"{reason}; {cure}")


def check_references(suite: Suite) -> list[Finding]:
    """Open every reference image of a suite: what is missing or cannot be read, with file and case."""
    findings = []
    for case in suite.cases:
        for position, reference in enumerate(case.references, 1):
            try:
                with Image.open(reference.locate(case.id, f"{position} of {len(case.references)}")) as image:
                    image.load()
            except MissingPrerequisite as error:
                looked_for = dict(error.details)["looked for"]
                findings.append(Finding(severity=Severity.INCOMPLETE, text=f"{error.what}: {looked_for}"))
            except (OSError, SyntaxError, ValueError) as error:
                text = f"case '{case.id}': reference {position}: {reference.path} cannot be read: {error}"
                findings.append(Finding(severity=Severity.CORRUPT, text=text))
    return findings
