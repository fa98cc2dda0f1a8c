"""The typed table in every format."""

from __future__ import annotations

import csv
import io

from rich.console import Console

from refeval.reports.table import Section, Table, csv_text

TABLE = Table(
    title="Totals",
    columns=("run", "MotionSmoothness", "scored"),
    rows=(("a|b", "94.74\n180/180", "1247/1260"), ("<b>[x](javascript:1)</b>", "absent\n0/180", "0/1260")),
    notes=("absent: no record.",),
    sections=(Section(first=0, heading="runs"), Section(first=1, heading="published", kind="published")),
)


def terminal(table: Table, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table.terminal())
    return console.file.getvalue() if isinstance(console.file, io.StringIO) else ""


def test_markdown_has_a_heading_row_per_section_and_keeps_the_coverage_in_the_cell() -> None:
    lines = TABLE.markdown().splitlines()
    assert lines[:5] == [
        "### Totals",
        "",
        "| run | MotionSmoothness | scored |",
        "| --- | ---: | ---: |",
        "| **runs** |  |  |",
    ]
    assert lines[5] == "| a\\|b | 94.74 180/180 | 1247/1260 |"
    assert lines[-1] == "absent: no record."


def test_markdown_lets_no_cell_become_a_tag_or_a_link() -> None:
    text = TABLE.markdown()
    assert "<b>" not in text.replace("\\<", "")
    assert "](" not in text.replace("\\](", "")


def test_csv_names_the_section_in_every_row_instead_of_heading_rows() -> None:
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [
        ["section", "run", "MotionSmoothness", "scored"],
        ["runs", "a|b", "94.74 180/180", "1247/1260"],
        ["published", "<b>[x](javascript:1)</b>", "absent 0/180", "0/1260"],
    ]


def test_csv_text_keeps_every_digit_and_leaves_none_empty() -> None:
    assert csv_text(("a", "b"), [(0.1 + 0.2, None)]) == "a,b\n0.30000000000000004,\n"


def test_terminal_takes_no_text_as_markup() -> None:
    table = Table(title="[bold]", columns=("[red]x",), rows=(("[/no tag]",),), notes=("[link=x]",))
    text = terminal(table)
    assert all(word in text for word in ("[bold]", "[red]x", "[/no tag]", "[link=x]"))


def test_terminal_shows_value_and_coverage_below_each_other() -> None:
    lines = terminal(TABLE).splitlines()
    row = next(i for i, line in enumerate(lines) if "94.74" in line)
    assert "180/180" in lines[row + 1]
    assert any("published" in line for line in lines)


def test_a_table_without_sections_is_one_part() -> None:
    table = Table(title="t", columns=("a",), rows=(("1",), ("2",)))
    assert table.parts() == [(None, (("1",), ("2",)))]


def test_no_field_of_a_csv_is_run_by_a_spreadsheet() -> None:
    fields = ["=1+1", "@x", "+cmd", "-cmd", "\tx", "-27.06†", "+0.5", "–", "plain", -1.5, None]
    text = csv_text(["a"], [[field] for field in fields])
    assert [row[0] for row in csv.reader(io.StringIO(text))][1:] == [
        *("'=1+1", "'@x", "'+cmd", "'-cmd", "'\tx", "-27.06†", "+0.5", "–", "plain", "-1.5", ""),
    ]
    assert csv_text(["a"], [["-token"]], exact=True) == "a\n-token\n"
