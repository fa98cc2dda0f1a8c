"""A training's folder: what is trained, by what, and whether it may go on.

::

    training.json       recipe, seed, data, versions; written first, never changed
    steps.jsonl         losses and more of every iteration
    checkpoints/        see refeval.training.checkpoints
    clips/              drawn while it went on
    tensorboard/        the same, for TensorBoard
    separability.json   how far apart the references of subjects are before and after
    assessment.json     of the sprites world: what was learned
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from refeval import __version__
from refeval.documents import read_document, write_document
from refeval.errors import BadInput
from refeval.leases import LeaseBook
from refeval.receipts import Mark
from refeval.runs import environment, git_commit
from refeval.training.checkpoints import State, checkpoint_folder, last_good, read_checkpoint
from refeval.training.recipe import Recipe, parse_recipe

DOCUMENT = "training.json"
SCHEMA_VERSION = 1
# May be changed when a training goes on: they decide what is kept and shown, or how much memory is used. Not the
# micro-batch: its samples are padded to the most references among them.
_FREE = ("keep", "save_every", "sample_every", "explode", "checkpointing")
_WEIGHTS = ("parameters", "average")
_LEASES = "leases"


@dataclass(frozen=True, kw_only=True)
class TrainingDocument:
    """What a training is.

    Attributes:
        recipe: everything that decides what is made.
        seed: of everything random.
        data: sha256 of the files of rows, in their order, which decides which row a number means; see :func:`digests`.
        start: likewise of the weights it starts from, where those are not the base's own.
        ablation: its place in a study, ``{"study": ..., "member": ...}``, or None.
    """

    recipe: Recipe
    seed: int
    data: Mapping[str, str]
    start: Mapping[str, str]
    ablation: Mapping[str, str] | None

    def identity(self) -> dict[str, Any]:
        """What must agree when a training goes on."""
        recipe = self.recipe.described()
        recipe["run"] = {name: value for name, value in recipe["run"].items() if name not in _FREE}
        ablation = dict(self.ablation) if self.ablation else None
        return {
            "recipe": recipe,
            "seed": self.seed,
            "data": dict(self.data),
            "start": dict(self.start),
            "ablation": ablation,
        }


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """The sha256 of files, by number and name.

    Raises:
        BadInput: one is missing.
    """
    found = {}
    for number, path in enumerate(paths, start=1):
        if not path.is_file():
            raise BadInput(f"{path}: no such file")
        found[f"{number}:{path.name}"] = Mark.of(path).sha256
    return found


def begin_training(folder: Path, document: TrainingDocument) -> None:
    """Write the document of a new training, or see that the folder holds the same one; to be called :func:`alone`.

    Raises:
        BadInput, CorruptFile: as :func:`check_folder`.
        DiskFull: no space for it.
    """
    check_folder(folder, document)
    path = folder / DOCUMENT
    if path.is_file():
        return
    write_document(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            **document.identity(),
            "recipe": document.recipe.described(),
            "refeval_version": __version__,
            "environment": environment(),
            "git_commit": git_commit(),
        },
    )


def check_folder(folder: Path, document: TrainingDocument) -> None:
    """See that a folder is new, or holds the same training; nothing is written.

    Raises:
        BadInput: another training is here, or something else.
        CorruptFile: its document is damaged.
    """
    if not (folder / DOCUMENT).is_file():
        if folder.is_dir() and any(map(_is_strange, folder.iterdir())):
            raise BadInput(f"{folder}: holds other files and no {DOCUMENT}", cure="give --out with a new folder")
        return
    there, wanted = read_training(folder).identity(), document.identity()
    differing = _differing(there, wanted)
    if differing:
        raise BadInput(
            f"{folder}: another training is here",
            details=tuple((name, f"{before!r} there, {now!r} asked for") for name, before, now in differing[:5]),
            cure="give --out with a new folder, or the same settings to go on",
        )


def read_training(folder: Path) -> TrainingDocument:
    """What the training in a folder is.

    Raises:
        BadInput: there is none, or it is of a newer release.
        CorruptFile: its document is damaged.
    """
    path = folder / DOCUMENT
    if not path.is_file():
        raise BadInput(
            f"{folder} is not a training: it has no {DOCUMENT}", cure="give a folder that refeval train made"
        )
    content = read_document(path)
    if content["schema_version"] != SCHEMA_VERSION:
        raise BadInput(f"{folder}: made by another release of refeval", cure="use the release that made it")
    return TrainingDocument(
        recipe=parse_recipe(content["recipe"], str(path)),
        seed=content["seed"],
        data=content["data"],
        start=content["start"],
        ablation=content["ablation"],
    )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other commands out while a training runs.

    Raises:
        BadInput: another command is training here.
    """
    with LeaseBook(folder / _LEASES).hold("training") as ours:
        if not ours:
            raise BadInput(f"{folder}: another command is training here", cure="wait for it, or give another --out")
        yield


def trained_tensors(folder: Path, *, step: int | None = None, average: bool = True) -> tuple[int, Mapping[str, Tensor]]:
    """The parameters of a checkpoint, averaged ones where they are kept and wanted.

    Args:
        folder: of the training.
        step: of the checkpoint; None: the last whole one.
        average: prefer averaged parameters.

    Returns:
        The iteration, and float32 tensors by name; projectors are never averaged apart: the average holds them too.

    Raises:
        BadInput: no such checkpoint.
        CorruptFile: it is damaged.
    """
    state: State | None
    if step is None:
        state, _ = last_good(folder, _WEIGHTS)
    else:
        path = checkpoint_folder(folder, step)
        state = read_checkpoint(path, _WEIGHTS) if path.is_dir() else None
    if state is None:
        which = "checkpoint" if step is None else f"checkpoint of iteration {step}"
        raise BadInput(f"{folder}: there is no {which}", cure="train first; checkpoints/ shows what there is")
    return state.step, (state.average if average and state.average else state.parameters)


def _is_strange(path: Path) -> bool:
    """Whether no training has put it there before it wrote its document."""
    return path.name != _LEASES and not (path.name.startswith(".") and path.name.endswith(".tmp"))


def _differing(there: Mapping[str, Any], wanted: Mapping[str, Any], place: str = "") -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for name in sorted({*there, *wanted}):
        before, now = there.get(name), wanted.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += _differing(before, now, f"{place}{name}.")
        elif before != now:
            found.append((f"{place}{name}", before, now))
    return found
