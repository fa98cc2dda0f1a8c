"""Cases: a prompt and one to three references, read from a JSON file of the OpenS2V-Eval schema."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

from refeval.errors import BadInput, MissingPrerequisite


class Category(StrEnum):
    """The eight kinds of case, told by the prefix of the id."""

    SINGLEFACE = "singleface"
    SINGLEHUMAN = "singlehuman"
    SINGLEOBJ = "singleobj"
    MULTIFACE = "multiface"
    MULTIHUMAN = "multihuman"
    MULTIOBJECT = "multiobject"
    FACEOBJ = "faceobj"
    HUMANOBJ = "humanobj"


class ReferenceKind(StrEnum):
    """What a reference shows."""

    PERSON = "person"
    OBJECT = "object"
    BACKGROUND = "background"


class Domain(StrEnum):
    """The three suites of OpenS2V-Eval; the domain selects the weights of the total."""

    OPEN = "open"
    HUMAN = "human"
    SINGLE = "single"


_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PERSON_FOLDERS = frozenset({"man", "woman", "crop_man", "crop_woman"})
_PERSON_LABELS = frozenset({"Man", "Woman", "Person"})
_BACKGROUND_FOLDERS = frozenset({"environment", "scene"})
_FIELDS = ("img_paths", "prompt", "class_label")
_OPTIONAL_FIELDS = ("synthesis_flag", "prompt_refine")


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """Size, length and rate of a clip: pixels, frames, frames per second."""

    width: int
    height: int
    frames: int
    fps: Fraction

    @property
    def seconds(self) -> Fraction:
        return Fraction(self.frames) / self.fps

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}@{self.fps}"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One reference image of a case.

    Attributes:
        path: as the suite file gives it, relative to the data folder.
        label: its ``class_label``.
        kind: person, object or background, from folder names and label.
        root: the data folder, or None when none is known.
    """

    path: str
    label: str
    kind: ReferenceKind
    root: Path | None = field(default=None, compare=False)

    def locate(self, case_id: str, position: str) -> Path:
        """The file on disk.

        Args:
            case_id: for the message.
            position: for the message, e.g. ``2 of 3``.

        Raises:
            MissingPrerequisite: no data folder is known, or the file is not there.
        """
        cure = "--data DIR or REFEVAL_DATA=DIR; refeval fetch suite NAME --data DIR brings the published images"
        what = f"case '{case_id}': reference {position} is missing"
        if self.root is None:
            raise MissingPrerequisite(what, details=(("looked for", self.path),), cure=cure)
        file = self.root / self.path
        if not file.is_file():
            details = (("looked for", f"{self.path}  in  {self.root}"),)
            raise MissingPrerequisite(what, details=details, cure=cure)
        return file


@dataclass(frozen=True, kw_only=True)
class Case:
    """A text prompt plus one to three references.

    Attributes:
        refined_prompt: the field ``prompt_refine`` of suites that have it; some generators render from it.
    """

    id: str
    category: Category
    prompt: str
    references: tuple[Reference, ...]
    refined_prompt: str | None = None

    def reference_files(self) -> list[Path]:
        """Every reference file, in order.

        Raises:
            MissingPrerequisite: as :meth:`Reference.locate`.
        """
        count = len(self.references)
        return [r.locate(self.id, f"{i} of {count}") for i, r in enumerate(self.references, 1)]

    def of_kind(self, kind: ReferenceKind) -> list[Reference]:
        """The references of one kind, in order."""
        return [reference for reference in self.references if reference.kind is kind]

    def digest(self) -> str:
        """sha256 (hex) over what the case says: id, prompt, paths, labels, and the refined prompt if there is one."""
        content: list[Any] = [self.id, self.prompt, [[r.path, r.label] for r in self.references]]
        if self.refined_prompt is not None:
            content.append(self.refined_prompt)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A named list of cases in file order.

    Attributes:
        name: ``opens2v-open`` or the stem of the file.
        domain: selects the weights of the total.
        cases: in the order of the file.
        sha256: of the bytes of the JSON file.
        text: those bytes, decoded; a run folder keeps them.
        clip: what a generator renders unless told otherwise.
    """

    name: str
    domain: Domain
    cases: tuple[Case, ...]
    sha256: str
    text: str = field(repr=False)
    clip: ClipSpec

    def __getitem__(self, case_id: str) -> Case:
        for case in self.cases:
            if case.id == case_id:
                return case
        raise KeyError(case_id)

    @property
    def root(self) -> Path | None:
        """The data folder that its images lie in, where one is known."""
        return self.cases[0].references[0].root


def reference_kind(path: str, label: str) -> ReferenceKind:
    """Person, object or background, from the folders of the path and the class label."""
    folders = set(PurePosixPath(path).parts[:-1])
    if folders & _BACKGROUND_FOLDERS:
        return ReferenceKind.BACKGROUND
    if folders & _PERSON_FOLDERS or label in _PERSON_LABELS:
        return ReferenceKind.PERSON
    return ReferenceKind.OBJECT


def parse_suite(text: str, *, name: str, domain: Domain, clip: ClipSpec, source: str, root: Path | None) -> Suite:
    """Read the JSON of a suite.

    Args:
        text: the file's content.
        name: name of the suite.
        domain: its domain.
        clip: its default clip size.
        source: the file's name, for messages.
        root: the data folder that image paths are relative to, or None.

    Raises:
        BadInput: with file, case and field, for anything that is not a suite.
    """
    document = _load_object(text, source)
    if not document:
        raise BadInput(f"{source}: no cases", cure="give a JSON object of id -> case")
    cases = tuple(_parse_case(case_id, entry, source, root) for case_id, entry in document.items())
    _refuse_case_twins(cases, source)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Suite(name=name, domain=domain, cases=cases, sha256=digest, text=text, clip=clip)


def _load_object(text: str, source: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise BadInput(f"{source}: '{key}' is given twice", cure="ids and fields must be unique")
            seen[key] = value
        return seen

    try:
        document = json.loads(text, object_pairs_hook=unique)
    except RecursionError as error:
        raise BadInput(f"{source}: nested too deeply", cure="give a JSON object of id -> case") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise BadInput(f"{source}: not valid JSON", details=(("where", where),)) from error
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise BadInput(f"{source}: not a JSON object but a {kind}", cure="give a JSON object of id -> case")
    return document


def _refuse_case_twins(cases: Sequence[Case], source: str) -> None:
    # Records are files named by the id: two ids that differ only in case share a file on some file systems.
    seen: dict[str, str] = {}
    for case in cases:
        twin = seen.setdefault(case.id.casefold(), case.id)
        if twin != case.id:
            raise BadInput(f"{source}: ids '{twin}' and '{case.id}' differ only in upper and lower case")


def _parse_case(case_id: str, entry: Any, source: str, root: Path | None) -> Case:
    where = f"{source}: case '{case_id}'"
    if not _SAFE_ID.fullmatch(case_id):
        cure = "use letters, digits, '.', '_' and '-'; start with a letter or digit; at most 128 characters"
        raise BadInput(f"{where}: the id cannot be a file name", cure=cure)
    if not isinstance(entry, Mapping):
        raise BadInput(f"{where}: not an object but a {type(entry).__name__}")
    _check_fields(entry, where)
    paths = _strings(entry, "img_paths", where)
    labels = _strings(entry, "class_label", where)
    if len(paths) != len(labels):
        raise BadInput(f"{where}: field 'class_label' has {len(labels)} entries for {len(paths)} images")
    for path in paths:
        _check_image_path(path, where)
    for field_name in ("prompt", "prompt_refine"):
        text = entry.get(field_name, "-")
        if not isinstance(text, str) or not text.strip():
            raise BadInput(f"{where}: field '{field_name}' is empty or not a text")
    references = tuple(
        Reference(path=path, label=label, kind=reference_kind(path, label), root=root)
        for path, label in zip(paths, labels, strict=True)
    )
    return Case(
        id=case_id,
        category=_category(case_id, where),
        prompt=entry["prompt"],
        references=references,
        refined_prompt=entry.get("prompt_refine"),
    )


def _check_fields(entry: Mapping[str, Any], where: str) -> None:
    missing = [name for name in _FIELDS if name not in entry]
    if missing:
        raise BadInput(f"{where}: field '{missing[0]}' is missing")
    unknown = sorted(set(entry) - {*_FIELDS, *_OPTIONAL_FIELDS})
    if unknown:
        known = ", ".join([*_FIELDS, *_OPTIONAL_FIELDS])
        raise BadInput(f"{where}: unknown field '{unknown[0]}'", details=(("known", known),))


def _strings(entry: Mapping[str, Any], name: str, where: str) -> list[str]:
    value = entry[name]
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
        raise BadInput(f"{where}: field '{name}' is not a list of one or more texts")
    return value


def _check_image_path(path: str, where: str) -> None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or ":" in pure.parts[0]:
        cure = "image paths are relative to the data folder and stay inside it"
        raise BadInput(f"{where}: field 'img_paths': '{path}' leaves the data folder", cure=cure)


def _category(case_id: str, where: str) -> Category:
    prefix = case_id.split("_", 1)[0]
    try:
        return Category(prefix)
    except ValueError:
        known = ", ".join(category.value for category in Category)
        details = (("known prefixes", known),)
        raise BadInput(f"{where}: the id names no category", details=details) from None


def select_cases(suite: Suite, ids: Iterable[str]) -> list[Case]:
    """The named cases in suite order.

    Raises:
        BadInput: an id that the suite does not have.
    """
    wanted = set(ids)
    unknown = sorted(wanted - {case.id for case in suite.cases})
    if unknown:
        what = f"unknown case '{unknown[0]}' in suite {suite.name}"
        raise BadInput(what, cure="refeval cases --suite SUITE lists them (its name, or its file)")
    return [case for case in suite.cases if case.id in wanted]
