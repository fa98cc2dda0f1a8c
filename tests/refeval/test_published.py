"""The published rows: complete, as printed, and consistent with the weights."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from refeval.cases import Domain
from refeval.catalogue import METRIC_BY_ID
from refeval.protocols import ProtocolName, slots, total_from_columns
from refeval.published import PublishedRow, published_rows

V1_1 = ProtocolName.V1_1
LEADERBOARD = "OpenS2V-Eval leaderboard v1.1"
PAPER = "RefAlign paper, Table 1"


def by_model(domain: Domain) -> dict[str, PublishedRow]:
    rows = published_rows(domain)
    table = {row.model: row for row in rows}
    assert len(table) == len(rows)
    return table


@pytest.mark.parametrize("domain", Domain)
def test_every_published_total_follows_from_its_columns(domain: Domain) -> None:
    rows = published_rows(domain)
    assert [row.total for row in rows] == sorted((row.total for row in rows), reverse=True)
    for row in rows:
        assert set(row.columns) == {slot.metric for slot in slots(V1_1, domain)}
        computed = total_from_columns(row.columns, protocol=V1_1, domain=domain)
        # Columns and total are rounded to 0.01 points each.
        assert computed == pytest.approx(row.total, abs=0.02), row.model
        assert row.group in {"open-source", "closed-source"}


def test_one_row_per_model_with_both_sources_named() -> None:
    table = by_model(Domain.OPEN)
    both = {model for model, row in table.items() if row.also_in}
    assert len(table) == 16 and len(both) == 11
    assert all((table[model].source, table[model].also_in) == (LEADERBOARD, (PAPER,)) for model in both)
    assert {model for model, row in table.items() if row.source == PAPER} == {
        *("RefAlign-14B", "RefAlign-1.3B", "Saber-14B", "VINO", "Kaleido")
    }
    assert len(published_rows(Domain.HUMAN)) == 20 and len(published_rows(Domain.SINGLE)) == 11
    assert published_rows(Domain.OPEN, ProtocolName.STRICT) == []


def test_rows_the_paper_prints() -> None:
    table = by_model(Domain.OPEN)
    assert (table["RefAlign-14B"].total, table["RefAlign-14B"].size) == (60.42, "14B")
    assert list(table["RefAlign-1.3B"].columns.values()) == [42.96, 94.74, 20.74, 53.06, 66.85, 43.97, 66.25]
    assert list(table["RefAlign-1.3B"].columns) == list(METRIC_BY_ID)
    kling = table["Kling1.6"]
    assert (kling.group, kling.note, kling.size) == ("closed-source", "model of 2025-05-03", "")
    # The official result file of this row has the total in full precision.
    computed = total_from_columns(kling.columns, protocol=V1_1, domain=Domain.OPEN)
    assert computed == pytest.approx(56.2269546381486, abs=0.005)
    fractions = {metric: value / 100 for metric, value in kling.columns.items()}
    assert total_from_columns(fractions, protocol=V1_1, domain=Domain.OPEN) == pytest.approx(computed / 100)


@pytest.mark.parametrize("domain", Domain)
def test_leaderboard_parity(opens2v: Path, domain: Domain) -> None:
    table = by_model(domain)
    path = opens2v / "leaderboard_v1.1" / f"results_{domain.capitalize()}-Domain.csv"
    with path.open(encoding="utf-8", newline="") as file:
        printed = list(csv.DictReader(file))
    for line in printed:
        model, url = line["Model"].lstrip("[").rstrip(")").split("](")
        row = table[model.split("(")[0]]
        numbers = [float(text.rstrip("%")) for name, text in line.items() if name.endswith("↑")]
        assert [row.total, *row.columns.values()] == numbers
        assert (row.url, row.source, row.group) == (url, LEADERBOARD, line["Venue"].lower())
        assert row.evaluated_by == line["Evaluated by"]
    assert len(printed) == sum(row.source == LEADERBOARD for row in table.values())
