"""Fetching: what runs need is brought to a folder, recorded there, and verified without a connection."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from refeval.errors import BadInput, CorruptFile, DiskFull, MissingPrerequisite
from refeval.hub import Remote, Wanted, download, look_up, remove_leftovers
from refeval.keys import file_sha256
from refeval.receipts import Mark, Receipt, matching
from refeval.sources import sources_of, sources_of_metrics
from refeval.suggestions import did_you_mean
from refeval.suites import SUITES, load_suite
from refeval.weights import Source, WeightsStore, fetch_command, required_patterns

_SUITES_REPOSITORY = "BestWishYsh/OpenS2V-Eval"
_GB = 10**9
_SPARE = _GB


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What lies in a folder after a fetch.

    Attributes:
        folder: of the repository's files.
        repository: on the hub, None for the built-in suite.
        revision: its commit, None for the built-in suite.
        files: how many files are recorded with their sha256.
        size: their bytes.
    """

    folder: Path
    repository: str | None
    revision: str | None
    files: int
    size: int


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
        CorruptFile: a file is not the one that was fetched, or not what the hub says it is.
        DiskFull: too little space; seen before anything is downloaded.
    """
    if name not in SUITES:
        raise BadInput(f"unknown suite '{name}'{did_you_mean(name, SUITES)}", cure="refeval cases --list")
    if name == "sprites":
        return _draw_sprites(folder)
    patterns = (SUITES[name].file, "Images/**")
    wanted = Wanted(
        repository=_SUITES_REPOSITORY,
        kind="dataset",
        folder=folder,
        patterns=patterns,
        required=patterns,
        revision=revision,
    )
    if offline:
        return _verify(wanted, f"refeval fetch suite {name} --data {shlex.quote(str(folder))}", tell)
    (fetched,) = _bring([wanted], folder, tell)
    load_suite(name, data=folder)
    return fetched


def fetch_model(
    name: str, folder: Path, *, revision: str | None, offline: bool, tell: Callable[[str], None]
) -> list[Fetched]:
    """Bring the weights of a model to a folder, one repository after another.

    The files of a repository lie in ``folder/owner/name`` with a receipt as :func:`fetch_suite` writes it. What
    several models share is there once.

    Args:
        name: of a model, or ``birefnet``.
        folder: of all weights.
        revision: branch, tag or commit of the model's own repository; None: the commit recorded there, else the
            newest. Text encoder and VAE of another repository always are of the recorded or the newest commit.
        offline: open no socket: only verify what is there.
        tell: takes lines for the user.

    Raises:
        BadInput: unknown model, or one without weights.
        MissingPrerequisite: offline, and something is not there.
        CorruptFile: a file is not the one that was fetched, or not what the hub says it is.
        DiskFull: too little space; seen before anything is downloaded.
    """
    wanted = _wanted(sources_of(name), folder, revision)
    if offline:
        return [_verify(one, fetch_command(name, folder), tell) for one in wanted]
    return _bring(wanted, folder, tell)


def fetch_metrics(
    metric_ids: Sequence[str], folder: Path, *, offline: bool, tell: Callable[[str], None]
) -> list[Fetched]:
    """Bring the weights of metrics to a folder, as :func:`fetch_model` does; what several share is there once.

    Args:
        metric_ids: empty: every metric.
        folder: of all weights.
        offline: open no socket: only verify what is there.
        tell: takes lines for the user.

    Raises:
        BadInput: no such metric, or none of them has weights.
        MissingPrerequisite: offline, and something is not there.
        CorruptFile: a file is not the one that was fetched, or not what the hub says it is.
        DiskFull: too little space; seen before anything is downloaded.
    """
    sources = [source for own in sources_of_metrics(metric_ids).values() for source in own]
    if not sources:
        raise BadInput(f"{', '.join(metric_ids)}: there are no weights to fetch", cure="refeval metrics")
    wanted = _wanted(sources, folder, None)
    if offline:
        return [_verify(one, fetch_command("gme", folder), tell) for one in wanted]
    return _bring(wanted, folder, tell)


def _wanted(sources: Sequence[Source], folder: Path, revision: str | None) -> list[Wanted]:
    """One request per repository, which several sources may share; the revision is for that of the first."""
    store = WeightsStore(folder)
    requests: dict[str, Wanted] = {}
    for source in sources:
        before = requests.get(source.repository)
        requests[source.repository] = Wanted(
            repository=source.repository,
            kind="model",
            folder=store.folder_of(source),
            patterns=tuple(dict.fromkeys((*(before.patterns if before else ()), *source.patterns))),
            required=tuple(dict.fromkeys((*(before.required if before else ()), *required_patterns(source)))),
            revision=revision if source.repository == sources[0].repository else None,
        )
    return list(requests.values())


def _draw_sprites(folder: Path) -> Fetched:
    from refeval.sprites.suite import write_suite

    write_suite(folder)
    images = [path for path in folder.glob("Images/**/*") if path.is_file()]
    files = [folder / SUITES["sprites"].file, *images]
    size = sum(path.stat().st_size for path in files)
    return Fetched(folder=folder, repository=None, revision=None, files=len(files), size=size)


def _bring(wanted: Sequence[Wanted], place: Path, tell: Callable[[str], None]) -> list[Fetched]:
    """Download repositories, once it is known that there is room for all of them."""
    for one in wanted:
        remove_leftovers(one.folder)
    remotes = [look_up(_at_recorded_revision(one)) for one in wanted]
    for remote in remotes:
        there = remote.size - remote.size_to_come
        size = f"{_amount(remote.size)} ({_amount(there)} are there)" if there else _amount(remote.size)
        what = f"{len(remote.files)} files, {size}, to {remote.wanted.folder}"
        tell(f"{remote.wanted.repository} at {remote.commit}: {what}")
    _check_room(place, sum(remote.size_to_come for remote in remotes), tell)
    fetched = []
    for remote in remotes:
        download(remote)
        fetched.append(_record(remote, tell))
    return fetched


def _at_recorded_revision(wanted: Wanted) -> Wanted:
    receipt = Receipt.read_if_whole(wanted.folder)
    if wanted.revision is not None or receipt is None:
        return wanted
    return replace(wanted, revision=receipt.revision)


def _check_room(place: Path, size: int, tell: Callable[[str], None]) -> None:
    existing = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    tell(f"{_amount(size)} to download; {_amount(free)} are free in {place}")
    if size and free < size + _SPARE:
        raise DiskFull(
            f"too little space in {place}",
            details=(
                ("needed", f"{size + _SPARE:,} bytes: {_amount(size)} to download and {_amount(_SPARE)} to spare"),
                ("free", f"{free:,} bytes"),
            ),
            cure="free space, or choose a folder on another disk; nothing was downloaded",
        )


def _record(remote: Remote, tell: Callable[[str], None]) -> Fetched:
    """Check what came against what the hub says, and write the receipt."""
    wanted = remote.wanted
    before = Receipt.read_if_whole(wanted.folder)
    known = dict(before.files) if before else {}
    changed = [name for name in remote.files if name not in known or not known[name].holds_for(wanted.folder / name)]
    _tell_of_hashing(sum(remote.files[name].size for name in changed), tell)
    marks = {name: Mark.of(wanted.folder / name) if name in changed else known[name] for name in remote.files}
    for name, mark in marks.items():
        _check_file(remote, name, mark)
    # Files of another model in the same repository stay recorded, as long as they are of the same commit.
    kept = known if before and before.revision == remote.commit else {}
    Receipt(repository=wanted.repository, revision=remote.commit, files={**kept, **marks}).write(wanted.folder)
    return Fetched(
        folder=wanted.folder,
        repository=wanted.repository,
        revision=remote.commit,
        files=len(marks),
        size=remote.size,
    )


def _check_file(remote: Remote, name: str, mark: Mark) -> None:
    expected = remote.files[name]
    path = remote.wanted.folder / name
    if mark.size != expected.size:
        wrong, right = f"{mark.size:,} bytes", f"{expected.size:,} bytes"
    elif expected.sha256 is not None and mark.sha256 != expected.sha256:
        wrong, right = f"sha256 {mark.sha256}", f"sha256 {expected.sha256}"
    else:
        return
    raise CorruptFile(
        f"{path} is not what the hub says it is",
        details=(("is", wrong), ("should be", right)),
        cure="delete it, then run the same command again",
    )


def _verify(wanted: Wanted, command: str, tell: Callable[[str], None]) -> Fetched:
    """Compare a folder with its receipt, byte by byte."""
    folder = wanted.folder
    receipt = Receipt.read(folder)
    marks = receipt.matching(wanted.patterns) if receipt else {}
    absent = [pattern for pattern in wanted.required if not matching(marks, [pattern])]
    if receipt is None or absent:
        what = (
            f"{folder} holds nothing that was fetched"
            if receipt is None
            else f"{absent[0]} was not fetched to {folder}"
        )
        raise MissingPrerequisite(what, cure=f"{command} (without --offline)")
    for name in marks:
        if not (folder / name).is_file():
            raise MissingPrerequisite(f"{name} is missing in {folder}", cure=command)
    size = sum((folder / name).stat().st_size for name in marks)
    _tell_of_hashing(size, tell)
    for name, mark in marks.items():
        if file_sha256(folder / name) != mark.sha256:
            raise CorruptFile(
                f"{folder / name} is not the file that was fetched (sha256 differs)",
                cure=f"delete it, then {command}",
            )
    return Fetched(folder=folder, repository=receipt.repository, revision=receipt.revision, files=len(marks), size=size)


def _tell_of_hashing(size: int, tell: Callable[[str], None]) -> None:
    if size >= _GB:
        tell(f"computing the sha256 of {_amount(size)}")


def _amount(size: int) -> str:
    return f"{size / _GB:.1f} GB" if size >= _GB else f"{size / 1e6:.1f} MB"
