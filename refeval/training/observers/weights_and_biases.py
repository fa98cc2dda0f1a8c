"""Curves and clips for Weights and Biases, by the names they have in TensorBoard."""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refeval.documents import read_document, write_document
from refeval.errors import MissingPrerequisite
from refeval.training.observation import Observer, StepReport
from refeval.training.observers.clips import strip

if TYPE_CHECKING:
    from refeval.training.worlds import DrawnClip


class WeightsAndBiases(Observer):
    """Tells a run of Weights and Biases; its files are in ``wandb/``.

    ``WANDB_MODE`` decides whether anything is sent; where it is not set, nothing is unless the user is logged in. A
    training that goes on goes on in the same run, whose id is kept in ``wandb/run.json``; steps that the server has
    already are not sent again, for they have the same numbers. No key is read or written here, and neither the
    terminal's text nor the repository's address is recorded.

    Args:
        folder: of the training.
        project: where the run is listed.
        name: of the run.
        config: shown beside it: the recipe.

    Raises:
        MissingPrerequisite: wandb is not installed.
    """

    def __init__(self, folder: Path, *, project: str, name: str, config: Mapping[str, Any]) -> None:
        try:
            wandb: Any = importlib.import_module("wandb")
        except ImportError as error:
            what = "Weights and Biases is asked for, and wandb is not installed"
            raise MissingPrerequisite(what, cure="pip install 'wandb>=0.31'") from error
        self._image = wandb.Image
        online = "WANDB_MODE" in os.environ or wandb.login(prompt=False, verify=False)
        self._run = wandb.init(
            project=project,
            name=name,
            config=dict(config),
            dir=str(folder),
            id=_run_id(folder),
            resume="allow",
            mode=None if online else "offline",
            settings=wandb.Settings(console="off", disable_git=True),
        )
        self._first = self._run.step

    def step(self, report: StepReport) -> None:
        """Add a point to every curve."""
        self._log(report.step, report.scalars())

    def clips(self, step: int, drawn: Sequence[DrawnClip]) -> None:
        """Show each clip as a strip above its prompt."""
        strips = {f"clips/{i}": self._image(strip(one), caption=one.sample.prompt) for i, one in enumerate(drawn, 1)}
        self._log(step, strips)

    def note(self, step: int, name: str, value: float) -> None:
        """Add a point to the curve of this name."""
        self._log(step, {name: value})

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        if step >= self._first:
            self._run.log(dict(values), step=step)


def _run_id(folder: Path) -> str:
    path = folder / "wandb" / "run.json"
    if not path.exists():
        write_document(path, {"id": secrets.token_hex(8)})
    return str(read_document(path)["id"])
