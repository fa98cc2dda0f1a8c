"""The model hub: the only part of refeval that opens a connection by itself."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from refeval.documents import naming_a_full_disk
from refeval.errors import BadInput, RefevalError
from refeval.receipts import matching
from refeval.redaction import Redactor

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo

# Newer hub clients write to a file of their own, which a killed process leaves behind and nobody goes on with.
_LEFTOVER = re.compile(r".+\.[0-9a-f]{8}\.incomplete")
_ABANDONED_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Files of a repository that shall lie in a folder.

    Attributes:
        repository: ``owner/name``.
        kind: of repository.
        folder: where to.
        patterns: of the files.
        required: those of the patterns that at least one file must match.
        revision: branch, tag or commit; None: the newest.
    """

    repository: str
    kind: Literal["model", "dataset"]
    folder: Path
    patterns: tuple[str, ...]
    required: tuple[str, ...]
    revision: str | None


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file as the hub describes it.

    Attributes:
        size: in bytes.
        sha256: None for small files, of which the hub knows none.
    """

    size: int
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Remote:
    """What the hub has of what is wanted.

    Attributes:
        wanted: what was asked for.
        commit: that the revision is.
        files: by path in the repository.
    """

    wanted: Wanted
    commit: str
    files: Mapping[str, RemoteFile]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    @property
    def size_to_come(self) -> int:
        """Bytes of the files that are not there in their full size."""
        return sum(file.size for name, file in self.files.items() if _size(self.wanted.folder / name) != file.size)


def look_up(wanted: Wanted) -> Remote:
    """Ask the hub for the commit and the list of files.

    Raises:
        RefevalError: the hub cannot be reached, or has not what is wanted.
    """
    from huggingface_hub import HfApi

    with _explaining_failures(wanted):
        hub = HfApi(endpoint=_endpoint())
        ask = hub.dataset_info if wanted.kind == "dataset" else hub.model_info
        info: DatasetInfo | ModelInfo = ask(wanted.repository, revision=wanted.revision, files_metadata=True)
    if info.sha is None:
        raise RefevalError(f"the hub names no commit for {wanted.repository}")
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    chosen = {name: siblings[name] for name in matching(siblings, wanted.patterns)}
    files = {
        name: RemoteFile(size=file.size or 0, sha256=file.lfs.sha256 if file.lfs else None)
        for name, file in chosen.items()
    }
    _check_names(wanted, info.sha, list(files), sorted(siblings))
    return Remote(wanted=wanted, commit=info.sha, files=files)


def download(remote: Remote) -> None:
    """Bring the files; those that are there are not brought again.

    Raises:
        DiskFull: no space.
        RefevalError: the download stopped.
    """
    from huggingface_hub import snapshot_download

    wanted = remote.wanted
    with _explaining_failures(wanted), naming_a_full_disk(wanted.folder / PurePosixPath(wanted.repository).name):
        snapshot_download(
            wanted.repository,
            repo_type=wanted.kind,
            revision=remote.commit,
            local_dir=wanted.folder,
            allow_patterns=[glob.escape(name) for name in remote.files],
            endpoint=_endpoint(),
        )
        absent = [name for name in remote.files if not (wanted.folder / name).is_file()]
        if absent:
            raise FileNotFoundError(f"{absent[0]} did not come")


def remove_leftovers(folder: Path) -> None:
    """Remove parts of files that killed downloads left in a folder and that nobody writes to any more."""
    long_ago = time.time() - _ABANDONED_SECONDS
    for path in (folder / ".cache" / "huggingface" / "download").rglob("*.incomplete"):
        # Another process may be done with it right now.
        with contextlib.suppress(FileNotFoundError):
            if _LEFTOVER.fullmatch(path.name) and path.stat().st_mtime < long_ago:
                path.unlink()


def _check_names(wanted: Wanted, commit: str, names: list[str], all_names: list[str]) -> None:
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise BadInput(
                f"{wanted.repository}: the name {name!r} leaves the folder", cure="do not use this repository"
            )
    absent = [pattern for pattern in wanted.required if not matching(names, [pattern])]
    if absent:
        there = ", ".join(all_names[:8]) + (", ..." if len(all_names) > 8 else "")
        raise BadInput(
            f"{wanted.repository} has no {' and no '.join(absent)}",
            details=(("commit", commit), ("has", there or "no files")),
            cure=f"--revision with a commit that has them, or put the files into {wanted.folder} yourself",
        )


@contextlib.contextmanager
def _explaining_failures(wanted: Wanted) -> Iterator[None]:
    # Imported here: a run that fetches nothing need not load an HTTP client.
    from huggingface_hub import errors

    # The base class of the HTTP client's errors; which client it is depends on the version of the hub client.
    http_error: type[Exception] = errors.HfHubHTTPError.__mro__[1]
    repository = wanted.repository
    try:
        yield
    except errors.RevisionNotFoundError as error:
        cure = "give a branch, tag or commit of it, or leave --revision out"
        raise BadInput(f"{repository} has no revision '{wanted.revision}'", cure=cure) from error
    except errors.RepositoryNotFoundError as error:
        raise RefevalError(
            f"the hub does not show {repository}",
            details=(("reason", _reason(error)),),
            cure="if it asks for consent or a login: agree on its page, `hf auth login`, run the same command again",
        ) from error
    except errors.OfflineModeIsEnabled as error:
        cure = "unset HF_HUB_OFFLINE, or verify what is there with --offline"
        raise RefevalError("HF_HUB_OFFLINE forbids to ask the hub", cure=cure) from error
    except (http_error, OSError, json.JSONDecodeError) as error:
        raise RefevalError(
            f"the download of {repository} stopped",
            details=(("reason", _reason(error)),),
            cure="run the same command again: what has come is kept",
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error, without secrets: an address may carry a password."""
    line = next(iter(str(error).splitlines()), "")
    line = re.sub(r"//[^/@\s]+@", "//", line)
    return f"{type(error).__name__}: {Redactor.from_environment().text(line)}"


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
