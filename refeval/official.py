"""The score files of the official scripts: read as the official merge reads them, and written for it.

Source: OpenS2V-Nexus eval/merge_result.py at 210eb08 (v1.1) and at the parent of 8cb7427 (v1.0). Differs:
where it dies with a Python error, this raises ``BadInput`` that names the file and the case; files are read
in sorted order.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from refeval.cases import Domain, Suite
from refeval.catalogue import METRIC_BY_ID, PUBLISHED_METRICS
from refeval.documents import write_bytes
from refeval.errors import BadInput
from refeval.protocols import ProtocolName, Total, applies, official_total, run_total
from refeval.records import ScoreRecord, ScoreStatus

_NATURAL = METRIC_BY_ID["natural"]
_VOTES = 3
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()+-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class OfficialScores:
    """What the official merge takes from a folder, before it clamps.

    Attributes:
        protocol: whose rules were followed.
        values: metric id -> case id -> raw number; NaN and infinities are possible.
        ids: every id of every JSON file, cases or not.
    """

    protocol: ProtocolName
    values: dict[str, dict[str, float]]
    ids: frozenset[str]

    def applicable(self) -> dict[str, int]:
        """Metric id -> how many cases should have a value, as far as the files tell.

        Every case that has some score counts; FaceSim and NexusScore, which not every case can have, count
        the cases that have one. Only a suite knows better: see :func:`refeval.protocols.applies`.
        """
        cases = len({case for scores in self.values.values() for case in scores})
        return {
            metric: len(scores) if metric in {"facesim", "nexus"} else cases for metric, scores in self.values.items()
        }


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """Where a score stands: ``field`` of an entry of ``file``, else a bare entry of the file ``injected``."""

    metric: str
    file: str
    field: str
    injected: str


def _rules(protocol: ProtocolName) -> list[_Rule]:
    if protocol == ProtocolName.STRICT:
        raise BadInput(
            "a folder of official score files has no strict total: the files lack what it needs",
            cure="use --protocol opens2v-v1.1 or opens2v-v1.0, or score the videos with refeval",
        )
    old = protocol == ProtocolName.V1_0
    rules = []
    for info in PUBLISHED_METRICS:
        if info.official_field is None or (old and info.id == "motion_smoothness"):
            continue
        file, injected = info.official_file, info.total_key
        if old and info.id == "motion_amplitude":
            file, injected = "motionscore", "motion_score"
        rules.append(_Rule(metric=info.id, file=file, field=info.official_field, injected=injected))
    return rules


def read_folder(folder: Path, protocol: ProtocolName) -> OfficialScores:
    """Read every ``*.json`` of a folder as the official merge does.

    Raises:
        BadInput: no such folder, ``protocol`` is ``strict``, or content on which the official code dies.
    """
    rules = _rules(protocol)
    entries = _entries(folder)
    values: dict[str, dict[str, float]] = {metric: {} for metric in [*(r.metric for r in rules), _NATURAL.id]}
    for case, scores in entries.items():
        for rule in rules:
            value = _score(case, scores, rule)
            if value is not None:
                values[rule.metric][case] = value
        natural = _natural_score(case, scores)
        if natural is not None:
            values[_NATURAL.id][case] = natural
    return OfficialScores(protocol=protocol, values=values, ids=frozenset(entries))


def folder_total(folder: Path, *, protocol: ProtocolName, domain: Domain) -> Total:
    """The official total of a folder of score files.

    Raises:
        BadInput: as :func:`read_folder`.
    """
    scores = read_folder(folder, protocol)
    return official_total(scores.values, protocol=protocol, domain=domain, applicable=scores.applicable())


def write_folder(
    folder: Path,
    suite: Suite,
    records: Iterable[ScoreRecord],
    *,
    model: str,
    protocol: ProtocolName = ProtocolName.V1_1,
) -> list[Path]:
    """Write the official score files of a run, and the result file that the leaderboard takes.

    Only scored records are written, and only of cases that the official scripts score. The result file may
    lie beside the scores: the merge finds no score in it.

    Args:
        folder: made if need be; may hold JSON files only if all of them are written anew.
        suite: gives the order of the cases and the domain.
        records: of one run.
        model: starts the name of the result file.
        protocol: an official one.

    Returns:
        The files, sorted by name.

    Raises:
        BadInput: ``protocol`` is ``strict``; ``model`` cannot start a file name; other JSON files in the
            folder, which a merge would read too; records as in :func:`refeval.protocols.run_total`.
        DiskFull: no space left.
    """
    if not _MODEL_NAME.fullmatch(model):
        raise BadInput(
            f"model name {model!r} cannot start a file name",
            cure="--name NAME: start with a letter or digit and use letters, digits, blanks and . _ ( ) + -",
        )
    records = list(records)
    documents = _score_files(suite, records, protocol)
    total = run_total(suite, records, protocol=protocol)
    result = {"total_score": total.total, **{metric.total_key: metric.normalised for metric in total.metrics}}
    documents[f"{model}_{suite.domain.value.capitalize()}-Domain.json"] = result
    _refuse_strangers(folder, documents)
    for name, content in sorted(documents.items()):
        write_bytes(folder / name, json.dumps(content, indent=4).encode())
    return [folder / name for name in sorted(documents)]


def _json_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(".json"))
    except OSError as error:
        raise BadInput(
            f"{folder}: not a folder that can be read",
            details=(("reason", str(error.strerror)),),
            cure="give the folder that holds the official score files",
        ) from error


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Case id -> file name without ``.json`` -> entry."""
    merged: dict[str, dict[str, Any]] = {}
    for path in _json_files(folder):
        for case, entry in _read_object(path).items():
            merged.setdefault(case, {})[path.name.removesuffix(".json")] = entry
    return merged


def _read_object(path: Path) -> dict[str, Any]:
    cure = "mend the file or take it out of the folder: the official merge reads every .json file there"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        details = (("file", str(path)), ("reason", str(error)))
        raise BadInput(f"{path.name}: cannot be read as JSON", details=details, cure=cure) from error
    if not isinstance(content, dict):
        what = f"{path.name}: not a JSON object of case -> score but {type(content).__name__}"
        raise BadInput(what, details=(("file", str(path)),), cure=cure)
    return content


def _score(case: str, scores: Mapping[str, Any], rule: _Rule) -> float | None:
    entry = scores.get(rule.file)
    if isinstance(entry, dict) and rule.field in entry:
        return _number(entry[rule.field], rule.file, case)
    if rule.injected in scores:
        return _number(scores[rule.injected], rule.injected, case)
    return None


def _number(value: object, file: str, case: str) -> float:
    if not isinstance(value, int | float):
        _refuse(value, file, case)
    try:
        return float(value)
    except OverflowError:
        # Too large an integer for a float: the upper limit takes care of it; below, the official sum dies.
        return math.inf if value > 0 else _refuse(value, file, case)


def _natural_score(case: str, scores: Mapping[str, Any]) -> float | None:
    files = [f"{_NATURAL.official_file}_{vote}" for vote in range(1, _VOTES + 1)]
    votes = [_vote(scores[file], file, case) for file in files if scores.get(file) is not None]
    if votes:
        return sum(votes) / len(votes)
    if _NATURAL.total_key in scores:
        return _number(scores[_NATURAL.total_key], _NATURAL.total_key, case)
    return None


def _vote(value: Any, file: str, case: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        _refuse(value, file, case)


def _refuse(value: object, file: str, case: str) -> NoReturn:
    raise BadInput(
        f"{file}.json: case {case!r}: {reprlib.repr(value)} is not a number",
        cure="score the case again, or take its entry out of the file: it then counts as missing",
    )


def _score_files(suite: Suite, records: list[ScoreRecord], protocol: ProtocolName) -> dict[str, dict[str, Any]]:
    scored = {(r.metric, r.case): r for r in records if r.status is ScoreStatus.SCORED}
    documents: dict[str, dict[str, Any]] = {}

    def put(name: str, case: str, entry: object) -> None:
        documents.setdefault(f"{name}.json", {})[case] = entry

    for rule in _rules(protocol):
        for case in applies(protocol, rule.metric, suite):
            if record := scored.get((rule.metric, case)):
                put(rule.file, case, {rule.field: record.value})
    for case in applies(protocol, _NATURAL.id, suite):
        if record := scored.get((_NATURAL.id, case)):
            for position, vote in enumerate(_votes(record), 1):
                put(f"{_NATURAL.official_file}_{position}", case, vote)
    return documents


def _votes(record: ScoreRecord) -> list[str]:
    """The judge's votes as the official files hold them; the value itself where it is not their mean."""
    assert record.value is not None
    votes = record.details.get("votes")
    numbers = votes if isinstance(votes, list) else []
    whole = 0 < len(numbers) <= _VOTES and all(type(vote) in {int, float} and 1 <= vote <= 5 for vote in numbers)
    if not whole or not math.isclose(sum(numbers) / len(numbers), record.value, rel_tol=1e-12):
        numbers = [record.value]
    return [str(int(vote)) if vote == int(vote) else repr(vote) for vote in numbers]


def _refuse_strangers(folder: Path, documents: Mapping[str, object]) -> None:
    strangers = [path.name for path in _json_files(folder) if path.name not in documents] if folder.exists() else []
    if strangers:
        raise BadInput(
            f"{folder}: holds {strangers[0]}, which is not part of this export and a merge would read too",
            cure="give an empty folder",
        )
