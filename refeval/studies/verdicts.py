"""What a vote says of the two arms, whichever side they stood on."""

from __future__ import annotations

from refeval.studies.comparisons import Answer, Comparison


def pair_of(vote: Comparison) -> tuple[str, str]:
    """The two arms in order of their labels, whichever side they stood on."""
    return (vote.left, vote.right) if vote.left < vote.right else (vote.right, vote.left)


def side(vote: Comparison) -> int:
    """1: left, -1: right, 0: tie or both bad."""
    return {Answer.LEFT: 1, Answer.RIGHT: -1}.get(vote.answer, 0)


def verdict(vote: Comparison) -> int:
    """1: the first arm of :func:`pair_of` is better, -1: the second, 0: tie or both bad."""
    return side(vote) if vote.left < vote.right else -side(vote)
