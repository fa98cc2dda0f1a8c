"""The same tensors in every published format of files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="weights need torch")
pytest.importorskip("safetensors", reason="weights need safetensors")

from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

State = dict[str, Tensor]
Make = Callable[[State, Path], Path]


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )


def as_single(state: State, folder: Path) -> Path:
    save_file(state, folder / "Wan.safetensors")
    return folder / "Wan.safetensors"


def shards(state: State, folder: Path) -> dict[str, str]:
    keys = sorted(state)
    names = [f"Phantom_Wan_14B-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]
    for number, name in enumerate(names):
        save_file({key: state[key] for key in keys[number::3]}, folder / name)
    return {key: names[place % 3] for place, key in enumerate(keys)}


def as_index(state: State, folder: Path) -> Path:
    index = folder / "Phantom_Wan_14B.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards(state, folder)}))
    return index


def as_folder_with_index(state: State, folder: Path) -> Path:
    return as_index(state, folder).parent


def as_folder_without_index(state: State, folder: Path) -> Path:
    shards(state, folder)
    return folder


def as_one_shard_of_three(state: State, folder: Path) -> Path:
    shards(state, folder)
    return folder / "Phantom_Wan_14B-00002-of-00003.safetensors"


def as_pickle(state: State, folder: Path) -> Path:
    torch.save(state, folder / "Phantom-Wan-1.3B.pth")
    return folder / "Phantom-Wan-1.3B.pth"


def as_old_pickle(state: State, folder: Path) -> Path:
    torch.save(state, folder / "old.bin", _use_new_zipfile_serialization=False)
    return folder / "old.bin"


def as_nested_pickle(state: State, folder: Path) -> Path:
    torch.save({"step": 7, "state_dict": {"module": state}}, folder / "last.ckpt")
    return folder / "last.ckpt"
