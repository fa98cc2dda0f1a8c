"""What a generator is: a case, a seed and a size in, a clip out. The whole API fits on this screen.

A generator of another package is found through the entry-point group ``refeval.generators`` (docs/plugins.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from refeval.cases import Case, ClipSpec
from refeval.clips import Clip
from refeval.place import Place


@dataclass(frozen=True, kw_only=True)
class RenderJob:
    """One clip to make.

    Attributes:
        case: prompt and references.
        seed: of the run; derive your own from (seed, case.id), so that order and sharding change nothing.
        clip: size, length and rate to render.
        scratch: an empty folder for this job; it is removed afterwards.
        log: file to append a log to; it is kept.
        notes: what happened on the way and belongs beside the clip (JSON types), for the generator to fill in:
            references left out, the memory preset that was needed.
    """

    case: Case
    seed: int
    clip: ClipSpec
    scratch: Path
    log: Path
    notes: dict[str, Any] = field(default_factory=dict)


class Generator(ABC):
    """Base class of every generator.

    Attributes:
        version: raised whenever the same job may give another clip; part of the task key.
        crf: x264 quality that clips are stored with.
        place: where it works; set right after it is made.
    """

    version: ClassVar[str]
    crf: ClassVar[int] = 10
    place: Place = Place()

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

    def own_clip(self, suite: ClipSpec) -> ClipSpec:
        """Size, length and rate that it renders unless the user says otherwise: the suite's, as a rule."""
        return suite

    def expected(self, wanted: ClipSpec) -> ClipSpec | None:
        """Size, length and rate that every clip must have; None: whatever comes is right.

        Raises:
            BadInput: it cannot render this.
        """
        return wanted

    def check(self) -> None:
        """Look at what :meth:`prepare` will need, before anything is loaded or written: files, device, memory.

        Raises:
            MissingPrerequisite: something is missing; the cure is the command that gets it.
        """

    def foresee(self, cases: Sequence[Case]) -> None:
        """Learn which cases this process may be asked for, in order; never a promise. Called before each of them.

        What can be made ready while another clip is rendered may be begun here, in the background.
        """

    def prepare(self, clip: ClipSpec) -> None:
        """Load what rendering needs, once per process.

        Args:
            clip: size and length of the clips to come.

        Raises:
            MissingPrerequisite: weights or packages are missing; the cure is the command that gets them.
        """

    def save_memory(self) -> str | None:
        """Go over to the declared low-memory preset, for this and all later clips; its name, or None if there is none.

        Called once: when memory did not suffice and the clip is to be tried again, or right before :meth:`prepare`
        where the worker before this one was killed.
        """
        return None

    def close(self) -> None:
        """Let go of what was loaded; called when nothing more will be rendered."""

    @abstractmethod
    def render(self, job: RenderJob) -> Clip | Path:
        """Make one clip: frames, or the path of a finished video file (its bytes are kept as they are).

        Raises:
            MissingClip: there is nothing to make this clip from.
            UnusableClip: it was tried and failed; the reason is recorded.
        """
