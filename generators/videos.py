"""Videos: ready clips in a folder; how closed systems and published results enter a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refeval.cases import Case, ClipSpec
from refeval.errors import BadInput, MissingClip
from refeval.generators.base import Generator, RenderJob

_CURE = "--model videos:FOLDER, where FOLDER holds one <case id>.mp4 per case"


class Videos(Generator):
    """Clips named ``<case id>.mp4``; their bytes are kept as they are, at whatever size, length and rate.

    Args:
        folder: where the clips lie.
    """

    version = "1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def from_argument(cls, argument: str | None) -> Videos:
        """Make it from ``videos:FOLDER``.

        Raises:
            BadInput: no folder is given, or it is not one.
        """
        if not argument:
            raise BadInput("generator 'videos' needs a folder", cure=_CURE)
        folder = Path(argument)
        if not folder.is_dir():
            problem = "is not a folder" if folder.exists() else "does not exist"
            raise BadInput(f"generator 'videos': '{argument}' {problem}", cure=_CURE)
        return cls(folder)

    def settings(self) -> dict[str, Any]:
        """The folder's name; the bytes of each clip are in its key as an input."""
        return {"folder": self._name}

    def inputs(self, case: Case) -> list[Path]:
        """The clip, where there is one."""
        clip = self._clip(case)
        return [clip] if clip.is_file() else []

    def expected(self, wanted: ClipSpec) -> ClipSpec | None:
        """Nothing: what somebody else rendered is scored as it is."""
        return None

    def render(self, job: RenderJob) -> Path:
        """The path of the clip.

        Raises:
            MissingClip: the folder has none for this case.
        """
        clip = self._clip(job.case)
        if not clip.is_file():
            raise MissingClip(f"no clip {clip.name} in folder {self._name}")
        return clip

    @property
    def _name(self) -> str:
        """Without the folders above it: records hold no paths of a machine."""
        return self.folder.resolve().name

    def _clip(self, case: Case) -> Path:
        return self.folder / f"{case.id}.mp4"
