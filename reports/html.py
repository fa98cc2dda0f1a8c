"""A table as HTML: one figure to lay into a page, or a page of its own. Every text is escaped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import escape

from refeval.reports.cells import Cell

if TYPE_CHECKING:
    from refeval.reports.table import Table

_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_STYLE = """\
body { margin: 2rem; background: #fff; color: #23262b; font: 15px/1.45 ui-sans-serif, system-ui, sans-serif; }
figure { margin: 0; overflow-x: auto; }
figcaption { font-size: 1.15rem; font-weight: 600; margin-bottom: .8rem; }
table { border-collapse: collapse; border-block: 2px solid #23262b; font-variant-numeric: lining-nums tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; vertical-align: top; white-space: nowrap; }
th { font-weight: 500; }
th.text, td.text { text-align: left; }
thead th { vertical-align: bottom; white-space: normal; font-size: .9rem; }
thead th.group { text-align: center; border-bottom: 1px solid #23262b; }
tbody { border-top: 1px solid #23262b; }
tbody.published td, tbody.published th { color: #5a5f67; }
tr.section th { text-align: left; font-style: italic; padding-bottom: .1rem; }
small { display: block; color: #5a5f67; font-size: .76rem; }
ul { list-style: none; padding: 0; margin: .8rem 0 0; color: #5a5f67; font-size: .84rem; max-width: 62rem; }
"""


def html_page(table: Table) -> str:
    """A page that shows one table; it loads nothing and runs nothing."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(table.title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n"
        f"{html_fragment(table)}</body>\n</html>\n"
    )


def html_fragment(table: Table) -> str:
    """``<figure>`` with caption, table and notes."""
    lines = ["<figure>", f"<figcaption>{_text(table.title)}</figcaption>", "<table>", "<thead>"]
    lines += _group_line(table)
    heads = [_tag("th", _heading(column), i < table.left, 'scope="col"') for i, column in enumerate(table.columns)]
    lines += [f"<tr>{''.join(heads)}</tr>", "</thead>"]
    for section, rows in table.parts():
        lines.append(f'<tbody class="{_text(section.kind)}">' if section else "<tbody>")
        if section:
            span = len(table.columns)
            heading = f'<th scope="rowgroup" colspan="{span}">{_text(section.heading)}</th>'
            lines.append(f'<tr class="section">{heading}</tr>')
        lines += [_row(row, table.left) for row in rows]
        lines.append("</tbody>")
    lines.append("</table>")
    if table.notes:
        lines += ["<ul>", *(f"<li>{_text(note)}</li>" for note in table.notes), "</ul>"]
    return "\n".join([*lines, "</figure>"]) + "\n"


def _group_line(table: Table) -> list[str]:
    if not table.groups:
        return []
    cells, column = [], 0
    for group in table.groups:
        cells += ["<td></td>"] * (group.first - column)
        span = group.last - group.first + 1
        cells.append(f'<th class="group" scope="colgroup" colspan="{span}">{_text(group.heading)}</th>')
        column = group.last + 1
    cells += ["<td></td>"] * (len(table.columns) - column)
    return [f"<tr>{''.join(cells)}</tr>"]


def _row(row: tuple[str, ...], left: int) -> str:
    cells = []
    for i, cell in enumerate(row):
        first, *rest = map(_text, cell.split("\n"))
        best = isinstance(cell, Cell) and cell.number.best
        content = (f"<strong>{first}</strong>" if best else first) + "".join(f"<small>{line}</small>" for line in rest)
        cells.append(_tag("th" if i == 0 else "td", content, i < left, 'scope="row"' if i == 0 else ""))
    return f"<tr>{''.join(cells)}</tr>"


def _heading(column: str) -> str:
    """A heading that may be broken between its words, as Motion|Smoothness."""
    return "<wbr>".join(map(_text, _WORDS.split(column)))


def _text(text: str) -> str:
    # A plain str: what is joined to markupsafe's own type is escaped a second time.
    return str(escape(text))


def _tag(name: str, content: str, text: bool, attribute: str) -> str:
    attributes = "".join(f" {part}" for part in ('class="text"' if text else "", attribute) if part)
    return f"<{name}{attributes}>{content}</{name}>"
