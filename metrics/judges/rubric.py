"""The rubric: what a judge is told to look for; the official one where the user has it, else another.

The official text is not shipped. It is recognised by its sha256 in the user's copy of the official script, which is
parsed and never executed.

Source: OpenS2V-Nexus eval/get_naturalscore.py at 210eb08; the same text since the first release. The fork
franciszzj/OpenS2V-Nexus ef17513 has one blank less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from refeval.errors import BadInput, MissingPrerequisite
from refeval.official_texts import text_sha256, texts_below, texts_of

OWN_TEXT = """\
The pictures are frames of one video, in order of time. Say how natural the video is: could a camera have filmed it?

Look at three things.
- Things keep their form: faces, hands, limbs and objects stay whole, keep their number and do not melt or merge.
- Motion obeys physics: weight, contact, balance and speed are believable, nothing jumps, floats or passes through.
- The scene belongs together: light, shadow, scale and perspective agree, and nothing looks pasted in.

Choose one number:
1 = plainly impossible in most frames
2 = large faults that anybody sees at once
3 = believable in part, with clear faults
4 = natural, with small faults
5 = natural throughout, like real footage

How beautiful the video is does not matter. Answer with the number alone.
"""


class Wording(StrEnum):
    """Where a rubric comes from."""

    OFFICIAL = "official"
    OFFICIAL_FORK = "official-fork"
    GIVEN = "given"
    OWN = "own"


OFFICIAL_SHA256: Mapping[str, Wording] = {
    "50cc6ee74f605ef3b13ca1e4eb25111acb2892b07c51ac4718365882953cf12d": Wording.OFFICIAL,
    "de20a5c3ca22397ca8f667b5e3d2dad7b0dd00fafac838cf3ee3fff45a99aa33": Wording.OFFICIAL_FORK,
}


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """A rubric and what it is.

    Attributes:
        text: as it goes to the judge.
        wording: official; official as the fork has it; the user's; or ours, which the leaderboard does not hold for.
    """

    text: str
    wording: Wording

    @property
    def sha256(self) -> str:
        """Of the text in UTF-8, hex."""
        return text_sha256(self.text)

    def as_settings(self) -> dict[str, str]:
        """For the settings of the metric and its records: which one it is, never its text."""
        return {"wording": self.wording.value, "sha256": self.sha256}


OWN_RUBRIC = Rubric(text=OWN_TEXT, wording=Wording.OWN)


def read_rubric(path: Path | None, *, known: Mapping[str, Wording] = OFFICIAL_SHA256) -> Rubric:
    """The rubric to use.

    Args:
        path: the user's copy of the official script, or its folder; or a ``.txt`` file with a rubric of the user's
            own. None: our own rubric.
        known: the official wordings by sha256 (hex).

    Raises:
        MissingPrerequisite: there is no such file.
        BadInput: the official text is not in it, and it is not a text of the user's own.
    """
    if path is None:
        return OWN_RUBRIC
    if not path.exists():
        cure = "REFEVAL_JUDGE_RUBRIC=FILE: your copy of the official eval/get_naturalscore.py, or your own .txt"
        raise MissingPrerequisite(f"the judge's rubric is missing: there is no {path}", cure=cure)
    texts = list(texts_below(path)) if path.is_dir() else texts_of(path)
    for text in texts:
        wording = known.get(text_sha256(text))
        if wording:
            return Rubric(text=text, wording=wording)
    if path.suffix == ".txt" and texts and texts[0].strip():
        return Rubric(text=texts[0], wording=Wording.GIVEN)
    raise BadInput(
        f"{path}: the official rubric is not in it",
        details=(("wanted", f"a text of sha256 {next(iter(known))}"),),
        cure="give eval/get_naturalscore.py of OpenS2V-Nexus, or a .txt file with a rubric of your own",
    )
