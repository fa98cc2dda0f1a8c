"""The device that a network works on. torch is imported when one is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refeval.errors import BadInput, MissingPrerequisite
from refeval.place import DEVICES
from refeval.weights import asker

if TYPE_CHECKING:
    import torch


def pick_device(asked: str, wanted_by: str, *, on_cpu: str | None = None) -> torch.device:
    """The device to work on: the first GPU that torch sees, or the CPU.

    Args:
        asked: ``cpu``, ``cuda``, or ``auto``: the GPU where there is one, else the CPU.
        wanted_by: the model, or the metric by its id; for messages.
        on_cpu: how long the CPU takes, in words such as ``days for one clip``, for a network that needs a GPU: then
            ``auto`` does not fall back on the CPU.

    Raises:
        BadInput: no such device.
        MissingPrerequisite: a GPU is needed, or was asked for, and torch sees none.
    """
    import torch

    if asked not in DEVICES:
        raise BadInput(f"unknown device '{asked}'", cure="--device auto, cpu or cuda")
    if asked == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if asked == "auto" and on_cpu is None:
        return torch.device("cpu")
    cure = "run where torch.cuda.is_available(), or --device cpu" + (f", which takes {on_cpu}" if on_cpu else "")
    what = "needs a GPU" if on_cpu else "was asked to use a GPU"
    raise MissingPrerequisite(f"{asker(wanted_by)} {what} and torch sees none", cure=cure)
