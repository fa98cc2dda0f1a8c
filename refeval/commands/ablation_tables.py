"""What stands beside each other in an ablation, from the folders of its members."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refeval.documents import read_document
from refeval.runs import Run

if TYPE_CHECKING:
    from refeval.reports.ablations import Study
    from refeval.reports.table import Table


def members_there(runs: Path, study: Study) -> list[str]:
    """The names of the members of a study that have a run in a folder of runs."""
    folders = [folder for folder in sorted(runs.iterdir()) if (folder / "manifest.json").is_file()]
    places = {folder.name: Run(folder).manifest.settings.get("ablation") for folder in folders}
    return [name for name, place in places.items() if place and place["study"] == study.value]


def measured_tables(trainings: Iterable[Path], study: str) -> dict[str, Table]:
    """What was measured of members after their training, their seeds together, by the name of a file for it."""
    from refeval.reports.measures import MemberMeasures, measures_table, separability_table
    from refeval.training.conclusion import ASSESSMENT
    from refeval.training.folder import read_training
    from refeval.training.separability import SEPARABILITY

    found: dict[str, dict[int, tuple[Any, Any]]] = {}
    for folder in trainings:
        measures, blocks = _read(folder / ASSESSMENT, "measures"), _read(folder / SEPARABILITY, "blocks")
        if measures or blocks:
            document = read_training(folder)
            name = document.ablation["member"] if document.ablation else folder.name
            found.setdefault(name, {})[document.seed] = (measures, blocks)
    members = []
    for name, seeds in found.items():
        asked, seen = zip(*(seeds[seed] for seed in sorted(seeds)), strict=True)
        members.append(MemberMeasures(name=name, seeds=tuple(sorted(seeds)), measures=asked, blocks=seen))
    tables = {}
    if all_asked := [member for member in members if all(member.measures)]:
        tables["measures"] = measures_table(study, all_asked)
    if all_seen := [member for member in members if all(member.blocks)]:
        tables["separability"] = separability_table(study, all_seen)
    return tables


def _read(file: Path, field: str) -> Any:
    return read_document(file).get(field, ()) if file.is_file() else ()
