"""A table as LaTeX: booktabs rules, headings over columns and rows, everything escaped.

What comes out is a ``table*`` that needs ``\\usepackage{booktabs,graphicx}`` and pdfLaTeX or newer; it is
shrunk to the width of the text where it is wider.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from refeval.reports.cells import Cell

if TYPE_CHECKING:
    from refeval.reports.table import Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "†": r"\textsuperscript{\dag}",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "\u00a0": "~",
}
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])| ")
_LABEL = re.compile(r"[^A-Za-z0-9:-]+")
# Rows of a page, and the height of a line of small print in rows.
_PAGE, _SMALL = 48, 0.75
# Shrinks what is wider than the text and leaves the rest as it is.
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def latex_table(table: Table, *, label: str) -> str:
    """The table as one float, or as several that follow each other where it is higher than a page.

    Args:
        table: any table; it is divided between sections only, and its notes stand below the last part.
        label: becomes ``tab:<label>``; anything but letters, digits, ``:`` and ``-`` becomes ``-``.
    """
    parts = _pages(table)
    lines = [r"% needs \usepackage{booktabs,graphicx}"]
    for i, body in enumerate(parts):
        title = escape(table.title) + (" (continued)" if i else "")
        lines += [
            r"\begin{table*}[tp]",
            r"\centering",
            # Parts of one table have one number.
            *([r"\addtocounter{table}{-1}"] if i else []),
            rf"\caption{{{title}.}}",
            *([] if i else [rf"\label{{tab:{_LABEL.sub('-', label)}}}"]),
            r"\footnotesize\setlength{\tabcolsep}{4pt}%",
            _FIT,
            rf"\begin{{tabular}}{{@{{}}{'l' * table.left}{'r' * (len(table.columns) - table.left)}@{{}}}}",
            r"\toprule",
            *_group_lines(table),
            _line([_heading(column, i >= table.left) for i, column in enumerate(table.columns)]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            *(_notes(table) if i == len(parts) - 1 else []),
            r"\end{table*}",
        ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """A text that LaTeX prints as it stands; a letter that no Latin font has becomes its code, e.g. ``U+4E2D``."""
    return "".join(map(_letter, " ".join(text.split("\n"))))


def _letter(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if letter in _SUPERSCRIPTS:
        return rf"\textsuperscript{{{_SUPERSCRIPTS.index(letter)}}}"
    if " " <= letter <= "~":
        return letter
    # \"o rather than ö: the same in every input encoding; letters without a plain base are named.
    base = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return escape(base) if base else f"U+{ord(letter):04X}"


def _group_lines(table: Table) -> list[str]:
    if not table.groups:
        return []
    cells, rules, column = [], [], 0
    for group in table.groups:
        cells += [""] * (group.first - column)
        cells.append(rf"\multicolumn{{{group.last - group.first + 1}}}{{c}}{{{escape(group.heading)}}}")
        rules.append(rf"\cmidrule(lr){{{group.first + 1}-{group.last + 1}}}")
        column = group.last + 1
    return [_line([*cells, *[""] * (len(table.columns) - column)]), "".join(rules)]


def _pages(table: Table) -> list[list[str]]:
    """The lines between the rules, page by page."""
    pages: list[list[str]] = [[]]
    height = 0.0
    for section, rows in table.parts():
        needed = sum(1 + _SMALL * max(cell.count("\n") for cell in row) for row in rows) + bool(section)
        if pages[-1] and height + needed > _PAGE:
            pages.append([])
            height = 0.0
        height += needed
        if section:
            span = f"{{{len(table.columns)}}}{{@{{}}l}}"
            pages[-1] += [r"\midrule"] if pages[-1] else []
            pages[-1].append(rf"\multicolumn{span}{{\textit{{{escape(section.heading)}}}}} \\")
        pages[-1] += [_line([_cell(cell, i >= table.left) for i, cell in enumerate(row)]) for row in rows]
    return pages


def _notes(table: Table) -> list[str]:
    if not table.notes:
        return []
    return [r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize", *map(_note, table.notes), r"\end{minipage}"]


def _note(note: str) -> str:
    return escape(note) + r"\par"


def _heading(column: str, number: bool) -> str:
    words = [escape(word) for word in _WORDS.split(column)]
    return _stack(words, number) if number else escape(column)


def _cell(cell: str, number: bool) -> str:
    first, *rest = map(escape, cell.split("\n"))
    if isinstance(cell, Cell) and cell.number.best:
        first = rf"\textbf{{{first}}}"
    return _stack([first, *(rf"{{\tiny {line}}}" for line in rest)], number)


def _stack(lines: list[str], number: bool) -> str:
    """Lines below each other in one cell, on the baseline of the first."""
    if len(lines) == 1:
        return lines[0]
    # A line may begin with a bracket, which \\ would take for a distance.
    joined = r" \\[-2pt] ".join(lines)
    return rf"\begin{{tabular}}[t]{{@{{}}{'r' if number else 'l'}@{{}}}}{joined}\end{{tabular}}"


def _line(cells: list[str]) -> str:
    # A row that begins with a bracket or a star would be read as an argument of the line end before it.
    return " & ".join(f"{{{cell}}}" if cell.startswith(("[", "*")) else cell for cell in cells) + r" \\"
