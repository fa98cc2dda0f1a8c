"""Published totals of other systems, in per cent: what a run is compared with.

Source: refeval/data/published.csv, which holds Table 1 of the RefAlign paper (arXiv 2603.25743) and the v1.1
leaderboards of OpenS2V-Eval (three domains), each row as published. ``group`` of the paper's rows follows
from the models themselves, the leaderboard states its own; ``size`` follows from the model's name.
"""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, replace

from refeval.cases import Domain
from refeval.catalogue import METRIC_BY_ID
from refeval.protocols import ProtocolName

_LEADERBOARD = "OpenS2V-Eval leaderboard v1.1"


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One model in one domain, as its source prints it.

    Attributes:
        model: name without the date of access.
        total: per cent.
        columns: metric id -> per cent (normalised mean); only the metrics of the domain.
        source: where it is printed.
        also_in: other sources with the same model and the same numbers.
        note: date of a closed model, or number of the paper; may be empty.
        url: of the model; may be empty.
        group: ``closed-source`` or ``open-source``.
        evaluated_by: who ran the evaluation; empty where the source does not say.
        size: parameters, e.g. ``14B``; empty where the name does not tell.
    """

    model: str
    total: float
    columns: Mapping[str, float]
    source: str
    also_in: tuple[str, ...]
    note: str
    url: str
    group: str
    evaluated_by: str
    size: str
    protocol: ProtocolName
    domain: Domain


def published_rows(domain: Domain, protocol: ProtocolName = ProtocolName.V1_1) -> list[PublishedRow]:
    """The published rows of a domain, best total first; empty where a protocol has none.

    A model that stands in both sources with the same numbers gives one row: the leaderboard's, because the
    paper took those numbers from there; ``also_in`` names the paper.
    """
    found: dict[tuple[object, ...], PublishedRow] = {}
    rows = [row for row in _read() if row.domain == domain and row.protocol == protocol]
    for row in sorted(rows, key=lambda row: row.source != _LEADERBOARD):
        key = (row.model, row.total, *sorted(row.columns.items()))
        first = found.setdefault(key, row)
        if first is not row:
            found[key] = replace(first, also_in=(*first.also_in, row.source))
    return sorted(found.values(), key=lambda row: (-row.total, row.model))


def _read() -> list[PublishedRow]:
    file = importlib.resources.files("refeval") / "data" / "published.csv"
    return [_row(fields) for fields in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]


def _row(fields: Mapping[str, str]) -> PublishedRow:
    return PublishedRow(
        model=fields["model"],
        total=float(fields["total"]),
        columns={metric: float(fields[metric]) for metric in METRIC_BY_ID if fields[metric]},
        source=fields["source"],
        also_in=(),
        note=fields["note"],
        url=fields["url"],
        group=fields["group"],
        evaluated_by=fields["evaluated_by"],
        size=fields["size"],
        protocol=ProtocolName(fields["protocol"]),
        domain=Domain(fields["domain"]),
    )
