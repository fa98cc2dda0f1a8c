"""Files of a run folder: whole or absent, never partial, and each carries the sha256 of its own content."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from refeval.errors import CorruptFile, DiskFull
from refeval.faults import fault_point
from refeval.signals import no_interruption

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_file(path: Path, write: Callable[[BinaryIO], object], *, exclusive: bool = False) -> None:
    """Write a file so that no reader ever sees a part of it.

    A temporary file in the same folder is written, flushed, synced and moved over the target; then the
    folder is synced. Temporary names start with a dot and end in ``.tmp``; readers and checks pass them over.

    Args:
        path: the target; its folder is made.
        write: gets the open binary file.
        exclusive: never replace a file that is there.

    Raises:
        FileExistsError: ``exclusive``, and it is there.
        DiskFull: no space, no quota, or the file-size limit is reached. Nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with naming_a_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
        fault_point("before-replace")
        with no_interruption():
            if exclusive:
                os.link(temporary, path)
            else:
                temporary.replace(path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    fault_point("after-replace")


@contextlib.contextmanager
def naming_a_full_disk(path: Path) -> Iterator[None]:
    """Turn the system's errors for lack of space into :class:`DiskFull`.

    Args:
        path: what is written, for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise DiskFull(
            f"no space to write {path.name}",
            details=(("folder", str(path.parent)), ("free", f"{_free_bytes(path.parent):,} bytes")),
            cure="free space or raise the quota, then run the same command again: nothing recorded is lost",
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """:func:`write_file` for content that is already in memory."""
    write_file(path, lambda file: file.write(content))


def write_document(path: Path, content: Mapping[str, Any], *, exclusive: bool = False) -> None:
    """Write a JSON object with its digest: sorted keys, UTF-8, no NaN, the same bytes for the same content.

    Raises:
        ValueError: a value is NaN or infinite.
        DiskFull: as :func:`write_file`.
    """
    document = encode(with_digest(content))
    write_file(path, lambda file: file.write(document), exclusive=exclusive)


def read_document(path: Path) -> dict[str, Any]:
    """Read what :func:`write_document` wrote, without the digest.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFile: not JSON, not an object, or the digest does not match.
    """
    cure = "run the same command again: the file is made anew"
    try:
        content = json.loads(path.read_bytes())
        whole = isinstance(content, dict) and content.pop("digest", None) == _digest(content)
    except ValueError as error:
        raise CorruptFile(f"{path}: cut short or not JSON", cure=cure) from error
    if not whole:
        raise CorruptFile(f"{path}: the content does not match its sha256", cure=cure)
    return dict(content)


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content and its sha256, which :func:`read_document` asks for however the JSON is laid out."""
    return {**content, "digest": _digest(content)}


def encode(content: Mapping[str, Any]) -> bytes:
    """The one way JSON is written to a run folder."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(encode(content)).hexdigest()


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder outlive a power failure, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems refuse fsync on a folder; the rename is all they offer.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_bytes(folder: Path) -> int:
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    status = os.statvfs(there)
    return status.f_bavail * status.f_frsize
