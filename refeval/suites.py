"""Suites by name or file, and where their data lies."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import platformdirs

from refeval.cases import ClipSpec, Domain, Suite, parse_suite
from refeval.errors import BadInput, MissingPrerequisite
from refeval.suggestions import did_you_mean

_OPENS2V_CLIP = ClipSpec(width=832, height=480, frames=81, fps=Fraction(16))
_SPRITES_CLIP = ClipSpec(width=192, height=112, frames=16, fps=Fraction(8))


@dataclass(frozen=True, kw_only=True)
class SuiteInfo:
    """A suite known by name.

    Attributes:
        file: name of its JSON file in the data folder.
        cases: how many it has.
        summary: one line for listings.
    """

    name: str
    file: str
    domain: Domain
    clip: ClipSpec
    cases: int
    summary: str


SUITES = {
    suite.name: suite
    for suite in (
        SuiteInfo(
            name="opens2v-open",
            file="Open-Domain_Eval.json",
            domain=Domain.OPEN,
            clip=_OPENS2V_CLIP,
            cases=180,
            summary="OpenS2V-Eval, open domain: all eight categories",
        ),
        SuiteInfo(
            name="opens2v-human",
            file="Human-Domain_Eval.json",
            domain=Domain.HUMAN,
            clip=_OPENS2V_CLIP,
            cases=60,
            summary="OpenS2V-Eval, human domain: one face or one person",
        ),
        SuiteInfo(
            name="opens2v-single",
            file="Single-Domain_Eval.json",
            domain=Domain.SINGLE,
            clip=_OPENS2V_CLIP,
            cases=90,
            summary="OpenS2V-Eval, single domain: one face, person or object",
        ),
        SuiteInfo(
            name="sprites",
            file="Sprites_Eval.json",
            domain=Domain.OPEN,
            clip=_SPRITES_CLIP,
            cases=32,
            summary="built in, drawn by the program: all eight categories, nothing to download",
        ),
    )
}


def load_suite(suite: str, *, data: Path | None = None) -> Suite:
    """Load a suite.

    Args:
        suite: a name of :data:`SUITES`, or a JSON file of the same schema.
        data: folder that holds the JSON files and ``Images/``; else ``REFEVAL_DATA``; for a file, else its folder.

    Raises:
        MissingPrerequisite: a named suite whose data is not there.
        BadInput: an unknown name, or a file that is not a suite.
    """
    data = data or _data_from_environment()
    if suite in SUITES:
        return _load_named(SUITES[suite], data)
    file = Path(suite)
    if not file.is_file():
        if file.suffix == ".json" or file.parent != Path():
            problem = "is a folder" if file.is_dir() else "does not exist"
            raise BadInput(f"suite file {suite} {problem}", cure="give the JSON file itself, or a name")
        raise BadInput(f"unknown suite '{suite}'{did_you_mean(suite, SUITES)}", cure="refeval cases --list")
    return _parse(file, name=file.stem, domain=_domain_of(file.name), clip=_OPENS2V_CLIP, root=data or file.parent)


def suite_of_run(name: str, text: str, *, domain: Domain, clip: ClipSpec, data: Path | None) -> Suite:
    """The suite kept in a run folder, with the data folder of this machine if there is one."""
    root = data or _data_from_environment()
    return parse_suite(text, name=name, domain=domain, clip=clip, source=f"suite.json of the run ({name})", root=root)


def data_folder(suite: str, data: Path | None) -> Path | None:
    """Where the images of a suite lie on this machine, if that is known; those of ``sprites`` are drawn."""
    return sprites_folder() if suite == "sprites" else data or _data_from_environment()


def sprites_folder() -> Path:
    """The folder of the built-in suite, drawn on first use.

    It lies in the user's cache folder, or in ``REFEVAL_CACHE``.
    """
    from refeval.sprites.suite import SUITE_VERSION, write_suite

    cache = os.environ.get("REFEVAL_CACHE") or platformdirs.user_cache_dir("refeval")
    folder = Path(cache) / f"sprites-v{SUITE_VERSION}"
    if not (folder / SUITES["sprites"].file).is_file():
        try:
            write_suite(folder)
        except PermissionError as error:
            raise BadInput(f"cannot write {folder}", cure="set REFEVAL_CACHE to a folder you can write") from error
    return folder


def _load_named(info: SuiteInfo, data: Path | None) -> Suite:
    if info.name == "sprites":
        data = sprites_folder()
    if data is None or not (data / info.file).is_file():
        where = f"{info.file}  in  {data}" if data else f"{info.file} (no --data and no REFEVAL_DATA)"
        raise MissingPrerequisite(
            f"the data of suite '{info.name}' is missing",
            details=(("looked for", where),),
            cure=f"refeval fetch suite {info.name} --data DIR, then --data DIR or REFEVAL_DATA=DIR",
        )
    return _parse(data / info.file, name=info.name, domain=info.domain, clip=info.clip, root=data)


def _parse(file: Path, *, name: str, domain: Domain, clip: ClipSpec, root: Path) -> Suite:
    try:
        # Some editors put a byte-order mark in front, which JSON does not know.
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: cannot be read as UTF-8 text: {error}") from error
    return parse_suite(text, name=name, domain=domain, clip=clip, source=file.name, root=root)


def _domain_of(file_name: str) -> Domain:
    for domain in (Domain.HUMAN, Domain.SINGLE):
        if f"{domain}-domain" in file_name.lower():
            return domain
    return Domain.OPEN


def _data_from_environment() -> Path | None:
    value = os.environ.get("REFEVAL_DATA")
    return Path(value) if value else None
