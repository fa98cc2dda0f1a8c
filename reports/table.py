"""One typed table; every format is written from it, so they cannot disagree."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from refeval.reports.cells import Cell, Number
from refeval.reports.html import html_fragment, html_page
from refeval.reports.latex import latex_table

# Letters that would make a cell a link, a tag, emphasis or a new column.
_MARKDOWN = re.compile(r"([\\`*\[\]<>|&~])")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])| ")
# What a spreadsheet takes for a formula, signed numbers left aside.
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![0-9.])")
_WIDE = 7
# Texts up to this length are names: they are never broken, others are rather than cut off.
_NAME = 18
# What a number may have beside its value: the names of its attributes, and of the columns in CSV.
_PARTS = ("low", "high", "spread", "scored", "applicable")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading over the rows from ``first`` up to the next section.

    Attributes:
        first: index of its first row.
        heading: one line.
        kind: ``run`` or ``published``; the web page styles them apart.
    """

    first: int
    heading: str
    kind: str = "run"


@dataclass(frozen=True, kw_only=True)
class ColumnGroup:
    """A heading over neighbouring columns.

    Attributes:
        first: index of its first column.
        last: index of its last column.
        heading: one line.
    """

    first: int
    last: int
    heading: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of texts under headings.

    Attributes:
        title: what the table shows.
        columns: headings.
        rows: one text per column; further lines in a text are the small print of its first, e.g. ``n/N``. A
            :class:`refeval.reports.cells.Cell` is a text that also knows its number.
        notes: footnotes, each a sentence.
        left: how many columns from the left are texts; the others are numbers and stand right.
        sections: headings between the rows, in order; none, or the first stands over row 0.
        groups: headings over columns, from left to right.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    left: int = 1
    sections: tuple[Section, ...] = ()
    groups: tuple[ColumnGroup, ...] = ()

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings of the columns for formats of one heading line: with their group where they repeat."""
        found = list(self.columns)
        for group in self.groups:
            for i in range(group.first, group.last + 1):
                if self.columns.count(self.columns[i]) > 1:
                    found[i] = f"{group.heading} {self.columns[i]}"
        return tuple(found)

    def markdown(self) -> str:
        """The table as GitHub Markdown; headings between rows are rows in bold."""
        rule = ["---" if i < self.left else "---:" for i in range(len(self.columns))]
        lines = [_pipes(map(_escape, self.headings)), _pipes(rule)]
        for section, rows in self.parts():
            if section:
                lines.append(_pipes([f"**{_escape(section.heading)}**", *[""] * (len(self.columns) - 1)]))
            lines += [_pipes(map(_markdown_cell, row)) for row in rows]
        notes = [f"\n{_escape(note)}" for note in self.notes]
        return "\n".join([f"### {_escape(self.title)}\n", *lines, *notes]) + "\n"

    def csv(self) -> str:
        """The table as CSV, without the notes; headings between rows become a first column.

        A column of numbers becomes one column per part (value, low, high, spread, scored, applicable) that any of
        its cells has. Values have two digits more than the cells show; an undefined one is an empty field.
        """
        parts = [_number_parts([row[i] for row in self.rows]) for i in range(len(self.columns))]
        columns = [
            name
            for heading, found in zip(self.headings, parts, strict=True)
            for name in (heading, *(f"{heading} {part}" for part in found[1:]))
        ]
        rows = [
            [*([section.heading] if section else []), *_csv_row(row, parts)]
            for section, rows in self.parts()
            for row in rows
        ]
        return csv_text([*(["section"] if self.sections else []), *columns], rows)

    def latex(self, *, label: str) -> str:
        """The table as LaTeX with booktabs rules; ``label`` is what ``\\ref`` calls it by. See :mod:`.latex`."""
        return latex_table(self, label=label)

    def html(self) -> str:
        """The table as one HTML ``<figure>``, everything escaped; the page around it brings the style."""
        return html_fragment(self)

    def html_page(self) -> str:
        """The table as a page of its own that needs nothing else."""
        return html_page(self)

    def terminal(self) -> RichTable:
        """The table for a terminal; no text is read as markup."""
        notes = Text("\n".join(self.notes)) if self.notes else None
        table = RichTable(
            title=Text(self.title),
            caption=notes,
            caption_justify="left",
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for i, column in enumerate(self.headings):
            # A wide table would break its headings anywhere; MotionSmoothness breaks between its words.
            heading = _WORDS.sub("\n", column) if len(self.columns) >= _WIDE else column
            number = i >= self.left
            whole = not number and max((len(row[i]) for row in self.rows), default=0) <= _NAME
            table.add_column(Text(heading), justify="right" if number else "left", overflow="fold", no_wrap=whole)
        for section, rows in self.parts():
            if section:
                table.add_section()
                table.add_row(Text(section.heading, style="italic"))
            for row in rows:
                table.add_row(*(Text(cell, style="bold" if is_best(cell) else "") for cell in row))
        return table

    def transposed(self) -> Table:
        """The table with its rows as columns: a wide table of few rows fits a terminal. Sections are left out."""
        lines = zip(*(row[self.left :] for row in self.rows), strict=True)
        return Table(
            title=self.title,
            columns=("", *(" ".join(row[: self.left]) for row in self.rows)),
            rows=tuple(
                (column, *("  ".join(cell.split("\n")) for cell in line))
                for column, line in zip(self.headings[self.left :], lines, strict=True)
            ),
            notes=self.notes,
        )

    def parts(self) -> list[tuple[Section | None, tuple[tuple[str, ...], ...]]]:
        """The rows by section, in order; one part without a heading where there are no sections."""
        if not self.sections:
            return [(None, self.rows)]
        ends = [section.first for section in self.sections[1:]] + [len(self.rows)]
        return [(section, self.rows[section.first : end]) for section, end in zip(self.sections, ends, strict=True)]


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]], *, exact: bool = False) -> str:
    """CSV with a heading line and ``\\n`` at the end of every line; None is an empty field, floats keep every digit.

    Args:
        columns: headings.
        rows: one field per column.
        exact: for a file that is read back. Otherwise a text that a spreadsheet would run as a formula, a model's
            name say, gets an apostrophe before it.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows if exact else ([_harmless(field) for field in row] for row in rows))
    return buffer.getvalue()


def _harmless(field: object) -> object:
    return f"'{field}" if isinstance(field, str) and _FORMULA.match(field) else field


def is_best(cell: str) -> bool:
    """Whether a cell is the best of its column and group."""
    return isinstance(cell, Cell) and cell.number.best


def _markdown_cell(cell: str) -> str:
    if not is_best(cell):
        return _escape(cell)
    value, *rest = cell.split("\n")
    return " ".join([f"**{_escape(value)}**", *map(_escape, rest)])


def _number_parts(cells: Sequence[str]) -> tuple[str, ...]:
    """The parts that the numbers of a column have; only ``value`` for a column of texts."""
    numbers = [cell.number for cell in cells if isinstance(cell, Cell)]
    there = [part for part in _PARTS if any(getattr(number, part) is not None for number in numbers)]
    return ("value", *there)


def _csv_row(row: Sequence[str], parts: Sequence[tuple[str, ...]]) -> list[object]:
    fields: list[object] = []
    for cell, found in zip(row, parts, strict=True):
        if isinstance(cell, Cell):
            fields += [_csv_field(cell.number, part) for part in found]
        else:
            fields += [" ".join(cell.split("\n")), *[None] * (len(found) - 1)]
    return fields


def _csv_field(number: Number, part: str) -> object:
    value = getattr(number, part)
    # The last bits of an interval depend on the machine; these digits do not.
    return f"{value:.{number.decimals + 2}f}" if isinstance(value, float) else value


def _escape(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.splitlines()))


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
