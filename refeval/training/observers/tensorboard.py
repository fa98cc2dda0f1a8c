"""Curves and clips for TensorBoard: ``tensorboard --logdir FOLDER``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refeval.documents import naming_a_full_disk
from refeval.errors import MissingPrerequisite
from refeval.training.observation import Observer, StepReport
from refeval.training.observers.clips import strip

if TYPE_CHECKING:
    from refeval.training.worlds import DrawnClip


class TensorBoard(Observer):
    """Writes event files to ``tensorboard/``; they are on disk after every step.

    Args:
        folder: of the training.

    Raises:
        MissingPrerequisite: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            what = "curves are written with tensorboard, which is not installed"
            raise MissingPrerequisite(what, cure="pip install 'refeval[train]'") from error
        self._folder = folder / "tensorboard"
        self._open = partial(SummaryWriter, str(self._folder))
        self._writer: Any = None

    def begin(self, done: int) -> None:
        """Open a file; what earlier ones tell of later steps is no longer shown.

        Raises:
            DiskFull: no space, as in the methods below.
        """
        with naming_a_full_disk(self._folder):
            self._writer = self._open(purge_step=done + 1)

    def step(self, report: StepReport) -> None:
        """Add a point to every curve."""
        with naming_a_full_disk(self._folder):
            for name, value in report.scalars().items():
                self._writer.add_scalar(name, value, report.step)
            self._writer.flush()

    def clips(self, step: int, drawn: Sequence[DrawnClip]) -> None:
        """Show each clip as a strip; videos would need another package."""
        with naming_a_full_disk(self._folder):
            for number, one in enumerate(drawn, start=1):
                self._writer.add_image(f"clips/{number}", strip(one), step, dataformats="HWC")
            self._writer.flush()

    def note(self, step: int, name: str, value: float) -> None:
        """Add a point to the curve of this name."""
        with naming_a_full_disk(self._folder):
            self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            with naming_a_full_disk(self._folder):
                self._writer.close()
