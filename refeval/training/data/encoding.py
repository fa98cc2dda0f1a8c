"""Clips and prompts of rows, encoded once before the training.

Encoded are the clip from the middle of a row's cut (see :data:`refeval.training.data.row_source.EncodedRow`), and all
prompts of the row. References are not: they are augmented anew each time, and a picture is encoded in an instant.
Tensors are stored in the dtype that VAE and umT5 work in, bfloat16 for the published ones, so nothing is lost.

Rows are taken in portions that follow from their order alone, one file of encodings each, so that any number of
processes that share the portions write the same files as one, and a process that was killed loses one portion. What
rows have in common is encoded for the first of them.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from refeval.generators.wan.prompts import clean_prompt
from refeval.signals import raise_if_stopped
from refeval.training.data.encoded import Broken, EncodedFolder, file_name, key_of
from refeval.training.data.media import MIDDLE, read_clip
from refeval.training.data.rows import Row
from refeval.training.examples import BrokenSample, Encoded
from refeval.training.recipe import DataSettings

ROWS_PER_FILE = 64
# Part of the settings of a folder: another number where clips are cut, resized or encoded in another way.
_VERSION = 1
# Looked at instead of the whole video: its header, which is at one of its ends, holds the size of every frame.
_END_BYTES = 1 << 20
_AHEAD = 4

A = TypeVar("A")
B = TypeVar("B")


def encoding_settings(data: DataSettings, parts: dict[str, Any]) -> dict[str, Any]:
    """What every encoding of a folder rests on.

    Args:
        data: size, length and rate of clips.
        parts: identity of VAE and text encoder, as :class:`refeval.training.wan_encoder.WanParts` gives it.
    """
    clip = {"width": data.width, "height": data.height, "frames": data.frames, "fps": data.fps}
    return {"version": _VERSION, "clip": clip, **parts}


def text_key(prompt: str) -> str:
    """The key of a prompt."""
    return key_of("text", clean_prompt(prompt))


def clip_key(row: Row) -> str:
    """The key of a row's clip: the video by its size and its first and last MiB, cut and crop.

    Raises:
        OSError: there is no such video.
    """
    return _clip_key(row, _video_identity(row.video))


def _clip_key(row: Row, video: str) -> str:
    return key_of("clip", [video, row.frames, row.crop])


def _video_identity(path: Path) -> str:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(f"{size}\n".encode())
        digest.update(file.read(_END_BYTES))
        file.seek(max(size - _END_BYTES, 0))
        digest.update(file.read(_END_BYTES))
    return digest.hexdigest()


class EncodedRows:
    """Gives what was encoded of rows; used by several threads at once.

    Args:
        folder: opened.
    """

    def __init__(self, folder: EncodedFolder) -> None:
        self._folder = folder

    def __call__(self, row: Row, prompt: str) -> Encoded | None:
        """Clip and prompt of a row, float32; None if one of them was not encoded.

        Raises:
            CorruptFile: a file was damaged since the folder was opened.
        """
        try:
            latents = self._folder.tensor(clip_key(row))
        except OSError:
            # Whoever reads the clip instead says what is wrong with it.
            return None
        text = self.text(prompt)
        return None if latents is None or text is None else Encoded(latents=latents.float(), text=text.float())

    def text(self, prompt: str) -> Tensor | None:
        """The embedding of a prompt as it was stored, (L, D); None if it was not encoded."""
        return self._folder.tensor(text_key(prompt))


class ClipEncoder(Protocol):
    """What encodes; in the program :class:`refeval.training.wan_encoder.WanParts`."""

    def latents(self, frames: NDArray[np.uint8]) -> Tensor:
        """Clip (T, H, W, 3) to (C, F, H / 8, W / 8), in the dtype that is stored."""
        ...

    def encode_text(self, prompt: str) -> Tensor:
        """Prompt to (L, D), in the dtype that is stored, on the CPU."""
        ...


@dataclass(frozen=True, kw_only=True)
class Portion:
    """What goes into one file.

    Attributes:
        rows: how many rows it is of.
        clips: numbers of the rows whose clip no row before them has.
        texts: prompts that no row before has.
    """

    rows: int
    clips: tuple[int, ...]
    texts: tuple[str, ...]


@dataclass(kw_only=True)
class EncodingSummary:
    """What was done, and what had been done before; broken clips are among neither.

    Attributes:
        rows: of this process.
        clips: encoded now; on a trial: to be encoded.
        clips_before: encoded before.
        texts: prompts encoded now.
        texts_before: encoded before.
        bytes: written now; on a trial not counted here.
        broken: clips that cannot be encoded, found now or before, by key.
    """

    rows: int = 0
    clips: int = 0
    clips_before: int = 0
    texts: int = 0
    texts_before: int = 0
    bytes: int = 0
    broken: dict[str, Broken] = field(default_factory=dict)


def portions(rows: Sequence[Row], always: Sequence[str], size: int) -> Iterator[Portion]:
    """Share out what rows have.

    Args:
        rows: of all files, in order.
        always: prompts beside those of the rows, in the first portion.
        size: rows of a portion.
    """
    seen: set[str] = set()

    def is_new(key: str) -> bool:
        new = key not in seen
        seen.add(key)
        return new

    for first in range(0, len(rows), size):
        numbers = range(first, min(first + size, len(rows)))
        clips = []
        texts = [prompt for prompt in always if is_new(text_key(prompt))] if first == 0 else []
        for number in numbers:
            row = rows[number]
            # By its path: to look into every video would take each process long.
            if is_new(_clip_key(row, str(row.video))):
                clips.append(number)
            texts += [prompt for prompt in row.prompt if is_new(text_key(prompt))]
        yield Portion(rows=len(numbers), clips=tuple(clips), texts=tuple(texts))


class RowsEncoding:
    """Encodes rows into a folder.

    Args:
        rows: of all files, in order.
        data: size, length and rate of clips.
        folder: begun.
        retry: try again what was found broken.
    """

    def __init__(self, rows: Sequence[Row], data: DataSettings, folder: EncodedFolder, *, retry: bool = False) -> None:
        self._rows = rows
        self._data = data
        self._folder = folder
        self._retry = retry
        self.summary = EncodingSummary()

    def run(self, todo: Iterable[Portion], encoder: ClipEncoder | None, seen: Callable[[int], None]) -> None:
        """Encode portions, one file each; what is there already is passed over.

        Args:
            todo: of this process.
            encoder: None: only count.
            seen: is told how many more rows are done.

        Raises:
            DiskFull: no space; the portions before are whole.
            Stopped: a signal came; likewise.
        """
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="videos") as pool:
            for portion in todo:
                raise_if_stopped()
                self._portion(portion, encoder, pool)
                self.summary.rows += portion.rows
                seen(portion.rows)

    def _portion(self, portion: Portion, encoder: ClipEncoder | None, pool: ThreadPoolExecutor) -> None:
        found = dict(pool.map(self._key, (self._rows[number] for number in portion.clips)))
        wanted = {key: row for key, row in found.items() if self._wants(key)}
        texts = {key: prompt for prompt in portion.texts if (key := text_key(prompt)) not in self._folder}
        before = self._folder.broken
        self.summary.broken |= {key: before[key] for key in found if key in before and key not in wanted}
        self.summary.clips_before += sum(key in self._folder for key in found)
        self.summary.texts_before += len(portion.texts) - len(texts)
        if encoder is None:
            self.summary.clips += len(wanted)
        elif wanted or texts:
            self._encode(wanted, texts, encoder, pool)
        self.summary.texts += len(texts)

    def _encode(
        self, clips: dict[str, Row], texts: dict[str, str], encoder: ClipEncoder, pool: ThreadPoolExecutor
    ) -> None:
        latents, broken = {}, {}
        for (key, row), frames in zip(clips.items(), _ahead(pool, self._read, clips.values()), strict=True):
            raise_if_stopped()
            if isinstance(frames, BrokenSample):
                broken[key] = Broken(row=row.id, reason=frames.what)
            else:
                latents[key] = encoder.latents(frames).cpu()
        embeddings = {key: encoder.encode_text(prompt) for key, prompt in texts.items()}
        self.summary.bytes += self._folder.write(file_name([*clips, *texts]), latents, embeddings, broken)
        self.summary.clips += len(latents)
        self.summary.broken |= broken

    def _wants(self, key: str) -> bool:
        return key not in self._folder and (self._retry or key not in self._folder.broken)

    def _key(self, row: Row) -> tuple[str, Row]:
        try:
            return clip_key(row), row
        except OSError:
            # It has a key of its own as long as it is not there.
            return _clip_key(row, f"no file {row.video}"), row

    def _read(self, row: Row) -> NDArray[np.uint8] | BrokenSample:
        try:
            return read_clip(row, self._data, start=MIDDLE)
        except BrokenSample as error:
            return error


def _ahead(pool: ThreadPoolExecutor, work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Results in order, a few of them made ahead; unlike ``map`` of the pool, never more."""
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
