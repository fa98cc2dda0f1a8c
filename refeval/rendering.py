"""One clip: from a generator to the run folder."""

from __future__ import annotations

import hashlib
import resource
import shutil
import time
from pathlib import Path

from refeval.cases import Case, ClipSpec
from refeval.clips import Clip, encode_clip, open_clip
from refeval.documents import naming_a_full_disk
from refeval.errors import DiskFull, MissingClip, MissingPrerequisite, RefevalError
from refeval.faults import fault_point
from refeval.generators.base import Generator, RenderJob
from refeval.health import HealthCheck
from refeval.keys import file_sha256, task_key
from refeval.records import RenderRecord, RenderStatus
from refeval.redaction import describe_failure
from refeval.runs import Run
from refeval.signals import raise_if_stopped

RENDER = "render"


class Renderer:
    """Renders cases of one run with one generator.

    Args:
        run: the run folder.
        generator: ready to render.
    """

    def __init__(self, run: Run, generator: Generator) -> None:
        self.run = run
        self.generator = generator

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
            layout="single",
            inputs={str(i): file_sha256(file) for i, file in enumerate(files)},
        )

    def done(self, case: Case, key: str) -> RenderRecord | None:
        """The record of a clip that need not be rendered again, or None."""
        record = self.run.render_record(case.id)
        if record is None or record.task_key != key:
            return None
        if record.status is RenderStatus.RENDERED and not self.run.has_clip(record):
            return None
        return record

    def render(self, case: Case, key: str) -> RenderRecord:
        """Render and record one clip; a failure becomes a recorded status with its reason."""
        started = time.monotonic()
        content: bytes | None = None
        clip: dict[str, int | str | None] | None = None
        status, reason = RenderStatus.RENDERED, None
        try:
            content, clip = self._make(case)
        except MissingClip as error:
            status, reason = RenderStatus.MISSING, error.what
        except (MissingPrerequisite, DiskFull):
            raise
        except RefevalError as error:
            status, reason = RenderStatus.FAILED, error.what
        except Exception as error:  # noqa: BLE001 - whatever else a generator raises is its failure on this case
            raise_if_stopped()
            status, reason = RenderStatus.FAILED, describe_failure(error)
        fault_point("rendered")
        record = RenderRecord(
            case=case.id,
            status=status,
            reason=reason,
            task_key=key,
            sha256=hashlib.sha256(content).hexdigest() if content is not None else None,
            clip=clip,
            seed=self.run.manifest.seed,
            settings=self.generator.settings(),
            seconds=round(time.monotonic() - started, 3),
            peak_memory_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        )
        self.run.write_render(record, content)
        return record

    def _make(self, case: Case) -> tuple[bytes, dict[str, int | str | None]]:
        scratch = self.run.folder / "cache" / f"scratch-{case.id}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        log = self.run.folder / "logs" / f"{case.id}.log"
        log.parent.mkdir(exist_ok=True)
        manifest = self.run.manifest
        clip = manifest.clip.spec()
        job = RenderJob(case=case, seed=manifest.seed, clip=clip, scratch=scratch, log=log)
        try:
            with naming_a_full_disk(scratch):
                made = self.generator.render(job)
            expected = manifest.expected.spec() if manifest.expected else None
            return _finished_file(made) if isinstance(made, Path) else _encoded(made, expected, self.generator.crf)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


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
