"""The report files: complete, the same bytes anywhere, everything escaped, nothing secret."""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from refeval.catalogue import METRIC_BY_ID
from refeval.clips import open_clip
from refeval.errors import BadInput
from refeval.records import RenderStatus, ScoreRecord, ScoreStatus
from refeval.reports import media
from refeval.reports.case_data import script_safe_json
from refeval.reports.cells import Cell, Number
from refeval.reports.table import Table
from refeval.reports.web import write_report
from refeval.runs import Run
from tests.reports.small_run import (
    BOX,
    CASES,
    HOSTILE,
    render_record,
    seen_by_metrics,
    small_run,
    small_suite,
    unscored,
    write_reply,
)

NAMES = ["index.html", "report.md", "totals.csv", "categories.csv", "cases.csv"]
DATA = re.compile(r'<script type="application/json" id="case-data">(.*?)</script>', re.DOTALL)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    suite = small_suite(tmp_path / "data", prompts={"singleobj_1": HOSTILE})
    run = small_run(tmp_path / "run", suite)
    run.write_score(unscored("faceobj_1", "facesim", ScoreStatus.FAILED, "no face in <b>any</b> frame"))
    seen_by_metrics(run, "humanobj_1")
    write_reply(run, "humanobj_1", "1", "4")
    return run


def report(*runs: Run, out: Path | None = None, copy_clips: bool = False) -> dict[str, bytes]:
    files = write_report(runs, out or runs[0].folder / "reports", copy_clips=copy_clips)
    return {path.name: path.read_bytes() for path in files}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def page(*runs: Run) -> str:
    return report(*runs)["index.html"].decode()


def case_data(text: str) -> dict[str, Any]:
    [content] = DATA.findall(text)
    found: dict[str, Any] = json.loads(content)
    return found


def shown(text: str, case_id: str, run: int = 0) -> dict[str, Any]:
    [case] = [case for case in case_data(text)["cases"] if case["id"] == case_id]
    found: dict[str, Any] = case["runs"][run]
    return found


def cards(text: str) -> list[str]:
    found = re.findall(r'<article class="card[^>]* data-id="([^"]*)"', text)
    assert found == [case["id"] for case in case_data(text)["cases"]]
    return found


def test_every_file_is_written(run: Run) -> None:
    assert list(report(run)) == NAMES
    folder = run.folder / "reports"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, media.MEDIA])
    # Every picture that lies there is shown, and every one that is shown lies there.
    text = (folder / "index.html").read_text()
    assert set(re.findall(r"media/[0-9a-f]{32}\.jpg", text)) == {
        f"media/{p.name}" for p in (folder / "media").iterdir()
    }


def test_a_copied_folder_gives_the_same_bytes_without_the_data(run: Run, tmp_path: Path) -> None:
    report(run)
    first = everything(run.folder / "reports")
    shutil.copytree(run.folder, tmp_path / "elsewhere" / "copy", ignore=shutil.ignore_patterns("reports"))
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(run.folder)
    report(Run(tmp_path / "elsewhere" / "copy"))
    assert everything(tmp_path / "elsewhere" / "copy" / "reports") == first


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
    hostile = "</script><script>window.hacked=3</script><!--"
    write_reply(run, "singleobj_1", "1", hostile)
    files = report(run)
    text = files["index.html"].decode()
    assert "window.hacked=1" in html.unescape(text)
    assert "<script>window" not in text and "<img src=x" not in text and "<b>any" not in text
    assert text.count("</script") == text.count("<script") and "<!--" not in text
    assert shown(text, "faceobj_1")["scores"]["facesim"][:2] == ["failed", "no face in <b>any</b> frame"]
    assert shown(text, "singleobj_1")["replies"][0][2] == hostile
    assert "<b>" not in files["report.md"].decode().replace("\\<", "")


def test_json_in_a_script_has_no_letter_that_html_reads() -> None:
    content = {"a": "</script><!--&\u2028\u2029\"'é"}
    text = script_safe_json(content)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == content


def test_no_secret_of_the_environment_reaches_a_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = report(run)
    secret = "sk-planted-7f3a9c"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    second = report(run)
    assert second == first
    assert not [name for name, content in second.items() if secret.encode() in content]


def test_a_report_says_nothing_of_the_machine(run: Run, tmp_path: Path) -> None:
    assert not [name for name, content in report(run).items() if str(tmp_path).encode() in content]


def test_the_policy_allows_this_style_and_these_scripts_only(run: Run) -> None:
    text = page(run)
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy and "http" not in policy
    contents = {tag: re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("style", "script")}
    assert len(contents["script"]) > 1
    for tag, found in contents.items():
        digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in found]
        allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
        assert f"{tag}-src {allowed};" in policy
    assert all(script.startswith("'use strict';") for script in contents["script"])
    assert not re.findall(r'\s(?:style|on\w+)="', re.sub(r"<style>.*?</style>|<script>.*?</script>", "", text))


def test_the_page_refers_to_nothing_outside(run: Run) -> None:
    text = page(run)
    links = re.findall(r'\s(?:src|href)="([^"]*)"', text) + [shown(text, case)["clip"]["url"] for case in CASES]
    assert len(links) > 2 * len(CASES)
    assert not [link for link in links if re.match(r"[a-z]+:(?!,)|/", link) and not link.startswith("data:,")]


def test_clips_are_linked_by_relative_paths(run: Run) -> None:
    text = page(run)
    urls = {case: shown(text, case)["clip"]["url"] for case in CASES}
    assert urls == {case: f"../videos/{case}.mp4" for case in CASES}
    assert all((run.folder / "reports" / url).is_file() for url in urls.values())


def test_copied_clips_make_a_folder_that_can_be_moved(run: Run, tmp_path: Path) -> None:
    report(run, out=tmp_path / "page", copy_clips=True)
    moved = shutil.move(tmp_path / "page", tmp_path / "far" / "page")
    text = (Path(moved) / "index.html").read_text()
    for case in CASES:
        copy = Path(moved) / shown(text, case)["clip"]["url"]
        assert copy.parent.name == media.CLIPS
        assert copy.read_bytes() == run.clip_path(case).read_bytes()
    # Written again without copies, the folder keeps none.
    report(run, out=Path(moved))
    assert not (Path(moved) / media.CLIPS).exists()


def test_pictures_are_cut_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def watched(path: Path) -> Any:
        opened.append(path)
        return open_clip(path)

    monkeypatch.setattr(media, "open_clip", watched)
    report(run)
    # One clip gives a poster and crops for two metrics, and is decoded once.
    assert sorted(opened) == sorted(run.clip_path(case) for case in CASES)
    report(run)
    assert len(opened) == len(CASES)
    (crop,) = shown(page(run), "humanobj_1")["evidence"][0]["crops"][:1]
    (run.folder / "reports" / crop[0]).unlink()
    report(run)
    assert opened[len(CASES) :] == [run.clip_path("humanobj_1")]


def test_evidence_is_cut_from_the_frame_and_the_box_of_the_record(run: Run) -> None:
    text = page(run)
    nexus, facesim = [
        next(entry for entry in shown(text, "humanobj_1")["evidence"] if entry["metric"] == label)
        for label in ("NexusScore", "FaceSim")
    ]
    picture, frame, similarity = nexus["crops"][0]
    assert (nexus["reference"], nexus["subject"], frame, similarity) == (2, "bag", 3, 0.75)
    assert nexus["summary"] == "found in 2 of 6 frames, mean similarity 0.700"
    # The box is the coloured square of frame 3: one colour, as far as JPEG keeps it.
    with Image.open(run.folder / "reports" / picture) as crop:
        left, top, right, bottom = BOX
        assert crop.size == (right - left, bottom - top)
        spread = [high - low for low, high in crop.convert("RGB").crop((3, 3, 13, 15)).getextrema()]  # type: ignore[misc]
    assert max(spread) < 40
    assert (facesim["reference"], facesim["subject"]) == (1, "Woman")
    assert "faces in 5 of 6 frames" in facesim["summary"]
    assert facesim["crops"][0][0] is not None


def test_boxes_of_another_clip_or_outside_of_the_picture_are_not_cut(run: Run) -> None:
    seen_by_metrics(run, "humanobj_1", box=(900, 900, 950, 950))
    evidence = shown(page(run), "humanobj_1")["evidence"]
    assert [crop[0] for entry in evidence for crop in entry["crops"]] == [None] * 4
    seen_by_metrics(run, "humanobj_1", clip_sha256="0" * 64)
    assert shown(page(run), "humanobj_1")["evidence"] == []


@pytest.mark.parametrize("lost", ["gone", "another"])
def test_a_missing_clip_leaves_a_report(run: Run, lost: str) -> None:
    path = run.clip_path("humanobj_1")
    path.unlink() if lost == "gone" else path.write_bytes(b"another")
    text = page(run)
    found = shown(text, "humanobj_1")
    assert found["clip"] is None
    assert found["gap"] == "the clip is not the one that was recorded, or is gone"
    assert found["evidence"][0]["crops"][0] == [None, 3, 0.75]
    assert sum(shown(text, case)["clip"] is not None for case in CASES) == len(CASES) - 1


def test_details_that_cannot_be_read_are_said_so(run: Run) -> None:
    record = run.score_record("nexus", "humanobj_1")
    assert record is not None
    run.write_score(record.model_copy(update={"details": {"subjects": [{"label": 1}]}}))
    evidence = shown(page(run), "humanobj_1")["evidence"]
    assert [entry["summary"] for entry in evidence if entry["metric"] == "NexusScore"] == [
        "the details in the record cannot be read"
    ]


def test_a_clip_that_nothing_could_decode_is_not_opened_again(run: Run) -> None:
    for metric in METRIC_BY_ID:
        run.write_score(unscored("singleobj_1", metric, ScoreStatus.FAILED, "the worker died"))
    content = b"not a video"
    run.write_render(render_record(run, "singleface_1", RenderStatus.RENDERED, content=content), content)
    text = page(run)
    posters = {case: shown(text, case)["clip"]["poster"] for case in CASES}
    assert [case for case, poster in posters.items() if poster is None] == ["singleface_1", "singleobj_1"]


def test_replies_are_shown_raw_and_never_with_their_duration(run: Run) -> None:
    write_reply(run, "humanobj_1", "2", "4/5, it flows")
    write_reply(run, "humanobj_1", "strict-1", "x" * 5000)
    (run.folder / "judge" / "humanobj_1.3.json").write_text("{damaged")
    found = shown(page(run), "humanobj_1")
    (first, second, third) = found["replies"]
    assert first == ["1", 4, "4", "judge-2030"]
    assert second == ["2", None, "4/5, it flows", "judge-2030"]
    assert third[2].startswith("x" * 2000 + "… and 3000 more characters in judge/humanobj_1.strict-1.json")
    assert found["repliesGap"] is None


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


def test_a_reference_without_a_thumbnail_has_a_placeholder(run: Run) -> None:
    (run.folder / "references" / "humanobj_1_2.jpg").unlink()
    text = page(run)
    assert text.count("no picture of") == 1
    assert "no picture of bag in the run folder" in text


def test_several_runs_stand_side_by_side(run: Run, tmp_path: Path) -> None:
    suite = run.suite(data=tmp_path / "data")
    other = small_run(tmp_path / "other", suite, model="circles", rendered=list(CASES)[:3])
    text = page(run, other)
    data = case_data(text)
    assert data["runs"] == ["squares", "circles"]
    assert len(data["cases"]) == len(CASES)
    assert shown(text, "singleobj_1", 1)["clip"]["url"] == "../../other/videos/singleobj_1.mp4"
    assert shown(text, "humanobj_1", 1)["gap"] == "no clip: no record"
    assert shown(text, "humanobj_1", 1)["scores"]["gme"][:2] == ["missing", "no record"]
    # The manifests: what differs is marked, what agrees stands once.
    facts = re.findall(r'<tr class="differs"><th scope="row" class="text">(\w+)', text)
    assert facts == ["model"]


def test_runs_of_differing_suites_are_refused(run: Run, tmp_path: Path) -> None:
    other = small_run(tmp_path / "other", small_suite(None, {"singleobj_1": ("dog",)}))
    with pytest.raises(BadInput, match="differing suites"):
        write_report([run, other], tmp_path / "out")
    with pytest.raises(BadInput, match="no run"):
        write_report([], tmp_path / "out")


def test_files_of_others_stay_in_the_folder(run: Run) -> None:
    mine = run.folder / "reports" / media.MEDIA / "mine.jpg"
    old = mine.with_name(f"{'0' * 32}.jpg")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    old.write_bytes(b"of an earlier report")
    report(run)
    assert mine.read_bytes() == b"mine"
    assert not old.exists()


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
    assert "FaceSim: failed, no face in" in markdown
    assert re.search(
        r"<td class=\"[ a-z]*\" data-sort=\"[0-9.]+\">[0-9.]+(<small>[^<]*</small>)*<small>3/4</small>",
        files["index.html"].decode(),
    )


def test_the_totals_show_intervals_and_sort_by_the_number(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(Number(value=12.345, low=11.0, high=13.5, scored=5, applicable=6, mark="†", best=True))
    table = Table(title="t", columns=("run", "TotalScore"), rows=(("a", cell), ("b", "undefined")))
    monkeypatch.setattr("refeval.reports.web.totals_table", lambda _: table)
    text = page(run)
    value, *small = cell.split("\n")
    assert value.endswith("†") and len(small) == 2
    shown = value + "".join(f"<small>{line}</small>" for line in small) + "</td>"
    assert re.search(rf'<td class="[^"]*best" data-sort="12.345">{re.escape(shown)}', text)


def test_a_run_without_a_record_still_has_a_page(tmp_path: Path) -> None:
    text = page(small_run(tmp_path / "run", small_suite(None), rendered=[]))
    assert cards(text) == []
    assert text.count("undefined") >= 1 and text.count("absent") >= 1
