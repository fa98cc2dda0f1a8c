"""All who see a training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from refeval.errors import MissingPrerequisite
from refeval.training.observation import Observer, Observers
from refeval.training.observers.clips import ClipFiles
from refeval.training.observers.progress import ProgressDisplay
from refeval.training.observers.step_log import StepLog
from refeval.training.observers.tensorboard import TensorBoard
from refeval.training.observers.weights_and_biases import WeightsAndBiases


def open_observers(
    folder: Path,
    *,
    iterations: int,
    fps: float,
    console: Console,
    config: Mapping[str, Any],
    wandb_project: str | None = None,
) -> Observers:
    """The files of the folder, TensorBoard where it is installed, Weights and Biases if asked for, and progress.

    Args:
        folder: of the training.
        iterations: of the training.
        fps: of the clips that are drawn.
        console: for progress, and for what is missing.
        config: the recipe.
        wandb_project: of Weights and Biases; None: it is not told.

    Raises:
        MissingPrerequisite: Weights and Biases is asked for and not installed.
        CorruptFile: a damaged line in the log.
    """
    found: list[Observer] = [StepLog(folder), ClipFiles(folder, fps)]
    if wandb_project is not None:
        found.append(WeightsAndBiases(folder, project=wandb_project, name=folder.resolve().name, config=config))
    try:
        found.append(TensorBoard(folder))
    except MissingPrerequisite as error:
        console.print(str(error), soft_wrap=True, markup=False, highlight=False)
    # The bar comes last: whatever the others say stands above it.
    return Observers([*found, ProgressDisplay(console, iterations=iterations)])
