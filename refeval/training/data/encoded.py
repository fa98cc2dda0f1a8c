"""A folder of encoded clips and prompts: many of them to a file, each file described by a document beside it.

``encoding.json`` says what every encoding rests on (size of the clips, VAE, text encoder); a folder holds those of one
such setting. ``files/NAME.safetensors`` holds tensors, and ``files/NAME.json``, written after it, says which, and what
could not be encoded and why. A file without its document was left by a kill: nobody reads it, and it is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refeval.documents import read_document, write_document
from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.stored_weights import write_safetensors

SCHEMA_VERSION = 1
_KEY_LENGTH = 32
SETTINGS = "encoding.json"


def key_of(kind: str, content: Any) -> str:
    """The name of an encoding: a digest of what it was made from.

    Args:
        kind: ``clip`` or ``text``.
        content: JSON types.
    """
    text = json.dumps([kind, content], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


@dataclass(frozen=True, kw_only=True)
class Broken:
    """What could not be encoded.

    Attributes:
        row: its id.
        reason: why.
    """

    row: str
    reason: str


class EncodedFolder:
    """Reads and writes a folder; readers in several threads and writers in several processes do not disturb each other.

    Args:
        folder: where it is.

    Attributes:
        broken: what could not be encoded, by key; what another file has an encoding of is not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, tuple[Path, bytes]] = {}
        self.broken: dict[str, Broken] = {}

    @property
    def is_begun(self) -> bool:
        """Whether it is there."""
        return (self.folder / SETTINGS).is_file()

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the folder, or go on with it; files that are damaged count as not there.

        Args:
            settings: what every encoding rests on, JSON types.

        Raises:
            BadInput: the folder holds encodings of other settings.
        """
        path = self.folder / SETTINGS
        if not self.is_begun:
            with contextlib.suppress(FileExistsError):
                write_document(path, {"schema_version": SCHEMA_VERSION, "settings": dict(settings)}, exclusive=True)
        self._refuse_others(settings)
        for document in self._documents():
            with contextlib.suppress(CorruptFile):
                self._take_in(document)

    def open(self, settings: Mapping[str, Any]) -> None:
        """Read what is there.

        Args:
            settings: that the encodings must rest on.

        Raises:
            MissingPrerequisite: there is no such folder.
            BadInput: it holds encodings of other settings.
            CorruptFile: a damaged file.
        """
        if not self.is_begun:
            cure = f"refeval data encode FILE... --config NAME --out {shlex.quote(str(self.folder))}"
            raise MissingPrerequisite(f"{self.folder} holds no encoded clips", cure=cure)
        self._refuse_others(settings)
        for document in self._documents():
            self._take_in(document)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def tensor(self, key: str) -> Tensor | None:
        """An encoding as it was stored, on the CPU; None if it is not there.

        Raises:
            CorruptFile: its file was damaged since.
        """
        if key not in self._places:
            return None
        path, digest = self._places[key]
        try:
            with safe_open(path, framework="pt") as file:
                # The copy is no longer a part of the mapped file.
                stored: Tensor = file.get_tensor(key).clone()
        except (OSError, SafetensorError) as error:
            raise _damaged(path) from error
        if _digest(stored) != digest:
            raise _damaged(path)
        return stored

    def write(
        self, name: str, clips: Mapping[str, Tensor], texts: Mapping[str, Tensor], broken: Mapping[str, Broken]
    ) -> int:
        """Add a file.

        Args:
            name: of the file; one of this name is replaced.
            clips: encodings by key.
            texts: likewise.
            broken: what could not be encoded, by key.

        Returns:
            bytes written.

        Raises:
            DiskFull: no space; what was written before is whole.
        """
        target = self._file(name)
        # Left by a process that was killed here: this portion has no other owner.
        for leftover in target.parent.glob(f".{name}.*.tmp"):
            leftover.unlink(missing_ok=True)
        write_safetensors(target, {**clips, **texts})
        size = target.stat().st_size
        document = target.with_suffix(".json")
        content = {
            "schema_version": SCHEMA_VERSION,
            "bytes": size,
            "clips": {key: _digest(tensor).hex() for key, tensor in clips.items()},
            "texts": {key: _digest(tensor).hex() for key, tensor in texts.items()},
            "broken": {key: {"row": one.row, "reason": one.reason} for key, one in broken.items()},
        }
        write_document(document, content)
        self._take_in(document)
        return size

    def _file(self, name: str) -> Path:
        return self.folder / "files" / f"{name}.safetensors"

    def _documents(self) -> Iterator[Path]:
        yield from sorted(path for path in (self.folder / "files").glob("*.json") if not path.name.startswith("."))

    def _refuse_others(self, settings: Mapping[str, Any]) -> None:
        path = self.folder / SETTINGS
        stored = read_document(path)
        if stored.get("schema_version") != SCHEMA_VERSION:
            raise BadInput(f"{path} is of another version of refeval", cure="give an empty folder")
        there = dict(_leaves(stored["settings"]))
        asked = dict(_leaves(settings))
        names = [name for name in sorted(there.keys() | asked.keys()) if there.get(name) != asked.get(name)]
        if names:
            raise BadInput(
                f"{self.folder} holds encodings of other settings",
                details=tuple((name, f"{there.get(name)} there, {asked.get(name)} asked for") for name in names),
                cure="give the recipe that it was made with, or another folder",
            )

    def _take_in(self, document: Path) -> None:
        try:
            content = read_document(document)
        except FileNotFoundError:
            return
        path = document.with_suffix(".safetensors")
        if not path.is_file() or path.stat().st_size != content["bytes"]:
            raise _damaged(path)
        for key, digest in {**content["clips"], **content["texts"]}.items():
            self._places[key] = path, bytes.fromhex(digest)
            self.broken.pop(key, None)
        self.broken |= {key: Broken(**one) for key, one in content["broken"].items() if key not in self._places}


def file_name(keys: Sequence[str]) -> str:
    """The name of the file for what is wanted together."""
    return key_of("file", sorted(keys))


def _damaged(path: Path) -> CorruptFile:
    document = path.with_suffix(".json")
    remove = shlex.join(["rm", "-f", str(path), str(document)])
    return CorruptFile(
        f"{path}: not what {document.name} describes", cure=f"{remove}, then the same refeval data encode again"
    )


def _digest(tensor: Tensor) -> bytes:
    """sha256 of the numbers: the file format says how long a file is, not whether it is as it was written."""
    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).digest()


def _leaves(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested tables."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, content
