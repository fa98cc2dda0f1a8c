"""``refeval compare`` and ``refeval baseline`` on real runs: copy-paste with two seeds, and planted ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from refeval.baselines import baseline_of
from refeval.documents import read_document
from tests.guarantees.command import refeval
from tests.refeval.small_sides import even, folder_of, suite_of

MODEL = ("--model", "copy-paste", "--suite", "sprites", "--size", "64x48", "--frames", "6")
RUN = ("run", *MODEL, "--metrics", "motion_amplitude")
FROZEN = Path(__file__).parents[1] / "guarantees/schema_1"
WORKFLOW = Path(__file__).parents[2] / ".github/workflows/refeval-gate.yml"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    for seed in ("0", "1"):
        assert refeval(*RUN, "--seed", seed, "--out", folder / seed).returncode == 0
    return folder


def test_two_seeds_of_one_model(seeds: Path, tmp_path: Path) -> None:
    done = refeval("compare", seeds / "0", seeds / "1", "--gate", "MotionAmplitude:-5", "--out", tmp_path / "c.json")
    assert done.returncode == 0, done.stderr
    assert "1 gate held" in done.stdout
    assert "seeds 0 and 1" in " ".join(done.stdout.split())
    found = read_document(tmp_path / "c.json")
    printed = json.loads(refeval("compare", seeds / "0", seeds / "1", "--gate", "MotionAmplitude:-5", "--json").stdout)
    assert printed == found
    row = next(row for row in found["rows"] if row["of"] == "motion_amplitude")
    totals = [json.loads(refeval("total", seeds / seed, "--json").stdout)["motion_amplitude"] for seed in ("0", "1")]
    assert [row["base"], row["candidate"]] == pytest.approx(totals, abs=1e-12)
    assert row["delta"] == pytest.approx(totals[1] - totals[0], abs=1e-12)
    assert totals[0] != totals[1]
    assert row["base_coverage"] == {"scored": 32, "applicable": 32}


def test_ready_clips_are_compared_with_rendered_ones(seeds: Path, tmp_path: Path) -> None:
    clips = f"videos:{seeds / '0' / 'videos'}"
    ready = (
        "run",
        "--model",
        clips,
        "--suite",
        "sprites",
        "--metrics",
        "motion_amplitude",
        "--out",
        tmp_path / "ready",
    )
    assert refeval(*ready, "--size", "64x48", "--frames", "6").returncode == 0
    assert refeval("compare", seeds / "0", tmp_path / "ready", "--gate", "MotionAmplitude:-0").returncode == 0
    # Without the options any size will do; the suite's own is what the manifest then names.
    assert refeval(*ready[:-1], tmp_path / "any").returncode == 0
    done = refeval("compare", seeds / "0", tmp_path / "any", "--gate", "MotionAmplitude:-0", "--allow", "clip")
    assert done.returncode == 0, done.stderr


def test_a_breach_has_its_own_exit_code(seeds: Path, tmp_path: Path) -> None:
    junit = tmp_path / "deep/junit.xml"
    summary = tmp_path / "summary.md"
    summary.write_text("what another step wrote\n")
    gates = ("--gate", "MotionAmplitude:+50", "--gate", "motion_amplitude:-50")
    done = refeval(
        *("compare", seeds / "0", seeds / "1", *gates, "--junit", junit, "--github"),
        env={"GITHUB_STEP_SUMMARY": str(summary)},
    )
    assert done.returncode == 7
    assert done.stdout.splitlines()[-1].startswith("::error title=refeval gate MotionAmplitude%3A+50::MotionAmplitude:")
    assert "1 of 2 gates breached" in done.stdout
    root = ElementTree.parse(junit).getroot()
    assert root.attrib["failures"] == "1"
    assert summary.read_text().startswith("what another step wrote\n\n## refeval compare: 1 of 2 gates breached")
    as_json = refeval(
        *("compare", seeds / "0", seeds / "1", *gates, "--json", "--github"), env={"GITHUB_STEP_SUMMARY": str(summary)}
    )
    assert json.loads(as_json.stdout)["exit_code"] == as_json.returncode == 7
    assert "::error" in as_json.stderr


def test_without_gates_missing_values_are_an_exit_code(seeds: Path) -> None:
    assert refeval("compare", seeds / "0", seeds / "0").returncode == 3
    done = refeval("compare", seeds / "0", seeds / "0", "--allow-missing")
    assert done.returncode == 0
    assert "The two sides are identical" in " ".join(done.stdout.split())
    gated = refeval("compare", seeds / "0", seeds / "1", "--gate", "TotalScore:-50")
    assert gated.returncode == 7, "a gate on a total that lacks six metrics"
    assert "32/202 scored in the base" in " ".join(gated.stdout.split())


def test_deleted_records_cannot_pass_a_gate(seeds: Path, tmp_path: Path) -> None:
    less = tmp_path / "less"
    shutil.copytree(seeds / "1", less)
    records = sorted((less / "scores/motion_amplitude").glob("*.json"))
    # What is left is the best: its mean is above the base's.
    for path in sorted(records, key=lambda path: json.loads(path.read_text())["value"])[:16]:
        path.unlink()
    done = refeval("compare", seeds / "0", less, "--gate", "MotionAmplitude:-1")
    assert done.returncode == 7
    assert "16/32 in the candidate" in " ".join(done.stdout.split())
    assert refeval("compare", seeds / "0", less, "--gate", "MotionAmplitude:-1", "--allow-missing").returncode == 0


def test_a_baseline_stands_for_its_run(seeds: Path, tmp_path: Path) -> None:
    printed = refeval("baseline", seeds / "0")
    assert printed.returncode == 0, printed.stderr
    file = tmp_path / "baseline.json"
    assert refeval("baseline", seeds / "0", "--out", file).returncode == 0
    assert file.read_text() == printed.stdout
    elsewhere = tmp_path / "moved/run"
    shutil.copytree(seeds / "0", elsewhere)
    nowhere = {"REFEVAL_CACHE": str(tmp_path / "no-data")}
    for arguments in ((), ("--json", "--protocol", "strict", "--gate", "all:-1")):
        outputs = {
            (done.returncode, done.stdout)
            for base in (seeds / "0", file, elsewhere)
            if (done := refeval("compare", base, seeds / "1", *arguments, env=nowhere))
        }
        assert len(outputs) == 1
    both = refeval("compare", file, file, "--gate", "MotionAmplitude:0", env=nowhere)
    assert both.returncode == 0, both.stderr


def test_a_baseline_of_an_incomplete_run_says_so(tmp_path: Path) -> None:
    assert refeval(*RUN, "--limit", "2", "--out", tmp_path / "run").returncode == 0
    done = refeval("baseline", tmp_path / "run", "--out", tmp_path / "b.json", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout) == {"written": [str(tmp_path / "b.json")]}
    assert "MotionAmplitude: 2 of 32 cases have a value" in done.stderr


def test_seeds_by_folder_and_by_comma(tmp_path: Path) -> None:
    suite = suite_of()
    for seed in range(4):
        name = "base" if seed < 2 else "new"
        folder_of(tmp_path / name / f"s{seed}", even(suite, 0.5 - 0.1 * (seed > 1), 0.01 + seed / 500), seed=seed)
    (tmp_path / "a,b.json").write_text(baseline_of(folder_of(tmp_path / "odd", even(suite))).text())
    by_folder = refeval("compare", tmp_path / "base", tmp_path / "new", "--gate", "all:significant")
    assert by_folder.returncode == 7
    assert "seeds 2, 3 against squares, seeds 0, 1" in " ".join(by_folder.stdout.split())
    comma = f"{tmp_path}/base/s1, {tmp_path}/base/s0"
    assert refeval("compare", comma, tmp_path / "new", "--gate", "all:significant").stdout == by_folder.stdout
    assert refeval("compare", tmp_path / "a,b.json", tmp_path / "odd").returncode == 0, "a name with a comma"
    assert "2 of the base, 1 of the candidate" in refeval("compare", tmp_path / "base", tmp_path / "odd").stderr


def test_what_differs_is_refused_with_the_cure(seeds: Path, tmp_path: Path) -> None:
    other = tmp_path / "decord"
    shutil.copytree(seeds / "1", other)
    assert refeval("score", other, "--metrics", "motion_amplitude", "--decoder", "decord").returncode == 0
    summary = tmp_path / "summary.md"
    done = refeval("compare", seeds / "0", other, "--github", env={"GITHUB_STEP_SUMMARY": str(summary)})
    assert done.returncode == 2
    assert "decoder of MotionAmplitude: pyav" in done.stderr
    assert "--allow decoder" in done.stderr
    assert done.stdout.startswith("::error title=refeval compare%3A refused::")
    assert "--allow decoder" in summary.read_text()
    allowed = refeval("compare", seeds / "0", other, "--allow", "decoder", "--gate", "MotionAmplitude:-5")
    assert allowed.returncode == 0, "both decoders give the same frames"
    assert "was allowed (decoder)" in " ".join(allowed.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("{run}", "nowhere"), ("nowhere does not exist",)),
        (("{run}", "{run}/scores"), ("is not a run folder", "refeval baseline")),
        (("{run}", "{run}/manifest.json"), ("neither a run folder nor a baseline",)),
        (("{run}", "{run}", "--gate", "MotionAmp:-1"), ("unknown metric 'MotionAmp'", "Did you mean")),
        (("{run}", "{run}", "--gate", "total:1:"), ("no sign",)),
        (("{run}", "{run}", "--allow", "judges"), ("Did you mean 'judge'?",)),
        (("{run}", "{run}", "--protocol", "stric"), ("Did you mean 'strict'?",)),
        (("{run}", "{run}", "--github"), ("GITHUB_STEP_SUMMARY is not set",)),
        (("{run}", "{run}", "--junit", "{run}"), ("is a folder",)),
    ],
)
def test_wrong_input(seeds: Path, arguments: tuple[str, ...], messages: tuple[str, ...]) -> None:
    filled = [argument.format(run=seeds / "0") for argument in arguments]
    done = refeval("compare", *filled, env={"GITHUB_STEP_SUMMARY": ""})
    assert done.returncode == 2
    for message in messages:
        assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_of_an_earlier_release_is_compared(tmp_path: Path) -> None:
    assert refeval("baseline", FROZEN, "--out", tmp_path / "b.json").returncode == 3
    done = refeval("compare", tmp_path / "b.json", FROZEN, "--allow-missing")
    assert done.returncode == 0, done.stderr
    assert "not recorded in the base and the candidate (an earlier release)" in " ".join(done.stdout.split())


def _workflow(folder: Path, **values: str) -> subprocess.CompletedProcess[str]:
    """The scripts of the workflow's steps, as a runner of Actions runs them; pip is left out."""
    content = yaml.safe_load(WORKFLOW.read_text())
    inputs = content[True]["workflow_call"]["inputs"]
    given = {name: str(entry.get("default", "")) for name, entry in inputs.items()}
    given |= {"model": "copy-paste", "baseline": "baseline.json", "seed": "1", **values}
    job = content["jobs"]["gate"]
    env = {}
    for name, text in job["env"].items():
        env[name] = text
        for key, value in given.items():
            env[name] = env[name].replace("${{ inputs." + key + " }}", value)
    assert not [text for text in env.values() if "${{" in text]
    scripts = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    assert not [script for script in scripts.values() if "${{" in script], "inputs never become script text"
    github = {name: str(folder / name.lower()) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "GITHUB_SHA": "0" * 40}
    for name in ("Name the run", "Run", "Compare"):
        command = ["bash", "-e", "-c", scripts[name]]
        whole = {**os.environ, **env, **github, **path}
        done = subprocess.run(command, cwd=folder, env=whole, capture_output=True, text=True)
        if done.returncode:
            break
    return done


@pytest.mark.parametrize(
    ("gates", "code"), [("MotionAmplitude:-5 motion_amplitude:-90%", 0), ("total:-1\nall:+1", 7), ("", 3)]
)
def test_the_scripts_of_the_workflow(seeds: Path, tmp_path: Path, gates: str, code: int) -> None:
    assert refeval("baseline", seeds / "0", "--out", tmp_path / "baseline.json").returncode == 0
    arguments = "--size 64x48 --frames 6 --metrics motion_amplitude"
    shutil.copytree(seeds / "1", tmp_path / "runs/candidate")
    done = _workflow(tmp_path, gates=gates, **{"run-arguments": arguments})
    assert done.returncode == code, done.stderr
    assert (tmp_path / "github_output").read_text().startswith(f"key=refeval-{'0' * 40}-")
    assert ElementTree.parse(tmp_path / "gate/junit.xml").getroot().tag == "testsuites"
    assert read_document(tmp_path / "gate/comparison.json")["exit_code"] == code
    assert (tmp_path / "github_step_summary").read_text().startswith("\n## refeval compare")
    assert read_document(tmp_path / "gate/candidate.json")["kind"] == "refeval-baseline"
