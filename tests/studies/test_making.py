"""A study from real runs: the same bytes, nothing that tells the arms apart, equal clips, refusals."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from refeval.clips import encode_clip, open_clip
from refeval.documents import read_document
from refeval.errors import BadInput, CorruptFile, MissingPrerequisite
from refeval.keys import file_sha256
from refeval.records import RenderStatus
from refeval.runs import Run
from refeval.studies.comparisons import PairKind, Question
from refeval.studies.key import read_tokens
from refeval.studies.making import MadeStudy, StudyRequest, make_study
from refeval.studies.study import StudyFolder
from tests.guarantees.command import refeval
from tests.reports.small_run import HOSTILE, render_record, small_run, small_suite
from tests.studies.conftest import SMALL_STUDY


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def key_rows(made: MadeStudy) -> list[dict[str, str]]:
    with (made.key / "key.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_request_gives_the_same_bytes(small: MadeStudy, arms: tuple[Path, Path], tmp_path: Path) -> None:
    again = make_study(replace(SMALL_STUDY, arms=(arms[1], arms[0])), tmp_path / "again")
    assert files(again.study.folder) == files(small.study.folder)
    assert (again.key / "key.csv").read_bytes() == (small.key / "key.csv").read_bytes()
    assert set(read_tokens(again.key).values()) == {"r01", "r02", "r03"}
    assert not set(read_tokens(again.key)) & set(read_tokens(small.key)), "tokens cannot be derived from the seed"
    other = make_study(replace(SMALL_STUDY, arms=arms, seed=1), tmp_path / "other")
    assert other.study.assignment != small.study.assignment
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_nothing_in_the_study_folder_tells_the_arms(small: MadeStudy, arms: tuple[Path, Path], tmp_path: Path) -> None:
    told = [b"secret-first", b"secret-second", b"copy-paste", b"copy_paste", str(tmp_path).encode()]
    told += [str(arms[0].parent).encode(), b"seed 0", b"seed 1"]
    for token in read_tokens(small.key):
        told.append(token.encode())
    for arm in arms:
        run = Run(arm)
        told += [record.sha256.encode() for record in run.render_records() if record.sha256]
        told += [path.read_bytes() for path in (arm / "videos").glob("*.mp4")]
        told.append(file_sha256(arm / "manifest.json").encode())
    for name, content in files(small.study.folder).items():
        for secret in told:
            assert secret not in content, name
            assert secret not in name.encode()
        assert not re.search(rb"identical|decoy|frozen|repeats?\"|foreign", content.replace(b'"repeats":', b"")), name
    for path in (small.study.folder / "clips").glob("*.mp4"):
        with av.open(str(path)) as container:
            kept = {
                key: value
                for key, value in container.metadata.items()
                if key not in ("major_brand", "minor_version", "compatible_brands")
            }
            assert kept == {}
            assert not {"title", "comment", "encoder", "creation_time"} & set(container.streams.video[0].metadata)


def test_neither_names_nor_times_of_the_clips_follow_the_arms(small: MadeStudy) -> None:
    """Written arm by arm, the times of the files would tell which clips of different cases are of one arm."""
    found = sorted((small.study.folder / "clips").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len({path.stat().st_mtime_ns for path in found}) > 1
    times = [path.stat().st_mtime_ns for path in sorted(found)]
    assert times == sorted(times)


def test_the_key_fits_what_is_shown(small: MadeStudy, arms: tuple[Path, Path]) -> None:
    """Each clip is decoded again and held against the clip of the arm that the key names."""
    labels = {f"copy-paste, seed {seed}": Run(arm) for seed, arm in enumerate(arms)}
    kinds: Counter[str] = Counter()
    for row in key_rows(small):
        screen = small.study.screens[row["rater"]][row["item"]]
        assert (screen.case, screen.question) == (row["case"], row["question"])
        kinds[row["kind"]] += 1
        for name, label in ((screen.left, row["left"]), (screen.right, row["right"])):
            shown = open_clip(small.study.folder / "clips" / f"{name}.mp4").frames.astype(int)
            distance = {
                one: np.abs(shown - open_clip(run.clip_path(row["case"])).frames).mean() for one, run in labels.items()
            }
            if label == "decoy":
                assert min(distance.values()) > 5
            else:
                assert distance[label] < 0.5 * max(distance.values())
        assert (screen.left == screen.right) == (row["kind"] == PairKind.IDENTICAL)
    assert (kinds["real"], kinds["repeat"], kinds["identical"] + kinds["decoy"]) == (12, 3, 3)
    assert kinds["identical"] and kinds["decoy"]
    assert read_document(small.key / "key.json")["study"] == small.study.digest


def test_clips_of_other_sizes_rates_and_lengths_become_alike(tmp_path: Path) -> None:
    suite = small_suite(tmp_path / "data")
    runs = [small_run(tmp_path / name, suite, model=name, metrics=()) for name in ("one", "two")]
    clock = np.zeros((24, 96, 128, 3), np.uint8)
    for second, grey in enumerate((60, 120, 180, 240)):
        clock[6 * second : 6 * second + 6] = grey
    for case in suite.cases:
        content = encode_clip(clock[:, :, :96], Fraction(24))
        record = render_record(runs[1], case.id, RenderStatus.RENDERED, content=content)
        clip = {"width": 96, "height": 96, "frames": 24, "fps": "24"}
        runs[1].write_render(record.model_copy(update={"clip": clip}), content)
    request = StudyRequest(arms=tuple(r.folder for r in runs), cases=2, raters=1, data=tmp_path / "data", checks=0)
    made = make_study(request, tmp_path / "study")
    assert made.differing == ("size", "frames per second", "length")
    profile = made.study.document.profile
    assert (profile.width, profile.height, profile.fps) == (64, 48, "8")
    row = next(row for row in key_rows(made) if row["kind"] == "real")
    screen = made.study.screens["r01"][row["item"]]
    shown = {
        row[side]: open_clip(made.study.folder / "clips" / f"{getattr(screen, side)}.mp4") for side in ("left", "right")
    }
    for clip in shown.values():
        assert (clip.width, clip.height, clip.fps, len(clip)) == (64, 48, 8, 6), "three quarters of a second"
    two = shown["two"].frames
    assert two[:, :, :7].max() < 12 and two[:, :, -7:].max() < 12, "a square clip stands between black bars"
    assert [round(float(frame[:, 20:44].mean()) / 60) for frame in two] == [1, 1, 2, 2, 3, 3], "in real time"


def test_untrusted_texts_are_text(tmp_path: Path) -> None:
    suite = small_suite(tmp_path / "data", prompts={"singleobj_1": HOSTILE + "</script><!--"})
    runs = [small_run(tmp_path / name, suite, model=name, metrics=()) for name in ("one", "two")]
    arms = tuple(run.folder for run in runs)
    made = make_study(StudyRequest(arms=arms, cases=6, raters=1, data=tmp_path / "data"), tmp_path / "study")
    page = (made.study.folder / "sheets" / "r01.html").read_text()
    assert "window.hacked" in page
    assert not re.search(r"<script>window|<img src=x", page)
    assert page.count("</script>") == page.count("<script")
    assert not re.search(r"<script>window|<img src=x", (made.study.folder / "print.html").read_text())
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\((?!data:)""", page)


def test_pictures_kept_in_a_run_do_where_the_data_is_elsewhere(tmp_path: Path) -> None:
    suite = small_suite(tmp_path / "data")
    runs = [small_run(tmp_path / name, suite, model=name, metrics=()) for name in ("one", "two")]
    shutil.rmtree(tmp_path / "data")
    request = StudyRequest(arms=tuple(run.folder for run in runs), cases=2, raters=1)
    made = make_study(request, tmp_path / "study")
    assert list((made.study.folder / "clips").glob("*.ref.jpg"))
    for run in runs:
        shutil.rmtree(run.folder / "references")
    with pytest.raises(MissingPrerequisite, match="reference 1 of"):
        make_study(request, tmp_path / "blind")
    assert not (tmp_path / "blind").exists() and not (tmp_path / "blind-key").exists()


def test_what_makes_no_study_is_refused(arms: tuple[Path, Path], tmp_path: Path) -> None:
    def study(*arguments: str | Path) -> str:
        done = refeval("study", "make", "--raters", "2", "--out", tmp_path / "study", *arguments)
        assert done.returncode == 2
        assert not list(tmp_path.iterdir())
        return done.stderr

    both = f"{arms[0]},{arms[1]}"
    assert "7 cases are asked for, 6 are rendered" in study("--arms", both, "--cases", "7")
    assert "is given twice" in study("--arms", f"{arms[0]},{arms[0]}/")
    assert "two arms or more" in study("--arms", str(arms[0]), "--cases", "2")
    assert "Did you mean 'quality'" in study("--arms", both, "--questions", "qualty")
    assert "not a run folder" in study("--arms", f"{arms[0]},{tmp_path}")
    other = small_run(tmp_path / "other", small_suite(None), metrics=())
    with pytest.raises(BadInput, match="differing suites"):
        make_study(StudyRequest(arms=(arms[0], other.folder), cases=1, raters=1), tmp_path / "study")


def test_a_folder_that_is_taken_and_a_clip_that_was_changed(
    arms: tuple[Path, Path], small: MadeStudy, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="is there already"):
        make_study(replace(SMALL_STUDY, arms=arms), small.study.folder)
    copies = tuple(Path(shutil.copytree(arm, tmp_path / arm.name)) for arm in arms)
    with pytest.raises(BadInput, match="is a copy of"):
        make_study(replace(SMALL_STUDY, arms=(arms[0], copies[0])), tmp_path / "new")
    min((copies[0] / "videos").glob("*.mp4")).write_bytes(b"changed")
    with pytest.raises(BadInput, match="6 cases are asked for, 5 are rendered"):
        make_study(replace(SMALL_STUDY, arms=copies, cases=6), tmp_path / "new")


def test_damaged_documents_are_found(small: MadeStudy) -> None:
    folder = small.study.folder
    content = json.loads((folder / "assignment.json").read_bytes())
    content["raters"]["r01"]["screens"].reverse()
    (folder / "assignment.json").write_text(json.dumps(content))
    with pytest.raises(CorruptFile, match="not the assignment of this study"):
        _ = StudyFolder(folder).assignment
    (folder / "study.json").write_text((folder / "study.json").read_text().replace("2/3", "0/3"))
    with pytest.raises(CorruptFile, match="sha256"):
        _ = StudyFolder(folder).document


def test_the_command_says_what_the_study_can_show(arms: tuple[Path, Path], tmp_path: Path) -> None:
    command = (
        "study",
        "make",
        "--arms",
        f"{arms[0]},{arms[1]}",
        "--cases",
        "4",
        "--raters",
        "12",
        "--out",
        tmp_path / "s",
    )
    done = refeval(*command, "--questions", "text")
    assert done.returncode == 0, done.stderr
    for text in ("hand this out", "keep this back", "55%: 783", "48 votes on 4 cases", "69.7%", "99.9%"):
        assert text in done.stdout, text
    assert list(StudyFolder(tmp_path / "s").document.questions) == [Question.TEXT]
