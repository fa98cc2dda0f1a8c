"""One clip: from a generator to the run folder."""

from __future__ import annotations

import gc
import hashlib
import json
import resource
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refeval.cases import Case, ClipSpec
from refeval.clips import Clip, encode_clip, open_clip
from refeval.documents import naming_a_full_disk
from refeval.errors import DiskFull, MissingClip, MissingPrerequisite, RefevalError, UnusableClip
from refeval.faults import fault_point
from refeval.generators.base import Generator, RenderJob
from refeval.health import HealthCheck
from refeval.keys import file_sha256, task_key
from refeval.records import RenderRecord, RenderStatus
from refeval.redaction import describe_failure
from refeval.runs import Run
from refeval.signals import raise_if_stopped

RENDER = "render"
_Failure = tuple[RenderStatus, str]


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a generator has made of one case, not yet stored.

    Attributes:
        job: as the generator had it; its scratch folder may hold the clip.
        key: task key.
        result: the clip, or None.
        failure: why there is none.
        settings: of the generator.
        seconds: wall time so far.
    """

    job: RenderJob
    key: str
    result: Clip | Path | None
    failure: _Failure | None
    settings: dict[str, Any]
    seconds: float


class _OutOfMemory(UnusableClip):
    """The memory of the device, or of the machine, did not suffice for a clip."""


class Renderer:
    """Renders cases of one run with one generator.

    :meth:`make` and :meth:`finish` may run in two threads: finish never touches the generator.

    Args:
        run: the run folder.
        generator: ready to render.
    """

    def __init__(self, run: Run, generator: Generator) -> None:
        self.run = run
        self.generator = generator
        self.clip = run.manifest.clip.spec()
        self._asked_to_save = False
        self._memory: str | None = None

    def key(self, case: Case) -> str:
        """The task key of a case's clip."""
        manifest = self.run.manifest
        files = self.generator.inputs(case)
        return task_key(
            RENDER,
            case=case.digest(),
            seed=manifest.seed,
            plugin=manifest.model,
            version=self.generator.version,
            settings={**manifest.settings, "clip": manifest.clip.model_dump(), "crf": self.generator.crf},
            weights=self.generator.weights(),
            decoder=None,
            layout=self.generator.place.layout,
            inputs={str(i): file_sha256(file) for i, file in enumerate(files)},
        )

    def done(self, case: Case, key: str) -> RenderRecord | None:
        """The record of a clip that need not be rendered again, or None."""
        return self.run.finished_render(case.id, key)

    def prepare(self) -> None:
        """Have the generator load what it needs; once more, with less memory, if that does not fit.

        Raises:
            MissingPrerequisite: something is missing, be it memory.
        """
        try:
            return self.generator.prepare(self.clip)
        except _memory_errors() as error:
            reason = describe_failure(error)
        # As in _render: not where the error is handled, whose frames hold what does not fit.
        if not self.save_memory("after running out of memory while loading"):
            what = f"out of memory while loading model '{self.run.manifest.model}'"
            raise MissingPrerequisite(what, details=(("reason", reason),), cure="free memory, or a smaller model")
        self.generator.prepare(self.clip)

    def save_memory(self, why: str) -> bool:
        """Have the generator get by with less memory from now on, and note it beside every clip.

        It is asked once.

        Args:
            why: for the note.

        Returns:
            Whether it does, from now on.
        """
        if self._asked_to_save:
            return False
        self._asked_to_save = True
        # What the failed attempt held in cycles would stay on the device.
        gc.collect()
        preset = self.generator.save_memory()
        if preset is not None:
            self._memory = f"{preset}, {why}"
        return preset is not None

    def make(self, case: Case, key: str) -> Made:
        """Have the generator make one clip; :meth:`finish` must follow.

        Raises:
            MissingPrerequisite: nothing can be rendered.
            DiskFull: likewise.
        """
        started = time.monotonic()
        job = self._job(case)
        result: Clip | Path | None = None
        failure: _Failure | None = None
        try:
            try:
                result = self._render(job)
            except _OutOfMemory:
                if not self.save_memory("after running out of memory"):
                    raise
                job = self._job(case)
                result = self._render(job)
        except Exception as error:  # noqa: BLE001 - whatever else a generator raises is its failure on this case
            raise_if_stopped()
            failure = _failure(error)
        return Made(
            job=job,
            key=key,
            result=result,
            failure=failure,
            settings=self.generator.settings(),
            seconds=time.monotonic() - started,
        )

    def finish(self, made: Made) -> RenderRecord:
        """Check, store and record what was made; a failure becomes a recorded status with its reason.

        Raises:
            MissingPrerequisite: a clip that is decoded as it is read needs something.
            DiskFull: nothing can be stored.
        """
        started = time.monotonic()
        case_id = made.job.case.id
        content: bytes | None = None
        clip: dict[str, int | str | None] | None = None
        notes: dict[str, Any] = {}
        failure = made.failure
        try:
            notes = _plain(made.job.notes)
            if made.result is not None:
                content, clip = self._content(made.result)
        except Exception as error:  # noqa: BLE001 - a clip may be decoded by other people's code
            failure = _failure(error)
        finally:
            shutil.rmtree(made.job.scratch, ignore_errors=True)
        fault_point("rendered")
        status, reason = failure or (RenderStatus.RENDERED, None)
        record = RenderRecord(
            case=case_id,
            status=status,
            reason=reason,
            task_key=made.key,
            sha256=hashlib.sha256(content).hexdigest() if content is not None else None,
            clip=clip,
            seed=made.job.seed,
            settings=made.settings,
            seconds=round(made.seconds + time.monotonic() - started, 3),
            peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            notes=notes,
        )
        self.run.write_render(record, content)
        return record

    def _job(self, case: Case) -> RenderJob:
        scratch = self.run.folder / "cache" / f"scratch-{case.id}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        log = self.run.folder / "logs" / f"{case.id}.log"
        log.parent.mkdir(exist_ok=True)
        manifest = self.run.manifest
        notes = {"memory": self._memory} if self._memory else {}
        return RenderJob(case=case, seed=manifest.seed, clip=self.clip, scratch=scratch, log=log, notes=notes)

    def _render(self, job: RenderJob) -> Clip | Path:
        try:
            with naming_a_full_disk(job.scratch):
                return self.generator.render(job)
        except BaseException as error:
            shutil.rmtree(job.scratch, ignore_errors=True)
            if not isinstance(error, _memory_errors()):
                raise
            reason = f"out of memory{f' ({self._memory})' if self._memory else ''}: {describe_failure(error)}"
        # Not where the error is handled: with it goes all that its frames held on the device.
        raise _OutOfMemory(reason)

    def _content(self, result: Clip | Path) -> tuple[bytes, dict[str, int | str | None]]:
        if isinstance(result, Path):
            return _finished_file(result)
        expected = self.run.manifest.expected
        return _encoded(result, expected.spec() if expected else None, self.generator.crf)


def _failure(error: Exception) -> _Failure:
    """What a record says of an error; one that must stop the worker is raised again."""
    if isinstance(error, MissingPrerequisite | DiskFull):
        raise error
    if isinstance(error, RefevalError):
        return RenderStatus.MISSING if isinstance(error, MissingClip) else RenderStatus.FAILED, error.what
    return RenderStatus.FAILED, describe_failure(error)


def _memory_errors() -> tuple[type[Exception], ...]:
    # Who raises torch's error has imported torch.
    return MemoryError, getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)


def _plain(notes: dict[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(notes, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UnusableClip(f"the generator's notes are not JSON: {error}") from error
    return plain


def _finished_file(path: Path) -> tuple[bytes, dict[str, int | str | None]]:
    # Only its header is read here: the one pass over its frames, when it is scored, judges its health.
    clip = open_clip(path)
    return path.read_bytes(), _describe(clip, None)


def _encoded(clip: Clip, expected: ClipSpec | None, crf: int) -> tuple[bytes, dict[str, int | str | None]]:
    check = HealthCheck(expected)
    for frame in clip.frames:
        check.see(frame)
    check.finish(fps=clip.fps)
    return encode_clip(clip.frames, clip.fps, crf=crf), _describe(clip, len(clip))


def _describe(clip: Clip, frames: int | None) -> dict[str, int | str | None]:
    return {"width": clip.width, "height": clip.height, "frames": frames, "fps": str(clip.fps)}
