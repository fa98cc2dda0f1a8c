"""The documents of a study folder: what is asked of whom. None of them says which system made a clip.

::

    STUDY/      study.json   pairs.csv   assignment.json   sheets/<rater>.html   print.html
                clips/<sha256>.mp4 + .jpg   votes.jsonl   votes/<sha256>.json
    STUDY-key/  key.json   key.csv   tokens.csv

``study.json`` names the sha256 of the others and is itself named, by its own sha256, in every vote and in the key.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from refeval.documents import read_document
from refeval.errors import BadInput, CorruptFile
from refeval.keys import file_sha256
from refeval.studies.comparisons import Answer, Question
from refeval.studies.exclusion import ExclusionRule

STUDY_VERSION = 1
_Model = TypeVar("_Model", bound=BaseModel)


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClipProfile(_Document):
    """What every clip of the study is encoded to.

    Attributes:
        width: pixels.
        height: pixels.
        fps: as text, e.g. ``16`` or ``24000/1001``.
        crf: quality of the encoder.
    """

    width: int
    height: int
    fps: str
    crf: int


class PowerNote(_Document):
    """What the study can show, for one pair of arms and one question; ties make it less.

    Attributes:
        votes: cast on it when every rater answers every screen.
        cases: that they lie on.
        detectable: win rate found with a power of 80 % at alpha .05 if all votes are decisive and independent.
        detectable_by_case: the same if all votes on one case agree, so that each case counts as one vote.
    """

    votes: int
    cases: int
    detectable: float | None
    detectable_by_case: float | None


class StudyDocument(_Document):
    """``study.json``.

    Attributes:
        questions: id -> what the rater reads.
        answers: that a rater may give.
        repeats: part of the pairs that come back with their sides changed.
        checks: part of a sheet that is attention checks, of its real pairs.
        screens_per_rater: fewest and most.
        votes_needed: decisive votes for a win rate, by rate.
        policy: Content-Security-Policy of the sheets.
        files: sha256 of ``pairs.csv``, ``assignment.json`` and the clips.
    """

    study_version: int = STUDY_VERSION
    refeval_version: str
    suite: str
    seed: int
    arms: int
    cases: list[str]
    questions: dict[Question, str]
    answers: list[Answer]
    raters: list[str]
    repeats: float
    checks: float
    exclusion: ExclusionRule
    passed_by_guessing: float
    profile: ClipProfile
    screens_per_rater: tuple[int, int]
    votes_needed: dict[str, int]
    power: PowerNote
    policy: str
    files: dict[str, str]


class Screen(_Document):
    """One question about one pair of clips; clips are named by their files in ``clips/``."""

    item: str
    case: str
    question: Question
    left: str
    right: str


class RaterSheet(_Document):
    """What one rater is shown, in order; ``seed`` gave the order."""

    seed: int
    screens: list[Screen]


class Assignment(_Document):
    """``assignment.json``: the sheet of every rater."""

    study_version: int = STUDY_VERSION
    seed: int
    raters: dict[str, RaterSheet]


@dataclass(frozen=True)
class StudyFolder:
    """A study folder.

    Args:
        folder: that ``refeval study make`` wrote.
    """

    folder: Path

    @cached_property
    def document(self) -> StudyDocument:
        """``study.json``.

        Raises:
            BadInput: the folder is no study, or of another release.
            CorruptFile: the file is damaged.
        """
        path = self.folder / "study.json"
        if not path.is_file():
            cure = "give a folder that refeval study make wrote"
            raise BadInput(f"{self.folder} is not a study folder: it has no study.json", cure=cure)
        return _read(path, StudyDocument)

    @cached_property
    def assignment(self) -> Assignment:
        """``assignment.json``, held against the sha256 in ``study.json``.

        Raises:
            CorruptFile: damaged, or of another study.
        """
        path = self.folder / "assignment.json"
        if not path.is_file() or file_sha256(path) != self.document.files[path.name]:
            raise CorruptFile(f"{path}: not the assignment of this study", cure="copy the study folder once more")
        return _read(path, Assignment)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of ``study.json``: what votes and key name the study by."""
        # A damaged file has a digest too: it is read first.
        assert self.document.study_version == STUDY_VERSION
        return file_sha256(self.folder / "study.json")

    @cached_property
    def screens(self) -> dict[str, dict[str, Screen]]:
        """Rater -> item -> screen, in the order of the sheets."""
        return {
            rater: {screen.item: screen for screen in sheet.screens} for rater, sheet in self.assignment.raters.items()
        }

    def key_folder(self, key: Path | None) -> Path:
        """Where the key lies.

        Args:
            key: the key folder, or a file in it; by default ``<STUDY>-key`` beside the study.

        Raises:
            BadInput: it is not there, or this folder is no study.
            CorruptFile: as :attr:`document`.
        """
        # A folder that is no study has no key: that is what to say first.
        assert self.document
        folder = self.folder.resolve()
        place = folder.with_name(f"{folder.name}-key") if key is None else key
        place = place.parent if place.is_file() else place
        if not (place / "key.json").is_file():
            raise BadInput(f"{place} is not the key of a study: it has no key.json", cure="--key FOLDER")
        return place


def _read(path: Path, kind: type[_Model]) -> _Model:
    content: dict[str, Any] = read_document(path)
    version = content.get("study_version")
    if version != STUDY_VERSION:
        raise BadInput(f"{path}: study_version is {version}, this refeval reads {STUDY_VERSION}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise CorruptFile(f"{path}: field '{where}': {problem['msg']}") from error
