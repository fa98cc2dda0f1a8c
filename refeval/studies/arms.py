"""The arms of a study: runs of one suite, the cases they share, what a screen shows beside their clips."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from refeval.cases import Case, Suite
from refeval.errors import BadInput, MissingPrerequisite
from refeval.keys import file_sha256
from refeval.records import RenderStatus
from refeval.reference_images import open_reference
from refeval.runs import Run
from refeval.studies.sheets import ShownCase
from refeval.thumbnails import jpeg, thumbnail_path

_REFERENCE_SIDE = 512
_REFERENCE_QUALITY = 88


def open_arms(folders: Sequence[Path]) -> list[Run]:
    """The runs, all different and of one suite.

    Raises:
        BadInput: they are not.
    """
    runs = [Run(folder) for folder in folders]
    seen: dict[Path, Path] = {}
    for run in runs:
        place = run.folder.resolve()
        if place in seen:
            raise BadInput(f"{run.folder} is given twice", cure="name every run once in --arms")
        seen[place] = run.folder
        if run.manifest.suite["sha256"] != runs[0].manifest.suite["sha256"]:
            details = tuple((str(one.folder), str(one.manifest.suite["name"])) for one in (runs[0], run))
            raise BadInput("arms of differing suites cannot be compared", details=details, cure="one study per suite")
    return runs


def common_cases(runs: Sequence[Run], suite: Suite) -> list[Case]:
    """Rendered in every run, bit for bit as recorded; in the order of the suite."""
    return [case for case in suite.cases if all(_is_rendered(run, case) for run in runs)]


def _is_rendered(run: Run, case: Case) -> bool:
    record = run.render_record(case.id)
    return record is not None and record.status is RenderStatus.RENDERED and run.has_clip(record)


def foreign_cases(cases: Sequence[Case]) -> dict[str, str]:
    """For each case the next one of another category that has no label in common with it."""
    found = {}
    for place, case in enumerate(cases):
        labels = {reference.label.lower() for reference in case.references}
        for other in [*cases[place + 1 :], *cases[:place]]:
            if other.category is not case.category and labels.isdisjoint(r.label.lower() for r in other.references):
                found[case.id] = other.id
                break
    return found


def draw_secret(seed: int, suite: Suite, runs: Sequence[Run], cases: Iterable[Case]) -> str:
    """What every draw comes from: the seed alone would let a rater draw the same and tell the arms apart.

    The original clips are no part of what is handed out, so neither are their digests.
    """
    clips = sorted(arm_sha256(run, cases) for run in runs)
    return hashlib.sha256(json.dumps([seed, suite.sha256, clips]).encode()).hexdigest()


def arm_sha256(run: Run, cases: Iterable[Case]) -> str:
    """What a run is and shows, in one sha256."""
    identity = [file_sha256(run.folder / "manifest.json"), [clip_sha256(run, case.id) for case in cases]]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def refuse_copies(runs: Sequence[Run], cases: Iterable[Case]) -> None:
    """Refuse a run beside its own copy.

    Raises:
        BadInput: two runs have one manifest and the same clips.
    """
    seen: dict[str, Run] = {}
    for run in runs:
        first = seen.setdefault(arm_sha256(run, cases), run)
        if first is not run:
            raise BadInput(f"{run.folder} is a copy of {first.folder}", cure="name every run once in --arms")


def clip_sha256(run: Run, case: str) -> str:
    """sha256 of the clip of a case that is rendered."""
    record = run.render_record(case)
    assert record is not None and record.sha256 is not None
    return record.sha256


def shown_case(case: Case, runs: Sequence[Run]) -> ShownCase:
    """The prompt and the references of a case.

    Raises:
        MissingPrerequisite: neither the image of a reference nor a picture of it in a run is there.
        BadInput: an image that cannot be read.
    """
    references = [
        (reference.label, _picture(case, number, runs)) for number, reference in enumerate(case.references, 1)
    ]
    return ShownCase(prompt=case.prompt, references=tuple(references))


def _picture(case: Case, number: int, runs: Sequence[Run]) -> bytes:
    """The reference itself, or else the small picture that a run has kept."""
    reference, position = case.references[number - 1], f"{number} of {len(case.references)}"
    try:
        image = open_reference(reference.locate(case.id, position), case.id)
    except MissingPrerequisite:
        kept = [path for run in runs if (path := thumbnail_path(run, case.id, number)).is_file()]
        if not kept:
            raise
        image = Image.open(io.BytesIO(kept[0].read_bytes())).convert("RGB")
    # Comments of the file stay behind.
    image.info.clear()
    return jpeg(image, side=_REFERENCE_SIDE, quality=_REFERENCE_QUALITY)
