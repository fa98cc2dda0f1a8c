"""The run folder: one immutable manifest, one clip and one record per case, one score per case and metric.

::

    RUN/  manifest.json   suite.json   videos/<case>.mp4 + <case>.json   scores/<metric>/<case>.json
          judge/   references/   leases/   logs/   reports/

Every file is whole or absent (:mod:`refeval.documents`). A result whose task key no longer fits is kept in a
folder ``superseded/`` beside its successor.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from refeval import __version__
from refeval.cases import ClipSpec, Domain, Suite
from refeval.documents import read_document, write_bytes, write_document
from refeval.errors import BadInput, CorruptFile
from refeval.keys import file_sha256, installed_version
from refeval.leases import LeaseBook
from refeval.records import SCHEMA_VERSION, RenderRecord, RenderStatus, ScoreRecord, ScoreStatus
from refeval.suites import suite_of_run

_RECORDED_LIBRARIES = (
    "numpy",
    "opencv-python-headless",
    "av",
    "pillow",
    "torch",
    "transformers",
    "diffusers",
)
_Record = TypeVar("_Record", RenderRecord, ScoreRecord)


class ClipText(BaseModel):
    """A :class:`ClipSpec` on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int
    height: int
    frames: int
    fps: str

    @classmethod
    def of(cls, spec: ClipSpec) -> ClipText:
        return cls(width=spec.width, height=spec.height, frames=spec.frames, fps=str(spec.fps))

    def spec(self) -> ClipSpec:
        return ClipSpec(width=self.width, height=self.height, frames=self.frames, fps=Fraction(self.fps))


class Manifest(BaseModel):
    """What a run is: written first, never changed.

    Attributes:
        suite: name, domain, sha256 and number of cases.
        model: as given, without machine paths.
        settings: of the generator.
        weights: sha256 by name.
        seed: of the run.
        clip: size, length and rate asked for.
        expected: what every clip must have, or None.
        environment: versions; never host names, paths or variables.
        git_commit: of refeval, when it runs from a checkout.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    refeval_version: str
    suite: dict[str, str | int]
    model: str
    generator_version: str
    settings: dict[str, Any]
    weights: dict[str, str]
    seed: int
    clip: ClipText
    expected: ClipText | None
    environment: dict[str, str]
    git_commit: str | None

    @property
    def domain(self) -> Domain:
        return Domain(str(self.suite["domain"]))


# What must agree when a run is taken up again; versions may move on, they are part of every task key.
_IDENTITY = ("suite", "model", "settings", "weights", "seed", "clip", "expected")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Args:
        folder: the folder.
    """

    folder: Path

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            BadInput: the folder is not a run folder, or of a newer release.
            CorruptFile: the manifest is damaged.
        """
        path = self.folder / "manifest.json"
        if not path.is_file():
            cure = "give a folder that refeval run made"
            raise BadInput(f"{self.folder} is not a run folder: it has no manifest.json", cure=cure)
        content = read_document(path)
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            cure = f"use the refeval that wrote it (refeval {content.get('refeval_version', 'unknown')})"
            raise BadInput(f"{path}: schema_version is {version}, this refeval reads {SCHEMA_VERSION}", cure=cure)
        try:
            return Manifest.model_validate(content)
        except ValidationError as error:
            raise CorruptFile(f"{path}: {_first_problem(error)}") from error

    def suite(self, data: Path | None = None) -> Suite:
        """The suite that the run was made from; its text is kept in the run.

        Args:
            data: folder of the reference images, if they are needed.
        """
        suite = self.manifest.suite
        path = self.folder / "suite.json"
        if not path.is_file():
            cure = "repeat the command that made the run: the file is written again"
            if (self.folder / "videos").exists():
                raise CorruptFile(f"{path} is gone", cure=cure)
            raise BadInput(f"{self.folder} was stopped before its run began", cure=cure)
        text = path.read_bytes().decode(errors="replace")
        if hashlib.sha256(text.encode()).hexdigest() != suite["sha256"]:
            cure = "copy the suite file of the run back to suite.json"
            raise CorruptFile(f"{path}: not the suite that the manifest names", cure=cure)
        clip = self.manifest.clip.spec()
        return suite_of_run(str(suite["name"]), text, domain=self.manifest.domain, clip=clip, data=data)

    @property
    def leases(self) -> LeaseBook:
        """The leases, as a new observer sees them."""
        return LeaseBook(self.folder / "leases")

    def clip_path(self, case_id: str) -> Path:
        """``videos/<case>.mp4``."""
        return self.folder / "videos" / f"{case_id}.mp4"

    def render_path(self, case_id: str) -> Path:
        """``videos/<case>.json``."""
        return self.folder / "videos" / f"{case_id}.json"

    def score_path(self, metric_id: str, case_id: str) -> Path:
        """``scores/<metric>/<case>.json``."""
        return self.folder / "scores" / metric_id / f"{case_id}.json"

    def render_record(self, case_id: str) -> RenderRecord | None:
        """The record of a clip; None if there is none or it is damaged."""
        return _read_record(self.render_path(case_id), RenderRecord)

    def score_record(self, metric_id: str, case_id: str) -> ScoreRecord | None:
        """The record of a score; None if there is none or it is damaged."""
        return _read_record(self.score_path(metric_id, case_id), ScoreRecord)

    def has_clip(self, record: RenderRecord) -> bool:
        """Whether the clip that the record speaks of lies there, bit for bit."""
        path = self.clip_path(record.case)
        return path.is_file() and file_sha256(path) == record.sha256

    def score_records(self) -> list[ScoreRecord]:
        """Every current score, by metric and case id. Damaged records are left out: their case is missing."""
        return [
            record
            for path in sorted((self.folder / "scores").glob("*/*.json"))
            if (record := _read_record(path, ScoreRecord)) is not None
        ]

    def render_records(self) -> list[RenderRecord]:
        """Every current record of a clip, by case id."""
        return [
            record
            for path in sorted((self.folder / "videos").glob("*.json"))
            if (record := _read_record(path, RenderRecord)) is not None
        ]

    def finished_render(self, case_id: str, key: str) -> RenderRecord | None:
        """The record of a clip that need not be rendered again, or None.

        Args:
            case_id: of the clip.
            key: its task key now.
        """
        record = self.render_record(case_id)
        if record is None or record.task_key != key:
            return None
        if record.status is RenderStatus.RENDERED and not self.has_clip(record):
            return None
        return record

    def write_render(self, record: RenderRecord, clip: bytes | None) -> None:
        """Store a clip and its record; the record comes last, so a clip without one does not count."""
        old = self.render_record(record.case)
        if old is not None and old.task_key != record.task_key:
            # The record goes last: killed in between, it still tells the next run that a clip was set aside.
            for path in (self.clip_path(record.case), self.render_path(record.case)):
                _set_aside(path, old.task_key)
        if clip is not None:
            write_bytes(self.clip_path(record.case), clip)
        write_document(self.render_path(record.case), record.model_dump(mode="json"))

    def write_score(self, record: ScoreRecord) -> None:
        """Store a score."""
        path = self.score_path(record.metric, record.case)
        old = _read_record(path, ScoreRecord)
        if old is not None and old.task_key != record.task_key:
            _set_aside(path, old.task_key)
        write_document(path, record.model_dump(mode="json"))

    def set_failure_aside(self, path: Path) -> None:
        """Make a task that is recorded as failed open again; the record is kept among the superseded."""
        record = _read_record(path, RenderRecord) or _read_record(path, ScoreRecord)
        if record is not None and record.status.value == ScoreStatus.FAILED.value:
            _set_aside(path, record.task_key)


def look_at_folder(folder: Path) -> bool:
    """Whether the folder holds a run already; False where it is empty or not there.

    Raises:
        BadInput: it holds something else.
    """
    cure = "choose another folder with --out"
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file, not a folder", cure=cure)
    strange = folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir())
    # Looked at last: another process may be starting the same run at this moment.
    if (folder / "manifest.json").exists():
        return True
    if strange:
        raise BadInput(f"{folder} is not empty and not a run folder", cure=cure)
    return False


def start_run(folder: Path, manifest: Manifest, suite: Suite) -> Run:
    """Make a run folder, or take up the one that is there.

    Raises:
        BadInput: the folder holds another run, or something else.
    """
    if not look_at_folder(folder):
        # Of several that start here at once, one writes the manifest; the others are held against it.
        with contextlib.suppress(FileExistsError):
            write_document(folder / "manifest.json", manifest.model_dump(mode="json"), exclusive=True)
    refuse_another(Run(folder), manifest)
    if not (folder / "suite.json").exists():
        write_bytes(folder / "suite.json", suite.text.encode())
    return Run(folder)


def refuse_another(run: Run, manifest: Manifest) -> None:
    """Hold a run against the one that is wanted.

    Raises:
        BadInput: it is another one.
    """
    there, wanted = run.manifest.model_dump(), manifest.model_dump()
    for field in _IDENTITY:
        if there[field] != wanted[field]:
            raise BadInput(
                f"{run.folder} holds another run: its {field} differs",
                details=(("there", _short(there[field])), ("wanted", _short(wanted[field]))),
                cure="choose another folder with --out, or repeat the command that made it",
            )


def make_manifest(
    suite: Suite,
    *,
    model: str,
    generator_version: str,
    settings: Mapping[str, Any],
    weights: Mapping[str, str],
    seed: int,
    clip: ClipSpec,
    expected: ClipSpec | None,
) -> Manifest:
    """The manifest of a new run, with the versions of this machine."""
    return Manifest(
        refeval_version=__version__,
        suite={
            "name": suite.name,
            "domain": suite.domain.value,
            "sha256": suite.sha256,
            "cases": len(suite.cases),
        },
        model=model,
        generator_version=generator_version,
        settings=dict(settings),
        weights=dict(weights),
        seed=seed,
        clip=ClipText.of(clip),
        expected=ClipText.of(expected) if expected else None,
        environment=environment(),
        git_commit=git_commit(),
    )


def environment() -> dict[str, str]:
    """Versions of Python and of the libraries that decide numbers; never host names, paths or variables."""
    found = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for name in _RECORDED_LIBRARIES:
        if version := installed_version(name):
            found[name] = version
    return found


def git_commit() -> str | None:
    """Of refeval, when it runs from a checkout."""
    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def superseded_files(run: Run) -> Iterator[Path]:
    """Results whose task key no longer fits; they are kept and never read for a total."""
    for pattern in ("videos/superseded/*", "scores/*/superseded/*", "judge/superseded/*"):
        yield from sorted(run.folder.glob(pattern))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _set_aside(path: Path, key: str) -> None:
    if path.exists():
        folder = path.parent / "superseded"
        folder.mkdir(exist_ok=True)
        path.replace(folder / f"{path.stem}.{key[:12]}{path.suffix}")


def _read_record(path: Path, kind: type[_Record]) -> _Record | None:
    try:
        record = kind.model_validate(read_document(path))
    except (FileNotFoundError, CorruptFile, ValidationError):
        return None
    return record if record.belongs_at(path) else None


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
