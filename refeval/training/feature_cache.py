"""Features of teachers on disk, for pictures that come again.

A picture that is augmented anew each time never comes again, and would only fill the disk: this is for references that
are used as they are, of cross pairs and of recipes without augmentation. A picture of 480x832 takes 3.2 MB at 1024
numbers of 16 bits, which have to be read, checked and moved to the device (about 10 ms on one core): it is worth its
disk where the teacher takes much longer than that.

Letters of shapes: N pictures, H and W height and width in pixels, T tokens of a picture, C width of the teacher.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.stored_weights import open_checkpoint, write_safetensors
from refeval.training.teacher_catalogue import CELL
from refeval.training.teachers import Teacher

# Part of every key: another number where pictures or features are treated in another way.
_VERSION = 1
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class CachedTeacher(Teacher):
    """A teacher that looks features up before it computes them.

    Each picture has a file ``FOLDER/ab/KEY.safetensors``, where ``ab`` are the first two of the key's 64 digits. The
    key is the sha256 of the teacher's identity (layer, final norm, precision, digest of its weights), of how its
    features are stored, and of the picture's shape and bytes; so nothing in the folder ever becomes wrong, and any
    number of teachers, trainings and processes may share it. The device and the versions of the libraries, which
    change features by float error, are not part of it.

    What is returned was rounded to how it is stored, also where it was just computed: a training does not depend on
    what the cache holds.

    Args:
        teacher: whose features are kept.
        folder: of the files; made when the first is written. Nothing is ever deleted from it.
        dtype: of stored features: float16, bfloat16 (exact for one teacher in bfloat16) or float32.

    Attributes:
        hits: how many features were read; pictures of one call that are the same count once.
        misses: how many were computed.
        damaged: how many of these because their file was not what had been written; it is written anew.

    Raises:
        ValueError: another dtype.
    """

    def __init__(self, teacher: Teacher, folder: Path, *, dtype: torch.dtype) -> None:
        if dtype not in _DTYPES:
            raise ValueError(f"features are stored as float16, bfloat16 or float32, not {dtype}")
        self.width = teacher.width
        self.side = teacher.side
        self.hits = self.misses = self.damaged = 0
        self._teacher = teacher
        self._folder = folder
        self._dtype = dtype

    @property
    def device(self) -> torch.device:
        return self._teacher.device

    @cached_property
    def identity(self) -> dict[str, Any]:
        return {"rounded": str(self._dtype), "teacher": self._teacher.identity}

    def features(self, pictures_n3hw: Tensor) -> Tensor:
        """As of every teacher; what was not there is computed in one batch and written.

        Raises:
            ValueError: pictures of another type or shape.
            BadInput: features that are infinite in the dtype of the cache, or not numbers.
            DiskFull: no space; what was written before is whole, and nothing partial is left.
        """
        return super().features(pictures_n3hw)

    def _features(self, pictures_n3hw: Tensor) -> Tensor:
        keys = [self._key(picture) for picture in pictures_n3hw.cpu()]
        tokens = (pictures_n3hw.shape[2] // CELL) * (pictures_n3hw.shape[3] // CELL)
        places = {key: place for place, key in enumerate(keys)}
        found = {key: feature for key in places if (feature := self._read(key, tokens)) is not None}
        absent = {key: place for key, place in places.items() if key not in found}
        if absent:
            made = self._teacher.features(pictures_n3hw[list(absent.values())])
            for key, feature in zip(absent, made.to(self._dtype).cpu(), strict=True):
                self._write(key, feature)
                found[key] = feature
        self.hits += len(places) - len(absent)
        self.misses += len(absent)
        return torch.stack([found[key] for key in keys]).to(self.device).float()

    @cached_property
    def _prefix(self) -> bytes:
        return json.dumps({"version": _VERSION, **self.identity}, sort_keys=True).encode()

    def _key(self, picture_3hw: Tensor) -> str:
        digest = hashlib.sha256(self._prefix)
        digest.update(f"\n{tuple(picture_3hw.shape)}\n".encode())
        digest.update(_bytes_of(picture_3hw))
        return digest.hexdigest()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str, tokens: int) -> Tensor | None:
        """The stored feature (T, C), if it is there and whole."""
        try:
            stored = open_checkpoint(self._path(key), "").tensors
            feature, digest = stored["features"].read(), stored["sha256"].read()
        except MissingPrerequisite:
            return None
        except (CorruptFile, BadInput, KeyError):
            self.damaged += 1
            return None
        fits = feature.dtype == self._dtype and feature.shape == (tokens, self.width)
        if not fits or digest.tolist() != _digest(feature).tolist():
            self.damaged += 1
            return None
        return feature

    def _write(self, key: str, feature_tc: Tensor) -> None:
        if not feature_tc.isfinite().all():
            raise BadInput(
                f"features of the teacher are infinite as {self._dtype}, or not numbers",
                cure="keep them in bfloat16 or float32, whose range is larger",
            )
        write_safetensors(self._path(key), {"features": feature_tc, "sha256": _digest(feature_tc)})


def _digest(feature_tc: Tensor) -> Tensor:
    """uint8 (32,): the file format says how long a file is, not whether it is as it was written."""
    return torch.tensor(list(hashlib.sha256(_bytes_of(feature_tc)).digest()), dtype=torch.uint8)


def _bytes_of(tensor: Tensor) -> memoryview:
    content: memoryview = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
    return content
