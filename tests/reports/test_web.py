"""The report files: complete, the same bytes anywhere, everything escaped, nothing secret."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from refeval.catalogue import METRIC_BY_ID
from refeval.errors import BadInput
from refeval.records import RenderStatus, ScoreRecord, ScoreStatus
from refeval.reports import media
from refeval.reports.web import write_report
from refeval.runs import Run
from tests.reports.small_run import CASES, HOSTILE, render_record, small_run, small_suite, unscored

NAMES = ["index.html", "report.md", "totals.csv", "categories.csv", "cases.csv"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    suite = small_suite(tmp_path / "data", prompts={"singleobj_1": HOSTILE})
    run = small_run(tmp_path / "run", suite)
    run.write_score(unscored("faceobj_1", "facesim", ScoreStatus.FAILED, "no face in <b>any</b> frame"))
    return run


def report(*runs: Run, out: Path | None = None) -> dict[str, bytes]:
    files = write_report(runs, out or runs[0].folder / "reports")
    return {path.name: path.read_bytes() for path in files}


def page(*runs: Run) -> str:
    return report(*runs)["index.html"].decode()


def cards(text: str) -> list[str]:
    return re.findall(r'<article class="card[^>]* data-id="([^"]*)"', text)


def test_every_file_is_written(run: Run) -> None:
    assert list(report(run)) == NAMES
    assert sorted(path.name for path in (run.folder / "reports").iterdir()) == sorted(NAMES)


def test_a_copied_folder_gives_the_same_bytes_without_the_data(run: Run, tmp_path: Path) -> None:
    first = report(run)
    shutil.copytree(run.folder, tmp_path / "elsewhere" / "copy")
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(run.folder)
    assert report(Run(tmp_path / "elsewhere" / "copy")) == first


def test_the_order_of_the_records_does_not_matter(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = report(run)
    in_order = Run.score_records

    def backwards(self: Run) -> list[ScoreRecord]:
        return in_order(self)[::-1]

    monkeypatch.setattr(Run, "score_records", backwards)
    assert report(run) == first


def test_a_report_draws_no_suite_and_reads_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("REFEVAL_CACHE", str(cache))
    report(small_run(tmp_path / "run", small_suite(tmp_path / "data", name="sprites")))
    assert not cache.exists()


def test_prompts_and_reasons_are_escaped(run: Run) -> None:
    files = report(run)
    text = files["index.html"].decode()
    assert "window.hacked=1" in html.unescape(text)
    assert "<script>window" not in text and "<img src=x" not in text and "<b>any" not in text
    assert "no face in &lt;b&gt;any&lt;/b&gt; frame" in text
    assert "<b>" not in files["report.md"].decode().replace("\\<", "")


def test_no_secret_of_the_environment_reaches_a_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = report(run)
    secret = "sk-planted-7f3a9c"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    second = report(run)
    assert second == first
    assert not [name for name, content in second.items() if secret.encode() in content]


def test_a_report_says_nothing_of_the_machine(run: Run, tmp_path: Path) -> None:
    assert not [name for name, content in report(run).items() if str(tmp_path).encode() in content]


def test_the_policy_allows_this_style_and_script_only(run: Run) -> None:
    text = page(run)
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy and "file:" not in policy
    for tag in ("style", "script"):
        [content] = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.findall(r'\s(?:style|on\w+)="', re.sub(r"<style>.*?</style>|<script>.*?</script>", "", text))


def test_the_page_links_to_nothing_outside(run: Run) -> None:
    links = re.findall(r'\s(?:src|href|poster)="([^"]*)"', page(run))
    assert links
    assert not [link for link in links if not link.startswith(("data:", "#"))]


def test_large_clips_are_linked_by_relative_paths(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "INLINE_LIMIT", 1)
    text = page(run)
    sources = re.findall(r'<video[^>]* src="([^"]*)"', text)
    assert sorted(sources) == sorted(f"../videos/{case}.mp4" for case in CASES)
    assert all((run.folder / "reports" / source).is_file() for source in sources)
    assert "media-src data: &#39;self&#39; file:" in text


def test_trouble_comes_first_then_the_lowest_mean(run: Run) -> None:
    # The means fall in the order of the suite.
    rest = [case for case in reversed(CASES) if case != "faceobj_1"]
    assert cards(page(run)) == ["faceobj_1", *rest]


def test_cases_without_anything_are_a_compact_list(tmp_path: Path) -> None:
    cases = {f"singleobj_{i}": ("dog",) for i in range(1, 181)}
    run = small_run(tmp_path / "run", small_suite(None, cases), rendered=["singleobj_7"])
    text = page(run)
    assert cards(text) == ["singleobj_7"]
    assert len(re.findall(r'<li data-id="singleobj_\d+"', text)) == 179
    assert len(text) < 400_000


def test_a_clip_that_is_not_the_recorded_one_is_not_shown(run: Run) -> None:
    run.clip_path("singleobj_1").write_bytes(b"another")
    text = page(run)
    assert "the clip is not the one that was recorded" in text
    assert text.count("<video") == len(CASES) - 1


def test_a_clip_that_nothing_could_decode_has_no_poster(run: Run) -> None:
    for metric in METRIC_BY_ID:
        run.write_score(unscored("singleobj_1", metric, ScoreStatus.FAILED, "the worker died"))
    content = b"not a video"
    run.write_render(render_record(run, "singleface_1", RenderStatus.RENDERED, content=content), content)
    text = page(run)
    assert text.count("<video") == len(CASES)
    assert len(re.findall(r"<video[^>]* poster=", text)) == len(CASES) - 2


def test_a_reference_without_a_thumbnail_has_a_placeholder(run: Run) -> None:
    (run.folder / "references" / "humanobj_1_2.jpg").unlink()
    text = page(run)
    assert text.count("no picture of") == 1
    assert "no picture of bag in the run folder" in text


def test_several_runs_stand_side_by_side(run: Run, tmp_path: Path) -> None:
    suite = run.suite(data=tmp_path / "data")
    other = small_run(tmp_path / "other", suite, model="circles", rendered=list(CASES)[:3])
    text = page(run, other)
    assert len(cards(text)) == len(CASES)
    assert text.count("<video") == len(CASES) + 3
    assert "no clip: no record" in text


def test_runs_of_differing_suites_are_refused(run: Run, tmp_path: Path) -> None:
    other = small_run(tmp_path / "other", small_suite(None, {"singleobj_1": ("dog",)}))
    with pytest.raises(BadInput, match="differing suites"):
        write_report([run, other], tmp_path / "out")
    with pytest.raises(BadInput, match="no run"):
        write_report([], tmp_path / "out")


def test_the_case_table_has_one_row_per_run_case_and_metric(run: Run) -> None:
    report(run)
    table = pd.read_csv(run.folder / "reports" / "cases.csv")
    assert len(table) == len(CASES) * len(METRIC_BY_ID)
    record = run.score_record("gme", "multiface_1")
    row = table[(table.case == "multiface_1") & (table.metric == "gme")].iloc[0]
    assert record is not None
    assert (row["value"], row["strict_value"]) == (record.value, record.strict_value)
    lost = table[(table.case == "faceobj_1") & (table.metric == "facesim")].iloc[0]
    assert (lost["status"], lost["reason"]) == ("failed", "no face in <b>any</b> frame")


def test_every_table_of_the_report_shows_coverage(run: Run) -> None:
    files = report(run)
    with (run.folder / "reports" / "categories.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "facesim" and row["category"] == "faceobj"]
    assert [(row["mean"], row["scored"], row["applicable"]) for row in rows] == [("", "0", "1")] * 2
    official = next(csv.DictReader(files["totals.csv"].decode().splitlines()))
    assert (official["complete"], official["facesim_scored"], official["facesim_applicable"]) == ("False", "3", "4")
    markdown = files["report.md"].decode()
    assert re.search(r"\| squares \| opens2v-v1.1 \| [0-9.]+† .* 3/4 ", markdown)
    assert re.search(r"<td class=\"\">[0-9.]+<small>3/4</small>", files["index.html"].decode())


def test_a_run_without_a_record_still_has_a_page(tmp_path: Path) -> None:
    text = page(small_run(tmp_path / "run", small_suite(None), rendered=[]))
    assert cards(text) == []
    assert text.count("undefined") >= 1 and text.count("absent") >= 1
