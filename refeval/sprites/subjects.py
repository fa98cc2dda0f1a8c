"""Identities of the sprites world: what a face, a person or an object looks like, in words.

An identity holds names only, so it hashes, compares and prints; ``drawing`` turns it into pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

import numpy as np

from refeval.sprites.palette import COLOURS, SECOND_COLOURS, SKINS

Name = TypeVar("Name", bound=str)


class SubjectKind(StrEnum):
    """What a subject is: a head with shoulders, a whole person, or a thing."""

    FACE = "face"
    HUMAN = "human"
    OBJECT = "object"


OBJECT_SHAPES: Final = (
    "star",
    "heart",
    "ball",
    "box",
    "diamond",
    "moon",
    "flower",
    "cup",
    "fish",
    "car",
    "house",
    "mushroom",
)
FACE_SHAPES: Final = ("round", "oval", "square", "pointed")
BUILDS: Final = ("slim", "broad", "tall", "round")
GENDERS: Final = ("man", "woman")
HAIRS: Final = {
    "man": ("short", "spiky", "parted", "curly"),
    "woman": ("long", "bobbed", "bunned", "pigtailed"),
}
EYES: Final = ("round", "wide", "narrow")
EXTRAS: Final = {
    "man": ("none", "glasses", "beard", "moustache"),
    "woman": ("none", "glasses", "earrings", "freckles"),
}
_EXTRA_PHRASES: Final = {
    "none": "",
    "glasses": " and glasses",
    "beard": " and a beard",
    "moustache": " and a moustache",
    "earrings": " and earrings",
    "freckles": " and freckles",
}
CLOTHES: Final = {"man": ("shirt", "coat", "vest"), "woman": ("dress", "coat", "blouse")}

_TEXTURE_PHRASES: Final = {
    "plain": "",
    "stripes": " with {} stripes",
    "dots": " with {} dots",
    "checks": " with {} checks",
    "rings": " with {} rings",
    "gradient": " fading to {}",
    "halves": " with a {} side",
}
TEXTURES: Final = tuple(_TEXTURE_PHRASES)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The identity of one subject; where it is and how it moves is the scene's affair.

    Attributes:
        kind: face, human or object.
        shape: one of OBJECT_SHAPES, FACE_SHAPES or BUILDS, by kind.
        colour: main colour, of COLOURS: an object's body, a face's hair, a person's clothes.
        second: second colour, of SECOND_COLOURS: an object's pattern, a face's clothes, a person's hair.
        texture: one of TEXTURES: an object's body, or the clothes, whose pattern is white (black on white).
        gender: ``man`` or ``woman``; empty for objects, like every field below.
        skin: one of SKINS.
        hair: one of HAIRS of the gender.
        eyes: one of EYES.
        extra: one of EXTRAS of the gender.
        clothes: one of CLOTHES of the gender.

    Raises:
        ValueError: a field holds a name that its list does not have, or both colours are the same.
    """

    kind: SubjectKind
    shape: str
    colour: str
    second: str
    texture: str
    gender: str = ""
    skin: str = ""
    hair: str = ""
    eyes: str = ""
    extra: str = ""
    clothes: str = ""

    def __post_init__(self) -> None:
        for name, allowed in self._allowed().items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{self.kind} with {name} '{getattr(self, name)}'; known: {', '.join(allowed)}")
        if self.colour == self.second:
            raise ValueError(f"both colours of a subject are '{self.colour}'")

    def _allowed(self) -> dict[str, Iterable[str]]:
        common = {"colour": COLOURS, "second": SECOND_COLOURS, "texture": TEXTURES}
        nothing = ("",)
        if self.kind is SubjectKind.OBJECT:
            personal = ("gender", "skin", "hair", "eyes", "extra", "clothes")
            return {**common, "shape": OBJECT_SHAPES, **dict.fromkeys(personal, nothing)}
        return {
            **common,
            "shape": FACE_SHAPES if self.kind is SubjectKind.FACE else BUILDS,
            "gender": GENDERS,
            "skin": SKINS,
            "hair": HAIRS.get(self.gender, nothing),
            "eyes": EYES,
            "extra": EXTRAS.get(self.gender, nothing),
            "clothes": CLOTHES.get(self.gender, nothing),
        }

    @property
    def label(self) -> str:
        """The class label as OpenS2V-Eval writes it: ``Man``, ``Woman``, or a noun such as ``Star``."""
        return (self.gender or self.shape).capitalize()

    def describe(self) -> str:
        """An English noun phrase for prompts, e.g. ``a red star with white stripes``."""
        if self.kind is SubjectKind.OBJECT:
            return f"{_article(self.colour)} {self.shape}{self._pattern(self.second)}"
        extra = _EXTRA_PHRASES[self.extra]
        if self.kind is SubjectKind.FACE:
            clothes = f"{_article(self.second)} {self.clothes}{self._pattern(self.clothes_pattern)}"
            return f"the face of a {self.gender} with {self.hair} {self.colour} hair{extra} in {clothes}"
        clothes = f"{_article(self.colour)} {self.clothes}{self._pattern(self.clothes_pattern)}"
        return f"a {self.shape} {self.gender} with {self.hair} {self.second} hair{extra} in {clothes}"

    @property
    def clothes_pattern(self) -> str:
        """The colour of the pattern on a person's clothes."""
        is_white = self.kind is SubjectKind.FACE and self.second == "white"
        return "black" if is_white else "white"

    def _pattern(self, colour: str) -> str:
        return _TEXTURE_PHRASES[self.texture].format(colour)


def sample_subject(rng: np.random.Generator, kinds: Iterable[SubjectKind] = SubjectKind) -> Subject:
    """Draw an identity; every name of a list is equally likely.

    Args:
        rng: advanced by a number of draws that depends on the kind alone.
        kinds: what to choose the kind from, one or more.
    """
    kind = pick(rng, tuple(kinds))
    colour = pick(rng, tuple(COLOURS))
    second = pick(rng, tuple(name for name in SECOND_COLOURS if name != colour))
    texture = pick(rng, TEXTURES)
    if kind is SubjectKind.OBJECT:
        shape = pick(rng, OBJECT_SHAPES)
        return Subject(kind=kind, shape=shape, colour=colour, second=second, texture=texture)
    gender = pick(rng, GENDERS)
    return Subject(
        kind=kind,
        shape=pick(rng, FACE_SHAPES if kind is SubjectKind.FACE else BUILDS),
        colour=colour,
        second=second,
        texture=texture,
        gender=gender,
        skin=pick(rng, tuple(SKINS)),
        hair=pick(rng, HAIRS[gender]),
        eyes=pick(rng, EYES),
        extra=pick(rng, EXTRAS[gender]),
        clothes=pick(rng, CLOTHES[gender]),
    )


def pick(rng: np.random.Generator, names: tuple[Name, ...]) -> Name:
    """One of ``names``, each equally likely, for one draw of ``rng``."""
    return names[int(rng.integers(len(names)))]


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
