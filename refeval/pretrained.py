"""Models of transformers from local files: no network, no remote code, and every tensor accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from refeval.errors import CorruptFile
from refeval.stored_weights import open_checkpoint
from refeval.wanted_tensors import refuse_others, shapes_of
from refeval.weights import fetch_command


def load_pretrained(
    model_class: Any,
    weights: Path,
    *,
    name: str,
    wanted_by: str,
    rename: Callable[[str], str | None],
    dtype: torch.dtype,
    attention: str,
) -> Any:
    """Load a model; its ``config.json`` lies beside the weights.

    Args:
        model_class: a class of transformers.
        weights: a file, an index of shards or a folder.
        name: of the model, for messages.
        wanted_by: the metric by its id; a cure fetches its weights.
        rename: stored name of a tensor -> name in the model, None for a tensor of a part that is not wanted.
        dtype: of all parameters.
        attention: as transformers names it.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        BadInput: other weights: tensors are missing, left over or of another shape.
        MissingPrerequisite: no such file.
        CorruptFile: a file that cannot be read.
    """
    checkpoint = open_checkpoint(weights, wanted_by)
    config = _read_config(model_class.config_class, weights, wanted_by)
    with torch.device("meta"):
        wanted = shapes_of(model_class(config))
    tensors = {new: tensor for key, tensor in checkpoint.tensors.items() if (new := rename(key)) is not None}
    cure = fetch_command(wanted_by, None)
    refuse_others(weights, {key: tensor.shape for key, tensor in tensors.items()}, wanted, name, cure)
    state = {key: tensor.read() for key, tensor in tensors.items()}
    with _quietly():
        return model_class.from_pretrained(
            None, config=config, state_dict=state, dtype=dtype, attn_implementation=attention
        )


def _read_config(config_class: Any, weights: Path, wanted_by: str) -> Any:
    folder = weights if weights.is_dir() else weights.parent
    try:
        return config_class.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CorruptFile(
            f"{folder / 'config.json'}: not a configuration", cure=fetch_command(wanted_by, None)
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """No progress bar of transformers on the way."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
