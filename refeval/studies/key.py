"""The key of a study: which arm stood where. It never enters the study folder.

``key.csv`` has a line for every screen of every rater; ``key.json`` says which study it opens and what the arms are;
``tokens.csv`` holds the raters' secret links.
"""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refeval.documents import read_document, write_bytes, write_document
from refeval.errors import BadInput, CorruptFile
from refeval.keys import file_sha256
from refeval.reports.table import csv_text
from refeval.runs import Run
from refeval.studies.arms import clip_sha256
from refeval.studies.design import PlannedScreen, PlannedSheet, Shown
from refeval.studies.exclusion import DECOY
from refeval.studies.study import StudyFolder

_COLUMNS = ("rater", "item", "case", "question", "kind", "left", "right", "repeats")


def write_key(
    folder: Path, study: StudyFolder, sheets: Mapping[str, PlannedSheet], labels: Sequence[str], runs: Sequence[Run]
) -> None:
    """Write the key of a study whose documents are written.

    Args:
        folder: of the key.
        study: that it opens.
        sheets: by rater, as planned.
        labels: of the arms, by number.
        runs: likewise.
    """
    rows = []
    for rater, sheet in sheets.items():
        blind = study.assignment.raters[rater].screens
        for screen, shown in zip(sheet.screens, blind, strict=True):
            repeats = None if screen.repeats is None else blind[screen.repeats].item
            sides = (_side(screen, screen.left, labels), _side(screen, screen.right, labels))
            rows.append((rater, shown.item, screen.case, screen.question, screen.kind, *sides, repeats))
    write_bytes(folder / "key.csv", csv_text(_COLUMNS, rows, exact=True).encode())
    tokens = [(rater, token := secrets.token_urlsafe(24), f"/r/{token}") for rater in sheets]
    write_bytes(folder / "tokens.csv", csv_text(("rater", "token", "path"), tokens, exact=True).encode())
    (folder / "tokens.csv").chmod(0o600)
    arms: list[dict[str, Any]] = [
        {
            "label": label,
            "model": run.manifest.model,
            "manifest_sha256": file_sha256(run.folder / "manifest.json"),
            "clips": {case: clip_sha256(run, case) for case in study.document.cases},
        }
        for label, run in sorted(zip(labels, runs, strict=True), key=lambda pair: pair[0])
    ]
    content = {"study": study.digest, "key_sha256": file_sha256(folder / "key.csv"), "arms": arms}
    write_document(folder / "key.json", content)


def key_rows(study: StudyFolder, folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """(rater, item) -> line of ``key.csv``.

    Raises:
        BadInput: the key of another study.
        CorruptFile: a damaged key.
    """
    key = read_document(folder / "key.json")
    if key.get("study") != study.digest:
        raise BadInput(f"{folder} is the key of another study than {study.folder}", cure="--key FOLDER")
    path = folder / "key.csv"
    if not path.is_file() or file_sha256(path) != key.get("key_sha256"):
        raise CorruptFile(f"{path}: not the key that key.json names", cure="copy the key folder once more")
    return {(row["rater"], row["item"]): row for row in _read_csv(path)}


def read_tokens(key: Path) -> dict[str, str]:
    """Token -> rater, from the key folder.

    Raises:
        BadInput: there is no ``tokens.csv``.
    """
    path = key / "tokens.csv"
    if not path.is_file():
        raise BadInput(f"{path} is not there", cure="--key FOLDER: the key folder that refeval study make wrote")
    return {row["token"]: row["rater"] for row in _read_csv(path)}


def _read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def _side(screen: PlannedScreen, shown: Shown, labels: Sequence[str]) -> str:
    return DECOY if shown.frozen or shown.case != screen.case else labels[shown.arm]
