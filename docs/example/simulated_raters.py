"""Answers of made-up raters: ``simulated_raters.py STUDY ANSWERS.csv``. They know the key, as no real rater may.

Three of four prefer the clips of copy-paste for reference fidelity, half of them for quality; spoilt clips always lose,
identical ones are a tie.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

_PREFERRED = "copy-paste"
_TASTE = {"reference": 0.75, "quality": 0.5}
_TIES = 0.15


def answer(row: dict[str, str], rng: random.Random) -> str:
    """What a made-up rater says to one screen."""
    if row["kind"] == "identical":
        return "tie"
    if "decoy" in (row["left"], row["right"]):
        return "right" if row["left"] == "decoy" else "left"
    if rng.random() < _TIES:
        return "tie"
    wins = rng.random() < _TASTE[row["question"]]
    return "left" if (row["left"] == _PREFERRED) == wins else "right"


def main(study: Path, out: Path) -> None:
    """Read the key beside the study and write the answers as if they had come on paper."""
    rng = random.Random(0)
    with (study.with_name(f"{study.name}-key") / "key.csv").open(newline="") as file:
        rows = [(row["rater"], row["item"], answer(row, rng)) for row in csv.DictReader(file)]
    with out.open("w", newline="") as file:
        csv.writer(file).writerows([("rater", "item", "answer"), *rows])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
