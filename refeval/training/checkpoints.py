"""Checkpoints of a training: a folder per kept iteration, whole or absent, from which training goes on exactly.

::

    checkpoints/step-000500/
        checkpoint.json          iteration, loss mean, sha256 of the files; written last
        parameters.safetensors   network and projectors, float32
        optimizers.safetensors   "NUMBER.NAME.state", number of the optimizer and name of the parameter
        average.safetensors      where the recipe keeps averaged weights
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from refeval.documents import read_document, sync_folder, write_document
from refeval.errors import CorruptFile, RefevalError
from refeval.faults import fault_point
from refeval.receipts import Mark
from refeval.signals import no_interruption
from refeval.stored_weights import in_file_order, open_checkpoint, write_safetensors

DOCUMENT = "checkpoint.json"
PARTS = ("parameters", "optimizers", "average")
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, kw_only=True)
class State:
    """What a training is after an iteration.

    Attributes:
        step: iterations done.
        loss_mean: running mean of the total loss, which an exploding one is held against.
        parameters: by name.
        optimizers: by number of the optimizer, name of the parameter and of the state.
        average: averaged parameters by name; empty where none are kept.
    """

    step: int
    loss_mean: float
    parameters: Mapping[str, Tensor]
    optimizers: Mapping[str, Tensor]
    average: Mapping[str, Tensor]

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of each file that there is, in the order in which they are written."""
        found: dict[str, Mapping[str, Tensor]] = {part: getattr(self, part) for part in PARTS}
        return {part: in_file_order(tensors) for part, tensors in found.items() if tensors}


def checkpoint_folder(training: Path, step: int) -> Path:
    """Where the checkpoint of an iteration is."""
    return training / "checkpoints" / f"step-{step:06d}"


def checkpoints(training: Path) -> list[tuple[int, Path]]:
    """The iterations that have a checkpoint, in order, and their folders."""
    found = [(_NAME.fullmatch(path.name), path) for path in (training / "checkpoints").glob("step-*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def write_checkpoint(
    training: Path, state: State, keep: int, whole: Callable[[Iterable[Tensor]], Iterable[Tensor]] = iter
) -> Path:
    """Write a checkpoint, then remove all but the last ``keep``.

    Args:
        training: its folder.
        state: what is written.
        keep: how many checkpoints are kept.
        whole: makes tensors of ``state`` whole, one by one, where parts of them lie in other processes. It is called
            for each of :meth:`State.parts` in turn.

    Raises:
        DiskFull: no space; the checkpoints before it are as they were.
    """
    target = checkpoint_folder(training, state.step)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        files = {}
        for part, tensors in state.parts().items():
            file = temporary / f"{part}.safetensors"
            write_safetensors(file, tensors, whole(tensors.values()))
            files[part] = Mark.of(file).sha256
        content = {"step": state.step, "loss_mean": state.loss_mean, "sha256": files}
        write_document(temporary / DOCUMENT, content)
        fault_point("checkpoint-written")
        with no_interruption():
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
            sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    # Later ones are damaged, or training would have gone on from them: they neither count nor are touched.
    for _, old in [(step, path) for step, path in checkpoints(training) if step <= state.step][:-keep]:
        # One that another process has open may stay behind on NFS; it goes with the next.
        shutil.rmtree(old, ignore_errors=True)
    return target


def read_checkpoint(folder: Path, parts: Sequence[str] = PARTS) -> State:
    """Read a checkpoint, on the CPU.

    Args:
        folder: of the checkpoint.
        parts: that are wanted; the others stay empty, and nobody looks at their files.

    Returns:
        its state; the memory of tensors may be the mapped files, which several processes share.

    Raises:
        CorruptFile: a file is missing or not as it was written.
    """
    cure = f"remove {folder}: training goes on from the checkpoint before it"
    try:
        content = read_document(folder / DOCUMENT)
        tensors: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
        for part in sorted({*content["sha256"]} & {*parts}):
            file = folder / f"{part}.safetensors"
            if Mark.of(file).sha256 != content["sha256"][part]:
                raise CorruptFile(f"{file}: the content does not match its sha256")
            stored = open_checkpoint(file, "").tensors
            tensors[part] = {name: tensor.read() for name, tensor in stored.items()}
        return State(step=int(content["step"]), loss_mean=float(content["loss_mean"]), **tensors)
    except (RefevalError, OSError, KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{folder}: not a whole checkpoint ({error})", cure=cure) from error


def recorded_sha256(folder: Path) -> dict[str, str]:
    """sha256 of the files of a checkpoint by part, as they were written; the files themselves are not read.

    Raises:
        CorruptFile: its document is missing or damaged.
    """
    try:
        return dict(read_document(folder / DOCUMENT)["sha256"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{folder}: not a whole checkpoint ({error})") from error


def last_good(training: Path, parts: Sequence[str] = PARTS) -> tuple[State | None, list[str]]:
    """The last checkpoint that is whole in the parts that are wanted, and what was wrong with those after it."""
    complaints: list[str] = []
    for _, folder in reversed(checkpoints(training)):
        try:
            return read_checkpoint(folder, parts), complaints
        except CorruptFile as error:
            complaints.append(error.what)
    return None, complaints


def remove_leftovers(training: Path) -> None:
    """Remove what a killed process left half-written; nobody else may be training here."""
    for path in (training / "checkpoints").glob(".step-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    for path in training.glob(".*.tmp"):
        path.unlink(missing_ok=True)
