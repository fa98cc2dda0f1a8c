"""What a generator is: a case, a seed and a size in, a clip out. The whole API fits on this screen.

A generator of another package is found through the entry-point group ``refeval.generators`` (docs/plugins.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from refeval.cases import Case, ClipSpec
from refeval.clips import Clip


@dataclass(frozen=True, kw_only=True)
class RenderJob:
    """One clip to make.

    Attributes:
        case: prompt and references.
        seed: of the run; derive your own from (seed, case.id), so that order and sharding change nothing.
        clip: size, length and rate to render.
        scratch: an empty folder for this job; it is removed afterwards.
        log: file to append a log to; it is kept.
    """

    case: Case
    seed: int
    clip: ClipSpec
    scratch: Path
    log: Path


class Generator(ABC):
    """Base class of every generator.

    Attributes:
        version: raised whenever the same job may give another clip; part of the task key.
        crf: x264 quality that clips are stored with.
    """

    version: ClassVar[str]
    crf: ClassVar[int] = 10

    @classmethod
    @abstractmethod
    def from_argument(cls, argument: str | None) -> Generator:
        """Make it from what follows the colon of ``--model name:argument``.

        Raises:
            BadInput: the argument is missing, wrong, or not wanted.
        """

    def settings(self) -> dict[str, Any]:
        """What is rendered and how (JSON types), never where: hashed, and kept in the manifest."""
        return {}

    def weights(self) -> dict[str, str]:
        """sha256 of every weights file, by name."""
        return {}

    def inputs(self, case: Case) -> list[Path]:
        """The files whose bytes decide the clip, besides prompt and settings: the references, as a rule."""
        return case.reference_files()

    def expected(self, wanted: ClipSpec) -> ClipSpec | None:
        """Size, length and rate that every clip must have; None: whatever comes is right."""
        return wanted

    def prepare(self) -> None:
        """Load what rendering needs, once per process.

        Raises:
            MissingPrerequisite: weights or packages are missing; the cure is the command that gets them.
        """

    @abstractmethod
    def render(self, job: RenderJob) -> Clip | Path:
        """Make one clip: frames, or the path of a finished video file (its bytes are kept as they are).

        Raises:
            MissingClip: there is nothing to make this clip from.
            UnusableClip: it was tried and failed; the reason is recorded.
        """
