"""Every format of a table says the same; LaTeX and HTML let no text through as code."""

from __future__ import annotations

import csv
import html.parser
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from refeval.reports.cells import DAGGER, Cell, Number, mark_best
from refeval.reports.latex import escape
from refeval.reports.table import ColumnGroup, Section, Table

HOSTILE = "a_b & 50% #1 {x} $y$ ~ ^ \\end{tabular} <script>alert(1)</script> | [z] „Ünïcode“ 中"
FIRST = Number(value=56.304, low=55.392, high=57.21, scored=179, applicable=180, comparable=False, mark=DAGGER)
SECOND = Number(value=51.95, spread=0.75, scored=360, applicable=360)
TABLE = Table(
    title="Totals of 100 %",
    columns=("model", "open", "open", "scored by"),
    rows=mark_best(
        [
            ("[odd] name", Cell(FIRST), Cell(Number(value=1.5)), "179"),
            (HOSTILE, Cell(SECOND), Cell(Number(value=2.5, signed=True)), "*"),
            ("c", Cell(Number(value=None, word="undefined", scored=3, applicable=4)), Cell(Number(value=0.25)), "x\ny"),
        ],
        (0,),
    ),
    notes=("note: 5 % & more.", HOSTILE),
    sections=(Section(first=0, heading="closed_source"), Section(first=2, heading="<b>", kind="published")),
    groups=(ColumnGroup(first=1, last=1, heading="v1.1"), ColumnGroup(first=2, last=3, heading="strict")),
)
NUMBERS = re.compile(r"[+-]?\d+\.\d+|\d+/\d+")


class Page(html.parser.HTMLParser):
    """Cells, tags and the texts in bold of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.bold: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        elif tag == "small":
            self.rows[-1][-1] += "\n"

    def handle_endtag(self, tag: str) -> None:
        while self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        if "strong" in self._open:
            self.bold.append(data)


def shown(text: str) -> list[str]:
    """The numbers of the body of a table, in order."""
    return NUMBERS.findall(text)


def expected() -> list[str]:
    return [number for row in TABLE.rows for cell in row[1:3] for number in NUMBERS.findall(cell)]


def test_markdown_html_and_latex_show_the_same_numbers() -> None:
    assert len(expected()) == 11
    markdown = "\n".join(line for line in TABLE.markdown().splitlines() if line.startswith("|"))
    assert shown(markdown.replace("v1.1", "").replace("\\", "")) == expected()
    page = Page(TABLE.html())
    body = [row for row in page.rows if len(row) == 4][1:]
    assert body == [list(row) for row in TABLE.rows]
    latex = TABLE.latex(label="x")
    body_text = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")].replace("-2pt", "")
    assert shown(body_text) == expected()


def test_the_terminal_shows_the_same_numbers() -> None:
    console = Console(width=200, file=io.StringIO(), color_system=None)
    console.print(TABLE.terminal())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert sorted(shown(text.replace("v1.1", ""))) == sorted(expected())


def test_csv_has_a_column_per_part_that_rounds_to_what_is_shown() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.csv())))
    assert list(rows[0]) == [
        "section", "model", "v1.1 open", "v1.1 open low", "v1.1 open high", "v1.1 open spread", "v1.1 open scored",
        "v1.1 open applicable", "strict open", "scored by",
    ]  # fmt: skip
    first = rows[0]
    assert (first["v1.1 open"], first["v1.1 open low"], first["v1.1 open high"]) == ("56.3040", "55.3920", "57.2100")
    assert (first["v1.1 open scored"], first["v1.1 open applicable"]) == ("179", "180")
    assert (rows[1]["v1.1 open spread"], rows[0]["v1.1 open spread"]) == ("0.7500", "")
    assert (rows[2]["v1.1 open"], rows[2]["v1.1 open scored"], rows[2]["section"]) == ("", "3", "<b>")
    assert rows[1]["model"] == HOSTILE


def test_the_same_cells_are_bold_in_every_format() -> None:
    assert Page(TABLE.html()).bold == ["+2.50"]
    assert re.findall(r"\*\*([^*]+)\*\*", TABLE.markdown()) == ["closed\\_source".replace("\\", ""), "+2.50", "\\<b\\>"]
    assert re.findall(r"\\textbf\{([^}]*)\}", TABLE.latex(label="x")) == ["+2.50"]


def test_html_holds_only_its_own_tags() -> None:
    page = Page(TABLE.html())
    assert page.tags == {
        "figure",
        "figcaption",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "small",
        "strong",
        "ul",
        "li",
    }
    assert page.rows[4][0] == HOSTILE
    assert "<script" not in TABLE.html_page() and "default-src 'none'" in TABLE.html_page()


def test_html_headings_span_their_columns() -> None:
    text = TABLE.html()
    assert re.findall(r'scope="colgroup" colspan="(\d)">([^<]*)', text) == [("1", "v1.1"), ("2", "strict")]
    assert '<tbody class="published">' in text


def test_latex_escapes_every_special_character() -> None:
    text = escape(HOSTILE)
    commands = re.sub(r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}", "", text)
    assert not re.search(r"(?<!\\)[_&%#${}^~\\]", re.sub(r"\\[_&%#${}]", "", commands))
    assert r"a\_b \& 50\% \#1 \{x\} \$y\$" in text
    assert text.isascii() and "Unicode" in text and "U+4E2D" in text
    assert escape("5±1 – 2¹²†\u00a0x") == r"5$\pm$1 -- 2\textsuperscript{1}\textsuperscript{2}\textsuperscript{\dag}~x"


def test_latex_rows_have_as_many_cells_as_the_columns() -> None:
    latex = TABLE.latex(label="main table")
    assert r"\label{tab:main-table}" in latex
    assert r"\begin{tabular}{@{}lrrr@{}}" in latex
    body = latex[latex.index(r"\midrule") + len(r"\midrule") : latex.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) == 3
    for line in rows:
        assert len(re.findall(r"(?<!\\)&", line)) == 3
    assert r"\multicolumn{2}{c}{strict}" in latex and r"\cmidrule(lr){3-4}" in latex
    assert latex.count(r"\multicolumn{4}{@{}l}{\textit{") == 2
    plain = re.sub(r"\\[{}]", "", latex)
    assert plain.count("{") == plain.count("}")
    for name in set(re.findall(r"\\begin\{(\w+\*?)\}", latex)):
        assert latex.count(rf"\begin{{{name}}}") == latex.count(rf"\end{{{name}}}")
    # A bracket or a star that begins a row would be an argument of the line end before it.
    assert not re.search(r"\\\\\s*\n[\[*]", latex)


def test_a_table_higher_than_a_page_is_divided_between_sections() -> None:
    rows = tuple((f"run {i}", Cell(Number(value=float(i), scored=1, applicable=1))) for i in range(60))
    sections = tuple(Section(first=i, heading=f"part {i}") for i in range(0, 60, 10))
    latex = Table(title="T", columns=("run", "x"), rows=rows, sections=sections, notes=("last",)).latex(label="t")
    floats = latex.split(r"\begin{table*}")[1:]
    assert [len(re.findall(r"part \d+", text)) for text in floats] == [2, 2, 2]
    assert latex.count(r"\label{") == 1 and latex.count("(continued)") == 2 and latex.count(r"\addtocounter") == 2
    assert ["last" in text for text in floats] == [False, False, True]
    assert shown(latex[latex.index(r"\midrule") :].replace("-2pt", ""))[::2] == [f"{i}.00" for i in range(60)]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed: structure is tested above")
def test_latex_compiles(tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(TABLE.latex(label="x"))
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{table}\end{document}"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
