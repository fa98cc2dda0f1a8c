"""A network that was trained, as a generator needs it: which checkpoint it is, and what is told of it in a manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from refeval.documents import encode
from refeval.errors import BadInput
from refeval.training.checkpoints import checkpoint_folder, checkpoints, recorded_sha256
from refeval.training.folder import TrainingDocument, read_training, trained_tensors
from refeval.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A checkpoint that is named, and not read yet.

    Attributes:
        folder: of the training.
        document: what the training is.
        step: iteration of the checkpoint.
        averaged: whether the averaged weights are meant.
        sha256: of the file of weights, as it was when it was written.
    """

    folder: Path
    document: TrainingDocument
    step: int
    averaged: bool
    sha256: str

    @property
    def recipe(self) -> Recipe:
        """Of the training."""
        return self.document.recipe

    def settings(self) -> dict[str, Any]:
        """What decides the clips, for a manifest (JSON types), and the place in an ablation.

        Only the weights that a training ends with are a member of an ablation: those of an earlier iteration are not.
        """
        identity = self.document.identity()
        told: dict[str, Any] = {
            "training": {
                "recipe": self.recipe.name,
                "recipe_sha256": hashlib.sha256(encode(identity["recipe"])).hexdigest(),
                "seed": self.document.seed,
                "step": self.step,
                "averaged": self.averaged,
            }
        }
        last = self.step == self.recipe.run.iterations and self.averaged == bool(self.recipe.optimizer.ema)
        if identity["ablation"] and last:
            told["ablation"] = identity["ablation"]
        return told

    def weights(self) -> dict[str, str]:
        """sha256 of the file of weights, by its name in the folder of the training."""
        part = "average" if self.averaged else "parameters"
        name = checkpoint_folder(self.folder, self.step).name
        return {f"checkpoints/{name}/{part}.safetensors": self.sha256}

    def tensors(self) -> Mapping[str, Tensor]:
        """Network and projectors, float32 on the CPU, as a checkpoint names them.

        Raises:
            CorruptFile: the file is not as it was written.
        """
        _, tensors = trained_tensors(self.folder, step=self.step, average=self.averaged)
        return tensors


def open_trained(folder: Path, *, step: int | None, average: bool) -> TrainedNetwork:
    """Look which network of a training is meant.

    Args:
        folder: of the training.
        step: of the checkpoint; None: that of the end.
        average: the averaged weights, where they are kept.

    Raises:
        BadInput: no training, one that has not come to its end where no step is named, or no such checkpoint.
        CorruptFile: a document is damaged.
    """
    document = read_training(folder)
    there = [number for number, _ in checkpoints(folder)]
    end = document.recipe.run.iterations
    wanted = end if step is None else step
    if wanted not in there:
        raise BadInput(
            f"{folder}: there is no checkpoint of iteration {wanted}",
            details=(("there are", ", ".join(map(str, there)) or "none"), ("the end", f"iteration {end}")),
            cure="train to the end, or name one that is there: trained:FOLDER,step=N",
        )
    digests = recorded_sha256(checkpoint_folder(folder, wanted))
    averaged = average and "average" in digests
    return TrainedNetwork(
        folder=folder,
        document=document,
        step=wanted,
        averaged=averaged,
        sha256=digests["average" if averaged else "parameters"],
    )
