"""The negative prompt: the official one where it can be found, else the user's or a wording of our own.

The official text is not shipped. It is recognised by its digest in configuration files that the user has, which
are parsed and never executed.

Source: RefAlign @6f91526, Phantom-Wan (sbalani/Phantom-cog @9a9be62) and VACE @48eb44f all use Wan2.1's
``sample_neg_prompt`` (Chinese, 137 characters); RefAlign's benchmark script
(examples/wanvideo/model_training/lora/run_inference14b.py:39-47) adds more terms after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any

from refeval.official_texts import text_sha256, texts_below

OFFICIAL_SHA256 = "ce96e0324e4b54ce4b6e867f669ca520952e1a34cc116543516b1897f0d3c47e"
OFFICIAL_CHARACTERS = 137
OWN_TEXT = (
    "blurry or noisy picture, compression artifacts, wrong exposure, dull colours, flicker, stuttering motion, "
    "a clip that stands still, watermark, logo, captions, misshapen face, malformed hands, too many fingers or limbs, "
    "merged bodies, objects that melt or pass through each other, cluttered background, looks painted or rendered"
)


class Wording(StrEnum):
    """Where a negative prompt comes from."""

    OFFICIAL = "official"
    OFFICIAL_EXTENDED = "official-extended"
    GIVEN = "given"
    OWN = "own"


@dataclass(frozen=True, kw_only=True)
class NegativePrompt:
    """A negative prompt and what it is.

    Attributes:
        text: as it goes to :func:`refeval.generators.wan.prompts.clean_prompt`.
        wording: official; official with more after it; the user's; or ours, which the official numbers do not hold for.
    """

    text: str
    wording: Wording

    @property
    def sha256(self) -> str:
        """Of the text in UTF-8, hex."""
        return text_sha256(self.text)

    def as_settings(self) -> dict[str, Any]:
        """For the settings of a generator (JSON types): hashed, and kept in the manifest."""
        return {"wording": self.wording.value, "sha256": self.sha256, "text": self.text}


def find_negative_prompt(
    folders: Sequence[Path], given: str | None, *, extended: bool = False, expected: str = OFFICIAL_SHA256
) -> NegativePrompt:
    """The negative prompt to use.

    Args:
        folders: searched in order, each at its top level and one below, files in the order of their names: ``.py``
            (string constants), ``.json`` (strings at any depth), ``.txt`` (the whole file without its last line
            break), at most 1 MB each.
        given: the user's text; it wins, and is told to be official by its digest. An empty text is a text.
        extended: prefer RefAlign's longer benchmark text; the plain official one is taken where only that is found.
        expected: sha256 (hex) of the official text; the first 137 characters of an extended one have it too.

    Returns:
        The given text, the first official one that is found, or our own wording.
    """
    if given is not None:
        return NegativePrompt(text=given, wording=_wording(given, expected) or Wording.GIVEN)
    official: NegativePrompt | None = None
    for text in chain.from_iterable(map(texts_below, folders)):
        if _wording(text, expected) is None:
            continue
        if extended and len(text) > OFFICIAL_CHARACTERS:
            return NegativePrompt(text=text, wording=Wording.OFFICIAL_EXTENDED)
        # A file with only the longer text holds the official one too: its beginning.
        official = official or NegativePrompt(text=text[:OFFICIAL_CHARACTERS], wording=Wording.OFFICIAL)
        if not extended:
            break
    return official or NegativePrompt(text=OWN_TEXT, wording=Wording.OWN)


def _wording(text: str, expected: str) -> Wording | None:
    if len(text) < OFFICIAL_CHARACTERS or text_sha256(text[:OFFICIAL_CHARACTERS]) != expected:
        return None
    return Wording.OFFICIAL if len(text) == OFFICIAL_CHARACTERS else Wording.OFFICIAL_EXTENDED
