"""The command line as a user meets it: listings, errors with a cure, exit codes, JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refeval.catalogue import PUBLISHED_METRICS
from refeval.errors import ExitCode
from tests.guarantees.broken_clips import write_good_clip
from tests.guarantees.command import SMALL, refeval, write_suite

COMMANDS = (
    *("run", "render", "score", "total", "report", "check", "explain"),
    *("export", "compare", "baseline", "conformance", "fetch", "cases", "models", "metrics", "doctor"),
    *("data", "train", "export-weights", "train-ablation", "ablate"),
)
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("cli") / "run"
    assert refeval("run", *SMALL, "--out", run).returncode == 0
    return run


def test_every_command_helps_and_is_documented() -> None:
    page = (DOCS / "cli.md").read_text()
    for command in COMMANDS:
        assert refeval(command, "--help").returncode == 0
        assert f"refeval {command}" in page
    for code in ExitCode:
        assert f"| {int(code)} |" in page


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("run", "--model", "refalign-1.3x"), ("unknown model 'refalign-1.3x'", "refeval models")),
        (("run", "--model", "copy-pate", "--suite", "sprites"), ("Did you mean 'copy-paste'?",)),
        (("run", "--model", "copy-paste", "--suite", "sprite"), ("Did you mean 'sprites'?",)),
        (("run", *SMALL, "--metrics", "motion_amplitud"), ("Did you mean 'motion_amplitude'?",)),
        (("run", *SMALL, "--size", "65x48"), ("--size 65x48", "even")),
        (("run", *SMALL, "--size", "large"), ("not WIDTHxHEIGHT",)),
        (("run", *SMALL, "--fps", "0"), ("positive rate",)),
        (("run", *SMALL, "--decoder", "pyva"), ("unknown decoder 'pyva'",)),
        (("run", "--model", "videos:nowhere", "--suite", "sprites"), ("nowhere",)),
        (("total", "nowhere"), ("nowhere is not a folder",)),
        (("check", "."), ("not a run folder",)),
        (("run", *SMALL, "--out", __file__), ("is a file, not a folder", "--out")),
        (("run", *SMALL, "--out", "/proc/run"), ("/proc/run", "permissions")),
        (("total", ".", "--protocol", "opens2v-v1.2"), ("Did you mean 'opens2v-v1",)),
        (("total", ".", "--domain", "opened"), ("known  open, human, single",)),
    ],
)
def test_wrong_input_gets_one_message_with_a_cure(arguments: tuple[str, ...], messages: tuple[str, ...]) -> None:
    done = refeval(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("refeval: ")
    assert "Traceback" not in done.stderr
    for message in messages:
        assert message in done.stderr


def test_missing_references_stop_before_anything_is_written(opens2v: Path, tmp_path: Path) -> None:
    suite = opens2v / "Open-Domain_Eval.json"
    done = refeval("run", "--model", "copy-paste", "--suite", suite, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "reference 1 of 1 is missing" in done.stderr
    assert "refeval fetch suite NAME --data DIR" in done.stderr
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in refeval("--debug", "check", ".").stderr


def test_listings_say_what_is_there() -> None:
    metrics = json.loads(refeval("metrics", "--json").stdout)["metrics"]
    assert [row["id"] for row in metrics] == [metric.id for metric in PUBLISHED_METRICS]
    available = [row["id"] for row in metrics if row["status"] == "available"]
    assert "motion_amplitude" in available
    models = json.loads(refeval("models", "--json").stdout)["models"]
    assert {"videos", "command", "copy-paste"} <= {row["model"] for row in models}
    assert all(row["what"] for row in models)
    suites = json.loads(refeval("cases", "--list", "--json").stdout)["suites"]
    assert {row["suite"]: row["cases"] for row in suites} == {
        "opens2v-open": 180,
        "opens2v-human": 60,
        "opens2v-single": 90,
        "sprites": 32,
    }
    doctor = json.loads(refeval("doctor", "--json").stdout)["doctor"]
    assert {"python", "decoder", "metric", "suite"} <= {row["area"] for row in doctor}


def test_a_metric_that_cannot_run_does_not_stop_the_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = refeval("run", *SMALL, "--limit", "1", "--out", run, "--metrics", "gme,motion_amplitude", "--json")
    assert done.returncode == 3
    summary = json.loads(done.stdout)
    assert "refeval fetch metrics" in summary["unavailable"]["gme"]
    assert summary["statuses"]["motion_amplitude"] == {"scored": 1}
    alone = refeval("run", *SMALL, "--out", tmp_path / "other", "--metrics", "gme")
    assert alone.returncode == 2
    assert "metric 'gme': no weights folder is given" in alone.stderr
    assert not (tmp_path / "other").exists(), "nothing is rendered for a score that cannot come"


def test_a_dry_run_writes_nothing_and_knows_what_is_left(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = json.loads(refeval("run", *SMALL, "--out", run, "--dry-run", "--json").stdout)
    assert (first["render"], first["score"], first["seconds"]) == (6, {"motion_amplitude": 6}, None)
    assert not run.exists()
    refeval("run", *SMALL, "--limit", "2", "--out", run)
    second = json.loads(refeval("run", *SMALL, "--out", run, "--dry-run", "--json").stdout)
    assert (second["render"], second["score"]) == (4, {"motion_amplitude": 4})
    times = [json.loads(line)["seconds"] for line in (run / "logs/timings.jsonl").read_text().splitlines()]
    assert second["seconds"] == pytest.approx(4 * sum(times) / 2)
    sizes = [path.stat().st_size for path in (run / "videos").glob("*.mp4")]
    assert second["clip_bytes"] == pytest.approx(4 * sum(sizes) / 2, abs=1)
    refused = refeval("run", *SMALL, "--out", run, "--seed", "5", "--dry-run")
    assert refused.returncode == 2, "what the run itself would refuse"


def test_a_dry_run_of_ready_clips_counts_those_that_are_there(opens2v: Path, tmp_path: Path) -> None:
    clips, suite = opens2v / "demo/videos", opens2v / "Open-Domain_Eval.json"
    command = ("run", "--model", f"videos:{clips}", "--suite", suite, "--out", tmp_path / "run", "--dry-run", "--json")
    expected = json.loads(refeval(*command).stdout)
    files = list(clips.glob("*.mp4"))
    assert (expected["render"], expected["nothing_to_render_from"]) == (len(files), 180 - len(files))
    assert expected["score"] == {"motion_amplitude": len(files)}
    assert expected["clip_bytes"] == sum(file.stat().st_size for file in files)


def test_render_then_score_is_the_same_as_run(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert refeval("render", *SMALL, "--out", run).returncode == 0
    assert not (run / "scores").exists()
    assert refeval("score", run, "--cases", "faceobj_1,multiface_1").returncode == 0
    assert refeval("score", run, "--limit", "0").returncode == 2
    for case in ("faceobj_1", "multiface_1"):
        record = f"scores/motion_amplitude/{case}.json"
        assert (run / record).read_bytes() == (finished / record).read_bytes()


def test_totals_explanations_and_exports_agree(finished: Path, tmp_path: Path) -> None:
    total = json.loads(refeval("total", finished, "--json").stdout)
    exported = refeval("export", finished, "--out", tmp_path, "--name", "baseline")
    assert exported.returncode == 3, "it rests on 6 cases of one metric, and says so"
    assert "MotionAmplitude: 26 of 32 cases missing" in exported.stdout
    for name in ("one", "two"):
        assert "holds" not in refeval("export", finished, "--name", name).stderr
    assert [path.name for path in (finished / "reports/official").glob("*Domain.json")] == ["two_Open-Domain.json"]
    again = json.loads(refeval("total", tmp_path, "--json").stdout)
    for key in ("total_score", "motion_amplitude", "aes_score"):
        assert again[key] == total[key]
    assert (tmp_path / "baseline_Open-Domain.json").is_file()
    assert "MotionAmplitude" in refeval("explain", finished).stdout
    assert "faceobj_1" in refeval("explain", finished, "faceobj_1").stdout
    assert refeval("explain", finished, "faceobj_99").returncode == 2
    v1_0 = json.loads(refeval("total", tmp_path, "--protocol", "opens2v-v1.0", "--json").stdout)
    assert "motion_score" in v1_0


def test_the_demo_scores_of_the_official_scripts(opens2v: Path, goldens: Path) -> None:
    official = json.loads((goldens / "metrics/merge_demo.json").read_text())["official_v1.1_Open-Domain"]
    total = json.loads(refeval("total", opens2v / "demo/expected_v1.1", "--json").stdout)
    for key, value in official.items():
        assert total[key] == pytest.approx(value, rel=1e-12)


def test_a_strict_total_is_refused_or_a_lower_bound(finished: Path) -> None:
    assert refeval("total", finished, "--protocol", "strict").returncode == 3
    lower = refeval("total", finished, "--protocol", "strict", "--allow-missing", "--json")
    assert lower.returncode == 0
    assert json.loads(lower.stdout)["total_score"] >= 0


def test_check_speaks_plainly(finished: Path) -> None:
    done = refeval("check", finished)
    assert done.returncode == 3
    assert "26 of 32 cases were never rendered" in done.stdout
    assert "motion_amplitude: 26 without a record of 32 cases" in done.stdout


def test_check_finds_what_is_absent_and_what_lies_under_another_name(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "a run [/x] ü"
    shutil.copytree(finished, run)
    shutil.copy(run / "scores/motion_amplitude/faceobj_1.json", run / "scores/motion_amplitude/humanobj_1.json")
    done = refeval("check", run)
    assert done.returncode == 4
    assert "is that of case 'faceobj_1'" in done.stdout
    assert str(run) in done.stdout, "a path is no markup"
    assert refeval("total", run).returncode == 0
    shutil.rmtree(run / "scores")
    assert "no metric has been scored" in refeval("check", run).stdout
    (run / "suite.json").unlink()
    gone = refeval("check", run)
    assert gone.returncode == 4
    assert "suite.json is gone" in gone.stderr


def test_failures_are_kept_until_a_retry_is_asked_for(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite.json", ["singleobj_1"])
    good = tmp_path / "good.mp4"
    write_good_clip(good)
    program = tmp_path / "model.toml"
    flag = tmp_path / "works-now"
    code = f"import pathlib, shutil, sys; pathlib.Path({str(flag)!r}).stat(); shutil.copy({str(good)!r}, sys.argv[1])"
    image = tmp_path / "Images/singleobject/cup/1.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"the program does not look at it")
    program.write_text(f'command = ["python3", "-c", {json.dumps(code)}, "{{output}}"]\n')
    size = ("--size", "64x48", "--frames", "8", "--fps", "8")
    command = ("run", "--model", f"command:{program}", "--suite", suite, "--out", tmp_path / "run", *size)
    assert refeval(*command).returncode == 3
    flag.touch()
    assert refeval(*command).returncode == 3
    done = refeval(*command, "--retry-failed")
    assert done.returncode == 0, done.stdout
    log = (tmp_path / "run/logs/singleobj_1.log").read_text()
    assert log.count("attempt 1 of 1") == 2, "once, and once more when it was asked for"


def test_a_retry_of_what_fails_again_is_one_try_however_many_workers(tmp_path: Path) -> None:
    program = tmp_path / "model.toml"
    program.write_text('command = ["sh", "-c", "sleep 0.2; exit 3"]\n')
    command = ("render", "--model", f"command:{program}", *SMALL[2:], "--limit", "1", "--out", tmp_path / "run")
    assert refeval(*command).returncode == 3
    assert refeval(*command, "--retry-failed", "--workers", "3").returncode == 3
    assert (tmp_path / "run/logs/singleobj_1.log").read_text().count("attempt 1 of 1") == 2


def test_a_closed_pipe_is_no_defect(finished: Path) -> None:
    command = f"{sys.executable} -m refeval.cli explain {finished} | head -1; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", command], capture_output=True).returncode == 0


def test_real_clips_end_to_end_parity(opens2v: Path, goldens: Path, tmp_path: Path) -> None:
    official = json.loads((goldens / "metrics/motion_amplitude_demo.json").read_text())["videos"]
    clips, suite = opens2v / "demo/videos", opens2v / "Open-Domain_Eval.json"
    done = refeval("run", "--model", f"videos:{clips}", "--suite", suite, "--out", tmp_path / "run", "--json")
    assert done.returncode == 3, done.stderr
    there = [clip.stem for clip in clips.glob("*.mp4")]
    counts = json.loads(done.stdout)["statuses"]["motion_amplitude"]
    assert counts == {"missing": 180 - len(there), "scored": len(there)}
    for case in there:
        record = json.loads((tmp_path / f"run/scores/motion_amplitude/{case}.json").read_text())
        assert record["value"] == official[case]["motion_fb"]
    assert refeval("export", tmp_path / "run", "--out", tmp_path / "official", "--name", "demo").returncode == 3
    exported = json.loads((tmp_path / "official/motion_amplitude.json").read_text())
    assert {case: entry["motion_fb"] for case, entry in exported.items()} == {
        case: official[case]["motion_fb"] for case in there
    }
