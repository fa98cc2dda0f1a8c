"""Downloads: the only part of refeval that opens a connection by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refeval.documents import read_document, write_document
from refeval.errors import BadInput, CorruptFile, MissingPrerequisite, RefevalError
from refeval.keys import file_sha256
from refeval.suggestions import did_you_mean
from refeval.suites import SUITES, load_suite

_REPOSITORY = "BestWishYsh/OpenS2V-Eval"
_RECEIPT = "fetched.json"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What lies in the data folder after a fetch.

    Attributes:
        folder: the data folder.
        revision: the commit of the dataset, None for the built-in suite.
        files: how many files are recorded with their sha256.
    """

    folder: Path
    revision: str | None
    files: int


def fetch_suite(
    name: str, folder: Path, *, revision: str | None, offline: bool, tell: Callable[[str], None]
) -> Fetched:
    """Bring the data of a suite to a folder; an interrupted download goes on where it was.

    The first fetch resolves ``revision`` to a commit and records it with the sha256 of every file in
    ``fetched.json``; later fetches into the folder use that commit.

    Args:
        name: of the suite.
        folder: where to.
        revision: branch, tag or commit of the dataset; None: the commit recorded there, else the newest.
        offline: open no socket: only verify what is there.
        tell: takes lines for the user.

    Raises:
        BadInput: unknown suite.
        MissingPrerequisite: offline, and something is not there.
        CorruptFile: offline, and a file is not the one that was fetched.
    """
    if name not in SUITES:
        raise BadInput(f"unknown suite '{name}'{did_you_mean(name, SUITES)}", cure="refeval cases --list")
    if name == "sprites":
        return _draw_sprites(folder)
    if offline:
        return _verify(name, folder)
    commit = revision or _recorded_revision(folder)
    commit = _download(name, folder, commit, tell)
    load_suite(name, data=folder)
    return _write_receipt(folder, commit)


def _draw_sprites(folder: Path) -> Fetched:
    from refeval.sprites.suite import write_suite

    write_suite(folder)
    return Fetched(folder=folder, revision=None, files=len(_data_files(folder)))


def _download(name: str, folder: Path, revision: str | None, tell: Callable[[str], None]) -> str:
    # Imported here: a run that fetches nothing need not load an HTTP client.
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    endpoint = os.environ.get("HF_ENDPOINT")
    patterns = [SUITES[name].file, "Images/**"]
    try:
        info = HfApi(endpoint=endpoint).dataset_info(_REPOSITORY, revision=revision, files_metadata=True)
        files = [s for s in info.siblings or [] if s.rfilename == patterns[0] or s.rfilename.startswith("Images/")]
        size = sum(s.size or 0 for s in files)
        if info.sha is None:
            raise RefevalError(f"the hub names no commit for {_REPOSITORY}")
        tell(f"{_REPOSITORY} at {info.sha}: {len(files)} files, {size / 1e6:.1f} MB, to {folder}")
        snapshot_download(
            _REPOSITORY,
            repo_type="dataset",
            revision=info.sha,
            local_dir=folder,
            allow_patterns=patterns,
            endpoint=endpoint,
        )
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise RefevalError(
            f"the download of {_REPOSITORY} stopped",
            details=(("reason", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"),),
            cure="run the same command again: it goes on where it was",
        ) from error
    return info.sha


def _recorded_revision(folder: Path) -> str | None:
    try:
        return str(read_document(folder / _RECEIPT)["revision"])
    except (FileNotFoundError, CorruptFile, KeyError):
        return None


def _write_receipt(folder: Path, commit: str) -> Fetched:
    files = {str(path.relative_to(folder)): file_sha256(path) for path in _data_files(folder)}
    write_document(folder / _RECEIPT, {"repository": _REPOSITORY, "revision": commit, "sha256": files})
    return Fetched(folder=folder, revision=commit, files=len(files))


def _verify(name: str, folder: Path) -> Fetched:
    cure = f"refeval fetch suite {name} --data {folder}"
    if not (folder / _RECEIPT).is_file():
        raise MissingPrerequisite(f"{folder} holds nothing that was fetched", cure=f"{cure} (without --offline)")
    receipt = read_document(folder / _RECEIPT)
    for relative, expected in receipt["sha256"].items():
        path = folder / relative
        if not path.is_file():
            raise MissingPrerequisite(f"{relative} is missing in {folder}", cure=cure)
        if file_sha256(path) != expected:
            raise CorruptFile(
                f"{path} is not the file that was fetched (sha256 differs)", cure=f"delete it, then {cure}"
            )
    return Fetched(folder=folder, revision=receipt["revision"], files=len(receipt["sha256"]))


def _data_files(folder: Path) -> list[Path]:
    images = [path for path in folder.glob("Images/**/*") if path.is_file()]
    return sorted([*folder.glob("*_Eval.json"), *images])
