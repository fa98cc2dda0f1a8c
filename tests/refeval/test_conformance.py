"""``refeval conformance``: what counts as the official value, and the command on a real clip."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from refeval.catalogue import METRIC_BY_ID
from refeval.conformance import Conformance, find_demo
from refeval.documents import read_document
from refeval.errors import BadInput, ExitCode
from refeval.records import RANDOM_WEIGHTS, ScoreRecord, ScoreStatus
from refeval.suites import load_suite
from refeval.verdicts import TOLERANCES, Lack, Row, Verdict, compare
from tests.guarantees.command import refeval
from tests.metrics.scripted_judge import answering
from tests.metrics.test_every_metric_runs import judge_environment

CLIP = "faceobj_14"
NEXUS_V1_1 = 0.01300811767578125
# So far apart are the official v1.0 and v1.1 outputs for this clip: one float16 step of the mean over 32 frames.
STEP = NEXUS_V1_1 - 0.01300048828125


def record(metric: str, value: float, *, frames: int = 32, **details: Any) -> ScoreRecord:
    return ScoreRecord(
        case=CLIP,
        metric=metric,
        status=ScoreStatus.SCORED,
        task_key="0",
        value=value,
        strict_value=value,
        frames_used=frames,
        details=details,
    )


def verdict(metric: str, official: float | None, ours: float, **more: Any) -> Verdict:
    return compare(CLIP, metric, official, record(metric, ours, **more)).verdict


@pytest.mark.parametrize(
    ("metric", "official", "within", "beyond", "more"),
    [
        ("aesthetics", 4.811809, 4.811809 + 0.00099, 4.811809 - 0.00101, {}),
        ("motion_smoothness", 1 - 7 / 69, 1 - 5 / 69, 1 - 4 / 69, {"frames": 69}),
        ("motion_smoothness", 1 - 7 / 69, 1 - 9 / 69, 1 - 10 / 69, {"frames": 69}),
        ("facesim", 0.94, 0.94 - 0.00099, 0.94 + 0.00101, {}),
        ("gme", 0.68115234375, 0.68115234375 + 2 / 2048, 0.68115234375 - 3 / 2048, {}),
        ("nexus", NEXUS_V1_1, NEXUS_V1_1 - 2 * STEP, NEXUS_V1_1 + 3 * STEP, {"frames_with_a_box": 32}),
    ],
)
def test_a_value_is_equal_within_its_tolerance_or_differs(
    metric: str, official: float, within: float, beyond: float, more: dict[str, Any]
) -> None:
    assert verdict(metric, official, official, **more) is Verdict.EQUAL
    assert verdict(metric, official, within, **more) is Verdict.WITHIN
    assert verdict(metric, official, beyond, **more) is Verdict.DIFFERS


def test_where_no_network_works_the_last_bit_counts() -> None:
    for metric, value in (("motion_amplitude", 0.35025984048843384), ("natural", 4.0)):
        assert verdict(metric, value, value) is Verdict.EQUAL
        assert verdict(metric, value, math.nextafter(value, 5)) is Verdict.DIFFERS


def test_nothing_found_has_no_tolerance() -> None:
    assert verdict("nexus", 1e-5, 0.0, frames_with_a_box=0) is Verdict.DIFFERS
    assert verdict("nexus", 0.0, 0.0, frames_with_a_box=0) is Verdict.EQUAL


def test_what_is_not_comparable_says_why() -> None:
    gone = Lack(why="failed: no face", cure="refeval fetch metrics")
    rows = {
        "no official value": compare(CLIP, "gme", None, record("gme", 0.5)),
        "no official value; ours: failed: no face": compare(CLIP, "facesim", None, gone),
        "the official value is nan": compare(CLIP, "gme", math.nan, record("gme", 0.5)),
        "random weights": compare(CLIP, "gme", 0.5, record("gme", 0.5, **{RANDOM_WEIGHTS: True})),
        "the votes of a judge are noise; only recorded replies are compared": compare(
            CLIP, "natural", 4.0, record("natural", 3.0), noisy=True
        ),
    }
    for reason, row in rows.items():
        assert (row.verdict, row.reason, row.tolerance) == (Verdict.NOT_COMPARABLE, reason, None)
        json.dumps(row.as_json(), allow_nan=False)
    differences = [row.difference for row in rows.values()]
    assert differences[0] is differences[1] is differences[3] is None
    assert differences[4] == -1.0, "a judge's distance is shown"
    missing = compare(CLIP, "gme", 0.5, gone)
    assert (missing.verdict, missing.reason, missing.cure) == (Verdict.MISSING, gone.why, gone.cure)


def test_exit_code_and_sentence_follow_from_the_rows() -> None:
    equal = compare(CLIP, "motion_amplitude", 0.5, record("motion_amplitude", 0.5))
    within = compare(CLIP, "gme", 0.5, record("gme", 0.5005))
    differs = compare(CLIP, "aesthetics", 5.0, record("aesthetics", 5.1))
    random = compare(CLIP, "facesim", 0.5, record("facesim", 0.1, **{RANDOM_WEIGHTS: True}))
    missing = compare(CLIP, "nexus", 0.01, Lack(why="no weights"))
    partly = compare("singleface_3", "gme", 0.5, Lack(why="no reference"))

    def ends(*rows: Row) -> tuple[ExitCode, str]:
        found = Conformance(rows=rows, proof={"official_without_clip": []})
        return found.exit_code, found.summary()

    assert ends(equal, random) == (
        ExitCode.OK,
        "1 of 2 metrics compared, all equal to the official values; 1 not compared: FaceSim (random weights)",
    )
    assert ends(equal, within)[0] is ExitCode.OK
    assert ends(equal, within)[1].endswith("or within tolerance of them")
    assert ends(equal, differs, missing) == (
        ExitCode.DIFFERS,
        "2 of 3 metrics compared, Aesthetics not as the official values; 1 not compared: NexusScore (missing)",
    )
    assert ends(equal, missing)[0] is ExitCode.INCOMPLETE
    assert ends(random) == (ExitCode.INCOMPLETE, "0 of 1 metrics compared; 1 not compared: FaceSim (random weights)")
    code, sentence = ends(within, partly)
    assert code is ExitCode.INCOMPLETE
    assert sentence.endswith("; 1 values of compared metrics are missing")


def test_every_tolerance_stands_in_the_docs_with_its_reason() -> None:
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    assert set(TOLERANCES) == set(METRIC_BY_ID)
    for metric, tolerance in TOLERANCES.items():
        assert f"| {METRIC_BY_ID[metric].label} | {tolerance} | {tolerance.reason} |" in page


@dataclass(frozen=True)
class Whole:
    """All seven metrics on the real clip, with small random weights and a judge that always says 4."""

    done: subprocess.CompletedProcess[str]
    data: Path
    out: Path

    @property
    def replies(self) -> Path:
        return self.out.with_name("proof-judge")


def demo_of(opens2v: Path, folder: Path) -> Path:
    """A copy of the demo with the results of v1.1 alone, to be tampered with."""
    shutil.copytree(opens2v / "demo/videos", folder / "videos")
    shutil.copytree(opens2v / "demo/expected_v1.1", folder / "demo_result/model_name")
    return folder


def data_with_pictures(opens2v: Path, folder: Path) -> Path:
    """The suite file, and drawn references in the places of the published ones."""
    folder.mkdir()
    shutil.copy(opens2v / "Open-Domain_Eval.json", folder)
    drawn = load_suite("sprites")["faceobj_1"].references
    for published, sprite in zip(load_suite("opens2v-open", data=folder)[CLIP].references, drawn, strict=True):
        assert sprite.root
        target = folder / published.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sprite.root / sprite.path, target)
    return folder


@pytest.fixture(scope="module")
def whole(opens2v: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("conformance")
    data, out = data_with_pictures(opens2v, folder / "data"), folder / "proof.json"
    with answering("4") as judge:
        asked = (opens2v / "demo", "--expected", "expected_v1.1", "--data", data, "--tiny", "--out", out, "--json")
        done = refeval("conformance", *asked, env=judge_environment(judge))
    return Whole(done=done, data=data, out=out)


def rows_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in json.loads(done.stdout)["rows"]}


def test_every_metric_runs_and_what_needs_no_weights_is_equal(whole: Whole) -> None:
    assert whole.done.returncode == 0, whole.done.stderr
    rows = rows_of(whole.done)
    assert list(rows) == list(METRIC_BY_ID)
    assert all(math.isfinite(row["ours"]) for row in rows.values())
    amplitude = rows.pop("motion_amplitude")
    assert (amplitude["verdict"], amplitude["difference"]) == ("equal", 0.0)
    assert amplitude["official"] == amplitude["ours"] == 0.35025984048843384
    assert {row["verdict"] for row in rows.values()} == {"not comparable"}
    assert rows["facesim"]["reason"] == "no official value"
    assert (rows["natural"]["official"], rows["natural"]["difference"]) == (4.0, 0.0)
    networks = [rows[metric]["reason"] for metric in ("aesthetics", "motion_smoothness", "gme", "nexus")]
    assert networks == ["random weights"] * 4


def test_the_proof_says_what_was_compared_and_holds_no_secret(whole: Whole) -> None:
    printed = json.loads(whole.done.stdout)
    assert read_document(whole.out) == printed
    assert {"environment", "device", "decoder", "suite", "git_commit", "refeval_version"} <= set(printed)
    assert list(printed["clips"]) == [CLIP]
    assert "aesthetic_score.json" in printed["official_files"]
    assert printed["official_without_clip"] == ["singleface_3"]
    assert printed["metrics"]["gme"]["weights"] == {}
    assert printed["metrics"]["gme"]["libraries"]["torch"]
    text = whole.out.read_text() + "".join(path.read_text() for path in whole.replies.iterdir())
    assert "sk-planted-secret" not in text
    assert str(whole.data) not in text


def test_recorded_replies_are_judged(whole: Whole, opens2v: Path, tmp_path: Path) -> None:
    env = {"REFEVAL_JUDGE_REPLAY": str(whole.replies), "REFEVAL_JUDGE_MODEL": "scripted"}
    demo = demo_of(opens2v, tmp_path / "demo")
    asked = ("conformance", demo, "--data", whole.data, "--metrics", "natural", "--json")
    same = refeval(*asked, env=env)
    assert same.returncode == 0, same.stdout
    assert rows_of(same)["natural"]["verdict"] == "equal"
    (demo / "demo_result/model_name/naturalscore_2.json").write_text(json.dumps({CLIP: "5"}))
    other = refeval(*asked, env=env)
    assert other.returncode == 6
    assert rows_of(other)["natural"]["difference"] == pytest.approx(-1 / 3)


def test_another_official_value_differs_and_a_missing_reference_says_what_brings_it(
    opens2v: Path, tmp_path: Path
) -> None:
    demo = demo_of(opens2v, tmp_path / "demo")
    (demo / "demo_result/model_name/facesim.json").write_text(json.dumps({CLIP: {"cur_score": 0.9}}))
    asked = ("conformance", demo, "--data", opens2v, "--metrics", "motion_amplitude,facesim,natural", "--tiny")
    incomplete = refeval(*asked)
    assert incomplete.returncode == 3, incomplete.stderr
    assert "missing  FaceSim: case 'faceobj_14': reference 1 of 3 is missing" in incomplete.stdout
    assert "refeval fetch suite" in incomplete.stdout
    assert "missing  NaturalScore: NaturalScore needs a judge" in incomplete.stdout
    assert "no clip  singleface_3" in incomplete.stdout
    last = incomplete.stdout.splitlines()[-1]
    assert last == (
        "1 of 3 metrics compared, all equal to the official values; 2 not compared: FaceSim, NaturalScore (missing)"
    )
    results = demo / "demo_result/model_name/motion_amplitude.json"
    content = json.loads(results.read_text())
    content[CLIP]["motion_fb"] = math.nextafter(content[CLIP]["motion_fb"], 1)
    results.write_text(json.dumps(content))
    differs = refeval("conformance", demo, "--data", opens2v, "--metrics", "motion_amplitude", "--json")
    assert differs.returncode == 6
    assert json.loads(differs.stdout)["exit_code"] == 6
    row = rows_of(differs)["motion_amplitude"]
    assert (row["verdict"], row["tolerance"]) == ("DIFFERS", 0.0)
    assert row["difference"] < 0


def test_a_clip_of_no_case_is_missing_not_left_out(opens2v: Path, tmp_path: Path) -> None:
    demo = demo_of(opens2v, tmp_path / "demo")
    results = demo / "demo_result/model_name/motion_amplitude.json"
    content = json.loads(results.read_text())
    results.write_text(json.dumps(content | {"other_1": content[CLIP]}))
    shutil.copy(demo / f"videos/{CLIP}.mp4", demo / "videos/other_1.mp4")
    done = refeval("conformance", demo, "--data", opens2v, "--metrics", "motion_amplitude")
    assert done.returncode == 3, done.stderr
    assert "suite opens2v-open has no case of this name" in done.stdout
    (demo / f"videos/{CLIP}.mp4").unlink()
    none = refeval("conformance", demo, "--data", opens2v, "--metrics", "motion_amplitude")
    assert none.returncode == 2
    assert "no clip is named after a case of suite opens2v-open" in none.stderr


def test_wrong_folders_and_damaged_files_stop_before_anything_is_scored(opens2v: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        find_demo(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="no clips"):
        find_demo(tmp_path)
    with pytest.raises(BadInput, match="in 2 folders") as several:
        find_demo(opens2v / "demo")
    assert "--expected" in str(several.value)
    with pytest.raises(BadInput, match="no folder with official result files"):
        find_demo(opens2v / "demo", Path("videos"))
    with pytest.raises(BadInput, match="no official result files"):
        find_demo(opens2v / "demo/videos")
    elsewhere = find_demo(opens2v / "demo/videos", opens2v / "demo/expected_v1.0")
    assert elsewhere.value("nexus", CLIP) is None, "the first release named its field otherwise"
    demo = demo_of(opens2v, tmp_path / "demo")
    unknown = refeval("conformance", demo, "--data", opens2v, "--metrics", "motion_amplitud")
    assert unknown.returncode == 2
    assert "Did you mean 'motion_amplitude'?" in unknown.stderr
    (demo / "demo_result/model_name/facesim.json").write_text('{"faceobj_14": {"cur_')
    damaged = refeval("conformance", demo, "--data", opens2v)
    assert damaged.returncode == 2
    assert "facesim.json: cannot be read as JSON" in damaged.stderr
