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

# Letters that would make a cell a link, a tag, emphasis or a new column.
_MARKDOWN = re.compile(r"([\\`*\[\]<>|&~])")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])| ")
_WIDE = 7
# Texts up to this length are names: they are never broken, others are rather than cut off.
_NAME = 18


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
class Table:
    """Rows of texts under headings.

    Attributes:
        title: what the table shows.
        columns: headings.
        rows: one text per column; a second line in a text is the small print of its first, e.g. ``n/N``.
        notes: footnotes, each a sentence.
        left: how many columns from the left are texts; the others are numbers and stand right.
        sections: headings between the rows, in order; none, or the first stands over row 0.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    left: int = 1
    sections: tuple[Section, ...] = ()

    def markdown(self) -> str:
        """The table as GitHub Markdown; headings between rows are rows in bold."""
        rule = ["---" if i < self.left else "---:" for i in range(len(self.columns))]
        lines = [_pipes(map(_escape, self.columns)), _pipes(rule)]
        for section, rows in self.parts():
            if section:
                lines.append(_pipes([f"**{_escape(section.heading)}**", *[""] * (len(self.columns) - 1)]))
            lines += [_pipes(map(_escape, row)) for row in rows]
        notes = [f"\n{_escape(note)}" for note in self.notes]
        return "\n".join([f"### {_escape(self.title)}\n", *lines, *notes]) + "\n"

    def csv(self) -> str:
        """The table as CSV, without the notes and the headings between rows."""
        return csv_text(self.columns, ([" ".join(cell.split("\n")) for cell in row] for row in self.rows))

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
        for i, column in enumerate(self.columns):
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
                table.add_row(*map(Text, row))
        return table

    def transposed(self) -> Table:
        """The table with its rows as columns: a wide table of few rows fits a terminal. Sections are left out."""
        lines = zip(*(row[self.left :] for row in self.rows), strict=True)
        return Table(
            title=self.title,
            columns=("", *(" ".join(row[: self.left]) for row in self.rows)),
            rows=tuple(
                (column, *("  ".join(cell.split("\n")) for cell in line))
                for column, line in zip(self.columns[self.left :], lines, strict=True)
            ),
            notes=self.notes,
        )

    def parts(self) -> list[tuple[Section | None, tuple[tuple[str, ...], ...]]]:
        """The rows by section, in order; one part without a heading where there are no sections."""
        if not self.sections:
            return [(None, self.rows)]
        ends = [section.first for section in self.sections[1:]] + [len(self.rows)]
        return [(section, self.rows[section.first : end]) for section, end in zip(self.sections, ends, strict=True)]


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with a heading line and ``\\n`` at the end of every line; None is an empty field, floats keep every digit."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def _escape(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.splitlines()))


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
