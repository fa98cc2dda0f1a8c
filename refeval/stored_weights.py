"""Files of tensors: one safetensors file, shards with or without an index, or a pickle that holds only tensors.

Opening reads headers; a tensor is read when it is asked for. No pickle is ever allowed to run code.

Source: the safetensors format (8 bytes of header length, JSON header, tensors without holes).
"""

from __future__ import annotations

import errno
import json
import pickle
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refeval.documents import write_file
from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.weights import fetch_command

_PICKLES = (".pth", ".pt", ".bin", ".ckpt")
_NESTED = ("state_dict", "model", "module")
# Five digits without a total are shards too; `step-500` is not.
_SHARD = re.compile(r"(?P<stem>.+?)-(?:(?P<number>\d+)-of-(?P<total>\d+)|\d{5})")
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
# What torch.load was seen to raise for files that are cut short or no pickles at all.
_BROKEN = (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError, struct.error)


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor of a checkpoint, not read yet.

    Attributes:
        shape: as stored.
        dtype: as stored.
        read: gives the tensor on the CPU; its memory may be the mapped file.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        path: as given: a file, an index or a folder.
        files: the files that hold the tensors.
        tensors: by their stored names.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tensor.shape for key, tensor in self.tensors.items()}


def open_checkpoint(path: Path, wanted_by: str) -> Checkpoint:
    """Open a checkpoint in any published format.

    Args:
        path: a ``.safetensors`` file, one shard of several, an ``*.index.json``, a pickle of tensors
            (``.pth``, ``.pt``, ``.bin``, ``.ckpt``; also nested under ``state_dict``, ``model`` or ``module``),
            or a folder that holds exactly one of these.
        wanted_by: the model, or the metric by its id: the cure of an error fetches its weights.

    Raises:
        MissingPrerequisite: nothing there, or a shard is missing.
        CorruptFile: a file is cut short or not what its name says.
        BadInput: a folder with several checkpoints, an unknown suffix, a pickle that wants to run code.
    """
    cure = fetch_command(wanted_by, None)
    files, owners = _resolve(path, cure)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise MissingPrerequisite(
            f"{path}: {len(missing)} of {len(files)} files of the checkpoint are missing",
            details=(("missing", ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")),),
            cure=cure,
        )
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for key, tensor in _open_file(file, cure).items():
            if key in tensors and owners.get(key) is None:
                raise BadInput(f"{path}: two files hold a tensor named {key!r}", cure="name one checkpoint, not both")
            if owners.get(key, file) == file:
                tensors[key] = tensor
    return Checkpoint(path=path, files=files, tensors=tensors)


def in_file_order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in the order in which :func:`write_safetensors` writes them."""
    # Wider types first keep every tensor aligned, as safetensors itself does.
    return {key: tensors[key] for key in sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))}


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], contents: Iterable[Tensor] | None = None) -> None:
    """Write a safetensors file, whole or not at all, with no second copy of the tensors in memory.

    safetensors' own ``save_file`` cannot write to an open file, and reports a full disk as an error of its own kind.
    The same tensors give the same bytes.

    Args:
        path: the target, replaced if it is there.
        tensors: any shapes, dtypes and devices; strides are not kept.
        contents: what is written, :func:`in_file_order`, where ``tensors`` tell shapes and dtypes only because their
            numbers lie in other processes too.

    Raises:
        DiskFull: no space; nothing is left behind.
    """
    ordered = in_file_order(tensors)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for key, tensor in ordered.items():
        end = start + tensor.numel() * tensor.element_size()
        header[key] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)

    def write(file: BinaryIO) -> None:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in ordered.values() if contents is None else contents:
            content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            file.write(content.numpy().data)

    write_file(path, write)


def _resolve(path: Path, cure: str) -> tuple[tuple[Path, ...], Mapping[str, Path]]:
    """The files of a checkpoint, and, where there is an index, which file each tensor is taken from."""
    if path.is_dir():
        return _resolve_folder(path, cure)
    if not path.is_file():
        raise MissingPrerequisite(f"no weights at {path}", cure=cure)
    if path.name.endswith(".index.json"):
        return _read_index(path, cure)
    if path.suffix == ".safetensors":
        return _whole_set(path), {}
    if path.suffix in _PICKLES:
        return (path,), {}
    known = ", ".join((".safetensors", ".index.json", *_PICKLES))
    raise BadInput(f"{path}: not a file of weights by its name", details=(("known", known),), cure=cure)


def _resolve_folder(folder: Path, cure: str) -> tuple[tuple[Path, ...], Mapping[str, Path]]:
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    indexes = [file for file in files if file.name.endswith(".index.json")]
    sets: dict[str, list[Path]] = {}
    for file in files:
        if file.suffix == ".safetensors":
            match = _SHARD.fullmatch(file.stem)
            sets.setdefault(match["stem"] if match else file.stem, []).append(file)
    pickles = [file for file in files if file.suffix in _PICKLES]
    choices = indexes or [members[0] for members in sets.values()] or pickles
    if len(choices) == 1:
        return _resolve(choices[0], cure)
    if choices:
        found = ", ".join(file.name for file in choices)
        raise BadInput(f"{folder}: several checkpoints", details=(("found", found),), cure="give the path of one file")
    deeper = [child.name for child in sorted(folder.iterdir()) if child.is_dir() and _has_weights(child)]
    if deeper:
        found = ", ".join(deeper)
        raise BadInput(f"{folder}: no weights here", details=(("below it", found),), cure="give one of these folders")
    raise MissingPrerequisite(f"{folder}: no weights in this folder", cure=cure)


def _has_weights(folder: Path) -> bool:
    return any(file.suffix in (".safetensors", *_PICKLES) for file in folder.iterdir())


def _whole_set(path: Path) -> tuple[Path, ...]:
    """The file itself or, by its name, all shards of its set, there or not."""
    match = _SHARD.fullmatch(path.stem)
    if match is None:
        return (path,)
    if match["total"] is None:
        alike = re.compile(rf"{re.escape(match['stem'])}-\d{{5}}\.safetensors")
        return tuple(sorted(file for file in path.parent.iterdir() if alike.fullmatch(file.name)))
    count, digits = int(match["total"]), len(match["number"])

    def shard(number: int) -> Path:
        return path.with_name(f"{match['stem']}-{number:0{digits}d}-of-{match['total']}.safetensors")

    first = 0 if shard(0).exists() else 1
    return tuple(shard(number) for number in range(first, first + count))


def _read_index(path: Path, cure: str) -> tuple[tuple[Path, ...], Mapping[str, Path]]:
    try:
        owners = {key: path.parent / name for key, name in json.loads(path.read_bytes())["weight_map"].items()}
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise CorruptFile(f"{path}: not an index of shards", cure=cure) from error
    return tuple(sorted(set(owners.values()))), owners


def _open_file(path: Path, cure: str) -> dict[str, StoredTensor]:
    return _open_safetensors(path, cure) if path.suffix == ".safetensors" else _open_pickle(path, cure)


def _open_safetensors(path: Path, cure: str) -> dict[str, StoredTensor]:
    try:
        file: Any = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise _unreadable(path, error, cure) from error
    headers = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    unknown = {key: header.get_dtype() for key, header in headers.items() if header.get_dtype() not in _DTYPES}
    if unknown:
        what = ", ".join(sorted(set(unknown.values())))
        raise BadInput(f"{path}: numbers of a type that is not supported", details=(("type", what),), cure=cure)
    return {
        key: StoredTensor(
            shape=tuple(header.get_shape()), dtype=_DTYPES[header.get_dtype()], read=partial(file.get_tensor, key)
        )
        for key, header in headers.items()
    }


class _Inert:
    """Stands where a training log of mmengine kept its histories beside the weights; holds nothing, does nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# Loading stays restricted to tensors: these names mean the class above, whatever is installed.
_STAND_INS: list[Any] = [
    (_Inert, name)
    for name in (
        "mmengine.logging.history_buffer.HistoryBuffer",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.ndarray",
        "numpy.dtype",
    )
]


def _open_pickle(path: Path, cure: str) -> dict[str, StoredTensor]:
    with path.open("rb") as file:
        start = file.read(4)
    is_zip = start.startswith(b"PK")
    try:
        # Files of torch before 1.6 are no zip archives and cannot be mapped.
        with torch.serialization.safe_globals(_STAND_INS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        if not is_zip and not start.startswith(b"\x80"):
            raise _unreadable(path, error, cure) from error
        raise BadInput(
            f"{path}: refused, because it holds more than tensors and loading it could run code",
            details=(("reason", _reason(error)),),
            cure=f"use a file of tensors only, best safetensors ({cure})",
        ) from error
    except _BROKEN as error:
        raise _unreadable(path, error, cure) from error
    except OSError as error:
        # Looking for the end of an archive, torch goes back behind the start of one that is cut short.
        if error.errno != errno.EINVAL:
            raise
        raise _unreadable(path, EOFError(), cure) from error
    tensors = {str(key): value for key, value in _state_dict(content).items() if isinstance(value, Tensor)}
    if not tensors:
        raise BadInput(f"{path}: no tensors in it", cure=cure)
    return {
        key: StoredTensor(shape=tuple(value.shape), dtype=value.dtype, read=partial(_itself, value))
        for key, value in tensors.items()
    }


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _state_dict(content: object) -> Mapping[object, object]:
    """The innermost dictionary under the usual keys."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return content
        content = inner
    return {}


def _unreadable(path: Path, error: Exception, cure: str) -> CorruptFile:
    reason = _reason(error)
    with path.open("rb") as file:
        if file.read(64).startswith(b"version https://git-lfs"):
            reason = "it is a git-lfs pointer: the weights were not downloaded"
    size = f"{path.stat().st_size:,} bytes"
    return CorruptFile(
        f"{path}: cut short or not a file of weights",
        details=(("reason", reason), ("size", size)),
        cure=f"delete it, then {cure}",
    )


def _reason(error: Exception) -> str:
    """The telling sentence of an error: torch puts its advice to switch the check off before it."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip() or "it ends too early"
    return text.splitlines()[0].partition(". Please")[0]
