"""The sprites suite: 32 cases in the layout of OpenS2V-Eval, for runs without its data."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from refeval.documents import write_bytes
from refeval.sprites.backgrounds import BACKGROUNDS, Background, draw_background
from refeval.sprites.drawing import draw_reference
from refeval.sprites.sampling import arrange, sample_background
from refeval.sprites.scenes import Motion, Scene
from refeval.sprites.subjects import OBJECT_SHAPES, Subject, SubjectKind, sample_subject

SUITE_VERSION: Final = 1
"""Rises whenever a pixel or a word of the suite changes, so that old and new records are not compared."""

SUITE_FILE: Final = "Sprites_Eval.json"
SUITE_STREAM: Final = 0x5350_5249
"""First int of the suite's seeds; training and validation streams must not use it."""

_FACE, _HUMAN, _OBJECT = SubjectKind.FACE, SubjectKind.HUMAN, SubjectKind.OBJECT
_REFERENCE_SIDE: Final = 256
_BACKGROUND_SIZE: Final = (192, 320)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """One category: what its cases show.

    Attributes:
        kinds: the kinds of the subjects, for each of its cases.
        with_background: the numbers of the cases that have a reference of their background.
    """

    kinds: tuple[tuple[SubjectKind, ...], ...]
    with_background: frozenset[int] = frozenset()


# The order and the mixture of the real file: backgrounds where it has them, never with objects alone.
_PLANS: Final[dict[str, _Plan]] = {
    "singleobj": _Plan(kinds=((_OBJECT,),) * 4),
    "singlehuman": _Plan(kinds=((_HUMAN,),) * 4),
    "humanobj": _Plan(kinds=((_HUMAN, _OBJECT),) * 4, with_background=frozenset({1, 2, 4})),
    "faceobj": _Plan(kinds=((_FACE, _OBJECT),) * 4, with_background=frozenset({1, 3, 4})),
    "multiface": _Plan(kinds=((_FACE, _FACE),) * 4, with_background=frozenset({1, 4})),
    "multihuman": _Plan(kinds=((_HUMAN, _HUMAN),) * 4, with_background=frozenset({2, 3})),
    "singleface": _Plan(kinds=((_FACE,),) * 4),
    "multiobject": _Plan(kinds=((_OBJECT,) * 2, (_OBJECT,) * 3, (_OBJECT,) * 2, (_OBJECT,) * 3)),
}


@dataclass(frozen=True, kw_only=True)
class _SuiteCase:
    category: str
    scene: Scene
    shows_background: bool


def case_ids() -> tuple[str, ...]:
    """The ids of the suite, in the order of its file."""
    return tuple(_cases())


def scene_for(case_id: str) -> Scene:
    """The scene that the prompt of a case describes: drawn as a clip, it is the perfect answer.

    Raises:
        ValueError: the suite has no such case.
    """
    try:
        return _cases()[case_id].scene
    except KeyError:
        raise ValueError(f"the sprites suite has no case '{case_id}'; known: {', '.join(_cases())}") from None


def write_suite(folder: Path) -> Path:
    """Write the suite: ``Images/...`` first, ``Sprites_Eval.json`` last, so a suite file means all is there.

    References are PNG files: subjects 256x256 on white, backgrounds 320x192. A second time writes the same
    bytes.

    Args:
        folder: the data folder; it is made, and files of these names are replaced.

    Returns:
        the suite file.

    Raises:
        DiskFull: no space is left; the suite file is then not written.
    """
    numbers: Counter[str] = Counter()
    document = {}
    for case_id, case in _cases().items():
        paths = []
        for kind_folder, image in _references(case):
            numbers[kind_folder] += 1
            paths.append(f"Images/{kind_folder}/{numbers[kind_folder]}.png")
            write_bytes(folder / paths[-1], _png(image))
        document[case_id] = {"img_paths": paths, "prompt": case.scene.prompt(), "class_label": _labels(case)}
    target = folder / SUITE_FILE
    write_bytes(target, (json.dumps(document, indent=4) + "\n").encode())
    return target


@cache
def _cases() -> dict[str, _SuiteCase]:
    """Every case by id; seeds are ``[SUITE_STREAM, SUITE_VERSION, number of the case]``."""
    cases: dict[str, _SuiteCase] = {}
    seen: list[Subject] = []
    for category, plan in _PLANS.items():
        for number, kinds in enumerate(plan.kinds, 1):
            index = len(cases)
            rng = np.random.default_rng([SUITE_STREAM, SUITE_VERSION, index])
            subjects = _new_subjects(rng, kinds, seen)
            # Taking turns, the motions and backgrounds are seen about equally often.
            motions = [tuple(Motion)[(len(seen) + place) % len(Motion)] for place in range(len(kinds))]
            background = sample_background(rng, [BACKGROUNDS[index % len(BACKGROUNDS)]])
            cases[f"{category}_{number}"] = _SuiteCase(
                category=category,
                scene=arrange(rng, background, subjects, motions),
                shows_background=number in plan.with_background,
            )
    return cases


def _new_subjects(rng: np.random.Generator, kinds: Iterable[SubjectKind], seen: list[Subject]) -> list[Subject]:
    """Subjects unlike those ``seen``, which they join; colours differ, objects take turns in shape."""
    subjects: list[Subject] = []
    for kind in kinds:
        turn = OBJECT_SHAPES[sum(one.kind is _OBJECT for one in seen) % len(OBJECT_SHAPES)]
        while True:
            subject = sample_subject(rng, [kind])
            is_turn = kind is not _OBJECT or subject.shape == turn
            is_new = subject.describe() not in {one.describe() for one in seen}
            is_new = is_new and subject.colour not in {one.colour for one in subjects}
            if is_turn and is_new:
                break
        seen.append(subject)
        subjects.append(subject)
    return subjects


def _labels(case: _SuiteCase) -> list[str]:
    labels = [actor.subject.label for actor in case.scene.actors]
    return [*labels, case.scene.background.label] if case.shows_background else labels


def _references(case: _SuiteCase) -> list[tuple[str, npt.NDArray[np.uint8]]]:
    """The folder below ``Images`` and the picture of every reference."""
    references = []
    for actor in case.scene.actors:
        image = draw_reference(actor.subject, _REFERENCE_SIDE, _REFERENCE_SIDE)
        references.append((_subject_folder(case.category, actor.subject), image))
    if case.shows_background:
        background = case.scene.background
        references.append(
            (_background_folder(case.category, background), draw_background(background, *_BACKGROUND_SIZE))
        )
    return references


def _subject_folder(category: str, subject: Subject) -> str:
    with_object = category in {"faceobj", "humanobj"}
    if subject.kind is _OBJECT:
        parent = {"singleobj": "singleobject", "multiobject": "multiobject"}.get(category, "humanobj/thing")
        return f"{parent}/{subject.shape}"
    folder = f"crop_{subject.gender}" if subject.kind is _FACE else subject.gender
    return f"humanobj/human/{folder}/commoner" if with_object else f"{category}/{folder}"


def _background_folder(category: str, background: Background) -> str:
    if category in {"faceobj", "humanobj"}:
        return f"humanobj/environment/{background.label.lower()}"
    return f"{category}/scene"


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
