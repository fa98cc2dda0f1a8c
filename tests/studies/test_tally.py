"""The report of a study: from a real study folder to files, and what the files say."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from refeval.documents import read_document
from refeval.errors import BadInput
from refeval.records import ScoreRecord, ScoreStatus
from refeval.reports.figures.study import draw_votes
from refeval.runs import Run
from refeval.statistics.results import Resampling
from refeval.studies.analysis import analyse
from refeval.studies.analysis_pairs import compare_pairs
from refeval.studies.comparisons import Answer, Question
from refeval.studies.exclusion import ExclusionRule
from refeval.studies.making import MadeStudy
from refeval.studies.simulate import Taste, simulate
from refeval.studies.tally import tally, write_tally
from tests.studies.made_up import document, sheets, vote

FEW = Resampling(resamples=300)
NAMES = ["tally.md", "tally.html", "tally.csv", "tally.json", "votes.svg", "votes.png"]
QUESTIONS = (Question.QUALITY, Question.TEXT)


class Page(HTMLParser):
    """Texts of a page and the tags that are open at its end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # Within the drawing, links are to its own parts.
        self.sources += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v and not v.startswith("#")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def paper_votes(made: MadeStudy, path: Path) -> Path:
    """Votes as written down from paper: pairs by turns, and every attention check wrong, whatever the draw."""
    with (made.key / "key.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = ["rater,item,answer"]
    for i, row in enumerate(rows):
        wrong = {"identical": "left", "decoy": "left" if row["left"] == "decoy" else "right"}
        lines.append(f"{row['rater']},{row['item']},{wrong.get(row['kind'], ('left', 'tie', 'right')[i % 3])}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_study_from_its_folder_to_its_report(small: MadeStudy, arms: tuple[Path, Path], tmp_path: Path) -> None:
    """Votes from paper; scores that prefer one arm; a score of a clip that was not shown is left out."""
    key = read_document(small.key / "key.json")
    runs = [tmp_path / "runs" / arm.name for arm in arms]
    for number, (source, copy) in enumerate(zip(arms, runs, strict=True)):
        shutil.copytree(source, copy)
        sha256 = {
            case: digest
            for arm in key["arms"]
            for case, digest in arm["clips"].items()
            if (copy / "videos" / f"{case}.mp4").is_file() and Run(copy).render_record(case).sha256 == digest  # type: ignore[union-attr]
        }
        for metric, of in (("aesthetics", dict(sha256)), ("facesim", dict.fromkeys(sha256, "0" * 64))):
            for case, digest in of.items():
                record = ScoreRecord(
                    metric=metric, case=case, status=ScoreStatus.SCORED, task_key="0" * 64, value=5.0 + number,
                    strict_value=5.0 + number, clip_sha256=digest,
                )  # fmt: skip
                Run(copy).write_score(record)
    votes = paper_votes(small, tmp_path / "paper.csv")
    out = tmp_path / "report"
    written = tally(small.study.folder, key=None, runs=runs[::-1], files=[votes], out=out, resampling=FEW)
    assert written == [out / name for name in NAMES]
    content = read_document(out / "tally.json")
    results = content["everyone"] or content["kept"]
    assert content["kept"] is None and "all 3 raters, whom the rule leaves out" in (out / "tally.md").read_text()
    assert results["votes"] == sum(pair["wins"] + pair["ties"] + pair["losses"] for pair in results["pairs"]) == 12
    assert {metric["metric"] for metric in results["metrics"]} >= {"Aesthetics"}
    assert "FaceSim" not in (out / "tally.md").read_text()
    with pytest.raises(BadInput, match="no run of arm"):
        tally(small.study.folder, key=None, runs=runs[:1], files=[votes], out=out)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms, two questions, careless raters; an arm whose name is not to be trusted."""
    planned = sheets(arms=3, cases=12, raters=12, per_rater=24, checks=0.3, questions=QUESTIONS)
    taste = Taste(strengths=(0.9, 0.0, -0.9), careless=0.25, both_bad=0.5)
    votes = simulate(planned, taste, seed=3, labels=("model-a", "<script>alert(1)</script>", "model|c"))
    out = tmp_path_factory.mktemp("report")
    analysis = analyse(votes, ExclusionRule(), resampling=FEW)
    assert [path.name for path in write_tally(document(planned, 3, QUESTIONS), votes, analysis, out)] == NAMES
    assert [path.name for path in write_tally(document(planned, 3, QUESTIONS), votes, analysis, out / "again")] == NAMES
    return out


def test_same_votes_same_bytes(report: Path) -> None:
    for name in NAMES:
        assert (report / name).read_bytes() == (report / "again" / name).read_bytes(), name


def test_every_format_says_the_same(report: Path) -> None:
    content = read_document(report / "tally.json")
    rows = list(csv.DictReader((report / "tally.csv").read_text().splitlines()))
    markdown, page = (report / "tally.md").read_text(), " ".join(Page((report / "tally.html").read_text()).texts)
    assert len(rows) == 2 * 3 * 2
    for row, pair in zip(rows, content["kept"]["pairs"] + content["everyone"]["pairs"], strict=True):
        assert float(row["win_rate_low"]) == pair["win_rate"]["clustered"][0]
        assert int(row["wins"]) + int(row["ties"]) + int(row["losses"]) == int(row["votes"])
        low, high = (100 * end for end in pair["win_rate"]["clustered"])
        shown = f"{100 * pair['win_rate']['value']:.1f} ({low:.1f} to {high:.1f})"
        assert shown in markdown and shown in page
    for rater in content["raters"]:
        assert not rater["excluded"] or (rater["excluded"] in markdown and rater["excluded"] in page)


def test_the_method_is_told_in_full(report: Path) -> None:
    text = (report / "tally.md").read_text()
    for told in (
        "3 arms were compared in pairs on 12 cases", "Which is better in quality?", "12 raters voted",
        "fewer than 2/3 of the attention checks right", "two-way cluster bootstrap (300 draws, seed 0", "Holm",
        "Davidson", "Krippendorff", "Both bad",
    ):  # fmt: skip
        assert told in text, told


def test_the_page_needs_nothing_else_and_runs_nothing(report: Path) -> None:
    text = (report / "tally.html").read_text()
    page = Page(text)
    assert page.sources == []
    assert "<script" not in text and "<script>alert(1)</script>" in " ".join(page.texts)
    assert "default-src 'none'" in text and text.count("<svg") == 1


def test_a_refused_ranking_is_told_in_the_report(tmp_path: Path) -> None:
    votes = [vote(f"c{i}", "a", "b", Answer.LEFT, rater=f"r{i % 2}", item=f"i{i}") for i in range(6)]
    planned = sheets(cases=6, raters=2, per_rater=3)
    write_tally(document(planned, 2, QUESTIONS[:1]), votes, analyse(votes, ExclusionRule(), resampling=FEW), tmp_path)
    assert (
        "Visual quality: the arms cannot be ranked: a group of arms never lost" in (tmp_path / "tally.md").read_text()
    )


def test_the_figure_shows_shares_and_is_told_apart_without_colour(tmp_path: Path) -> None:
    """Half wins, a quarter ties, a quarter losses: the widths of the three parts in the picture, as greys."""
    answers = [Answer.LEFT] * 20 + [Answer.TIE] * 10 + [Answer.RIGHT] * 10
    votes = [vote(f"c{i % 8}", "a", "b", answer, rater=f"r{i // 8}") for i, answer in enumerate(answers)]
    svg, png = draw_votes(compare_pairs(votes, FEW), tmp_path)
    ElementTree.parse(svg)
    assert "<dc:date>" not in svg.read_text()
    grey = np.asarray(Image.open(png).convert("L"), dtype=np.int64)
    dark, pale = np.abs(grey - 65) < 8, np.abs(grey - 234) < 4
    row = max(range(len(grey)), key=lambda i: longest(pale[i])[1] - longest(pale[i])[0])
    (start, wins), (ties, end) = longest(dark[row]), longest(pale[row])
    assert (end - ties) / (wins - start) == pytest.approx(0.5, abs=0.03)
    losses = grey[row, end + 4 : end + (end - ties) - 4]
    assert np.mean((losses > 140) & (losses < 200)) > 0.5


def test_names_of_arms_are_texts_in_the_figure(tmp_path: Path) -> None:
    """A name may hold what matplotlib would read as mathematics, or a browser as a tag."""
    votes = [vote(f"c{i}", "a$\\foo$", "<script>&", Answer.LEFT, rater=f"r{i % 2}") for i in range(4)]
    svg, _ = draw_votes(compare_pairs(votes, FEW), tmp_path)
    ElementTree.parse(svg)
    assert "<script" not in svg.read_text()


def longest(row: np.ndarray) -> tuple[int, int]:
    """Where the longest run of True begins and ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
    if not len(edges):
        return 0, 0
    best = int(np.argmax(edges[1::2] - edges[::2]))
    return int(edges[2 * best]), int(edges[2 * best + 1])


def test_without_matplotlib_the_cure_is_told() -> None:
    """In a process of its own that cannot import it."""
    code = """
import sys
sys.modules["matplotlib"] = None
from refeval.errors import MissingPrerequisite
from refeval.reports.figures.style import figure_style
import refeval.studies.tally
try:
    with figure_style():
        pass
except MissingPrerequisite as error:
    print(error.cure)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pip install 'refeval[figures]'"


def test_numbers_in_the_document_are_plain_json(report: Path) -> None:
    content = json.loads((report / "tally.json").read_text())
    assert content["rule"] == {"least": "2/3"}
    assert content["resampling"]["resamples"] == 300
    ranking = content["kept"]["questions"][0]["ranking"]
    assert ranking["arms"][0]["arm"] == "model-a"
