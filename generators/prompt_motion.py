"""What a prompt says about motion, read with a word list: enough for a baseline, and every rule can be seen.

A motion word belongs to the subject named last before it in its sentence, else to the one named first after
it, else to the subject of the sentence before. "both", "they", "all three" and the camera mean every subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How one subject moves over the whole clip.

    Attributes:
        right: -1 (to the left), 0 or 1 (to the right).
        down: -1 (up), 0 or 1 (down).
        growth: -1 (away), 0 or 1 (closer).
        circle: once around an ellipse.
        spin: one turn about its own centre.
    """

    right: int = 0
    down: int = 0
    growth: int = 0
    circle: bool = False
    spin: bool = False


STILL = Motion()
_MOVES = (
    r"(?:mov|go|walk|run|drift|float|glid|slid|fl(?:y|ie)|swim|driv|rid|jump|hop|roll|danc|wander|"
    r"circl|march|skat|travel|pac|lift|push|pull)\w*"
)
_LOOKS = r"(?:look|gaz|glanc|fac|point)(?:s|e|es|ing)?(?: \w+)?"
_FALLS = r"(?:\w+ )?(?:falls?|falling|drops?|dropping|ris(?:es?|ing)|drifts? down|spins?)\b"
_ITS = r"(?:the|his|her|its|their) (?:far )?"
# Where several fit at one place, the first counts; those without an effect only name a place or a look.
_PHRASES: tuple[tuple[str, str], ...] = (
    ("", rf"\b(?:on|at|in|to|by) {_ITS}(?:left|right)(?= of| side|[- ]hand)"),
    ("", rf"\b(?:on|at|in|by) {_ITS}(?:left|right|top|bottom)\b"),
    ("", r"\b(?:left|right)(?:[- ]?hand(?:ed)?| arm| foot| leg| eye| shoulder| cheek| side| now)\b"),
    ("", r"\bhas left\b"),
    ("", rf"\b(?:snow\w*|rain\w*|night|leaf|leaves|sun\w*|light|curtain|mist|fog|smoke|steam|water) {_FALLS}"),
    ("", rf"\b{_FALLS} (?:snow|rain|leaves|sun|water)"),
    (
        "",
        rf"\b{_LOOKS} (?:to(?:wards?)? )?(?:the )?(?:left|right)\b",
    ),
    ("", rf"\b{_LOOKS} (?:away|up|down|around)\b"),
    ("right", r"\bfrom (?:the )?left(?: (?:side )?to (?:the )?right)?\b"),
    ("left", r"\bfrom (?:the )?right(?: (?:side )?to (?:the )?left)?\b"),
    ("left", r"\bleft(?:wards?)?\b"),
    ("right", r"\bright(?:wards?)?\b"),
    ("down", r"\bfrom (?:the )?top(?: to (?:the )?bottom)?\b"),
    ("up", r"\bfrom (?:the )?bottom(?: to (?:the )?top)?\b"),
    ("up", r"\b(?:upwards?|ris(?:es?|ing)|rose|ascend\w*|climb\w*)\b(?: up\b)?|\bto the top\b"),
    ("up", rf"\b{_MOVES} (?:\w+ )?up\b"),
    ("down", r"\b(?:downwards?|falls?|falling|descend\w*|sinks?|sinking|drops?)\b(?: down\b)?"),
    ("down", rf"\b{_MOVES} (?:\w+ )?down\b|\bto the bottom\b"),
    ("closer", r"\bclose up to\b|\b(?:closer|nearer|approach\w*|grow(?:s|ing)?)\b"),
    ("closer", r"\btowards?\b(?! (?:the |its |his |her )?(?:left|right|top|bottom|horizon|distance|back))"),
    ("closer", r"\b(?:gets?|becom\w+) (?:bigger|larger)\b|\bcom(?:es?|ing) near\b|\b(?:zoom|push)\w* in\b"),
    ("away", r"\b(?:away|smaller|(?:reced|shrink|shrank)\w*)\b|\bzoom\w* out\b|\bpull\w* back\b"),
    ("away", r"\b(?:into|towards?) the (?:distance|horizon|back(?:ground)?)\b"),
    ("circle", r"\b(?:circles|circling|circle around|orbit\w*|(?:a?round) and a?round)\b"),
    ("circle", r"\bin (?:an? )?(?:slow |wide |small |large )?circles?\b|\baround in\b"),
    ("circle", rf"\b{_MOVES} (?:\w+ )?around\b"),
    ("spin", r"\b(?:spin|rotat|twirl|whirl|revolv|pirouett)\w*|\b(?:spun|roll(?:s|ing)|turns? around)\b"),
    ("still", r"\b(?:stays?|remains?|keeps|holds|rests?|stands?|sits?) (?:\w+ )?(?:still|in place)\b"),
    ("still", r"\b(?:motionless|stationary|does not move|without moving)\b"),
)
_EFFECTS = {f"e{number}": effect for number, (effect, _) in enumerate(_PHRASES)}
_EFFECT = re.compile("|".join(f"(?P<e{number}>{phrase})" for number, (_, phrase) in enumerate(_PHRASES)))
_EVERYONE = re.compile(
    r"\b(?:both|they|together|every(?:one|thing)|each|camera|shot|(?:all|the)(?: of the)? (?:two|three))\b"
)
_SENTENCE = re.compile(r"[^.!?;\n]+")
_NOT_A_SUBJECT = re.compile(r"\b(?:to|towards?|at|from|into|of|off) (?:the )?$")
_SAME_BREATH = re.compile(r"\s*,?\s*(?:and|&|,|with)\s+(?:[\w-]+\s+){0,3}")
_PERSON_WORDS = {
    "man": r"m[ae]n|guy|gentleman|boy|father|husband|groom",
    "woman": r"wom[ae]n|girl|lady|mother|wife|bride",
    "person": r"person|people|man|woman|individual",
}


class _Mention(NamedTuple):
    """Where the text names subjects: characters ``start`` to ``end``."""

    start: int
    end: int
    subjects: frozenset[int]


def read_motions(prompt: str, labels: Sequence[str]) -> list[Motion | None]:
    """The motion of every subject; None where the prompt says nothing about it.

    Args:
        prompt: English text.
        labels: the subjects' class labels, in order. A subject whose label the prompt does not name, or the
            only one, is given every motion of the prompt.
    """
    text = prompt.lower()
    everyone = frozenset(range(len(labels)))
    named = _label_mentions(text, labels) if len(labels) > 1 else []
    named_subjects = frozenset[int]().union(*(mention.subjects for mention in named))
    effects: list[list[str]] = [[] for _ in labels]
    before = everyone
    for sentence in _SENTENCE.finditer(text):
        mentions = _sentence_mentions(text, sentence.span(), named, everyone)
        for start, effect in _effects(text, sentence.span(), mentions):
            owners = _owners(start, mentions, before) | (everyone - named_subjects)
            for subject in owners:
                effects[subject].append(effect)
        before = mentions[-1].subjects if mentions else before
    return [_combine(found) for found in effects]


def _label_pattern(label: str) -> str:
    words = re.sub(r"[^a-z0-9]+", " ", label.lower()).strip()
    forms = _PERSON_WORDS.get(words) or (f"{re.escape(words)}(?:e?s)?" if words else r"(?!)")
    return rf"\b(?:{forms})\b"


def _label_mentions(text: str, labels: Sequence[str]) -> list[_Mention]:
    """Where the labels stand. Subjects of one label take its places in turn, if there are as many places."""
    mentions: list[_Mention] = []
    for label in dict.fromkeys(labels):
        subjects = [i for i, other in enumerate(labels) if other == label]
        spans = [match.span() for match in re.finditer(_label_pattern(label), text)]
        if len(spans) == len(subjects):
            mentions += [_Mention(*span, frozenset({i})) for span, i in zip(spans, subjects, strict=True)]
        else:
            mentions += [_Mention(*span, frozenset(subjects)) for span in spans]
    return mentions


def _sentence_mentions(
    text: str, span: tuple[int, int], named: Sequence[_Mention], everyone: frozenset[int]
) -> list[_Mention]:
    """Mentions in a sentence, in order; "a man and a woman" is one mention of both."""
    found = [mention for mention in named if span[0] <= mention.start < span[1]]
    for match in _EVERYONE.finditer(text, *span):
        if not _NOT_A_SUBJECT.search(text[span[0] : match.start()]):
            found.append(_Mention(*match.span(), everyone))
    joined: list[_Mention] = []
    for mention in sorted(found, key=lambda mention: mention[:2]):
        last = joined[-1] if joined else None
        overlaps = last is not None and mention.start < last.end
        if last and (overlaps or _SAME_BREATH.fullmatch(text, last.end, mention.start)):
            joined[-1] = _Mention(last.start, max(last.end, mention.end), last.subjects | mention.subjects)
        else:
            joined.append(mention)
    return joined


def _effects(text: str, span: tuple[int, int], mentions: Sequence[_Mention]) -> Iterator[tuple[int, str]]:
    """Start and name of every motion in order; a word of a label ("a circle") is none."""
    for match in _EFFECT.finditer(text, *span):
        inside_label = any(m.start <= match.start() and match.end() <= m.end for m in mentions)
        effect = _EFFECTS[match.lastgroup or ""]
        if effect and not inside_label:
            yield match.start(), effect


def _owners(start: int, mentions: Sequence[_Mention], before: frozenset[int]) -> frozenset[int]:
    earlier = [mention for mention in mentions if mention.start <= start]
    if earlier:
        return earlier[-1].subjects
    return mentions[0].subjects if mentions else before


def _combine(effects: Sequence[str]) -> Motion | None:
    """One motion of all words; of two that contradict each other the first counts."""
    if not effects:
        return None
    return Motion(
        right=_first(effects, "left", "right"),
        down=_first(effects, "up", "down"),
        growth=_first(effects, "away", "closer"),
        circle="circle" in effects,
        spin="spin" in effects,
    )


def _first(effects: Sequence[str], negative: str, positive: str) -> int:
    for effect in effects:
        if effect in (negative, positive):
            return 1 if effect == positive else -1
    return 0
